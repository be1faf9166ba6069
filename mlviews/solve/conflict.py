"""The smallest set of requests that cannot stand together.

Any set of requests that a solver refuses holds a smallest one that it already refuses. It is found without looking
into the solver: ask it about sets. Source: A. Ignatiev et al., "Smallest MUS Extraction with Minimal Hitting Set
Dualization", CP 2015.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["smallest_conflict"]

_Set = frozenset[int]


async def smallest_conflict(count: int, solvable: Callable[[_Set], Awaitable[bool]]) -> tuple[int, ...]:
    """Return the numbers of the fewest requests that are refused together.

    Args:
        count: how many requests there are, numbered from 0; all together they are refused.
        solvable: asks the solver about a set of requests. It must be monotone: part of a solvable set is solvable.
    """
    everything = frozenset(range(count))
    known: dict[_Set, bool] = {everything: False}

    async def ask(chosen: _Set) -> bool:
        if chosen not in known:
            known[chosen] = await solvable(chosen)
        return known[chosen]

    async def absorb(base: _Set, more: Sequence[int]) -> _Set:
        """Grow a solvable set to one that bears no further request."""
        if not more or await ask(base | frozenset(more)):
            return base | frozenset(more)
        if len(more) == 1:
            return base
        half = len(more) // 2
        return await absorb(await absorb(base, more[:half]), more[half:])

    # Every refused set holds at least one request of each correction. So the smallest set that hits them all is either
    # the answer or solvable, and then shows a further correction.
    corrections: list[_Set] = []
    while True:
        candidate = _smallest_hitting_set(corrections)
        if not await ask(candidate):
            return tuple(sorted(candidate))
        corrections.append(everything - await absorb(candidate, sorted(everything - candidate)))


def _smallest_hitting_set(sets: Sequence[_Set]) -> _Set:
    elements = sorted(frozenset[int]().union(*sets))
    for size in range(len(elements) + 1):
        for chosen in combinations(elements, size):
            if all(not group.isdisjoint(chosen) for group in sets):
                return frozenset(chosen)
    raise ValueError("an empty set cannot be hit")
