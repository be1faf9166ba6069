"""One cell of a night, view x platform: the newest packages that solve, what is tried with them, and what follows."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlviews.errors import RefusedError
from mlviews.lock.diff import compare
from mlviews.lock.packages import lock_of
from mlviews.nightly.night import CellFigures, CellState, NightCell
from mlviews.nightly.workers import WORKERS_LOST
from mlviews.smoke.programs import unknown_checks
from mlviews.smoke.report import failures
from mlviews.solve.solver import solve
from mlviews.trial import Trial, TrialJob, try_lock
from mlviews.values import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from rattler import RepoDataRecord

    from mlviews.conda.channels import Sources
    from mlviews.lock.lockfile import Lock
    from mlviews.lock.status import LockStatus
    from mlviews.site.spec import SiteSpec
    from mlviews.wheels.offers import Index

_SECONDS_A_DAY = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """What one solve gave: a lock, or why there is none.

    Attributes:
        refused: whether the answer was no; a problem that is no refusal says nothing about the packages.
        figures: what the solve measured; its time is from its turn to its end, and others may have run beside it.
    """

    lock: Lock | None = None
    problem: Problem | None = None
    refused: bool = False
    figures: CellFigures = field(default_factory=CellFigures)


async def solve_all(
    site_specs: Sequence[SiteSpec],
    sources: Sources,
    *,
    now: datetime,
    as_of: datetime | None,
    index: Index,
    done: Callable[[str], None],
) -> tuple[Solved, ...]:
    """Solve views, each for its first platform, as many at a time as there are processors.

    Nothing is kept of any lock: this is what `mlviews lock --upgrade` would choose. What goes wrong with one view is
    its result.

    Args:
        site_specs: what to solve; see `mlviews.nightly.night.only_on`.
        now: the moment from which ages count.
        as_of: leave out what was built later than this.
        done: told the name of each view that is solved.
    """
    turn = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(site_spec: SiteSpec) -> Solved:
        spec = site_spec.spec
        async with turn:
            start = time.monotonic()
            try:
                solution = await solve(spec, spec.platforms[0], sources, as_of=as_of, index=index)
                seconds = round(time.monotonic() - start, 3)
                lock = lock_of(site_spec, [solution])
                figures = CellFigures(
                    packages=len(lock.packages),
                    download=sum(package.size for package in lock.packages),
                    age=_age(solution.packages, now),
                    solve_seconds=seconds,
                )
                return Solved(lock=lock, figures=figures)
            except Exception as error:  # noqa: BLE001  (the result of one view among many)
                figures = CellFigures(solve_seconds=round(time.monotonic() - start, 3))
                return Solved(problem=Problem.of(error), refused=isinstance(error, RefusedError), figures=figures)
            finally:
                done(spec.name)

    return tuple(await asyncio.gather(*map(one, site_specs)))


def _age(packages: Sequence[RepoDataRecord], now: datetime) -> float | None:
    ages = [(now - item.timestamp).total_seconds() / _SECONDS_A_DAY for item in packages if item.timestamp]
    return round(statistics.median(ages), 1) if ages else None


FAILURES: frozenset[CellState] = frozenset({"unsolvable", "install-failed", "check-failed"})
"""The states that say that something is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One view on one platform, before anything is known of its newest packages.

    Attributes:
        site_spec: the view, for this platform alone.
        status: how the committed lock stands.
        committed: the committed lock's part for this platform, where there is one.
    """

    site_spec: SiteSpec
    status: LockStatus
    committed: Lock | None

    @property
    def key(self) -> tuple[str, str]:
        """View and platform."""
        return self.site_spec.spec.name, self.site_spec.spec.platforms[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellJob:
    """What is installed and checked for a cell; it may travel to another process or machine.

    Attributes:
        newest: the lock that the newest packages give; None where there is none.
        committed: the lock to try where the other one fails, to tell the packages' fault from the place's.
    """

    key: tuple[str, str]
    newest: TrialJob | None
    committed: TrialJob | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What the trials of a cell gave; None where one was not made."""

    newest: Trial | None = None
    committed: Trial | None = None


