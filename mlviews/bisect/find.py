"""A good lock, a bad lock -> the smallest change of packages that breaks a view, and the versions between them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlviews.bisect.between import row_of
from mlviews.bisect.mixtures import Mixtures, Packages, mixtures_of
from mlviews.bisect.search import Verdict, boundary, smallest_change
from mlviews.bisect.trials import Broken, Run, Trials, what_broke
from mlviews.conda.channels import open_sources
from mlviews.errors import RefusedError
from mlviews.files.permissions import share
from mlviews.files.writing import make_folder, write_atomically
from mlviews.hardware import host_platform
from mlviews.lock.diff import PackageChange, compare
from mlviews.lock.lockfile import Lock, lock_path
from mlviews.lock.make import index_of
from mlviews.lock.writer import lock_text
from mlviews.progress import Progress, silent
from mlviews.smoke.programs import BASIC, Level
from mlviews.trial import scratch

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec
    from mlviews.store.locksource import NamedLock
    from mlviews.wheels.offers import Index


_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectResult:
    """``mlviews bisect VIEW``.

    Attributes:
        good: what the good lock was called.
        bad: what the bad lock was called.
        differ: packages that differ between these two.
        checks: the checks that break, and what they say of the first bad lock.
        change: the smallest change that breaks the good lock.
        step: what of it lies between the last good and the first bad lock.
        together: whether parts of the change can be had, and break nothing alone.
        because: why parts of the change cannot be had alone.
        skipped: versions in between that no mixture exists of.
        last_good: the file of the last good lock.
        first_bad: the file of the first bad lock.
        builds: locks that were installed and checked, repetitions included.
        kept: outcomes that were there from a bisection before.
        unsolvable: mixtures that the solver refused.
    """

    view: str
    platform: str
    good: str
    bad: str
    differ: int
    checks: dict[str, str]
    change: tuple[PackageChange, ...]
    step: tuple[PackageChange, ...]
    together: bool
    because: tuple[str, ...]
    skipped: tuple[str, ...]
    last_good: Path
    first_bad: Path
    builds: int
    kept: int
    unsolvable: int


def bisect(
    site_spec: SiteSpec,
    site: Site,
    good: NamedLock,
    bad: NamedLock,
    *,
    checks: tuple[str, ...] = (),
    level: Level = "quick",
    retries: int = 2,
    resume: bool = False,
    output: Path | None = None,
    progress: Progress = silent,
) -> BisectResult:
    """Find the smallest change of packages that breaks a view, by building and checking mixtures of two locks.

    Both locks are tried first, and what was found last is tried again, each so often as ``retries`` says: a check that
    gives both results on one lock names no culprit.

    Args:
        site: where packages come from; outcomes are kept under its root.
        good: the lock that works.
        bad: the lock that does not.
        checks: names of the checks to look at; the recipe's where there are none.
        retries: how often a trial that decides is repeated.
        resume: use the outcomes that an earlier bisection of these locks has kept.
        output: where the last good and the first bad lock are written; None: under the site's root.

    Raises:
        RefusedError: the site cannot have the view, the good lock fails, the bad one does not, they do not differ, the
            channel has come to contradict one, or a check is flaky.
        BadInputError: a lock is another view's.
        KeyboardInterrupt: Ctrl-C; what was tried is kept.
    """
    if site_spec.error:
        raise site_spec.error
    share(site.root, site.group)
    mixtures = _mixtures(site_spec, site, good, bad)
    folder = site.root / "bisect" / f"{site_spec.spec.name}-{_key(mixtures, level)}"
    make_folder(folder / "trials")
    with scratch(site.root) as place:
        trials = Trials(site_spec, site, mixtures.platform, folder / "trials", place, level)
        if not resume:
            trials.forget()
        names, tries = tuple(dict.fromkeys(checks or (*BASIC, *site_spec.spec.smoke))), 1 + retries
        broken = _tried(trials, mixtures, good, bad, checks=names, tries=tries, progress=progress)
        hunt = _Hunt(mixtures, trials, broken, index_of(site, progress), tries, progress)
        return _result(hunt, good, bad, output or folder)


def _tried(
    trials: Trials,
    mixtures: Mixtures,
    good: NamedLock,
    bad: NamedLock,
    *,
    checks: tuple[str, ...],
    tries: int,
    progress: Progress,
) -> Broken:
    """Try both locks; return what works of the good one, and not of the bad one."""
    runs = [
        trials.run(mixtures.lock(packages), checks, tries, label=f"Trying the {which} lock", progress=progress)
        for packages, which in ((mixtures.good, "good"), (mixtures.bad, "bad"))
    ]
    return what_broke((good.label, runs[0]), (bad.label, runs[1]))


def _key(mixtures: Mixtures, level: Level) -> str:
    """Return by what the outcomes of a bisection are kept: the two locks, and how closely they are looked at."""
    ends = (mixtures.lock(packages).digest for packages in (mixtures.good, mixtures.bad))
    return hashlib.sha256("".join([*ends, level]).encode()).hexdigest()[:12]


def _result(hunt: _Hunt, good: NamedLock, bad: NamedLock, output: Path) -> BisectResult:
    mixtures, trials = hunt.mixtures, hunt.trials
    last_good, first_bad = hunt.nearest()
    return BisectResult(
        view=mixtures.site_spec.spec.name,
        platform=mixtures.platform,
        good=good.label,
        bad=bad.label,
        differ=sum(len(unit.names) for unit in mixtures.units),
        checks=hunt.says,
        change=compare(mixtures.lock(mixtures.good), first_bad),
        step=compare(last_good, first_bad),
        together=hunt.together,
        because=tuple(dict.fromkeys(hunt.because)),
        skipped=tuple(hunt.skipped),
        last_good=_write_lock(last_good, output, "last-good"),
        first_bad=_write_lock(first_bad, output, "first-bad"),
        builds=trials.builds,
        kept=trials.kept,
        unsolvable=hunt.unsolvable,
    )


def _mixtures(site_spec: SiteSpec, site: Site, good: NamedLock, bad: NamedLock) -> Mixtures:
    """Compare two locks; refuse those that the channel has come to contradict: no mixture near to them would stand."""
    platform = host_platform()
    channels = () if site.packages == "wheels" and site_spec.base else site.channels
    sources = open_sources(channels, [platform], mirrors=site.mirrors, cache=site.cache)
    mixtures = mixtures_of(site_spec, platform, good, bad, sources)
    for named, packages in ((good, mixtures.good), (bad, mixtures.bad)):
        try:
            mixtures.solve(packages)
        except RefusedError as error:
            raise RefusedError(
                "lock-refused",
                f"the channel says now that the packages of {named.label} do not fit together\n\n{error.message}",
                "If this broke the view, the channel has repaired it: lock the view again. If not, name other locks.",
            ) from error
    return mixtures


@dataclass(slots=True)
class _Hunt:
    """One bisection: the mixtures, what is known of them, and what was counted."""

    mixtures: Mixtures
    trials: Trials
    broken: Broken
    index: Index
    tries: int
    progress: Progress
    unsolvable: int = 0
    skipped: list[str] = field(default_factory=list)
    unclear: dict[frozenset[int], str] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)
    because: list[str] = field(default_factory=list)
    together: bool = False

    def nearest(self) -> tuple[Lock, Lock]:
        """Return the last good lock and the first bad one, and keep what else is told of them."""
        units = self.mixtures.units
        found = smallest_change([unit.needs for unit in units], self._mixture)
        good, bad = self.mixtures.packages(found.good), self.mixtures.packages(found.bad)
        last = found.bad - found.good
        good, bad = self._closer(good, bad, last)
        loose = found.bad - frozenset[int]().union(*(units[unit].needs - {unit} for unit in found.bad))
        for unit in sorted(loose - last):
            good, bad = self._closer_still(good, bad, unit)
        self._confirm(good, bad)
        self.because += [*self.mixtures.why(good, bad), *self.mixtures.why(self.mixtures.good, bad)]
        if len(last) > 1:
            between = [text for applied, text in self.unclear.items() if found.good < applied < found.bad]
            self.because += between[:_REASONS]
        self.together = len(loose) > 1
        self.says = self.broken.reasons(self._run(bad, 1, "")[0])
        return self.mixtures.lock(good), self.mixtures.lock(bad)

    def _mixture(self, applied: frozenset[int], /, *, left: int) -> Verdict:
        packages = self.mixtures.packages(applied)
        names, differ = len(self.mixtures.names(applied)), len(self.mixtures.names(range(len(self.mixtures.units))))
        try:
            self.mixtures.solve(packages)
        except RefusedError as error:
            self.unsolvable += 1
            self.unclear[applied] = error.message
            return "unresolved"
        outcome = self._try(packages, f"Trying {names} of {differ} changes{self._rest(left)}")
        if outcome == "unresolved":
            says = self.broken.says(self._run(packages, 1, "")[0])
            self.unclear[applied] = f"with {names} of {differ} changes, a mixture fails in another way: {says}"
        return outcome

    def _try(self, packages: Packages, label: str) -> Verdict:
        return self.broken.judge(self._run(packages, 1, label), "a mixture of the two locks")

    def _run(self, packages: Packages, times: int, label: str) -> tuple[Run, ...]:
        lock = self.mixtures.lock(packages)
        return self.trials.run(lock, self.broken.checks, times, label=label, progress=self.progress)

    def _rest(self, left: int) -> str:
        """Say what is left to be done: to find one culprit, and to try the answer again."""
        builds = left + 2 * (self.tries - 1)
        return f"; if one is to blame, at most {builds} builds follow" if builds else ""

    def _closer(self, good: Packages, bad: Packages, units: frozenset[int]) -> tuple[Packages, Packages]:
        """Go through the versions in between of what some units change, and of what they need."""
        needed = frozenset[int]().union(*(self.mixtures.units[unit].needs for unit in units))
        row = row_of(self.mixtures, bad, self.mixtures.names(units), self.mixtures.names(needed), self.index)
        if row is None:
            return good, bad
        states: dict[int, Packages] = {0: good, len(row.steps) + 1: bad}

        def state(applied: frozenset[int], /, *, left: int) -> Verdict:
            step = row.steps[len(applied) - 1]
            try:
                states[len(applied)] = row.packages(step)
            except RefusedError:
                self.unsolvable += 1
                self.skipped.append(str(step))
                return "unresolved"
            return self._try(states[len(applied)], f"Trying {step}{self._rest(left)}")

        # To be at one version is to have taken every step up to it.
        found = boundary([frozenset(range(number + 1)) for number in range(len(row.steps) + 1)], state)
        return states[len(found.good)], states[len(found.bad)]

    def _closer_still(self, good: Packages, bad: Packages, unit: int) -> tuple[Packages, Packages]:
        """Do the same for another unit of a change that breaks only as a whole, if it is still needed for that."""
        undone = self.mixtures.without(bad, unit)
        try:
            self.mixtures.solve(undone)
        except RefusedError:
            self.unsolvable += 1
            return good, bad
        label = f"Trying without {', '.join(self.mixtures.units[unit].names)}"
        return self._closer(undone, bad, frozenset({unit})) if self._try(undone, label) == "good" else (good, bad)

    def _confirm(self, good: Packages, bad: Packages) -> None:
        """Try the answer again: a check that is flaky must not have led here."""
        for packages, label in ((good, "Trying the last good lock again"), (bad, "Trying the first bad lock again")):
            self.broken.judge(self._run(packages, self.tries, label), "a mixture of the two locks")


def _write_lock(lock: Lock, folder: Path, name: str) -> Path:
    path = lock_path(folder, name)
    write_atomically(path, lock_text(lock))
    return path
