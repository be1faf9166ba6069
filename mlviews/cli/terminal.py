"""What people see on a terminal: text that anyone may have written, progress, tables."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import rich.console
from rich.cells import cell_len
from rich.text import Text
from rich.theme import Theme

from mlviews.credentials import hide
from mlviews.progress import Advance, silent, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.progress import Progress, Task

    from mlviews.files.reading import Unreadable
    from mlviews.lock.diff import PackageChange
    from mlviews.variants import VariantChoice

    Part: TypeAlias = str | tuple[str, str]
    """A text as it is, which anyone may have written; with a style where it is a pair."""

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
    """

    def __init__(self, **settings: Any) -> None:
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


def tell_unreadable(console: Console, found: Iterable[Unreadable]) -> None:
    """Say what cannot be read, and so was left as it is."""
    for item in found:
        say(console, ("cannot be read", "bold red"), f" and stays: {item.path}: {item.why}")


def tell_variants(console: Console, found: Iterable[VariantChoice]) -> None:
    """Say which variant this host takes of each view that has some, and why; one line for all with the same reason."""
    by_reason: dict[str, list[str]] = {}
    for choice in found:
        by_reason.setdefault(choice.why, []).append(choice.takes)
    for why, takes in by_reason.items():
        say(console, "variants for this host: ", (", ".join(takes), "bold"), f"; {why}")


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
            say(self._console, f"{label} ...")
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


_WORD = re.compile(r"(?:`[^`]+`|\S)+\s*")


def say(console: Console, *parts: Part, folds: bool = True) -> None:
    """Write a line; it is folded between words where the console has an edge.

    A path and what stands in backticks are never folded: they can be copied.

    Args:
        console: where to.
        parts: texts, or texts with a style.
        folds: whether it may be folded at all. A command that stands for itself may not.
    """
    line = Text.assemble(*(_text(console, part) for part in parts))
    if folds and console.has_edge:
        line = _folded(line, console.width)
    console.print(line, soft_wrap=True)


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


def _text(console: rich.console.Console, part: Part, style: str = "") -> Text:
    text, own = (part, style) if isinstance(part, str) else part
    return console.render_str(text, style=own, markup=False)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        rank: in a terminal that is too narrow, the column of the highest rank goes first; one of rank 0 stays.
        style: of its cells, unless a cell has its own.
        right: whether it is aligned to the right.
        folds: the width in letters down to which it is folded before any column goes; 0 for one that is not folded.
        below: for paths: in a terminal that is too narrow, each gets a line of its own, whole.
    """

    heading: str = ""
    rank: int = 0
    style: str = ""
    right: bool = False
    folds: int = 0
    below: bool = False


_GAP = 2
_NOTHING = frozenset({"", "-"})


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where each column goes, by its number: beside others with a width, below its row, or into the words after it.

    Attributes:
        below: paths, each whole in a line.
        told: texts, folded between words.
    """

    widths: dict[int, int]
    below: tuple[int, ...]
    told: tuple[int, ...]
    alike: tuple[int, ...]
    gone: tuple[int, ...]


def write_table(
    console: rich.console.Console, columns: Sequence[Column], rows: Iterable[Sequence[Part]], *, header: bool = True
) -> None:
    """Write rows below headings, in the width that there is: nothing is cut.

    A column with nothing in it is left out. What is too wide loses, in this order and only as far as needed: what
    stands below its row instead, columns that say the same in every row (it is said once, after the rows), columns by
    their rank (they are named after the rows). Texts that may be folded are, at last all of them; one that would be
    broken within a word stands below its row instead.

    Args:
        console: where to; its width counts.
        columns: one for each cell of a row.
        rows: texts, or texts with a style.
        header: whether headings are written.
    """
    cells = [[_text(console, part, column.style) for part, column in zip(row, columns, strict=True)] for row in rows]
    layout = _layout(console.width, columns, cells, header=header)
    if header:
        _write_row(console, columns, layout, [Text(column.heading, "bold") for column in columns])
    for row in cells:
        _write_row(console, columns, layout, row)
        for index in layout.below:
            console.print(Text("  ") + row[index], soft_wrap=True)
        for index in layout.told:
            name = f"{columns[index].heading}: " if header and index + 1 < len(columns) else ""
            if row[index].plain not in _NOTHING:
                console.print(_folded(Text(f"  {name}") + row[index], console.width), soft_wrap=True)
    notes = [f"{columns[index].heading}: {cells[0][index].plain} in each row" for index in layout.alike]
    if layout.gone:
        names = ", ".join(columns[index].heading for index in layout.gone)
        notes.append(f"no room for: {names}")
    if notes:
        console.print(Text("; ".join(notes), "dim"), overflow="fold")


