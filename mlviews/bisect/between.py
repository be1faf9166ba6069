"""The versions that a channel has between two locked ones, and what the solver makes of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rattler import Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rattler import RepoDataRecord

    from mlviews.bisect.mixtures import Mixtures, Packages
    from mlviews.lock.lockfile import LockedPackage

__all__ = ["Row", "Step", "row_of"]

_Key = tuple[Version, int]


@dataclass(frozen=True, slots=True)
class Step:
    """One version of a package, with its build's number: the same version may be built again, and then break."""

    name: str
    version: str
    build_number: int

    def __str__(self) -> str:
        return f"{self.name} {self.version}, build {self.build_number}"


@dataclass(frozen=True, slots=True)
class Row:
    """What lies between the good and the bad state of some packages, which one of them leads.

    Attributes:
        steps: the leader's versions, from the good one's next to the bad one's last before.
    """

    steps: tuple[Step, ...]
    _mixtures: Mixtures
    _fixed: Packages
    _free: dict[str, list[RepoDataRecord]]
    _wanted: tuple[str, ...]

    def packages(self, step: Step) -> Packages:
        """Return the mixture of one step.

        Raises:
            RefusedError: the solver finds none.
        """
        leading = [
            r for r in self._free[step.name] if (str(r.version), r.build_number) == (step.version, step.build_number)
        ]
        return self._mixtures.solve(self._fixed, {**self._free, step.name: leading}, self._wanted)


def row_of(mixtures: Mixtures, broken: Packages, leading: Iterable[str], free: Iterable[str]) -> Row | None:
    """Return the row of versions that leads from a good mixture to a bad one; None where there is nothing between.

    Args:
        mixtures: of the two locks.
        broken: the bad mixture.
        leading: packages one of which goes through its versions, the one that has most.
        free: packages that may take any version between their good and their bad one; the others stay.
    """
    between = {name: records for name in sorted(free) if (records := _between(mixtures, name))}
    steps = {name: _steps(mixtures, name, between[name]) for name in leading if name in between}
    leader = max(steps, key=lambda name: (len(steps[name]), name), default=None)
    if leader is None or not steps[leader]:
        return None
    fixed = {name: package for name, package in broken.items() if name not in between}
    # What only one of the locks holds comes and goes with what asks for it.
    wanted = tuple(name for name in between if name in mixtures.good and name in mixtures.bad)
    return Row(steps[leader], mixtures, fixed, between, wanted)


def _between(mixtures: Mixtures, name: str) -> list[RepoDataRecord]:
    ends = [side[name].url for side in (mixtures.good, mixtures.bad) if name in side]
    records = mixtures.channel_records(name)
    keys = sorted(_key(record) for record in records if record.url in ends)
    return [record for record in records if keys and keys[0] <= _key(record) <= keys[-1]]


def _key(record: RepoDataRecord) -> _Key:
    return (record.version, record.build_number)


def _steps(mixtures: Mixtures, name: str, records: Sequence[RepoDataRecord]) -> tuple[Step, ...]:
    """Return what lies strictly between, from the good side to the bad one."""
    sides: list[LockedPackage] = [side[name] for side in (mixtures.good, mixtures.bad) if name in side]
    by_url = {record.url: record for record in records}
    ends = [_key(by_url[package.url]) for package in sides if package.url in by_url]
    if len(ends) < len(("good", "bad")):
        return ()
    keys = sorted({_key(record) for record in records} - set(ends), reverse=ends[0] > ends[1])
    return tuple(Step(name, str(version), number) for version, number in keys)
