"""What stands in the place of a removed release's ``launch`` and ``setup.sh``."""

from __future__ import annotations

from mlviews.render import escape

__all__ = ["render_gone"]

# A kernel that ends at once tells whoever opened the notebook nothing: this one answers every cell with what happened.
_KERNEL = """
import sys
said, sys.argv[1:] = sys.argv[1], sys.argv[-2:]
try:
    from ipykernel.kernelapp import IPKernelApp
    from ipykernel.kernelbase import Kernel
except ImportError:
    print(said, file=sys.stderr)
    sys.exit(127)

class Gone(Kernel):
    implementation, implementation_version, banner = "mlviews", "0", ""
    language_info = {"name": "python", "mimetype": "text/x-python", "file_extension": ".py"}

    def do_execute(self, code, silent, *rest, **keys):
        error = {"ename": "ReleaseRemoved", "evalue": said, "traceback": [said]}
        if not silent:
            self.send_response(self.iopub_socket, "error", error)
        return {"status": "error", "execution_count": self.execution_count, **error}

IPKernelApp.launch_instance(kernel_class=Gone)
"""


def render_gone(view: str, release: str, default: str, platform: str) -> str:
    """Return a script that says which release is gone and what there is instead, and fails; run or sourced.

    Where it should start a kernel, it starts one that says the same, with the default's Python: it runs none of the
    notebook's code.

    Args:
        view: the view.
        release: the release that was removed.
        default: path of the view's ``default`` link, which the script looks at when it is asked.
        platform: of the folder that it lies in.
    """
    values = {
        "gone": f"mlviews: release {release} of {view} was removed",
        "default": default,
        "launch": f"{default}/{platform}/launch",
        "without": f"it has no default: mlviews releases {view} lists what there is",
        "kernel": _KERNEL,
    }
    return escape.render("gone.sh", "sh", values)
