"""Figures and changes as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.units import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mlviews.results.locks import PackageChange

__all__ = ["STATUS_STYLES", "change_table", "size"]

_STYLES = {"added": "green", "removed": "red", "up": "cyan", "down": "yellow", "rebuilt": "dim"}
STATUS_STYLES = {"pass": "green", "fail": "red", "error": "red", "skip": "yellow"}


def change_table(changes: Sequence[PackageChange]) -> Table:
    """Return changes as a table."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Change", "Package", "Platform", "Before", "After"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    for change in changes:
        table.add_row(
            f"[{_STYLES[change.kind]}]{change.kind}[/]", change.name, change.platform,
            change.before or "-", change.after or "-", size(change.bytes, sign=True),
        )  # fmt: skip
    return table
