"""Trends as SVG, drawn when the report is written: a page needs no program and no network to show them.

Vega-Lite draws them (``vl-convert-python``, the extra ``report``). Without it the same figures are there in tables.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["Chart", "Series", "chart_of", "drawing"]

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
        series: what is drawn.
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
