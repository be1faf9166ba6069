"""Trying locks: how often, what became of it, what is kept for later, and whether a mixture breaks in the same way."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from mlviews.errors import FailedError, RefusedError
from mlviews.files.writing import write_atomically
from mlviews.progress import Progress, silent
from mlviews.smoke.programs import programs
from mlviews.trial import Trial, TrialJob, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlviews.bisect.search import Verdict
    from mlviews.lock.lockfile import Lock
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec
    from mlviews.smoke.programs import Level

INSTALL = "install"
"""Stands for a check: that the lock can be installed at all."""

# What a package, or a mixture of packages, can do to an install. All else tells of the host or the channel.
_OF_THE_LOCK = frozenset(
    {
        *("activation-failed", "activation-file", "activation-timeout", "activation-value", "activation-wrote"),
        *("archive-unsafe", "bad-wheel", "install-failed", "link-script-failed"),
        *("package-broken", "package-clobbered", "package-wrong"),
    }
)
_LONGEST = 10_000_000


class Run(BaseModel):
    """One trial of one lock: the status of each check, and why; ``install`` stands among them.

    Of checks that lie beside the recipe ``texts`` has the sha256 of what was run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    statuses: dict[str, str]
    reasons: dict[str, str]
    texts: dict[str, str] = {}

    def tells(self, checks: Iterable[str], texts: Mapping[str, str]) -> bool:
        """Tell whether it answers for all of some checks; a lock that cannot be installed answers for every one.

        Args:
            texts: the sha256 of each check's text by now.
        """
        if any(texts.get(name) != text for name, text in self.texts.items()):
            return False
        return self.statuses.get(INSTALL, "pass") != "pass" or {INSTALL, *checks} <= {*self.statuses}


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    lock: str
    platform: str
    runs: tuple[Run, ...]


@dataclass(slots=True)
class Trials:
    """Tries locks, and keeps what was found in a folder, by the lock's digest.

    Attributes:
        site_spec: the view at its site.
        site: where packages come from.
        platform: this host's conda subdir.
        folder: where the outcomes are kept.
        scratch: where prefixes are made.
        level: how thorough the checks are.
        builds: how many locks were installed and checked; the same again counts.
        kept: how many outcomes were there from before.
    """

    site_spec: SiteSpec
    site: Site
    platform: str
    folder: Path
    scratch: Path
    level: Level = "quick"
    builds: int = 0
    kept: int = 0
    _runs: dict[str, list[Run]] = field(default_factory=dict)

    def run(
        self, lock: Lock, checks: tuple[str, ...], times: int, *, label: str, progress: Progress = silent
    ) -> tuple[Run, ...]:
        """Try a lock until it was tried so many times, and return every run; each is written down as it ends.

        Args:
            label: says what is tried.

        Raises:
            FailedError: the host or the channel, not the lock, is why a trial failed.
            KeyboardInterrupt: Ctrl-C; what has ended is kept.
        """
        if lock.digest not in self._runs:
            texts = {one.name: one.digest for one in programs(self.site_spec.spec.own_checks).values()}
            self._runs[lock.digest] = [run for run in self._read(lock) if run.tells(checks, texts)]
            self.kept += len(self._runs[lock.digest])
        runs = self._runs[lock.digest]
        while len(runs) < times:
            with progress(label):
                runs.append(_run(try_lock(self._job(lock, checks))))
            self.builds += 1
            self._write(lock, runs)
        return tuple(runs)

    def _job(self, lock: Lock, checks: tuple[str, ...]) -> TrialJob:
        return TrialJob(
            site_spec=self.site_spec, lock=lock, site=self.site, scratch=self.scratch, checks=checks, level=self.level
        )

    def forget(self) -> None:
        """Delete what was kept: begin anew."""
        for path in self.folder.glob("*.json"):
            try:
                path.unlink()
            except OSError as error:
                raise FailedError(
                    "write-failed", f"{path} cannot be deleted: {error.strerror}", "Delete it."
                ) from error

    def _path(self, lock: Lock) -> Path:
        return self.folder / f"{lock.digest}.json"

    def _read(self, lock: Lock) -> tuple[Run, ...]:
        with suppress(OSError, ValidationError), self._path(lock).open("rb") as file:
            kept = _Kept.model_validate_json(file.read(_LONGEST))
            if (kept.lock, kept.platform) == (lock.digest, self.platform):
                return kept.runs
        return ()

    def _write(self, lock: Lock, runs: list[Run]) -> None:
        kept = _Kept(lock=lock.digest, platform=self.platform, runs=tuple(runs))
        write_atomically(self._path(lock), kept.model_dump_json(indent=2) + "\n")


def _run(trial: Trial) -> Run:
    problem = trial.problem
    if problem is None:
        lines = trial.checks
        return Run(
            statuses={INSTALL: "pass", **{line.name: line.status for line in lines}},
            reasons={line.name: line.reason for line in lines},
            texts={line.name: line.digest for line in lines if line.digest},
        )
    if problem.code not in _OF_THE_LOCK:
        raise FailedError(problem.code, problem.message, f"{problem.hint} Then go on with --resume.".strip())
    return Run(statuses={INSTALL: problem.code}, reasons={INSTALL: problem.message})


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

    def judge(self, runs: Sequence[Run], label: str) -> Verdict:
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

    def _outcome(self, run: Run) -> Verdict:
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
            f"{bad[0]} should be the bad lock, but no check fails with it",
            "Name the check that fails with --check." if not skipped else f"Skipped here: {', '.join(skipped)}.",
        )
    raise RefusedError(
        "good-lock-fails",
        f"{good[0]} should be the good lock, but it does not pass what {bad[0]} fails",
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
            "No package is to blame for a check that gives both results: repair it, or name other checks with --check.",
        )
