"""How a table is laid out in the width that there is; `mlviews.cli.terminal` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    Part: TypeAlias = str | tuple[str, str]
    """A text as it is, which anyone may have written; with a style where it is a pair."""


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


GAP = 2
NOTHING = frozenset({"", "-"})
"""Cells that say nothing."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each column goes, by its number.

    Attributes:
        widths: beside others, as wide as this says.
        below: below its row: paths, each whole in a line.
        told: below its row: texts, folded between words.
        alike: after the rows: what says the same in each of them.
        gone: nowhere; only its heading is told, after the rows.
    """

    widths: dict[int, int]
    below: tuple[int, ...]
    told: tuple[int, ...]
    alike: tuple[int, ...]
    gone: tuple[int, ...]


def layout(width: int, columns: Sequence[Column], rows: Sequence[Sequence[str]], *, header: bool) -> Layout:
    """Return where the columns of a table go in the width that there is; see `mlviews.cli.terminal.Console.table`.

    Args:
        rows: a text for each column.
        header: whether headings are written.
    """
    from rich.cells import cell_len

    texts = [{row[index] for row in rows} for index in range(len(columns))]
    widths = {
        index: max([len(column.heading) * header, *map(cell_len, texts[index])])
        for index, column in enumerate(columns)
        if not rows or not texts[index] <= NOTHING
    }
    least = {index: min(whole, columns[index].folds or whole) for index, whole in widths.items()}

    def is_too_wide() -> bool:
        return sum(least[index] + GAP for index in widths) - GAP > width

    below = tuple(index for index in widths if columns[index].below) if is_too_wide() else ()
    for index in below:
        del widths[index]
    by_rank = sorted((index for index in widths if columns[index].rank), key=lambda index: -columns[index].rank)
    same = [index for index in by_rank if len(rows) > 1 and len(texts[index]) == 1]
    alike: list[int] = []
    gone: list[int] = []
    for into, candidates in ((alike, same), (gone, by_rank)):
        for index in candidates:
            if index in widths and is_too_wide():
                into.append(index)
                del widths[index]
    words = {
        index: max(map(cell_len, " ".join([columns[index].heading * header, *texts[index]]).split()), default=0)
        for index in widths
    }
    told: list[int] = []
    while any(beside < words[index] for index, beside in _fold(widths, least, width).items()):
        foldable = [index for index in widths if columns[index].folds]
        if not foldable or len(widths) == 1:
            break
        told.insert(0, foldable[-1])
        del widths[foldable[-1]]
    return Layout(_fold(widths, least, width), below, tuple(told), tuple(sorted(alike)), tuple(sorted(gone)))


def _fold(widths: dict[int, int], least: dict[int, int], width: int) -> dict[int, int]:
    """Return widths that fit: the widest column gives first, and none more than it can unless all have to."""
    found = dict(widths)
    for _ in range(sum(found.values()) + GAP * (len(found) - 1) - width):
        can = [index for index in found if found[index] > least[index]] or list(found)
        widest = max(can, key=lambda index: found[index])
        found[widest] = max(1, found[widest] - 1)
    return found