def _layout(width: int, columns: Sequence[Column], cells: Sequence[Sequence[Text]], *, header: bool) -> _Layout:
    texts = [{row[index].plain for row in cells} for index in range(len(columns))]
    widths = {
        index: max([len(column.heading) * header, *(row[index].cell_len for row in cells)])
        for index, column in enumerate(columns)
        if not cells or not texts[index] <= _NOTHING
    }
    least = {index: min(whole, columns[index].folds or whole) for index, whole in widths.items()}

    def is_too_wide() -> bool:
        return sum(least[index] + _GAP for index in widths) - _GAP > width

    below = tuple(index for index in widths if columns[index].below) if is_too_wide() else ()
    for index in below:
        del widths[index]
    by_rank = sorted((index for index in widths if columns[index].rank), key=lambda index: -columns[index].rank)
    same = [index for index in by_rank if len(cells) > 1 and len(texts[index]) == 1]
    alike: list[int] = []
    gone: list[int] = []
    for into, candidates in ((alike, same), (gone, by_rank)):
        for index in candidates:
            if index in widths and is_too_wide():
                into.append(index)
                del widths[index]
    words = {index: max(map(_longest_word, (columns[index].heading * header, *texts[index]))) for index in widths}
    told: list[int] = []
    while any(beside < words[index] for index, beside in _fold(widths, least, width).items()):
        foldable = [index for index in widths if columns[index].folds]
        if not foldable or len(widths) == 1:
            break
        told.insert(0, foldable[-1])
        del widths[foldable[-1]]
    return _Layout(_fold(widths, least, width), below, tuple(told), tuple(sorted(alike)), tuple(sorted(gone)))


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _fold(widths: dict[int, int], least: dict[int, int], width: int) -> dict[int, int]:
    """Return widths that fit: the widest column gives first, and none more than it can unless all have to."""
    found = dict(widths)
    for _ in range(sum(found.values()) + _GAP * (len(found) - 1) - width):
        can = [index for index in found if found[index] > least[index]] or list(found)
        widest = max(can, key=lambda index: found[index])
        found[widest] = max(1, found[widest] - 1)
    return found


def _write_row(console: rich.console.Console, columns: Sequence[Column], layout: _Layout, row: Sequence[Text]) -> None:
    folded = [
        row[index].wrap(console, width, justify="right" if columns[index].right else "left", overflow="fold")
        for index, width in layout.widths.items()
    ]
    blank = [Text(" " * width) for width in layout.widths.values()]
    for lines in zip_longest(*folded):
        line = Text(" " * _GAP).join(found or empty for found, empty in zip(lines, blank, strict=True))
        line.rstrip()
        console.print(line, soft_wrap=True)


_STYLES = {"added": "green", "removed": "red", "up": "cyan", "down": "yellow", "rebuilt": "dim"}
STATUS_STYLES = {"pass": "green", "fail": "red", "error": "red", "skip": "yellow"}


def write_changes(console: rich.console.Console, changes: Iterable[PackageChange]) -> None:
    """Write what differs between two locks as a table."""
    columns = (
        Column("Change"), Column("Package", folds=16), Column("Platform", rank=1), Column("Before", folds=24),
        Column("After", folds=24), Column("Size", right=True),
    )  # fmt: skip
    rows = (
        ((c.kind, _STYLES[c.kind]), c.name, c.platform, c.before or "-", c.after or "-", size(c.bytes, sign=True))
        for c in changes
    )
    write_table(console, columns, rows)
