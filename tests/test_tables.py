"""Tables in terminals of any width: nothing is cut, what matters most stays, and colours can be read."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mlviews.cli.output import write_changes
from mlviews.cli.table import Column
from mlviews.cli.terminal import COLOURS, Bars, Console, _progress
from mlviews.lock.diff import PackageChange
from mlviews.progress import counted


def _written(width: int, columns: tuple[Column, ...], rows: list[tuple[str, ...]]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).table(columns, rows)
    return out.getvalue().splitlines()


COLUMNS = (Column("Name"), Column("Kind", rank=1), Column("Where", rank=2), Column("Summary", folds=20))


def test_a_wide_terminal_shows_all_side_by_side() -> None:
    assert _written(200, COLUMNS, [("one", "a", "here", "what it is"), ("two", "b", "there", "what")]) == [
        "Name  Kind  Where  Summary",
        "one   a     here   what it is",
        "two   b     there  what",
    ]


def test_the_highest_rank_goes_first_and_is_named() -> None:
    rows = [("one", "a", "here", "what it is good for"), ("two", "b", "there", "what")]
    assert _written(34, COLUMNS, rows) == [
        "Name  Kind  Summary",
        "one   a     what it is good for",
        "two   b     what",
        "no room for: Where",
    ]


def test_what_is_the_same_in_each_row_goes_before_what_is_not() -> None:
    rows = [("one", "same", "here", "what it is good for"), ("two", "same", "there", "what")]
    assert _written(34, COLUMNS, rows)[0] == "Name  Where  Summary"
    assert _written(34, COLUMNS, rows)[3:] == ["Kind: same in each row"]


def test_a_text_is_folded_before_any_column_goes() -> None:
    long = "one two three four five six seven eight nine ten"
    assert _written(42, COLUMNS, [("one", "a", "here", long), ("two", "b", "there", "")])[1:4] == [
        "one   a     here   one two three four five",
        "                   six seven eight nine",
        "                   ten",
    ]


def test_a_path_gets_a_line_of_its_own_whole() -> None:
    path = "/home/student/" + "a-long-folder/" * 10
    columns = (Column("Name"), Column("Folder", below=True))
    assert _written(40, columns, [("one", path), ("two", "/short")]) == [
        "Name", "one", f"  {path}", "two", "  /short",
    ]  # fmt: skip


def test_a_text_that_would_be_broken_within_a_word_stands_below_its_row() -> None:
    columns = (Column("Name"), Column("Found", folds=20), Column("Advice", folds=20))
    rows = [("one", "conda-forge's cuDNN", "Take another one"), ("two", "-", "what")]
    assert _written(30, columns, rows) == [
        "Name  Found",
        "one   conda-forge's cuDNN",
        "  Take another one",
        "two   -",
        "  what",
    ]
    assert _written(16, columns, rows)[:5] == ["Name", "one", "  Found:", "  conda-forge's", "  cuDNN"]


def test_an_empty_column_is_left_out() -> None:
    assert _written(200, COLUMNS, [("one", "-", "", "what")])[0] == "Name  Summary"


@given(
    rows=st.lists(st.tuples(*[st.text(st.characters(codec="utf-8"), max_size=60)] * 4), min_size=1, max_size=5),
    width=st.integers(30, 200),
)
def test_nothing_is_cut_whatever_the_texts_and_the_width(rows: list[tuple[str, ...]], width: int) -> None:
    lines = _written(width, COLUMNS, rows)
    assert not any("…" in line for line in lines if "…" not in "".join(map("".join, rows)))
    together = re.sub(r"\s", "", "".join(lines))
    for row in rows:
        for column in (0, 3):  # these have no rank
            letters = [letter for letter in row[column] if letter.isalnum()]
            assert all(letter in together for letter in letters)


def test_markup_and_escapes_of_foreign_texts_stay_text() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system="truecolor", no_color=True)
    console.table((Column("Name"),), [("[red]x[/]\x1b[2J:smile:",)], header=False)
    console.say("[bold]y\x07", (" [/]", "dim"))
    plain = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert plain == "[red]x[/]\\x1b[2J:smile:\n[bold]y\\x07 [/]\n"


# Sentences.


class Window(io.StringIO):
    """What a terminal's window shows."""

    def isatty(self) -> bool:
        return True


def _said(out: io.StringIO, *parts: str, folds: bool = True) -> list[str]:
    Console(file=out, width=30).say(*parts, folds=folds)
    return out.getvalue().splitlines()


LONG = "  release: `mlviews verify my-view --repair` mends /a/path/that/is/longer/than/the/window, and more files"


def test_a_window_folds_a_sentence_and_neither_paths_nor_what_is_to_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert _said(Window(), LONG) == [
        "  release:",
        "  `mlviews verify my-view --repair`",
        "  mends",
        "  /a/path/that/is/longer/than/the/window,",
        "  and more files",
    ]
    assert _said(Window(), LONG, folds=False) == [LONG]
    assert _said(io.StringIO(), LONG) == [LONG]


