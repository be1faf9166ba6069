"""Progress as people see it: rich's bars on a terminal, one line for each piece of work elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from mlviews.progress import Advance

__all__ = ["Bars"]


class Bars:
    """A `mlviews.progress.Progress` on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def __call__(self, label: str, *, total: int | None = None, unit: str = "items") -> Iterator[Advance]:
        """Open a bar; where there is no terminal, say what begins, once."""
        if not self._console.is_terminal:
            self._console.print(f"{label} ...", markup=False)
        figures: list[ProgressColumn] = (
            [DownloadColumn(), TransferSpeedColumn()] if unit == "bytes" else [MofNCompleteColumn()]
        )
        columns = [
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *figures,
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
        ]
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            task = bars.add_task(label, total=total, note="")

            def advance(step: int = 1, *, total: int | None = None, note: str = "") -> None:
                bars.update(task, advance=step, total=total, note=note)

            yield advance
