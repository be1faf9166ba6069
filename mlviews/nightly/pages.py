"""What a night's pages show: the history's cells as tables, and trends as SVG.

Vega-Lite draws the trends when the report is written (``vl-convert-python``, the extra ``report``): a page needs no
program and no network to show them. Without it the same figures are there in tables.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mlviews.nightly.cell import FAILURES
from mlviews.render import webpage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

    import jinja2

    from mlviews.lock.diff import PackageChange
    from mlviews.nightly.history import PastCell
    from mlviews.nightly.night import CellState, NightCell, NightRun

_WIDTH, _HEIGHT = 300, 120
_FEWEST = 2  # points that make a trend
_TICKS = 4
_MUTED, _LINE, _BAD = "var(--muted)", "var(--line)", "var(--bad)"  # the page's own colours, light or dark
# What a drawing that is hidden from screen readers, and drawn as wide as the page likes, has no use for.
_NEEDLESS = re.compile(r' (role|aria-[a-z]+|class|pointer-events|xmlns:xlink|version)="[^"]*"')
_DIMENSIONS = re.compile(r' width="[\d.]+" height="[\d.]+"')


@dataclass(frozen=True, slots=True)
class Series:
    """One figure, night by night.

    Attributes:
        title: what it is, with its unit.
        points: night -> value; None where that night has none.
        failed: the nights that failed.
        zero: whether its scale begins at zero.
    """

    title: str
    points: Sequence[tuple[str, float | None]]
    failed: frozenset[str] = frozenset()
    zero: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn series: its title, what it shows in words, and the drawing."""

    title: str
    words: str
    svg: str


def drawing() -> ModuleType | None:
    """Return what draws, where it is installed."""
    try:
        import vl_convert  # noqa: PLC0415  (optional)
    except ImportError:
        return None
    found: ModuleType = vl_convert
    return found


def chart_of(series: Series, draw: ModuleType | None) -> Chart | None:
    """Draw a series; None where nothing draws, or one value is no trend.

    Args:
        draw: what `drawing` gave.
    """
    known = [(night, value) for night, value in series.points if value is not None]
    if draw is None or len(known) < _FEWEST:
        return None
    svg = draw.vegalite_to_svg(json.dumps(_specification(series)))
    hidden = _DIMENSIONS.sub(' aria-hidden="true"', _NEEDLESS.sub("", svg), count=1)
    return Chart(series.title, _words(known, len(series.failed)), hidden)


def _words(known: Sequence[tuple[str, float]], failed: int) -> str:
    values = [value for _, value in known]
    (first_night, first), (last_night, last) = known[0], known[-1]
    text = f"{first:g} on {first_night}, {last:g} on {last_night}; between {min(values):g} and {max(values):g}."
    if min(values) == max(values):
        text = f"{first:g} on every night from {first_night} to {last_night}."
    return f"{text} {failed} {'night' if failed == 1 else 'nights'} failed." if failed else text


def _specification(series: Series) -> dict[str, Any]:
    nights = [night for night, _ in series.points]
    values = [{"night": night, "value": value} for night, value in series.points]
    x = {"field": "night", "type": "temporal", "timeUnit": "yearmonthdate", "axis": _x_axis(nights)}
    axis, scale = {"title": None, "tickCount": 4}, {"zero": series.zero, "padding": 0 if series.zero else 8}
    y = {"field": "value", "type": "quantitative", "axis": axis, "scale": scale}
    failed = [{"night": night} for night in sorted(series.failed)]
    line = {"type": "line", "color": _LINE, "strokeWidth": 2, "point": {"color": _LINE, "filled": True, "size": 24}}
    rule = {"type": "rule", "color": _BAD, "strokeDash": [2, 3]}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": _WIDTH,
        "height": _HEIGHT,
        "padding": 6,
        "config": _CONFIG,
        "layer": [
            {"data": {"values": failed}, "mark": rule, "encoding": {"x": x}},
            {"data": {"values": values}, "mark": line, "encoding": {"x": x, "y": y}},
        ],
    }


def _x_axis(nights: Sequence[str]) -> dict[str, Any]:
    within = "%Y" if nights[0][:4] != nights[-1][:4] else "%d"
    shown = [nights[round(step * (len(nights) - 1) / (_TICKS - 1))] for step in range(_TICKS)]
    days = [
        {"year": int(night[:4]), "month": int(night[5:7]), "date": int(night[8:])} for night in dict.fromkeys(shown)
    ]
    return {"title": None, "format": f"%b {within}", "values": days, "labelOverlap": True, "grid": False}


