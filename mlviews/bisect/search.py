"""The smallest part of a change that breaks what the whole breaks, found by trying parts.

The change consists of units. Trying some of them, with the others undone, is good, bad, or unresolved: no such mixture,
or no answer from it. Source: A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE
TSE 28(2), 2002: `dd` isolates, `ddmin` simplifies. Where all mixtures give an answer, one culprit among n units takes
ceil(log2 n) + 1 trials, and k that break only together some k times as many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Literal, Protocol

Verdict = Literal["good", "bad", "unresolved"]
_Set = frozenset[int]


class Oracle(Protocol):
    """Tries a mixture."""

    def __call__(self, applied: _Set, /, *, left: int) -> Verdict:
        """Try it.

        Args:
            applied: the units that are applied in it.
            left: how many trials follow at most, if one unit is to blame and all of them give an answer.
        """


@dataclass(frozen=True, slots=True)
class Boundary:
    """Two mixtures, as the units that are applied in each; every unit of ``good`` is also in ``bad``.

    Attributes:
        good: a mixture that is good.
        bad: a mixture that is bad.
    """

    good: _Set
    bad: _Set


def boundary(needs: Sequence[_Set], outcome: Oracle) -> Boundary:
    """Return a good and a bad mixture as near to each other as can be told.

    Args:
        needs: by unit, all units that it cannot be applied without, itself among them; no two need each other.
        outcome: tries a mixture; it is known that nothing applied is good and that everything applied is bad.
    """
    search = _Search(needs, outcome)
    return search.isolate(frozenset(), search.everything)


def smallest_change(needs: Sequence[_Set], outcome: Oracle) -> Boundary:
    """Return the smallest bad mixture, and a good one next to it.

    The bad one is minimal: without any unit that none of its others needs, it is not bad. They differ by one unit,
    except where all that lies between is unresolved.

    Args:
        needs: by unit, all units that it cannot be applied without, itself among them; no two need each other.
        outcome: tries a mixture; it is known that nothing applied is good and that everything applied is bad.
    """
    search = _Search(needs, outcome)
    bad = search.culprits()
    while True:
        bad = search.minimize(bad)
        if (found := search.beside(bad)).bad == bad:
            return found
        bad = found.bad


class _Search:
    """What is known of mixtures, and the steps to know more; each mixture is tried once."""

    def __init__(self, needs: Sequence[_Set], outcome: Oracle) -> None:
        self.everything = frozenset(range(len(needs)))
        self._needs = needs
        self._outcome = outcome
        self._known: dict[_Set, Verdict] = {self.everything: "bad", frozenset(): "good"}

    def _try(self, applied: _Set, *, left: int = 0) -> Verdict:
        if applied not in self._known:
            self._known[applied] = self._outcome(applied, left=left)
        return self._known[applied]

    def _with_needs(self, units: _Set) -> _Set:
        return units.union(*(self._needs[unit] for unit in units))

    def _without_needy(self, units: _Set) -> _Set:
        return frozenset(unit for unit in units if self._needs[unit] <= units)

    def _unneeded(self, units: _Set) -> _Set:
        """Return the units that can be taken out alone."""
        return units - frozenset[int]().union(*(self._needs[unit] - {unit} for unit in units))

    def _in_order(self, units: _Set) -> list[int]:
        """Sort units so that each comes after what it needs: any first part of them is a mixture that may exist."""
        return sorted(units, key=lambda unit: (len(self._needs[unit]), unit))

    def isolate(self, good: _Set, bad: _Set) -> Boundary:
        """Zeller's dd: halve what lies between until one unit is left; split finer where halves are unresolved."""
        parts = 2
        while (between := len(bad - good)) > 1:
            nearer = self._nearer(good, bad, parts)
            if nearer is not None:
                good, bad = nearer.good, nearer.bad
                parts = 2
            elif parts < between:
                parts = min(2 * parts, between)
            else:
                break
        return Boundary(good, bad)

    def _nearer(self, good: _Set, bad: _Set, parts: int) -> Boundary | None:
        for part in _split(self._in_order(bad - good), parts):
            for mixture in (self._with_needs(good | part), self._without_needy(bad - part)):
                if good < mixture < bad:
                    worse = max(len(mixture - good), len(bad - mixture))
                    found = self._try(mixture, left=ceil(log2(worse)) + 1)
                    if found != "unresolved":
                        return Boundary(mixture, bad) if found == "good" else Boundary(good, mixture)
        return None

    def culprits(self) -> _Set:
        """Return a bad mixture of few units: each was the step from a good mixture to a bad one."""
        kept, bad = frozenset[int](), self.everything
        while self._try(kept) == "good":
            found = self.isolate(kept, bad)
            kept, bad = self._with_needs(kept | (found.bad - found.good)), found.bad
        return kept if self._try(kept) == "bad" else bad

    def minimize(self, bad: _Set) -> _Set:
        """Zeller's ddmin: take parts out for as long as the rest stays bad."""
        parts = 2
        while True:
            loose = self._unneeded(bad)
            smaller = self._smaller(bad, loose, min(parts, len(loose)))
            if smaller is not None:
                bad, parts = smaller, max(parts - 1, 2)
            elif parts < len(loose):
                parts = min(2 * parts, len(loose))
            else:
                return bad

    def _smaller(self, bad: _Set, loose: _Set, parts: int) -> _Set | None:
        for part in _split(self._in_order(loose), parts):
            if self._try(bad - part) == "bad":
                return bad - part
        return None

    def beside(self, bad: _Set) -> Boundary:
        """Return a minimal bad mixture and a good one: without one of its units, or as near as there is one."""
        for unit in reversed(self._in_order(self._unneeded(bad))):
            if self._try(bad - {unit}) == "good":
                return Boundary(bad - {unit}, bad)
        return self.isolate(frozenset(), bad)


def _split(units: Sequence[int], parts: int) -> Iterator[_Set]:
    """Cut a sequence into parts of nearly one length."""
    for number in range(parts):
        yield frozenset(units[len(units) * number // parts : len(units) * (number + 1) // parts])
