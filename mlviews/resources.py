"""Where the recipes, lock files and templates that travel with mlviews lie."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder"]

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return the folder ``recipes``, ``lockfiles`` or ``templates``.

    An installed wheel holds copies inside the package; a checkout has the originals beside it.
    """
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name
