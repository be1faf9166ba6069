"""What puts a view into a shell (``setup.sh``, ``setup.csh``, ``setup.fish``) and what starts one program in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlviews.loading import loading
from mlviews.render import escape

if TYPE_CHECKING:
    from mlviews.loading import Loading
    from mlviews.release import Release

__all__ = ["render_csh", "render_fish", "render_launch", "render_setup"]

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
    return escape.render("setup.sh", "sh", _setup_values(release))


def render_csh(release: Release) -> str:
    """Return ``setup.csh``, to be sourced by tcsh or csh; otherwise like `render_setup`.

    ``mlviews_deactivate`` is an alias there: it sources the same file again.
    """
    return escape.render("setup.csh", "csh", {**_setup_values(release), "script": f"{release.prefix}/setup.csh"})


def render_fish(release: Release) -> str:
    """Return ``setup.fish``, to be sourced by fish 3.1 or later; otherwise like `render_setup`."""
    return escape.render("setup.fish", "fish", _setup_values(release))


def render_launch(release: Release) -> str:
    """Return ``launch``, an executable ``/bin/sh`` script: ``launch PROGRAM [ARGUMENT...]``.

    The program gets an environment without what other Pythons leave there, and takes the script's place. Its status is
    the program's; 127 where there is no such program, or no such view on this host.
    """
    change = loading(release)
    unset = {*change.unset, *(name for name in _FOREIGN if name not in change.set)}
    below = {name: [f"{folder}/" for folder in folders] for name, folders in change.foreign.items()}
    return escape.render("launch", "sh", {**_values(release, change), "unset": sorted(unset), "below": below})


def _setup_values(release: Release) -> dict[str, Any]:
    change = loading(release)
    own = {name: [f"{folder}:" for folder in change.prepend.get(name, ())] for name in change.lists}
    below = {name: [f"{folder}/" for folder in change.foreign.get(name, ())] for name in change.lists}
    changed = dict.fromkeys([*change.lists, *change.set, *change.unset, *(["MLVIEWS_CACHE"] if change.caches else [])])
    return {
        **_values(release, change),
        "lists": change.lists,
        "own": own,
        "below": below,
        "folders": {name: list(change.prepend.get(name, ())) for name in change.lists},
        "joined": {name: ":".join(folders) for name, folders in change.prepend.items()},
        "heads": {name: [*own[name], *below[name]] for name in change.lists},
        "foreign": [name for name in change.foreign if name not in change.prepend],
        "changed": list(changed),
    }


def _values(release: Release, change: Loading) -> dict[str, Any]:
    return {
        "bin": f"{release.prefix}/bin",
        "missing": f"mlviews: this host has no folder {release.prefix}/bin",
        "prepend": change.prepend,
        "set": change.set,
        "unset": change.unset,
        "caches": change.caches,
    }
