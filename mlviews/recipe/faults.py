"""What is wrong with a file that people wrote, a line each: file, line, key, what to write instead."""

from __future__ import annotations

import reprlib
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from mlviews.credentials import hide
from mlviews.errors import BadInputError, nearest
from mlviews.files.yamlfile import Document, key_text

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


_ModelT = TypeVar("_ModelT", bound=BaseModel)


def parse_model(document: Document, kind: type[_ModelT], *, guide: str = "docs/recipes.md") -> _ModelT:
    """Check a document against a pydantic model.

    Args:
        guide: the page that lists its keys.

    Raises:
        BadInputError: with one line for every fault: file, line, key, what is wrong, the nearest known key.
    """
    try:
        return kind.model_validate(document.data)
    except ValidationError as error:
        faults = tuple(dict.fromkeys(_fault(document, kind, detail) for detail in error.errors()))
        raise BadInputError(
            "file-invalid",
            f"{document.path}: {len(faults)} fault{'s' if len(faults) > 1 else ''}",
            f"{guide} lists every key.",
            faults=faults,
        ) from None


class _Short(reprlib.Repr):
    def repr_str(self, text: str, level: int) -> str:
        return super().repr_str(hide(text), level)  # before the end of it is cut, by which a password is known


_SHORT = _Short()


def _fault(document: Document, kind: type[BaseModel], detail: ErrorDetails) -> str:
    path = detail["loc"]
    if detail["type"] != "extra_forbidden" and path[-1:] == ("[key]",):
        path = path[:-1]  # so pydantic says that the key, not its value, is at fault
    where = document.where(path)
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key{_instead(kind, path)}"
    if detail["type"] == "missing":
        return f"{document.where(path[:-1])}: the key {key_text(path)!r} is missing"
    value = _SHORT.repr(detail["input"])
    if detail["type"] == "value_error":
        return f"{where}: {value} {detail['ctx']['error']}"
    if detail["type"] == "string_pattern_mismatch" and (meant := _at(kind, path)[1]):
        return f"{where}: {value} is not what this key takes. {meant}"  # a pattern tells people nothing
    return f"{where}: {_misfit(detail, value)}"


def _misfit(detail: ErrorDetails, value: str) -> str:
    kind, given = detail["type"], detail["input"]
    if kind == "string_type" and isinstance(given, (int, float, date)):
        return f"YAML reads {value} as a number or another kind, not as text; write it in quotes"
    if kind == "string_type" and isinstance(given, dict) and "pip" in given:
        return _ELSEWHERE["pip"]
    if kind in _SHAPES:
        return f"{_SHAPES[kind]}; here is {'nothing' if given is None else value}"
    return f"{detail['msg'].replace('Input should', 'should')}, not {value}"


_SHAPES = {
    "model_type": "keys stand below it, each on a line of its own and indented",
    "dict_type": "keys stand below it, each on a line of its own and indented",
    "list_type": "a list stands below it, each item on a line of its own: - ITEM",
}
_ELSEWHERE = {
    "channels": "a site names its channels, a recipe none",
    "pip": "packages of PyPI stand under `pypi`, beside `dependencies`",
}
"""What files of other tools hold, and where it is here."""


def _instead(kind: type[BaseModel], path: tuple[int | str, ...]) -> str:
    """Return where an unknown key belongs, the nearest known one, or else all."""
    key, known = str(path[-1]), _known_keys(kind, path[:-1])
    inside = [name for name in known if key in _known_keys(kind, (*path[:-1], name)) and key not in known]
    if near := nearest(key, known):
        return near
    if key in _ELSEWHERE:
        return f": {_ELSEWHERE[key]}"
    if len(inside) == 1:
        return f"; it belongs below {inside[0]!r}, indented"
    return f"; known are {', '.join(sorted(known))}"


def _known_keys(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the mapping at ``path`` may hold."""
    return [field.alias or name for name, field in _at(kind, path)[0].model_fields.items()]


def _at(kind: type[BaseModel], path: tuple[int | str, ...]) -> tuple[type[BaseModel], str]:
    """Return the model of the mapping at ``path``, and what the last known key on the way is for."""
    model, meant = kind, ""
    for part in path:
        if isinstance(part, str):
            found = next((f for name, f in model.model_fields.items() if part in {name, f.alias}), None)
            model = (found and _model_in(found.annotation)) or model  # a variant's name is no field
            meant = (found and found.description) or meant
    return model, meant


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for part in getattr(annotation, "__args__", ()) if (m := _model_in(part))), None)
