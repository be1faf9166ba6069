"""What the runs of checks say: what breaks between two locks, and whether a mixture is broken in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlviews.bisect.trials import INSTALL
from mlviews.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlviews.bisect.search import Outcome
    from mlviews.bisect.trials import Run

__all__ = ["Broken", "what_broke"]

_FINE = frozenset({"pass", "skip"})


@dataclass(frozen=True, slots=True)
class Broken:
    """The checks that the good lock passes and the bad one does not.

    Attributes:
        statuses: by check, the statuses that the bad lock gives; a mixture with another one fails for its own reasons.
    """

    statuses: Mapping[str, frozenset[str]]

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks that have to be run to tell."""
        return tuple(name for name in self.statuses if name != INSTALL)

    def reasons(self, run: Run) -> dict[str, str]:
        """Return what a run that is bad says, by check."""
        return {
            name: run.reasons.get(name, "") for name in self.statuses if run.statuses.get(name, "pass") not in _FINE
        }

    def says(self, run: Run) -> str:
        """Return what a run gives that is neither good nor bad, in a line."""
        given = ((name, run.statuses.get(name, "not run")) for name in (*self.statuses, INSTALL))
        other = {name: status for name, status in given if status != "pass"}
        return "; ".join(f"{name} {status} ({run.reasons.get(name, '')})" for name, status in other.items())

    def judge(self, runs: Sequence[Run], label: str) -> Outcome:
        """Tell what the runs of one lock say together.

        Args:
            runs: of one lock.
            label: says which, in an error.

        Raises:
            RefusedError: they contradict each other.
        """
        for name in self.statuses:
            _refuse_flaky(name, runs, label)
        outcomes = {self._outcome(run) for run in runs}
        return outcomes.pop() if len(outcomes) == 1 else "unresolved"

    def _outcome(self, run: Run) -> Outcome:
        if any(run.statuses.get(name) in statuses for name, statuses in self.statuses.items()):
            return "bad"
        return "good" if all(run.statuses.get(name) == "pass" for name in self.statuses) else "unresolved"


def what_broke(good: tuple[str, Sequence[Run]], bad: tuple[str, Sequence[Run]]) -> Broken:
    """Compare what two locks give.

    Args:
        good: what the good lock is called, and its runs.
        bad: the same of the bad lock.

    Raises:
        RefusedError: the good lock fails, the bad one does not, or a check gives both results on one lock.
    """
    for label, runs in (good, bad):
        for name in dict.fromkeys(name for run in runs for name in run.statuses):
            _refuse_flaky(name, runs, label)
    before, after = _statuses(good[1]), _statuses(bad[1])
    failing = {name: found for name, found in after.items() if not found & _FINE}
    broken = {name: found for name, found in failing.items() if before.get(name) == frozenset({"pass"})}
    if broken:
        return Broken(broken)
    if not failing:
        skipped = [name for name, found in after.items() if found == {"skip"}]
        raise RefusedError(
            "bad-lock-passes",
            f"{bad[0]} is to be the bad lock, and no check fails with it",
            "Name the check that fails with --check." if not skipped else f"Skipped here: {', '.join(skipped)}.",
        )
    raise RefusedError(
        "good-lock-fails",
        f"{good[0]} is to be the good lock, and does not pass what {bad[0]} fails",
        "Name an older lock that passes, or other checks with --check.",
        faults=tuple(f"{name}: {good[1][0].reasons.get(name, 'not run')}" for name in failing),
    )


def _statuses(runs: Sequence[Run]) -> dict[str, frozenset[str]]:
    names = dict.fromkeys(name for run in runs for name in run.statuses)
    return {name: frozenset(run.statuses[name] for run in runs if name in run.statuses) for name in names}


def _refuse_flaky(name: str, runs: Sequence[Run], label: str) -> None:
    statuses = [run.statuses[name] for run in runs if name in run.statuses]
    passed = statuses.count("pass")
    if 0 < passed < len(statuses):
        raise RefusedError(
            "check-flaky",
            f"{name} is flaky: it passed {passed} of {len(statuses)} times with {label}",
            "No package is to blame for a check that gives both results: mend it, or name others with --check.",
        )
