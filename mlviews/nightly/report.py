"""A night as files: pages for people, JSON and JUnit for programs, and the locks that a bisection starts from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from mlviews.files.writing import swap_link, write_atomically
from mlviews.lock.lockfile import LOCK_SUFFIX
from mlviews.lock.writer import lock_text
from mlviews.nightly.cell import FAILURES
from mlviews.nightly.pages import Trend, change_rows, drawing, past_of, render, trend_of, view_file
from mlviews.progress import Progress, counted, silent
from mlviews.smoke.report import CheckLine, junit_suites
from mlviews.values import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlviews.nightly.history import History
    from mlviews.nightly.night import Night, NightCell, NightRun

_NIGHTS = 120  # how far trends go back


def write_night(root: Path, night: Night, run: NightRun, history: History, *, progress: Progress = silent) -> Path:
    """Write ``<root>/nightly/<UTC date>/`` and return its first page.

    Everything that the history knows of the night is in it, also what another call has found.

    Args:
        run: what the last call was asked for and found.
        history: where the night and those before it are kept.
    """
    folder = root / "nightly" / night.folder
    whole = replace(run, cells=tuple(history.cells(night).values()))
    views: dict[str, list[NightCell]] = {}
    for cell in whole.cells:
        views.setdefault(cell.view, []).append(cell)
    draw = drawing()

    def trend(cell: NightCell) -> Trend:
        nights = history.trend(night, cell.view, cell.platform, nights=_NIGHTS)
        return trend_of(cell, nights, locks=_locks(cell, night, history, folder), draw=draw)

    with progress("Writing the report", total=len(views)) as advance:
        for view, cells in views.items():
            values = {"view": view, "trends": [trend(cell) for cell in cells]}
            write_atomically(folder / view_file(view), render("view", whole, values))
            advance(note=view)
    platforms = sorted({cell.platform for cell in whole.cells})
    suites = {f"{cell.view} {cell.platform}": lines_of(cell, solve_only=run.solve_only) for cell in whole.cells}
    past = {key: past_of(history.before(night, *key)) for key in ((cell.view, cell.platform) for cell in whole.cells)}
    matrix = {view: {cell.platform: cell for cell in cells} for view, cells in views.items()}
    write_atomically(folder / "changes.html", render("changes", whole, {"rows": change_rows(whole.cells)}))
    write_atomically(folder / "night.json", json.dumps(to_json(whole), ensure_ascii=False) + "\n")
    write_atomically(folder / "junit.xml", junit_suites(suites))
    # The first page comes last: where it is, the pages that it leads to are.
    index = folder / "index.html"
    write_atomically(index, render("index", whole, {"matrix": matrix, "platforms": platforms, "past": past}))
    if not night.variant:
        swap_link(root / "nightly" / "latest", night.folder)
    return index


def _locks(cell: NightCell, night: Night, history: History, folder: Path) -> Mapping[str, str]:
    """Write the locks of the last good night and of tonight, where what was installed fails."""
    if cell.state not in FAILURES or not cell.digest or not cell.earlier.good:
        return {}
    written = {}
    for kind, day in (("good", cell.earlier.good), ("bad", night.day.isoformat())):
        lock = history.lock(night, cell.view, cell.platform, day)
        if lock is None:
            return {}  # another host's history names it and lacks it
        written[kind] = f"locks/{cell.view}.{cell.platform}.{kind}{LOCK_SUFFIX}"
        write_atomically(folder / written[kind], lock_text(lock))
    return written


def lines_of(cell: NightCell, *, solve_only: bool) -> tuple[CheckLine, ...]:
    """Return a cell as CI systems know tests: to solve and to install are two of its checks.

    Args:
        solve_only: whether nothing was to be installed.
    """
    text = cell.problem.message if cell.problem else cell.reason
    figures = cell.figures
    if cell.digest is None:
        status = "fail" if cell.state == "unsolvable" else "error" if cell.problem else "skip"
        return (_line("solve", status, text, figures.solve_seconds),)
    solved = _line("solve", "pass", counted(len(cell.changes), "change"), figures.solve_seconds)
    if solve_only:
        return (solved,)
    if cell.state == "install-failed":
        return (solved, _line("install", "error", text, figures.install_seconds))
    if not cell.tested:
        return (solved, _line("install", "skip", text, None))
    gpu = (_line("gpu", "skip", text, None),) if cell.state == "not-run" else ()
    return (solved, _line("install", "pass", "", figures.install_seconds), *cell.checks, *gpu)


def _line(name: str, status: str, reason: str, seconds: float | None) -> CheckLine:
    return CheckLine.model_validate({"name": name, "status": status, "reason": reason, "seconds": seconds or 0.0})
