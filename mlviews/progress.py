"""What long work reports to whoever watches it, and figures with the units that people read.

Stages take a `Progress` and never print. The command line gives them rich's bars; a library caller and the tests may
give `silent`, the default.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Moves one bar forward; may be called from any thread."""

    def __call__(self, step: int = 1, *, total: int | None = None, note: str = "") -> None:
        """Add ``step`` units; set the bar's ``total`` and the ``note`` beside it where given."""


class Progress(Protocol):
    """Opens a bar for one piece of work; ``unit`` is ``"items"`` or ``"bytes"``."""

    def __call__(self, label: str, *, total: int | None = None, unit: str = "items") -> AbstractContextManager[Advance]:
        """Open the bar; it closes when the context ends."""


@contextmanager
def silent(label: str, *, total: int | None = None, unit: str = "items") -> Iterator[Advance]:
    """Report nothing."""
    del label, total, unit

    def advance(step: int = 1, *, total: int | None = None, note: str = "") -> None:
        del step, total, note

    yield advance


def counted(number: int, thing: str, things: str = "") -> str:
    """Write how many there are of a thing: ``1 package``, ``2 packages``; ``things`` where no `s` makes it several."""
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"


_KILO = 1000


def size(count: int, *, sign: bool = False) -> str:
    """Write a number of bytes with a decimal unit, as package channels do: ``1.4 GB``."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if abs(value) < _KILO:
            break
        value, unit = value / _KILO, larger
    return f"{value:{'+' if sign else ''}.{0 if unit == 'B' else 1}f} {unit}"