_CONFIG = {
    "aria": False,  # the page describes the whole drawing, and holds its figures in a table
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _MUTED,
        "domainColor": _MUTED,
        "tickColor": _MUTED,
        "gridColor": "var(--rule)",
        "labelFontSize": 11,
    },
}


SYMBOLS = {
    "ok": "✓", "updated": "↑", "unsolvable": "✗", "install-failed": "✗", "check-failed": "✗", "not-run": "○",
}  # fmt: skip
_BYTES = 1e6
_MOST_FIGURES = 12
_STRIP = 14  # nights


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change, and everywhere that it would be made."""

    change: PackageChange
    views: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """The last states of a cell, the oldest first, and the same in words."""

    states: tuple[CellState, ...]
    words: str


@dataclass(frozen=True, slots=True)
class Trend:
    """A view on one platform: tonight, the nights before it, and the drawings of them."""

    cell: NightCell
    nights: tuple[tuple[str, NightCell], ...]
    charts: tuple[Chart, ...]
    locks: Mapping[str, str]


def change_rows(cells: Iterable[NightCell]) -> tuple[ChangeRow, ...]:
    """Gather the changes of all cells, each once, by package."""
    found: dict[PackageChange, list[str]] = {}
    for cell in cells:
        for change in cell.changes:
            found.setdefault(change, []).append(cell.view)
    ordered = sorted(found.items(), key=lambda item: (item[0].name, item[0].platform, item[0].after or ""))
    return tuple(ChangeRow(change, tuple(views)) for change, views in ordered)


def past_of(seen: Sequence[PastCell]) -> Past:
    """Say what the last nights gave, from the latest first."""
    states = [night.state for night in seen[:_STRIP]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return Past(tuple(reversed(states)), f"The last {len(states)} nights before: {counts}")


def trend_of(
    cell: NightCell, nights: Sequence[tuple[str, NightCell]], *, locks: Mapping[str, str], draw: ModuleType | None
) -> Trend:
    """Draw what the nights say about a cell.

    Args:
        nights: name and cell, the oldest first, tonight the last.
        locks: ``good`` and ``bad`` -> the file of the lock, where they were written.
        draw: see `mlviews.nightly.pages.drawing`.
    """
    charts = (chart_of(series, draw) for series in _series(nights))
    return Trend(cell, tuple(nights), tuple(chart for chart in charts if chart), locks)


def _series(nights: Sequence[tuple[str, NightCell]]) -> Iterator[Series]:
    failed = frozenset(night for night, cell in nights if cell.state in FAILURES)

    def series(title: str, values: Iterable[float | None], *, zero: bool = True) -> Series:
        return Series(title, list(zip([night for night, _ in nights], values, strict=True)), failed, zero)

    figures = [cell.figures for _, cell in nights]
    yield series("Download size in MB", [_mega(item.download) for item in figures], zero=False)
    yield series("Installed size in MB", [_mega(item.installed) for item in figures], zero=False)
    yield series("Median age of packages in days", [item.age for item in figures])
    yield series("Solve time in seconds", [item.solve_seconds for item in figures])
    yield series("Time of all checks in seconds", [item.check_seconds for item in figures])
    measured = [{(check.name, key): value for check in cell.checks for key, value in _numbers(check.figures)}
                for _, cell in nights]  # fmt: skip
    changing = [pair for pair in sorted({*chain(*measured)}) if len({night.get(pair) for night in measured}) > 1]
    for name, key in changing[:_MOST_FIGURES]:
        yield series(f"{name}: {key}", [night.get((name, key)) for night in measured])


def _numbers(figures: Mapping[str, float | str]) -> Iterator[tuple[str, float]]:
    return ((key, value) for key, value in figures.items() if isinstance(value, (int, float)))


def _mega(value: int | None) -> float | None:
    return None if value is None else round(value / _BYTES, 1)


def view_file(view: str) -> str:
    """Return the name of a view's page."""
    return f"view-{view}.html"


def render(page: str, run: NightRun, values: Mapping[str, Any]) -> str:
    """Return a page.

    Args:
        page: ``index``, ``view`` or ``changes``.
        values: what this page shows besides.
    """
    return webpage.render(_environment(), page, {"run": run, **values})


@cache
def _environment() -> jinja2.Environment:
    return webpage.environment(
        filters={"view_file": view_file, "svg": Markup}, values={"symbols": SYMBOLS, "failures": FAILURES}
    )
