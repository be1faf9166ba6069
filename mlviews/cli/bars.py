"""Progress as people see it: rich's bars on a terminal, one line for each piece of work elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from mlviews.progress import Advance

__all__ = ["Bars"]


class Bars:
    """A `mlviews.progress.Progress` on a console; bars may be open side by side."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open = 0
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Count(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    @contextmanager
    def __call__(self, label: str, *, total: int | None = None, unit: str = "items") -> Iterator[Advance]:
        """Open a bar; where there is no terminal, say what begins, once."""
        if not self._console.is_terminal:
            self._console.print(f"{label} ...", markup=False)
        task = self._bars.add_task(label, total=total, note="", unit=unit)
        if self._open == 0:
            self._bars.start()
        self._open += 1

        def advance(step: int = 1, *, total: int | None = None, note: str = "") -> None:
            self._bars.update(task, advance=step, total=total, note=note)

        try:
            yield advance
        finally:
            self._open -= 1
            self._bars.remove_task(task)
            if self._open == 0:
                self._bars.stop()


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        write = decimal if task.fields["unit"] == "bytes" else str
        done = write(int(task.completed))
        return Text(done if task.total is None else f"{done} / {write(int(task.total))}")
