"""What mlviews writes into a store as JSON and reads again, perhaps where a newer version of itself has written.

Each such file states the number of its schema. Keys that this version does not know are ignored where the number is
its own; a file of a newer number cannot be read, and so is never taken for damaged, changed or deleted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from mlviews.files.reading import DamagedError, UnreadableError

SCHEMA = 1
"""The only number that this version reads."""

_File = TypeVar("_File", bound="StoreFile")


class StorePart(BaseModel):
    """A part of such a file."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StoreFile(StorePart):
    """Such a file.

    Attributes:
        schema_number: the file's ``schema``.
    """

    schema_number: Literal[1] = Field(1, alias="schema")

    def text(self, *, indent: int = 2) -> str:
        """Return the file's text."""
        return self.model_dump_json(by_alias=True, indent=indent) + "\n"


def parse(kind: type[_File], content: bytes, path: Path) -> _File:
    """Return what a file says.

    Args:
        path: what to call it.

    Raises:
        DamagedError: it is no such file: also where it states no schema.
        UnreadableError: a newer mlviews wrote it.
    """
    try:
        found = kind.model_validate_json(content)
    except ValidationError as error:
        if number := _newer(content):
            hint = "mlviews changed nothing. Use the mlviews that made it, or a newer one."
            raise UnreadableError(path, f"it was made by a newer mlviews (schema {number})", hint) from error
        raise DamagedError(path) from error
    if "schema_number" not in found.model_fields_set:
        raise DamagedError(path, "it states no schema")
    return found


def _newer(content: bytes) -> int | None:
    """Return a number above this version's; None where the file states none."""
    try:
        stated: Any = from_json(content)
    except ValueError:
        return None
    number = stated.get("schema") if isinstance(stated, dict) else None
    return number if isinstance(number, int) and number > SCHEMA else None
