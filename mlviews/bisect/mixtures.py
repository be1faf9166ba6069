"""Two locks of a view -> all that lies between them: mixtures of their packages, which the solver must agree to.

Every package has two states, as in the good lock and as in the bad one, and repodata asks for one other package at a
time. So all that can forbid a mixture are pairs, one changed and the other not; the locks themselves rule out that two
changed packages, or two unchanged ones, do not go together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rattler import MatchSpec, RepoDataRecord
from rattler.exceptions import InvalidMatchSpecError

from mlviews.errors import BadInputError, RefusedError
from mlviews.lock.diff import compare
from mlviews.lock.lockfile import Lock, LockedPackage
from mlviews.lock.packages import installed_name, locked_package, repodata_record, wheel_record
from mlviews.loop import run
from mlviews.recipe.view import Request
from mlviews.solve.conflict import Base
from mlviews.solve.solver import solve

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from mlviews.conda.channels import Sources
    from mlviews.site.spec import SiteSpec
    from mlviews.store.locksource import NamedLock


@dataclass(frozen=True, slots=True)
class Need:
    """A change that cannot be had without another one.

    Attributes:
        change: the package that would be changed.
        other: the package that would not.
        why: what forbids it, in words.
    """

    change: str
    other: str
    why: str


@dataclass(frozen=True, slots=True)
class Unit:
    """Changes that only stand together.

    Attributes:
        names: the packages, sorted.
        needs: numbers of all units that this one cannot be had without, its own among them.
    """

    names: tuple[str, ...]
    needs: frozenset[int]


def needs_between(
    before: Mapping[str, RepoDataRecord | None], after: Mapping[str, RepoDataRecord | None]
) -> tuple[Need, ...]:
    """Return what the repodata of changed packages says of each other.

    Args:
        before: changed package -> its repodata in the good lock, None where it holds none.
        after: the same of the bad lock.
    """
    states = (before, after)
    found: dict[tuple[str, str], Need] = {}
    for changed in (False, True):
        for name, record in states[changed].items():
            for other, problem in _refusals(record, states[not changed]) if record else ():
                need = Need(name, other, problem) if changed else Need(other, name, problem)
                found.setdefault((need.change, need.other), need)
    return tuple(found.values())


def _refusals(record: RepoDataRecord, others: Mapping[str, RepoDataRecord | None]) -> Iterator[tuple[str, str]]:
    """Yield each other package that, in the other state, a package does not go with, and why."""
    for required, texts in ((True, record.depends), (False, record.constrains)):
        for text in texts:
            spec = _read(text)
            name = spec.name.normalized if spec and spec.name else ""
            if spec is None or name not in others or name == record.name.normalized:
                continue
            other = others[name]
            if not (spec.matches(other) if other else not required):
                verb = "asks for" if required else "bears only"
                there = f"which {name} {other.version} {other.build} is not" if other else f"and there is no {name}"
                yield name, f"{record.name.normalized} {record.version} {verb} {text}, {there}"


def _read(text: str) -> MatchSpec | None:
    """Read a spec; what only holds under a condition is left to the solver."""
    try:
        spec = MatchSpec(text)
    except (InvalidMatchSpecError, ValueError):
        return None
    return None if spec.condition else spec


def units_of(names: Sequence[str], needs: Sequence[Need]) -> tuple[Unit, ...]:
    """Join changes that need each other, each by way of others if need be, and say what each unit needs."""
    direct: dict[str, set[str]] = {name: {name} for name in names}
    for need in needs:
        direct[need.change].add(need.other)
    whole = {name: _reached(name, direct) for name in names}
    groups: dict[frozenset[str], list[str]] = {}
    for name in sorted(names):
        groups.setdefault(whole[name], []).append(name)
    number = {name: index for index, members in enumerate(groups.values()) for name in members}
    return tuple(Unit(tuple(members), frozenset(number[name] for name in needed)) for needed, members in groups.items())


def _reached(name: str, direct: Mapping[str, set[str]]) -> frozenset[str]:
    found, waiting = {name}, [name]
    while waiting:
        new = direct[waiting.pop()] - found
        found |= new
        waiting += new
    return frozenset(found)


Packages = dict[str, "LockedPackage"]
"""The packages of one mixture, by the names that they are installed by."""


@dataclass(frozen=True, slots=True)
class Mixtures:
    """All mixtures of two locks of a view on one platform.

    Attributes:
        site_spec: the view at its site.
        platform: the conda subdir.
        good: the packages of the lock that works.
        bad: those of the lock that does not.
        units: the changes that stand alone, and those that only stand together.
    """

    site_spec: SiteSpec
    platform: str
    good: Packages
    bad: Packages
    units: tuple[Unit, ...]
    _inputs: Mapping[str, Any]
    _solver: str
    _repodata: dict[str, RepoDataRecord]
    _sources: Sources
    _base: Base | None = None
    _learned: Packages = field(default_factory=dict)

    def names(self, units: Iterable[int]) -> frozenset[str]:
        """Return the packages that units change."""
        return frozenset(name for unit in units for name in self.units[unit].names)

    def packages(self, applied: Iterable[int]) -> Packages:
        """Return the mixture that has some units applied, whether its packages go together or not."""
        return _swapped(self.good, self.names(applied), self.bad)

    def lock(self, packages: Packages) -> Lock:
        """Return a mixture as a lock of this platform alone."""
        ordered = sorted(packages.values(), key=lambda package: (package.manager, package.name))
        return Lock(self.site_spec.spec.name, self._inputs, self._solver, tuple(ordered))

    def versions(self, name: str) -> list[RepoDataRecord]:
        """Return all versions and builds of a package that the channels have."""
        found = run(self._sources.repodata(self.platform, [name]))
        self._repodata.update({record.url: record for record in found})
        return found

    def without(self, packages: Packages, unit: int) -> Packages:
        """Return a mixture with the packages of one unit as the good lock has them."""
        return _swapped(packages, self.units[unit].names, self.good)

    def why(self, before: Packages, after: Packages) -> tuple[str, ...]:
        """Say why the changes between two mixtures cannot be had one by one."""
        names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        states = (_records(side, names, self._repodata) for side in (before, after))
        return tuple(need.why for need in needs_between(*states))

    def solve(
        self, fixed: Packages, free: Mapping[str, Iterable[RepoDataRecord]] = MappingProxyType({}),
        wanted: Iterable[str] = (),
    ) -> Packages:  # fmt: skip
        """Ask the solver whether packages go together, and let it choose those that are left open.

        Args:
            fixed: packages that are just these.
            free: by name, what may be chosen from; the bad lock's where that is possible.
            wanted: of those, the ones that must be there.

        Raises:
            RefusedError: they do not go together; the message is the solver's.
            FailedError: the channel says of a package what cannot be.
        """
        held = [self.record(package) for package in fixed.values()]
        asked = [Request(f"{record.name.normalized} =={record.version} {record.build}") for record in held]
        asked += [Request(name) for name in wanted]
        choice = [record for records in free.values() for record in records]
        # What is preferred may be taken, candidate or not: only candidates may be preferred.
        ends = {package.url for package in self.bad.values()}
        preferred = [record for record in choice if record.url in ends]
        sources = self._sources.only([*held, *choice])
        own = self.site_spec.spec
        spec = replace(own, dependencies=tuple(asked), constraints=(), pypi=(), platforms=(self.platform,))
        locked = [*held, *preferred]
        solution = run(solve(spec, self.platform, sources, locked=locked, blame=False, base=self._base))
        ours = (*self.good.values(), *self.bad.values(), *self._learned.values())
        known = {package.url: package for package in ours}
        chosen = (known.get(record.url) or locked_package(record, self.platform) for record in solution.packages)
        return _by_name(chosen)

    def record(self, package: LockedPackage) -> RepoDataRecord:
        """Return what a package is to the solver."""
        return _record(package, self._repodata)

    def learn(self, wheel: LockedPackage, python: str) -> RepoDataRecord:
        """Return the repodata of a wheel that neither lock holds, and take it for a package of mixtures from now on.

        Args:
            wheel: as a lock would hold it.
            python: what it was looked up for: ``3.12``.
        """
        self._learned[wheel.url] = wheel
        return self._repodata.setdefault(wheel.url, wheel_record(wheel, [python]))


def _swapped(packages: Packages, names: Collection[str], others: Packages) -> Packages:
    """Return packages with some of them as they are among the others, or not at all."""
    kept = {name: package for name, package in packages.items() if name not in names}
    return kept | {name: others[name] for name in names if name in others}


def _by_name(packages: Iterable[LockedPackage]) -> Packages:
    return {installed_name(package): package for package in packages}


def mixtures_of(site_spec: SiteSpec, platform: str, good: NamedLock, bad: NamedLock, sources: Sources) -> Mixtures:
    """Compare two locks of a view on one platform.

    Args:
        good: the lock that works, as the user names it.
        bad: the lock that does not.

    Raises:
        RefusedError: the locks hold the same packages for the platform, or none; or one is for another base.
        BadInputError: one is another view's.
    """
    base = site_spec.base
    sides = _side(good, site_spec, platform), _side(bad, site_spec, platform)
    changed = {change.name for change in compare(good.lock, bad.lock) if change.platform == platform}
    names = sorted({name for side in sides for name, package in side.items() if package.name in changed})
    if not names:
        raise RefusedError(
            "locks-equal",
            f"{good.label} and {bad.label} hold the same packages for {platform}",
            "The difference is not in the locks. Look at the host, its driver and the checks.",
        )
    sources = sources.noarch() if base else sources  # what else there is cannot go on top of another view
    found = run(sources.repodata(platform, sorted({*sides[0], *sides[1]})))
    repodata = {record.url: record for record in found} | _wheel_records(good.lock, bad.lock, platform=platform)
    needs = needs_between(*(_records(side, names, repodata) for side in sides))
    return Mixtures(
        site_spec=site_spec,
        platform=platform,
        good=sides[0],
        bad=sides[1],
        units=units_of(names, needs),
        _inputs={**bad.lock.inputs, "platforms": [platform]},
        _solver=bad.lock.solver,
        _repodata=repodata,
        _sources=sources,
        _base=Base(base.name, base.records(site_spec.spec.replace)) if base else None,
    )


def _side(named: NamedLock, site_spec: SiteSpec, platform: str) -> Packages:
    """Return the packages of a lock that can be compared, on one platform."""
    base = site_spec.base
    if named.lock.view != site_spec.spec.name:
        raise BadInputError(
            "lock-invalid",
            f"{named.label} is a lock of view {named.lock.view}, not of {site_spec.spec.name}",
            "Name two locks of one view.",
        )
    if base and (has := base.inputs) != named.lock.inputs.get("on"):
        raise RefusedError(
            "base-differs",
            f"{named.label} was not locked on top of {base.name}, which {site_spec.spec.name} extends now",
            f"Name the release of both locks under `on`. If another {has['view']} is to blame, bisect that view.",
        )
    if not (packages := named.lock.on(platform)):
        raise RefusedError(
            "platform-missing",
            f"{named.label} holds no packages for {platform}, which is this host",
            "Run this on a host whose platform is in both locks.",
        )
    return _by_name(packages)


def _records(
    packages: Packages, names: Iterable[str], repodata: Mapping[str, RepoDataRecord]
) -> dict[str, RepoDataRecord | None]:
    there = {name: packages.get(name) for name in names}
    return {name: _record(package, repodata) if package else None for name, package in there.items()}


def _record(package: LockedPackage, repodata: Mapping[str, RepoDataRecord]) -> RepoDataRecord:
    """Return the channel's repodata, or what the lock holds of it where the channel has dropped the package."""
    return repodata.get(package.url) or repodata_record(package, package.url)


def _wheel_records(*locks: Lock, platform: str) -> dict[str, RepoDataRecord]:
    """Return repodata of the wheels of some locks, each of which holds for the Python that it was locked for."""
    pythons: dict[str, set[str]] = {}
    wheels: dict[str, LockedPackage] = {}
    for lock in locks:
        for package in lock.on(platform):
            if package.manager == "pip":
                wheels[package.url] = package
                minor = ".".join(lock.python(platform)[0].split(".")[:2])
                pythons.setdefault(package.url, set()).add(minor)
    return {url: wheel_record(package, pythons[url]) for url, package in wheels.items()}
