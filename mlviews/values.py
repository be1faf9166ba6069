"""What every value that is printed as JSON shares.

A value is a frozen dataclass, or a pydantic model where it is also read back. JSON's keys are the fields' names with
hyphens; what a field holds stands in the class's docstring, under ``Attributes:``, and goes into the schema from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from os import PathLike, fspath
from typing import Any, TypeVar

from mlviews.credentials import hide
from mlviews.errors import MlviewsError

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class Problem:
    """One error, which is kept: passwords and tokens in URLs are hidden.

    Attributes:
        code: what scripts may rely on.
        message: what happened, for people; it may change.
        hint: what to do next, for people; empty where there is nothing to do.
    """

    code: str
    message: str
    hint: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", hide(self.message))

    @classmethod
    def of(cls, error: Exception) -> Problem:
        """Return what an exception tells, whether it is of mlviews or any other."""
        if isinstance(error, MlviewsError):
            return cls(error.code, str(error), error.hint)
        return cls("internal-error", f"{type(error).__name__}: {error}", "")


def from_attributes(kind: type[_Kind], source: object, **more: Any) -> _Kind:
    """Return a dataclass whose fields are the attributes of another value with the same names.

    Args:
        more: the fields that the source does not have, or has otherwise.

    Raises:
        TypeError: a field that has no default is in neither.
    """
    names = {field.name for field in fields(kind)} - more.keys()  # type: ignore[arg-type]
    return kind(**{name: getattr(source, name) for name in names if hasattr(source, name)}, **more)


def to_json(value: Any) -> Any:
    """Return a value as what `json.dumps` takes, without the passwords and tokens of URLs."""
    if value is None or isinstance(value, (str, int, float)):
        return hide(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return {hide(str(key)): to_json(part) for key, part in value.items()}
    if isinstance(value, (PathLike, datetime)):
        return value.isoformat() if isinstance(value, datetime) else hide(fspath(value))
    if is_dataclass(value):
        return {field.name.replace("_", "-"): to_json(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "model_dump"):  # pydantic is imported by whoever made it, not here
        return to_json(value.model_dump(mode="json", by_alias=True))
    return [to_json(part) for part in value]