@given(st.text(st.characters(codec="utf-8", categories=("L", "P", "Zs")), max_size=80).map(lambda text: text + "x"))
def test_a_sentence_is_the_same_in_a_window_and_in_a_pipe(text: str) -> None:
    folded, whole = " ".join(_said(Window(), text)), " ".join(_said(io.StringIO(), text))
    assert folded.split() == whole.split()


@given(st.lists(st.text("ab\u65e5\u672c", min_size=1, max_size=12), min_size=1, max_size=12), st.integers(0, 4))
def test_folded_lines_are_as_full_as_fits(words: list[str], indent: int) -> None:
    lines = _said(Window(), " " * indent + " ".join(words))
    assert [word for line in lines for word in line.split()] == words
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        assert line.startswith(" " * indent)
        assert cell_len(line) <= 30 < cell_len(line) + 1 + cell_len(below.split()[0]) if below else cell_len(line) <= 30


@pytest.mark.parametrize(("out", "name", "value"), [(io.StringIO, "FORCE_COLOR", "1"), (Window, "TERM", "dumb")])
def test_a_log_gets_one_plain_line_for_a_long_step(
    monkeypatch: pytest.MonkeyPatch, out: type[io.StringIO], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    log = out()
    with Bars(Console(file=log, width=80))("Solving", total=2) as advance:
        assert log.getvalue() == "Solving ...\n"
        advance()
    assert log.getvalue() == "Solving ...\n"


# The tables of the program, each at the width where it was once unreadable.


def _rows(cli: Any, width: int, monkeypatch: pytest.MonkeyPatch, *call: str) -> tuple[str, list[str]]:
    """Return the heading of what a call prints, and its lines."""
    monkeypatch.setenv("COLUMNS", str(width))
    heading, *lines = cli(*call).out.splitlines()
    assert all(len(line) <= width for line in lines)
    return heading, lines


@pytest.mark.parametrize(("width", "most"), [(80, 2.4), (100, 2.0)])
def test_list_keeps_the_summary_in_few_lines(
    cli: Any, repository: Path, monkeypatch: pytest.MonkeyPatch, width: int, most: float
) -> None:
    heading, lines = _rows(cli, width, monkeypatch, "list", "--recipes", str(repository / "recipes"))
    assert heading.split() == ["View", "CUDA", "Summary"]
    assert len(lines) <= most * sum(not line.startswith(" ") for line in lines)


def test_layers_keep_the_summary(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    heading, lines = _rows(cli, 80, monkeypatch, "layers")
    assert re.split(" {2,}", heading) == ["Layer", "Summary", "Asks for"]
    assert lines[-1] == "no room for: Checks"


def test_checks_are_told_without_marks_of_programmers(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [line for line in _rows(cli, 80, monkeypatch, "checks")[1] if "``" in line]


def test_a_difference_takes_one_line() -> None:
    builds = ("1.34.8 h280c20c_1", "1.34.8 hebe6cf0_2")
    changes = [
        PackageChange(kind="rebuilt", name=name, platform="linux-64", before=builds[0], after=builds[1], bytes=1_900)
        for name in ("c-ares", "libopengl-devel2")
    ]
    out = io.StringIO()
    write_changes(Console(file=out, width=80), changes)
    assert out.getvalue().splitlines()[1:] == [
        "rebuilt  c-ares            1.34.8 h280c20c_1  1.34.8 hebe6cf0_2  +1.9 kB",
        "rebuilt  libopengl-devel2  1.34.8 h280c20c_1  1.34.8 hebe6cf0_2  +1.9 kB",
        "Platform: linux-64 in each row",
    ]


@pytest.mark.parametrize("name", COLOURS)
def test_colours_can_be_read_on_white_and_on_black(name: str) -> None:
    """Contrast by WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    _, text = COLOURS[name]
    parts = [int(text[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert min(1.05 / (light + 0.05), (light + 0.05) / 0.05) >= 4


@pytest.mark.parametrize("style", ["green", "bold yellow"])
def test_a_colour_by_its_name_is_the_one_that_can_be_read(style: str) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="256")
    console.say(("x", style))
    console.print(f"[{style}]x[/]")
    number, _ = COLOURS[style.rsplit(maxsplit=1)[-1]]
    assert out.getvalue().count(f"38;5;{number}m") == 2


def test_one_of_a_thing_is_no_plural():
    assert [counted(number, "package") for number in (0, 1, 2)] == ["0 packages", "1 package", "2 packages"]


def test_a_bar_is_one_line_and_keeps_its_length_whatever_its_note_says() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    lengths = set()
    for note in ("six", "jupyter-server-terminals!=0.5.0,>=0.4.4"):
        bars = _progress(console)
        bars.add_task("Downloading wheels", total=173_200_000, completed=173_200_000, unit="bytes", note=note)
        with console.capture() as capture:
            console.print(bars.get_renderable())
        (line,) = capture.get().splitlines()
        assert len(line) <= 80
        assert note[:6].strip() in line
        lengths.add(line.count("━") + line.count("╸"))

    assert len(lengths) == 1
