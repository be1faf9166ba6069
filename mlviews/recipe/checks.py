"""Checks of one's own: files beside one's recipes that are read here, and run only where a view is tested.

A check is code. It comes from the folder of recipes that somebody named and from nowhere else: no lock, release or
record holds one.
"""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import Path

from mlviews.errors import BadInputError
from mlviews.files.reading import paths_in
from mlviews.recipe.view import OwnCheck

FOLDER = "checks"
"""Where they lie, in a folder of recipes."""

_LONGEST = 200_000
_MLVIEWS = Path(__file__).resolve().parents[1] / "smoke/checks"


def check_files(recipes: Path) -> list[Path]:
    """Return what is to be a check in a folder of recipes, sorted; hidden files are editors' and file systems' own.

    Raises:
        UnreadableError: the folder cannot be read.
    """
    return paths_in(recipes / FOLDER, ".py")


def check_name(file: Path) -> str:
    """Return what recipes call a check: its file's name with dashes."""
    return file.stem.replace("_", "-")


def read_checks(recipes: Path) -> tuple[OwnCheck, ...]:
    """Return the checks of a folder of recipes; none is run.

    Raises:
        BadInputError: a file is none: Python cannot parse it, or its name is none or one of mlviews' own.
        UnreadableError: their folder cannot be read.
    """
    found, faults = [], []
    for path in check_files(recipes):
        try:
            found.append(OwnCheck(check_name(path), _text(path), str(path)))
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            what = error.msg if isinstance(error, SyntaxError) else getattr(error, "strerror", None) or str(error)
            faults.append(f"{path}{line}: {what or 'it is nested too deeply'}")
    if faults:
        raise BadInputError(
            "check-invalid",
            f"{recipes / FOLDER}: files that are no checks",
            "Correct them, or take them out of that folder.",
            faults=tuple(faults),
        )
    return tuple(found)


def parse_check(text: str) -> ast.Module:
    """Return a check's syntax tree, without the warnings of some Pythons: they are for whoever runs it.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: Python cannot parse it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _text(path: Path) -> str:
    """Return a check's text.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no check.
        SyntaxError, RecursionError, MemoryError: Python cannot parse it.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", path.stem):
        raise ValueError("a check's file has lower-case letters, digits and underscores in its name")
    if (_MLVIEWS / path.name).exists():
        raise ValueError(f"mlviews itself has a check {check_name(path)!r}; give yours another name")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError("it is no file")
    with path.open("rb") as file:
        content = file.read(_LONGEST + 1)
    if len(content) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from error
    parse_check(text)
    return text
