"""Jupyter kernelspecs.

See https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mlviews import resources
from mlviews.errors import FailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.release import Release

__all__ = ["SPECIFICATION", "kernelspec", "name", "render"]

SPECIFICATION = "kernel.json"
"""The file that makes a folder a kernelspec."""

_START = ("-m", "ipykernel_launcher")

# SWAN's IPython profile loads the extension `swankernelenv` (swan-cern/jupyter-images, others/userconfig.sh), which
# takes SWAN's own folders out of sys.path. `launch` lets none in: there is nothing to take out, or to find it in.
_NO_EXTENSION = (
    "import runpy, sys, types; "
    "extension = sys.modules['swankernelenv'] = types.ModuleType('swankernelenv'); "
    "extension.load_ipython_extension = lambda shell: None; "
    "runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)"
)
_START_IN_SWAN = ("-c", _NO_EXTENSION)


def name(release: Release, *, versioned: bool = True) -> str:
    """Return the name of the kernelspec's folder, which notebooks store.

    Args:
        release: what the kernel runs.
        versioned: whether a notebook keeps to this release, or follows the view's default.

    Raises:
        FailedError: ``kernel-name``: Jupyter knows no such name.
    """
    text = f"{release.view}-{release.release}" if versioned else release.view
    if not re.fullmatch(r"[A-Za-z0-9._-]+", text):
        raise FailedError(
            "kernel-name", f"No kernel can be named {text!r}.", "Use letters, digits, dots, dashes and underscores."
        )
    return text


def kernelspec(release: Release, *, versioned: bool = True, swan: bool = False) -> Mapping[str, str]:
    """Return the files of a kernelspec's folder, the one that makes it a kernelspec last.

    Arguments and errors are `render`'s.
    """
    logo = (resources.folder("templates") / "logo.svg").read_text(encoding="utf-8")
    return {"logo-svg.svg": logo, SPECIFICATION: render(release, versioned=versioned, swan=swan)}


def render(release: Release, *, versioned: bool = True, swan: bool = False) -> str:
    """Return ``kernel.json``; arguments as for `name`, and whether it is for a session of SWAN.

    The kernel starts through the release's ``launch``: a session may carry a PYTHONHOME that a bare ``python`` does not
    survive, and servers put their own interpreter where the first word is ``python``. The kernel that follows the
    default reaches ``launch`` through the view's ``default`` link; the rest of it tells what the default was.

    Raises:
        FailedError: ``kernel-path``: Jupyter would replace a part of the path.
    """
    prefix = PurePosixPath(release.prefix)  # envs/<view>/<release>/<platform>
    folder = prefix if versioned else prefix.parents[1] / "default" / prefix.name
    launch = str(folder / "launch")
    if re.search(r"\{\w+\}", launch):
        raise FailedError("kernel-path", f"Jupyter would replace the braces in {launch}.", "Use a root without braces.")
    label = f"{release.view} {release.release}" if versioned else release.view
    specification = {
        "argv": [launch, "python", *(_START_IN_SWAN if swan else _START), "-f", "{connection_file}"],
        "display_name": f"{label} (mlviews)",
        "language": "python",
        "metadata": {
            "debugger": True,
            "mlviews": {
                "view": release.view,
                "release": release.release,
                "follows": "release" if versioned else "default",
                "summary": release.summary,
                "lock": release.lock_digest,
            },
        },
    }
    return json.dumps(specification, indent=1, ensure_ascii=False) + "\n"
