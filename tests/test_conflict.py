"""The smallest conflict, against brute force."""

from __future__ import annotations

import asyncio
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from mlviews.solve.conflict import smallest_conflict

COUNT = 9
# A monotone solver refuses exactly those sets that hold one of some cores.
CORES = st.lists(st.frozensets(st.integers(0, COUNT - 1), max_size=5), min_size=1, max_size=6)


def found(cores: list[frozenset[int]], count: int = COUNT) -> tuple[tuple[int, ...], list[frozenset[int]]]:
    asked: list[frozenset[int]] = []

    async def solvable(chosen: frozenset[int]) -> bool:
        asked.append(chosen)
        return not any(core <= chosen for core in cores)

    return asyncio.run(smallest_conflict(count, solvable)), asked


@given(cores=CORES)
def test_it_is_refused_and_none_is_smaller(cores: list[frozenset[int]]) -> None:
    smallest, asked = found(cores)
    assert any(core <= frozenset(smallest) for core in cores), "it is refused"
    sizes = (
        size
        for size in range(COUNT + 1)
        for chosen in combinations(range(COUNT), size)
        if any(core <= frozenset(chosen) for core in cores)
    )
    assert len(smallest) == next(sizes), "brute force finds none smaller"
    assert list(smallest) == sorted(set(smallest))
    assert len(asked) == len(set(asked)), "the solver is asked everything once"


def test_it_asks_far_less_than_brute_force() -> None:
    smallest, asked = found([frozenset({3, 40}), frozenset({5, 6, 7})], count=60)
    assert smallest == (3, 40)
    assert len(asked) < 60


def test_nothing_at_all_may_be_refused() -> None:
    assert found([frozenset()])[0] == ()
