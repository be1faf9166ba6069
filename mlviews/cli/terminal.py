"""What people see on a terminal: text that anyone may have written, progress, tables."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from mlviews.progress import size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from mlviews.lock.diff import PackageChange
    from mlviews.progress import Advance

__all__ = ["STATUS_STYLES", "Bars", "SafeConsole", "change_table", "size"]


_PLAIN = "\n\t"


class SafeConsole(Console):
    """A console on which a text cannot steer the terminal, turn into an emoji, or be beyond the terminal's letters.

    Markup is interpreted where the caller allows it; that is for the caller's own words.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(emoji=False, highlight=False, **settings)

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the caller that the reader has gone; rich would end the process."""
        raise BrokenPipeError

    def render_str(self, text: str, **settings: Any) -> Text:
        """Render what `print` and tables are given, with control characters written as escapes."""
        safe = "".join(
            character if character.isprintable() or character in _PLAIN else ascii(character)[1:-1]
            for character in text
        )
        return super().render_str(safe.encode(self.encoding, "backslashreplace").decode(self.encoding), **settings)


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
