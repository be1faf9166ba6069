"""Trying locks: how often, what became of it, and what is kept for a bisection that goes on later."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from mlviews.errors import FailedError
from mlviews.files import write_atomically
from mlviews.nightly.trial import TrialJob, try_lock
from mlviews.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlviews.lock.lockfile import Lock
    from mlviews.nightly.trial import Trial
    from mlviews.progress import Progress
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec
    from mlviews.smoke.programs import Level

__all__ = ["INSTALL", "Run", "Trials"]

INSTALL = "install"
"""Stands for a check: that the lock can be installed at all."""

# What a package, or a mixture of packages, can do to an install. All else tells of the host or the channel.
_OF_THE_LOCK = frozenset(
    {"install-failed", "activation-failed", "activation-file", "activation-timeout", "activation-value"}
)
_LONGEST = 10_000_000


class Run(BaseModel):
    """One trial of one lock: the status of each check, and why; ``install`` stands among them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statuses: dict[str, str]
    reasons: dict[str, str]

    def tells(self, checks: Iterable[str]) -> bool:
        """Tell whether it answers for all of some checks; a lock that cannot be installed answers for every one."""
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
        view: the view at its site.
        site: where packages come from.
        platform: this host's conda subdir.
        folder: where the outcomes are kept.
        scratch: where prefixes are made.
        level: how thorough the checks are.
        builds: how many locks were installed and checked; the same again counts.
        kept: how many outcomes were there from before.
    """

    view: SiteSpec
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
            lock: what is tried.
            checks: names of checks.
            times: how often.
            label: says what is tried.
            progress: told about each trial.

        Raises:
            FailedError: the host or the channel, not the lock, is why a trial failed.
            KeyboardInterrupt: Ctrl-C; what has ended is kept.
        """
        if lock.digest not in self._runs:
            self._runs[lock.digest] = [run for run in self._read(lock) if run.tells(checks)]
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
            view=self.view, lock=lock, site=self.site, scratch=self.scratch, checks=checks, level=self.level
        )

    def forget(self) -> None:
        """Delete what was kept: begin anew.

        Raises:
            FailedError: it cannot be deleted.
        """
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
        )
    if problem.code not in _OF_THE_LOCK:
        raise FailedError(problem.code, problem.message, f"{problem.hint} Then go on with --resume.".strip())
    return Run(statuses={INSTALL: problem.code}, reasons={INSTALL: problem.message})
