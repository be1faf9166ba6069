"""The terminal: text that anyone may have written, tables, progress."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NoReturn

import rich.console
from rich.cells import cell_len
from rich.text import Text
from rich.theme import Theme

from mlviews.cli.table import GAP, NOTHING, layout
from mlviews.credentials import hide
from mlviews.progress import Advance, silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.progress import Progress, Task

    from mlviews.cli.table import Column, Layout, Part

_PLAIN = "\n\t"

COLOURS = {
    "green": (28, "#008700"), "red": (161, "#d7005f"), "yellow": (130, "#af5f00"), "cyan": (31, "#0087af"),
    "dim": (243, "#767676"),
}  # fmt: skip
"""What stands for a colour's name: its number among xterm's 256, and what that looks like.

A terminal's own sixteen are made for one background: yellow is faint on white. Each terminal has another idea of dim,
too. These are read on white and on black.
"""
_THEME = Theme(
    {f"{weight}{name}": f"{weight}color({number})" for name, (number, _) in COLOURS.items() for weight in ("", "bold ")}
    | {"progress.elapsed": "dim"}  # rich has it in yellow
)


class Console(rich.console.Console):
    """A console on which a text cannot steer the terminal, turn into an emoji, or be beyond the terminal's letters.

    It hides the passwords and tokens of URLs. Markup is interpreted where the caller allows it; that is for the
    caller's own words.

    Attributes:
        details: whether people want more than a screenful (``-v``).
    """

    def __init__(self, *, details: bool = False, **settings: Any) -> None:
        self.details = details
        super().__init__(emoji=False, highlight=False, theme=_THEME, **settings)

    @property
    def has_edge(self) -> bool:
        """Whether lines are to end somewhere: in a window, or where COLUMNS says so; not in other files and pipes."""
        return self.file.isatty() or "COLUMNS" in os.environ

    @property
    def can_move(self) -> bool:
        """Whether it can write over what stands there: not in a file, though FORCE_COLOR asks for colours there."""
        return self.file.isatty() and self.is_interactive

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the caller that the reader has gone; rich would end the process."""
        raise BrokenPipeError

    def render_str(self, text: str, **settings: Any) -> Text:
        """Render what `print` and tables are given, with control characters written as escapes."""
        safe = "".join(
            character if character.isprintable() or character in _PLAIN else ascii(character)[1:-1]
            for character in hide(text)
        )
        return super().render_str(safe.encode(self.encoding, "backslashreplace").decode(self.encoding), **settings)

    def say(self, *parts: Part, folds: bool = True) -> None:
        """Write a line; it is folded between words where the console has an edge.

        A path and what stands in backticks are never folded: they can be copied.

        Args:
            parts: texts, or texts with a style.
            folds: whether it may be folded at all. A command that stands for itself may not.
        """
        line = Text.assemble(*map(self._text, parts))
        self.print(_folded(line, self.width) if folds and self.has_edge else line, soft_wrap=True)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Part]], *, header: bool = True) -> None:
        """Write rows below headings, in the width that there is: nothing is cut.

        A column with nothing in it is left out. What is too wide loses, in this order and only as far as needed: what
        stands below its row instead, columns that say the same in every row (it is said once, after the rows), columns
        by their rank (they are named after the rows). Texts that may be folded are, at last all of them; one that would
        be broken within a word stands below its row instead.

        Args:
            columns: one for each cell of a row.
            rows: texts, or texts with a style.
            header: whether headings are written.
        """
        cells = [[self._text(part, column.style) for part, column in zip(row, columns, strict=True)] for row in rows]
        where = layout(self.width, columns, [[cell.plain for cell in row] for row in cells], header=header)
        if header:
            self._row(columns, where, [Text(column.heading, "bold") for column in columns])
        for row in cells:
            self._row(columns, where, row)
            for index in where.below:
                self.print(Text("  ") + row[index], soft_wrap=True)
            for index in where.told:
                name = f"{columns[index].heading}: " if header and index + 1 < len(columns) else ""
                if row[index].plain not in NOTHING:
                    self.print(_folded(Text(f"  {name}") + row[index], self.width), soft_wrap=True)
        notes = [f"{columns[index].heading}: {cells[0][index].plain} in each row" for index in where.alike]
        if where.gone:
            notes.append(f"no room for: {', '.join(columns[index].heading for index in where.gone)}")
        if notes:
            self.print(Text("; ".join(notes), "dim"), overflow="fold")

    def _row(self, columns: Sequence[Column], where: Layout, row: Sequence[Text]) -> None:
        folded = [
            row[index].wrap(self, width, justify="right" if columns[index].right else "left", overflow="fold")
            for index, width in where.widths.items()
        ]
        blank = [Text(" " * width) for width in where.widths.values()]
        for lines in zip_longest(*folded):
            line = Text(" " * GAP).join(found or empty for found, empty in zip(lines, blank, strict=True))
            line.rstrip()
            self.print(line, soft_wrap=True)

    def _text(self, part: Part, style: str = "") -> Text:
        text, own = (part, style) if isinstance(part, str) else part
        return self.render_str(text, style=own, markup=False)


_WORD = re.compile(r"(?:`[^`]+`|\S)+\s*")


def _folded(text: Text, width: int) -> Text:
    """Return a text in lines of this width; what does not fit goes on below where its line began."""
    found = []
    for line in text.split("\n", allow_blank=True):
        start = Text(line.plain[: len(line) - len(line.plain.lstrip(" "))])
        words = line[len(start) :]
        found += [start + part for part in words.divide(_breaks(words.plain, width - len(start)))]
    for line in found:
        line.rstrip()
    return Text("\n").join(found)


def _breaks(text: str, width: int) -> list[int]:
    """Return where a text is broken to fit; a word that is longer than a line has one for itself."""
    breaks, used = [], 0
    for word in _WORD.finditer(text):
        if used and used + cell_len(word[0].rstrip()) > width:
            breaks.append(word.start())
            used = 0
        used += cell_len(word[0])
    return breaks


class Bars:
    """A `mlviews.progress.Progress` on a console; bars may be open side by side."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open = 0

    @cached_property
    def _bars(self) -> Progress:
        return _progress(self._console)

    @contextmanager
    def __call__(self, label: str, *, total: int | None = None, unit: str = "items") -> Iterator[Advance]:
        """Open a bar; where there is no terminal, say what begins, once."""
        label = hide(label)
        if not self._console.can_move:
            self._console.say(f"{label} ...")
            with silent(label, total=total, unit=unit) as nowhere:
                yield nowhere
            return
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


def _progress(console: Console) -> Progress:
    # Here: only a terminal has bars.
    from rich import table
    from rich.filesize import decimal
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            write = decimal if task.fields["unit"] == "bytes" else str
            done = write(int(task.completed))
            return Text(done if task.total is None else f"{done} / {write(int(task.total))}")

    # The note takes what is left and is cut there: else each note would give the bar another length.
    rest = table.Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        Count(table_column=table.Column(no_wrap=True)),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=rest),
        console=console,
        transient=True,
        expand=True,
    )
