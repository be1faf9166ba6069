"""Checks of one's own: files beside one's recipes that are read here, and run only where a view is tested.

A check is code. It comes from the folder of recipes that somebody named and from nowhere else: no lock, release or
record holds one.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mlviews.errors import BadInputError
from mlviews.recipe.view import OwnCheck

FOLDER = "checks"
"""Where they lie, in a folder of recipes."""

_LONGEST = 200_000
_MLVIEWS = Path(__file__).resolve().parents[1] / "smoke/checks"


def check_files(recipes: Path) -> tuple[Path, ...]:
    """Return the files of a folder of recipes that are checks, by name."""
    return tuple(sorted(path for path in (recipes / FOLDER).glob("*.py") if path.is_file()))


def check_name(file: Path) -> str:
    """Return what recipes call a check: its file's name with dashes."""
    return file.stem.replace("_", "-")


def read_checks(recipes: Path) -> tuple[OwnCheck, ...]:
    """Return the checks of a folder of recipes; none is run.

    Raises:
        BadInputError: a file is none: Python cannot parse it, or its name is none or one of mlviews' own.
    """
    found, faults = [], []
    for path in check_files(recipes):
        try:
            found.append(OwnCheck(check_name(path), _text(path), str(path)))
        except (OSError, ValueError, SyntaxError, RecursionError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            what = error.msg if isinstance(error, SyntaxError) else getattr(error, "strerror", None) or error
            faults.append(f"{path}{line}: {what}")
    if faults:
        raise BadInputError(
            "check-invalid",
            f"{recipes / FOLDER}: files that are no checks",
            "Correct them, or take them out of that folder.",
            faults=tuple(faults),
        )
    return tuple(found)


def _text(path: Path) -> str:
    """Return a check's text.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no check.
        SyntaxError: Python cannot parse it.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", path.stem):
        raise ValueError("a check's file has lower-case letters, digits and underscores in its name")
    if (_MLVIEWS / path.name).exists():
        raise ValueError(f"mlviews itself has a check {check_name(path)!r}; give yours another name")
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} bytes")
    ast.parse(content)
    return content.decode()