def try_cell(job: CellJob) -> Tested:
    """Try the newest packages and, if that fails, the committed lock."""
    newest = try_lock(job.newest) if job.newest else None
    fine = newest is not None and newest.problem is None and not failures(newest.checks)
    return Tested(newest=newest, committed=None if fine or job.committed is None else try_lock(job.committed))


def cell_of(cell: Cell, solved: Solved, tested: Tested | None) -> NightCell:
    """Return what is known of a cell, without what other nights say about it.

    Args:
        tested: what trials gave; None where nothing was to be tried.
    """
    lock, newest = solved.lock, tested.newest if tested else None
    changes = compare(cell.committed, lock) if lock and cell.committed else ()
    found = _solved(solved) or (_tried(newest, cell) if newest else _Found("ok"))
    same = cell.committed is not None and not changes
    state: CellState = "updated" if found.state == "ok" and not same else found.state
    committed = _committed(cell, tested, found.state if same and newest else None)
    return NightCell(
        view=cell.key[0],
        platform=cell.key[1],
        state=state,
        reason=_joined(found.reason, committed) if state in FAILURES else found.reason,
        problem=found.problem,
        tested=newest is not None and not _elsewhere(newest),
        lock=cell.status.state,
        committed=cell.committed.digest if cell.committed else None,
        committed_state=committed,
        digest=lock.digest if lock else None,
        changes=list(changes),
        checks=list(newest.checks) if newest else [],
        figures=_measured(solved.figures, newest),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    state: CellState
    reason: str = ""
    problem: Problem | None = None


def _solved(solved: Solved) -> _Found | None:
    if solved.problem is None:
        return None
    return _Found("unsolvable" if solved.refused else "not-run", _blamed(solved.problem), solved.problem)


def _blamed(problem: Problem) -> str:
    """Return what is to blame in a line: a conflict's second paragraph names the requests."""
    first, _, rest = problem.message.partition("\n\n")
    if problem.code != "unsolvable" or not rest:
        return first.partition("\n")[0]
    heading, *requests = rest.partition("\n\n")[0].splitlines()
    return f"{heading.partition(';')[0].rstrip(':')}: {'; '.join(map(str.strip, requests))}"


def _tried(trial: Trial, cell: Cell) -> _Found:
    if trial.problem and trial.problem.code == WORKERS_LOST:
        return _Found("not-run", trial.problem.message.partition("\n")[0], trial.problem)
    if _elsewhere(trial):
        return _Found("not-run", f"this host is {trial.platform}")
    if trial.problem:
        return _Found("install-failed", trial.problem.message.partition("\n")[0], trial.problem)
    if found := failures(trial.checks):
        return _Found("check-failed", "; ".join(found))
    if cell.site_spec.spec.hardware.cuda and not any(check.status == "pass" and check.on_gpu for check in trial.checks):
        return _Found("not-run", "installed and imported, but no GPU was here to prove it")
    unknown = unknown_checks((check.name for check in trial.checks), cell.site_spec.spec.own_checks)
    return _Found("ok", f"no such check, which the recipe names: {', '.join(unknown)}" if unknown else "")


def _committed(cell: Cell, tested: Tested | None, newest: CellState | None) -> CellState | None:
    """Return what the committed lock gave: it was tried itself, or the newest packages are its own."""
    if tested and tested.committed:
        return _tried(tested.committed, cell).state
    return newest


def _joined(reason: str, committed: CellState | None) -> str:
    if committed is None:
        return reason
    return f"{reason} (the committed lock {'fails too' if committed in FAILURES else 'does not fail'})"


def _elsewhere(trial: Trial) -> bool:
    """Tell whether nothing was tried: that says nothing about the packages."""
    return trial.problem is not None and trial.problem.code in {"platform-missing", WORKERS_LOST}


def _measured(figures: CellFigures, trial: Trial | None) -> CellFigures:
    if trial is None or trial.problem:
        return figures
    found = {"installed": trial.bytes, "install_seconds": trial.install_seconds, "check_seconds": trial.check_seconds}
    return figures.model_copy(update=found)
