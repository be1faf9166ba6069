"""A site's batch systems as its file describes them: queues with their GPUs and limits, accounts; and their units."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from mlviews.recipe.model import GpuName, Text, Written

if TYPE_CHECKING:
    from collections.abc import Callable

System = Literal["slurm", "htcondor", "panda"]
SYSTEMS: tuple[System, ...] = get_args(System)

_UNITS = {"d": 86400, "h": 3600, "m": 60}
_SPAN = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?")
_CLOCK = re.compile(r"(?:(\d{1,4})-)?(\d{1,5}):([0-5]\d):([0-5]\d)")  # as Slurm writes it
_MEMORY = re.compile(r"(\d{1,7})\s?(MB|GB|TB)")
_MEGABYTES = {"MB": 1, "GB": 1000, "TB": 1_000_000}
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/-]*")


def seconds(text: str) -> int:
    """Return the seconds of a time such as ``3d``, ``12h``, ``1d12h`` or ``90m``, or of Slurm's ``1-12:00:00``.

    Raises:
        ValueError: it is none, or no time at all.
    """
    found = _SPAN.fullmatch(text) or _CLOCK.fullmatch(text)
    units = (*_UNITS.values(), 1)
    total = sum(int(part or 0) * unit for part, unit in zip(found.groups(), units, strict=False)) if found else 0
    if not total:
        raise ValueError("is not a time such as 3d, 12h, 1d12h or 90m")
    return total


def span(length: int) -> str:
    """Return whole minutes of some seconds, as `seconds` reads them."""
    parts = []
    for name, unit in _UNITS.items():
        count, length = divmod(length, unit)
        parts.append(f"{count}{name}" if count else "")
    return "".join(parts) or "1m"


def megabytes(text: str) -> int:
    """Return the megabytes (10^6 bytes) of a size such as ``32GB``.

    Raises:
        ValueError: it is none.
    """
    found = _MEMORY.fullmatch(text)
    if not found or not int(found[1]):
        raise ValueError("is not a size such as 500MB or 32GB")
    return int(found[1]) * _MEGABYTES[found[2]]


def word(text: str) -> str:
    """Return the name of a queue, an account or a feature: it stands in submit files without quotes.

    Raises:
        ValueError: it cannot.
    """
    if len(text) > 200 or not _WORD.fullmatch(text):  # noqa: PLR2004
        raise ValueError("must be letters, digits and _ . : @ / -, and begin with a letter, a digit or _")
    return text


def _readable(read: Callable[[str], object]) -> AfterValidator:
    """Check that a text can be read, and keep it as it was written."""

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


_Span = Annotated[Text, _readable(seconds)]
_Memory = Annotated[Text, _readable(megabytes)]
_Word = Annotated[Text, AfterValidator(word)]


class Queue(Written):
    """A partition of Slurm, a flavour (`JobFlavour`) of HTCondor, or a queue of PanDA."""

    limit: _Span | None = Field(None, description="The longest that a job may run: `3d`, `12h`, `90m`.")
    gpus: dict[GpuName, _Word | None] = Field(
        {}, description="The GPUs of its nodes -> the feature by which Slurm knows them; null where they have none."
    )
    gpus_per_node: int = Field(0, alias="gpus-per-node", ge=0, description="The most that one node has; 0: not known.")
    memory: _Memory | None = Field(None, description="The most that one node gives: `500GB`.")


class BatchSystem(Written):
    """How jobs are submitted here to one system."""

    account: _Word | None = Field(None, description="Whom the time is charged to, where the system asks.")
    queues: dict[_Word, Queue] = Field(
        {}, description="Partitions, flavours or queues by name; the first one that fits a job is taken."
    )
