"""The versions between the good and the bad state of some packages, in a row from one to the other.

A channel says of all versions at once what they need. Of a wheel, an index lists the versions, and each is looked up
when it is due.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlviews.errors import FailedError
from mlviews.lock.packages import locked_wheel
from mlviews.loop import run
from mlviews.solve.solver import offers_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from packaging.requirements import Requirement
    from rattler import RepoDataRecord, Version

    from mlviews.bisect.mixtures import Mixtures, Packages
    from mlviews.lock.lockfile import LockedPackage
    from mlviews.wheels.offers import Index, Offers


@dataclass(frozen=True, slots=True)
class Step:
    """One version of a package, with its build's number: the same version may be built again, and then break.

    Attributes:
        build_number: None of a wheel.
    """

    name: str
    version: str
    build_number: int | None

    def __str__(self) -> str:
        return f"{self.name} {self.version}" + ("" if self.build_number is None else f", build {self.build_number}")


@dataclass(frozen=True, slots=True)
class _Choice:
    """What a package may be: what both locks hold of it, and all that lies between.

    Attributes:
        steps: what lies strictly between, from the good one's next to the bad one's last before.
        known: of a channel's package all of these, of a wheel those of the locks.
        shelf: where other wheels are looked up.
    """

    steps: tuple[Step, ...]
    known: Sequence[RepoDataRecord]
    shelf: _Shelf | None = None

    def at(self, step: Step) -> Sequence[RepoDataRecord]:
        if self.shelf:
            return self.shelf.records([step])
        return [r for r in self.known if (str(r.version), r.build_number) == (step.version, step.build_number)]

    def all(self) -> Sequence[RepoDataRecord]:
        return [*self.known, *(self.shelf.records(self.steps) if self.shelf else ())]


@dataclass(frozen=True, slots=True)
class Row:
    """What lies between the good and the bad state of some packages, which one of them leads.

    Attributes:
        steps: the leader's versions, from the good one's next to the bad one's last before.
    """

    steps: tuple[Step, ...]
    _mixtures: Mixtures
    _fixed: Packages
    _free: Mapping[str, _Choice]
    _wanted: tuple[str, ...]

    def packages(self, step: Step) -> Packages:
        """Return the mixture of one step.

        Raises:
            RefusedError: the solver finds none.
        """
        free = {name: choice.at(step) if name == step.name else choice.all() for name, choice in self._free.items()}
        return self._mixtures.solve(self._fixed, free, self._wanted)


def row_of(
    mixtures: Mixtures, broken: Packages, leading: Iterable[str], free: Iterable[str], index: Index
) -> Row | None:
    """Return the row of versions that leads from a good mixture to a bad one; None where there is nothing between.

    Args:
        mixtures: of the two locks.
        broken: the bad mixture.
        leading: packages one of which goes through its versions, the one that has most.
        free: packages that may take any version between their good and their bad one; the others stay.
    """
    ends = {name: [side[name] for side in (mixtures.good, mixtures.bad) if name in side] for name in sorted(free)}
    wheels = {name: sides for name, sides in ends.items() if all(package.manager == "pip" for package in sides)}
    shelf = _shelf(mixtures, broken, index) if wheels else None
    found = {
        name: _wheels(mixtures, name, sides, shelf) if shelf and name in wheels else _archives(mixtures, name, sides)
        for name, sides in ends.items()
    }
    between = {name: choice for name, choice in found.items() if choice}
    steps = {name: between[name].steps for name in leading if name in between}
    leader = max(steps, key=lambda name: (len(steps[name]), name), default=None)
    if leader is None or not steps[leader]:
        return None
    fixed = {name: package for name, package in broken.items() if name not in between}
    # What only one of the locks holds comes and goes with what asks for it.
    wanted = tuple(name for name in between if name in mixtures.good and name in mixtures.bad)
    return Row(steps[leader], mixtures, fixed, between, wanted)


def _archives(mixtures: Mixtures, name: str, ends: Sequence[LockedPackage]) -> _Choice | None:
    """Return the choice of a channel's package; None where the channel has not all that the locks hold."""
    found = mixtures.versions(name)
    by_url = {record.url: _key(record) for record in found}
    if any(package.url not in by_url for package in ends):
        return None
    keys = [by_url[package.url] for package in ends]
    between = [record for record in found if min(keys) <= _key(record) <= max(keys)]
    numbers = sorted({*map(_key, between)} - {*keys}, reverse=keys[0] > keys[-1])
    return _Choice(tuple(Step(name, str(version), number) for version, number in numbers), between)


