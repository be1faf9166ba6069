"""What puts a view into a POSIX shell (``setup.sh``) and what starts one program in it (``launch``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlviews.activation import loaded
from mlviews.render import escape

if TYPE_CHECKING:
    from mlviews.release import Release

__all__ = ["render_launch", "render_setup"]

# What an LCG view, a virtual environment or a conda environment around `launch` would have its program believe.
_FOREIGN = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "PYTHONPLATLIBDIR", "PYTHONUSERBASE"),
    *("VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT", "CONDA_DEFAULT_ENV", "CONDA_PROMPT_MODIFIER", "CONDA_SHLVL"),
)


def render_setup(release: Release) -> str:
    """Return ``setup.sh``, to be sourced by sh, dash, bash, ksh or zsh.

    It prints nothing, may be sourced twice, and works under ``set -eu``. It defines ``mlviews_deactivate``, which puts
    every variable back as it was; what somebody else has added to ``PATH`` in between stays there.
    """
    values = _values(release)
    changed = dict.fromkeys([*values["prepend"], *values["set"], *values["unset"]])
    return escape.render("setup.sh", "sh", {**values, "changed": list(changed)})


def render_launch(release: Release) -> str:
    """Return ``launch``, an executable ``/bin/sh`` script: ``launch PROGRAM [ARGUMENT...]``.

    The program gets an environment without what other Pythons leave there, and takes the script's place. Its status is
    the program's; 127 where there is no such program, or no such view on this host.
    """
    values = _values(release)
    foreign = [name for name in _FOREIGN if name not in values["set"]]
    return escape.render("launch", "sh", {**values, "unset": sorted({*values["unset"], *foreign})})


def _values(release: Release) -> dict[str, Any]:
    activation = loaded(release)
    return {
        "bin": f"{release.prefix}/bin",
        "prepend": activation.prepend,
        "set": activation.set,
        "unset": activation.unset,
    }
