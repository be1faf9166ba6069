"""Which package changes stand alone, and which need which: read from what the packages' records ask for.

Every package has two states, as in the good lock and as in the bad one, and a record asks for one other package at a
time. So all that can forbid a mixture are pairs, one changed and the other not; the locks themselves rule out that two
changed packages, or two unchanged ones, do not go together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rattler import MatchSpec
from rattler.exceptions import InvalidMatchSpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rattler import RepoDataRecord

__all__ = ["Need", "Unit", "needs_between", "units_of"]


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
    """Return what the records of changed packages say of each other.

    Args:
        before: changed package -> its record in the good lock, None where it holds none.
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
    """Yield each other package that, in the other state, a record does not go with, and why."""
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
    """Join changes that need each other, each by way of others if need be, and say what each unit needs.

    Args:
        names: the changed packages.
        needs: what is known of them.
    """
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