def _key(record: RepoDataRecord) -> tuple[Version, int]:
    return (record.version, record.build_number)


def _wheels(mixtures: Mixtures, name: str, ends: Sequence[LockedPackage], shelf: _Shelf) -> _Choice:
    known = [mixtures.record(package) for package in ends]
    return _Choice(tuple(Step(name, version, None) for version in shelf.between(ends)), known, shelf)


@dataclass(frozen=True, slots=True)
class _Shelf:
    """The wheels of an index that fit the Python of a mixture."""

    mixtures: Mixtures
    offers: Offers
    asked: set[str]

    def between(self, ends: Sequence[LockedPackage]) -> tuple[str, ...]:
        """Return the versions that an index has between two, from the first to the second."""
        from packaging.utils import canonicalize_name  # noqa: PLC0415  (only views with wheels need these)
        from packaging.version import Version as WheelVersion  # noqa: PLC0415

        name, versions = canonicalize_name(ends[0].name), [WheelVersion(package.version) for package in ends]
        if min(versions) == max(versions):
            return ()
        there = self.offers.index.versions(name, self.offers.target, sources=name in self.offers.sdists)
        found = sorted((v for v in there if min(versions) < v < max(versions)), reverse=versions[0] > versions[1])
        return tuple(map(str, found))

    def records(self, steps: Iterable[Step]) -> list[RepoDataRecord]:
        """Return the wheels of some steps as repodata; what is no wheel is left out."""
        from packaging.version import Version as WheelVersion  # noqa: PLC0415  (only views with wheels need these)

        from mlviews.wheels.requirements import conda_depends, conda_name  # noqa: PLC0415

        wanted = {(step.name, WheelVersion(step.version)) for step in steps}
        for line in map(self._requirement, steps):
            self.asked.update(conda_depends(line))
            try:
                run(self.offers.look_up([line]))
            except FailedError as error:
                if error.code != "bad-wheel":
                    raise
        found = self.offers.taken(self.offers.records())
        wheels = [one for one in found if (conda_name(one.offer.name), one.offer.version) in wanted]
        minor = self.offers.target.minor
        return [self.mixtures.learn(locked_wheel(one, self.mixtures.platform), minor) for one in wheels]

    def _requirement(self, step: Step) -> Requirement:
        """Return what asks for one version of a wheel, with the extras that the recipe wants."""
        from packaging.requirements import Requirement  # noqa: PLC0415  (only views with wheels need these)
        from packaging.utils import canonicalize_name  # noqa: PLC0415

        line = Requirement(f"{self.mixtures.good[step.name].name}=={step.version}")
        for request in self.mixtures.site_spec.spec.pypi:
            if canonicalize_name((asked := Requirement(request.text)).name) == line.name:
                line.extras |= asked.extras
        return line


def _shelf(mixtures: Mixtures, packages: Packages, index: Index) -> _Shelf:
    asked: set[str] = set()

    async def lacks(name: str, versions: str) -> bool:
        return f"{name} {versions}" in asked  # what a wheel needs is in the mixture, or it goes with none

    python = mixtures.lock(packages).python(mixtures.platform)
    return _Shelf(mixtures, offers_for(mixtures.site_spec.spec, mixtures.platform, python, index, lacks), asked)
