"""What stands in the place of a removed release's ``launch`` and setup scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.render import escape
from mlviews.render.prefix import PrefixFile

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GONE_FILES", "gone_files"]

GONE_FILES = frozenset({"launch", "setup.sh", "setup.csh", "setup.fish"})
"""What stays of a platform's folder, to tell who still uses it: kernels and batch scripts hold their paths."""

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


def gone_files(view: str, release: str, default: str, platform: str) -> Mapping[str, PrefixFile]:
    """Return, by name, scripts that say which release is gone and what there is instead, and fail; run or sourced.

    Where ``launch`` should start a kernel, it starts one that says the same, with the default's Python: it runs none of
    the notebook's code.

    Args:
        view: the view.
        release: the release that was removed.
        default: path of the view's ``default`` link, which the scripts for sh look at when they are asked.
        platform: of the folder that they lie in.
    """
    gone = f"mlviews: release {release} of {view} was removed"
    values = {
        "gone": gone,
        "default": default,
        "launch": f"{default}/{platform}/launch",
        "without": f"it has no default: mlviews releases {view} lists what there is",
        "kernel": _KERNEL,
    }
    script = escape.render("gone.sh", "sh", values)
    told = {"told": f"{gone}; the default is in {default}"}
    return {
        "launch": PrefixFile(script, executable=True),
        "setup.sh": PrefixFile(script),
        "setup.csh": PrefixFile(escape.render("gone.csh", "csh", told)),
        "setup.fish": PrefixFile(escape.render("gone.fish", "fish", told)),
    }
