"""Two locks of a view -> all that lies between them: mixtures of their packages, which the solver must agree to."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as changed
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mlviews.bisect.needs import needs_between, units_of
from mlviews.errors import BadInputError, RefusedError
from mlviews.lock.diff import compare
from mlviews.lock.lockfile import Lock, locked_package
from mlviews.loop import run
from mlviews.prefix.install import record_of
from mlviews.recipe.compose import Request
from mlviews.solve.solver import solve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rattler import RepoDataRecord

    from mlviews.bisect.needs import Need, Unit
    from mlviews.lock.lockfile import LockedPackage
    from mlviews.site.spec import SiteSpec
    from mlviews.solve.sources import Sources
    from mlviews.store.locksource import NamedLock

__all__ = ["Mixtures", "Packages", "mixtures_of"]

Packages = dict[str, "LockedPackage"]
"""The packages of one mixture, by name."""


@dataclass(frozen=True, slots=True)
class Mixtures:
    """All mixtures of two locks of a view on one platform.

    Attributes:
        view: the view at its site.
        platform: the conda subdir.
        good: the packages of the lock that works.
        bad: those of the lock that does not.
        needs: what the packages' records say of each other.
        units: the changes that stand alone, and those that only stand together.
    """

    view: SiteSpec
    platform: str
    good: Packages
    bad: Packages
    needs: tuple[Need, ...]
    units: tuple[Unit, ...]
    _inputs: Mapping[str, Any]
    _solver: str
    _records: dict[str, RepoDataRecord]
    _sources: Sources

    def names(self, units: Iterable[int]) -> frozenset[str]:
        """Return the packages that units change."""
        return frozenset(name for unit in units for name in self.units[unit].names)

    def packages(self, applied: Iterable[int]) -> Packages:
        """Return the mixture that has some units applied, whether its packages go together or not."""
        changed = self.names(applied)
        kept = {name: package for name, package in self.good.items() if name not in changed}
        return kept | {name: package for name, package in self.bad.items() if name in changed}

    def lock(self, packages: Packages) -> Lock:
        """Return a mixture as a lock of this platform alone."""
        return Lock(self.view.spec.name, self._inputs, self._solver, tuple(packages[name] for name in sorted(packages)))

    def channel_records(self, name: str) -> list[RepoDataRecord]:
        """Return all that the channels have of a package.

        Raises:
            FailedError: a channel cannot be read.
        """
        found = run(self._sources.records(self.platform, [name]))
        self._records.update({record.url: record for record in found})
        return found

    def without(self, packages: Packages, unit: int) -> Packages:
        """Return a mixture with the packages of one unit as the good lock has them."""
        names = self.units[unit].names
        kept = {name: package for name, package in packages.items() if name not in names}
        return kept | {name: self.good[name] for name in names if name in self.good}

    def why(self, before: Packages, after: Packages) -> tuple[str, ...]:
        """Say why the changes between two mixtures cannot be had one by one."""
        names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        states = (
            {name: self._record(p) if (p := side.get(name)) else None for name in names} for side in (before, after)
        )
        return tuple(need.why for need in needs_between(*states))

    def solve(
        self, fixed: Packages, free: Mapping[str, Iterable[RepoDataRecord]] = MappingProxyType({}),
        wanted: Iterable[str] = (),
    ) -> Packages:  # fmt: skip
        """Ask the solver whether packages go together, and let it choose those that are left open.

        Args:
            fixed: packages that are just these.
            free: by name, the records that may be chosen from; the bad lock's where that is possible.
            wanted: of those, the ones that must be there.

        Raises:
            RefusedError: they do not go together; the message is the solver's.
            FailedError: the channel says of a package what cannot be.
        """
        asked = [Request(f"{p.name} =={p.version} {p.build}") for p in fixed.values()]
        asked += [Request(name) for name in wanted]
        held = [self._record(package) for package in fixed.values()]
        choice = [record for records in free.values() for record in records]
        # What is preferred may be taken, candidate or not: only candidates may be preferred.
        ends = {package.url for package in self.bad.values()}
        preferred = [record for record in choice if record.url in ends]
        sources = self._sources.only([*held, *choice])
        spec = changed(self.view.spec, dependencies=tuple(asked), constraints=(), platforms=(self.platform,))
        solution = run(solve(spec, self.platform, sources, locked=[*held, *preferred], blame=False))
        known = {package.url: package for package in (*self.good.values(), *self.bad.values())}
        chosen = (known.get(record.url) or locked_package(record, self.platform) for record in solution.records)
        return {package.name: package for package in chosen}

    def _record(self, package: LockedPackage) -> RepoDataRecord:
        """Return the channel's record, or what the lock holds of it where the channel has dropped the package."""
        return self._records.get(package.url) or record_of(package, package.url)


def mixtures_of(view: SiteSpec, platform: str, good: NamedLock, bad: NamedLock, sources: Sources) -> Mixtures:
    """Compare two locks of a view on one platform.

    Args:
        view: the view at its site.
        platform: the conda subdir.
        good: the lock that works, as the user names it.
        bad: the lock that does not.
        sources: the site's channels.

    Raises:
        RefusedError: the locks hold the same packages for the platform, or none.
        BadInputError: one is another view's.
        FailedError: a channel cannot be read.
    """
    sides = []
    for named in (good, bad):
        if named.lock.view != view.spec.name:
            raise BadInputError(
                "lock-invalid",
                f"{named.label} is a lock of view {named.lock.view}, not of {view.spec.name}",
                "Name two locks of one view.",
            )
        if not (packages := named.lock.on(platform)):
            raise RefusedError(
                "platform-missing",
                f"{named.label} holds no packages for {platform}, which is this host",
                "Bisect on a host of a platform that both locks are for.",
            )
        sides.append({package.name: package for package in packages})
    names = [change.name for change in compare(good.lock, bad.lock) if change.platform == platform]
    if not names:
        raise RefusedError(
            "locks-equal",
            f"{good.label} and {bad.label} hold the same packages for {platform}",
            "What differs lies outside of the locks: the host, its driver, or the checks.",
        )
    found = run(sources.records(platform, sorted({*sides[0], *sides[1]})))
    records = {record.url: record for record in found}

    def states(packages: Packages) -> dict[str, RepoDataRecord | None]:
        there = {name: packages.get(name) for name in names}
        return {name: (records.get(p.url) or record_of(p, p.url)) if p else None for name, p in there.items()}

    needs = needs_between(states(sides[0]), states(sides[1]))
    return Mixtures(
        view=view,
        platform=platform,
        good=sides[0],
        bad=sides[1],
        needs=needs,
        units=units_of(names, needs),
        _inputs={**bad.lock.inputs, "platforms": [platform]},
        _solver=bad.lock.solver,
        _records=records,
        _sources=sources,
    )
