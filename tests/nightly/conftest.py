"""What the tests of nights share: cells made by hand, and reports of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mlviews.lock.diff import PackageChange
from mlviews.nightly.history import open_history
from mlviews.nightly.night import CellFigures, Earlier, Night, NightCell, NightRun
from mlviews.nightly.report import write_night
from mlviews.smoke.report import CheckLine
from mlviews.values import Problem

HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e"


def cell(view: str = "demo", platform: str = "linux-64", state: str = "ok", **keys: Any) -> NightCell:
    """Make a cell; keys that a test does not give have plain values."""
    plain: dict[str, Any] = {
        "lock": "current",
        "digest": "d" * 64,
        "figures": CellFigures(packages=3, download=3_000_000),
    }
    return NightCell.model_validate({"view": view, "platform": platform, "state": state, **plain, **keys})


def changes(number: int, kind: str = "up") -> list[PackageChange]:
    return [
        PackageChange(kind=kind, name=f"package-{i}", platform="linux-64", before="1.0", after="2.0", bytes=1000 * i)
        for i in range(number)
    ]


def run_of(day: date, cells: list[NightCell], **keys: Any) -> NightRun:
    plain = {"as_of": None, "cuda": None, "solve_only": False, "seconds": 1.0}
    return NightRun(night=day.isoformat(), cells=cells, **{**plain, **keys})


def write_report(root: Path, *nights: list[NightCell], **keys: Any) -> Path:
    """Keep nights in a history, write the report of the last one, and return its folder."""
    with open_history(root) as history:
        for number, cells in enumerate(nights, 1):
            night = Night(day=date(2026, 11, number))
            for one in cells:
                history.keep(night, one, None)
        return write_night(root, night, run_of(night.day, nights[-1], **keys), history).parent


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the report of nights."""
    return functools.partial(write_report, tmp_path)


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every state, twelve nights, checks, changes, and text that means harm."""
    failed = CheckLine(name="torch-matmul", status="fail", reason=HOSTILE, seconds=1.5, figures={"error": 0.5})
    passed = CheckLine(name="imports", status="pass", reason="3 modules", seconds=2.0, figures={"modules": 3})
    conflict = f"view x cannot be solved\n\nThese 2 requests cannot stand together:\n  {HOSTILE}\n  right"
    cells = [
        cell("alpha"),
        cell("alpha", "linux-aarch64", "not-run", reason="this host is linux-64"),
        cell("beta", state="updated", changes=changes(40), checks=[passed], tested=True),
        cell("gamma", state="unsolvable", digest=None, reason=HOSTILE, earlier=Earlier(since="2026-11-01"),
             problem=Problem(code="unsolvable", message=conflict, hint=HOSTILE)),
        cell("delta", state="check-failed", reason=HOSTILE, checks=[passed, failed], changes=changes(12, "rebuilt"),
             suspects=changes(9), tested=True, earlier=Earlier(since="2026-11-12", good="2026-11-11", last="2026-11-11",
             last_state="ok")),
        cell("epsilon", state="install-failed", reason="the disk is full", earlier=Earlier(since="2026-11-12"),
             problem=Problem(code="disk-full", message="the disk\x00 is full", hint="")),
    ]  # fmt: skip
    nights = [
        [one.model_copy(update={"figures": CellFigures(packages=3, download=n * 10**8, age=50 - n, solve_seconds=0.1)})
         for one in cells]
        for n in range(1, 13)
    ]  # fmt: skip
    return write_report(tmp_path_factory.mktemp("busy"), *nights)
