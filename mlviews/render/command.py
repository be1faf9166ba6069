"""The module that brings the ``mlviews`` command itself, and the program that it puts on PATH."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlviews.render import escape

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MODULE", "render_lua", "render_program", "render_tcl"]

MODULE = "atlasml/mlviews"
"""What ``module load`` calls it."""


def render_lua(version: str, *, root: Path, folder: Path) -> str:
    """Return the modulefile for Lmod.

    Args:
        version: mlviews' own.
        root: the site's root as files name it; the command finds its views there.
        folder: what goes to the front of PATH; it holds `render_program`'s text as ``mlviews``, and nothing else.
    """
    return escape.render("command.lua", "lua", _values(version, root, folder))


def render_tcl(version: str, *, root: Path, folder: Path) -> str:
    """Return the modulefile for environment-modules 4 and later; arguments are `render_lua`'s."""
    return escape.render("command.tcl", "tcl", _values(version, root, folder))


def render_program(python: str) -> str:
    """Return ``mlviews``, an executable ``/bin/sh`` script.

    A virtual environment's whole ``bin`` on PATH would bring its Python along.

    Args:
        python: the interpreter that mlviews is installed for.
    """
    return escape.render("command", "sh", {"python": python})


def _values(version: str, root: Path, folder: Path) -> dict[str, Any]:
    summary = "The command for views: list, run, smoke, kernel add, build"
    lines = [
        summary,
        "",
        "mlviews list                what there is",
        "mlviews doctor              what this host can run",
        "mlviews run VIEW -- CMD     a program in a view",
        "mlviews kernel add VIEW     a Jupyter kernel",
        f"It works on the views in {root}; --root DIR leads to your own.",
    ]
    return {
        "module": MODULE,
        "help": "\n".join(lines),
        "whatis": [f"Name: {MODULE}", f"Version: {version}", f"Description: {summary}"],
        "folder": str(folder),
        "program": str(folder / "mlviews"),
        "missing": f"mlviews: this host has no {folder / 'mlviews'}",
        "root": str(root),
    }
