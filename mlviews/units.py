"""Figures with the units that people read."""

from __future__ import annotations

__all__ = ["size"]

_KILO = 1000


def size(count: int, *, sign: bool = False) -> str:
    """Write a number of bytes with a decimal unit, as package channels do: ``1.4 GB``."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if abs(value) < _KILO:
            break
        value, unit = value / _KILO, larger
    return f"{value:{'+' if sign else ''}.{0 if unit == 'B' else 1}f} {unit}"
