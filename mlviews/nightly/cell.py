"""One cell of a night, view x platform: what is tried for it, and what follows from what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlviews.lock.diff import compare, package_changes
from mlviews.nightly.trial import Trial, TrialJob, try_lock
from mlviews.results.nights import CellFigures, NightCell
from mlviews.smoke.runner import NO_SUCH_CHECK

if TYPE_CHECKING:
    from mlviews.lock.lockfile import Lock
    from mlviews.nightly.solving import Solved
    from mlviews.results.base import Problem
    from mlviews.results.checks import CheckLine
    from mlviews.results.locks import LockState
    from mlviews.results.nights import CellState
    from mlviews.site.spec import SiteSpec

__all__ = ["FAILURES", "Ask", "CellJob", "Tested", "cell_of", "try_cell"]

FAILURES: frozenset[CellState] = frozenset({"unsolvable", "install-failed", "check-failed"})
"""The states that say that something is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a cell starts from.

    Attributes:
        view: the view, for this platform alone.
        lock_state: of the committed lock.
        committed: the committed lock's part for this platform, where there is one.
    """

    view: SiteSpec
    platform: str
    lock_state: LockState
    committed: Lock | None

    @property
    def key(self) -> tuple[str, str]:
        """View and platform."""
        return self.view.spec.name, self.platform


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
    """Try the newest packages and, if that fails, the committed lock.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    newest = try_lock(job.newest) if job.newest else None
    fine = newest is not None and newest.problem is None and not _failed(newest.checks)
    return Tested(newest=newest, committed=None if fine or job.committed is None else try_lock(job.committed))


def cell_of(ask: Ask, solved: Solved, tested: Tested | None) -> NightCell:
    """Return what is known of a cell, without what other nights say about it.

    Args:
        ask: what it starts from.
        solved: the newest packages.
        tested: what trials gave; None where nothing was to be tried.
    """
    lock, newest = solved.lock, tested.newest if tested else None
    changes = package_changes(compare(ask.committed, lock)) if lock and ask.committed else []
    found = _solved(solved) or (_tried(newest, ask) if newest else _Found("ok"))
    same = ask.committed is not None and not changes
    state: CellState = "updated" if found.state == "ok" and not same else found.state
    committed = _committed(ask, tested, found.state if same and newest else None)
    return NightCell(
        view=ask.view.spec.name,
        platform=ask.platform,
        state=state,
        reason=_joined(found.reason, committed) if state in FAILURES else found.reason,
        problem=found.problem,
        tested=newest is not None and not _elsewhere(newest),
        lock=ask.lock_state,
        committed=ask.committed.digest if ask.committed else None,
        committed_state=committed,
        digest=lock.digest if lock else None,
        changes=changes,
        checks=list(newest.checks) if newest else [],
        figures=_figures(solved, newest),
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


def _tried(trial: Trial, ask: Ask) -> _Found:
    if _elsewhere(trial):
        return _Found("not-run", f"this host is {trial.platform}")
    if trial.problem:
        return _Found("install-failed", trial.problem.message.partition("\n")[0], trial.problem)
    if failed := _failed(trial.checks):
        return _Found("check-failed", "; ".join(f"{check.name}: {check.reason}" for check in failed))
    if ask.view.spec.hardware.cuda and not any(_on_gpu(check) for check in trial.checks):
        return _Found("not-run", "installed and imported, but no GPU was here to prove it")
    return _Found("ok")


def _committed(ask: Ask, tested: Tested | None, newest: CellState | None) -> CellState | None:
    """Return what the committed lock gave: it was tried itself, or the newest packages are its own."""
    if tested and tested.committed:
        return _tried(tested.committed, ask).state
    return newest


def _joined(reason: str, committed: CellState | None) -> str:
    if committed is None:
        return reason
    return f"{reason} (the committed lock {'fails too' if committed in FAILURES else 'does not fail'})"


def _elsewhere(trial: Trial) -> bool:
    return trial.problem is not None and trial.problem.code == "platform-missing"


def _failed(checks: tuple[CheckLine, ...]) -> list[CheckLine]:
    return [check for check in checks if check.status in {"fail", "error"} and check.reason != NO_SUCH_CHECK]


def _on_gpu(check: CheckLine) -> bool:
    return check.status == "pass" and check.device not in {"", "cpu"}


def _figures(solved: Solved, trial: Trial | None) -> CellFigures:
    lock = solved.lock
    there = trial is not None and trial.problem is None
    return CellFigures(
        packages=len(lock.packages) if lock else None,
        download=sum(package.size for package in lock.packages) if lock else None,
        age=solved.age,
        solve_seconds=solved.seconds,
        installed=trial.bytes if trial and there else None,
        install_seconds=trial.install_seconds if trial and there else None,
        check_seconds=trial.check_seconds if trial and there else None,
    )
