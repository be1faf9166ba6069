"""The search for the smallest change that breaks, against brute force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.bisect.search import Boundary, Verdict, boundary, smallest_change

Set = frozenset[int]


@dataclass
class World:
    """Mixtures that break where all culprits are applied; counts what is tried, and refuses to be asked twice."""

    culprits: Set
    exists: Callable[[Set], bool] = lambda applied: True
    tried: list[Set] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    def judge(self, applied: Set) -> Verdict:
        if not self.exists(applied):
            return "unresolved"
        return "bad" if self.culprits <= applied else "good"

    def __call__(self, applied: Set, /, *, left: int) -> Verdict:
        assert applied not in self.tried
        self.tried.append(applied)
        self.left.append(left)
        return self.judge(applied)


def alone(count: int) -> list[Set]:
    return [frozenset({unit}) for unit in range(count)]


def find(world: World, needs: Sequence[Set]) -> Boundary:
    return smallest_change(needs, world)


def subsets(units: Set) -> list[Set]:
    return [frozenset(chosen) for size in range(len(units) + 1) for chosen in combinations(sorted(units), size)]


@st.composite
def culprits_among(draw: st.DrawFn, most: int, largest: int = 3) -> tuple[int, Set]:
    count = draw(st.integers(1, most))
    size = draw(st.integers(1, min(largest, count)))
    chosen = draw(st.permutations(range(count)))[:size]
    return count, frozenset(chosen)


@given(drawn=culprits_among(200))
def test_culprits_are_found_whatever_they_are(drawn: tuple[int, Set]) -> None:
    count, culprits = drawn
    world = World(culprits)
    found = find(world, alone(count))
    assert found.bad == culprits
    assert found.good < culprits
    assert len(found.good) == len(culprits) - 1
    halvings = ceil(log2(count)) if count > 1 else 0
    assert len(world.tried) <= len(culprits) * (halvings + 1) + 4 * (len(culprits) - 1)


@pytest.mark.parametrize("count", [1, 2, 3, 63, 64, 65, 1000])
def test_one_culprit_takes_a_trial_for_each_halving_and_one_more(count: int) -> None:
    for culprit in range(0, count, max(1, count // 64)):
        world = World(frozenset({culprit}))
        assert find(world, alone(count)) == Boundary(frozenset(), frozenset({culprit}))
        assert len(world.tried) <= ceil(log2(count)) + 1
        # What it says is left is never too little.
        assert all(said >= rest for said, rest in zip(world.left, reversed(range(len(world.tried))), strict=True))


@st.composite
def holes(draw: st.DrawFn) -> tuple[int, World]:
    count, culprits = draw(culprits_among(7))
    chance, density = draw(st.randoms(use_true_random=False)), draw(st.sampled_from([0.1, 0.5, 0.9]))
    inner = [mixture for mixture in subsets(frozenset(range(count))) if 0 < len(mixture) < count]
    missing = {mixture for mixture in inner if chance.random() < density}
    return count, World(culprits, lambda applied: applied not in missing)


@given(drawn=holes())
def test_with_mixtures_that_do_not_exist_the_answer_is_minimal_all_the_same(drawn: tuple[int, World]) -> None:
    count, world = drawn
    found = find(world, alone(count))
    assert world.judge(found.bad) == "bad"
    assert world.judge(found.good) == "good"
    assert found.good < found.bad
    for unit in found.bad:
        assert world.judge(found.bad - {unit}) != "bad"
    if len(found.bad - found.good) > 1:
        for unit in found.bad - found.good:  # it says that nothing nearer can be told: then no neighbour tells
            assert world.judge(found.good | {unit}) == "unresolved"
            assert world.judge(found.bad - {unit}) == "unresolved"


@st.composite
def ordered_needs(draw: st.DrawFn, most: int) -> tuple[list[Set], Set]:
    """Units that need some of those before them; their numbers say nothing of that order."""
    count, culprits = draw(culprits_among(most))
    names = draw(st.permutations(range(count)))
    needs: list[Set] = [frozenset()] * count
    for place, name in enumerate(names):
        chosen = draw(st.sets(st.sampled_from(names[:place]), max_size=3)) if place else set()
        needs[name] = frozenset({name}).union(*(needs[other] for other in chosen))
    return needs, culprits


@given(drawn=ordered_needs(9))
def test_what_units_need_is_never_left_out(drawn: tuple[list[Set], Set]) -> None:
    needs, culprits = drawn

    def whole(applied: Set) -> bool:
        return all(needs[unit] <= applied for unit in applied)

    world = World(culprits, whole)
    found = find(world, needs)
    assert all(map(whole, world.tried))
    breaking = [mixture for mixture in subsets(frozenset(range(len(needs)))) if world.judge(mixture) == "bad"]
    assert found.bad == min(breaking, key=len)
    assert world.judge(found.good) == "good"
    assert len(found.bad - found.good) == 1


@given(drawn=ordered_needs(50))
def test_needs_cost_no_more_trials(drawn: tuple[list[Set], Set]) -> None:
    needs, culprits = drawn
    world = World(frozenset(sorted(culprits)[:1]))
    find(world, needs)
    assert len(world.tried) <= 2 * (ceil(log2(len(needs))) if len(needs) > 1 else 0) + 2


@given(
    verdicts=st.dictionaries(st.sets(st.integers(0, 5)).map(frozenset), st.sampled_from(["good", "bad", "unresolved"]))
)
def test_whatever_is_answered_it_ends_with_a_good_and_a_bad_mixture(verdicts: dict[Set, Verdict]) -> None:
    """Also where a culprit is undone by another change: no rule holds."""
    verdicts |= {frozenset(): "good", frozenset(range(6)): "bad"}

    def outcome(applied: Set, /, *, left: int) -> Verdict:
        return verdicts.get(applied, "good")

    found = smallest_change(alone(6), outcome)
    assert found.good < found.bad
    assert verdicts.get(found.good, "good") == "good"
    assert verdicts.get(found.bad, "good") == "bad"
    assert all(verdicts.get(found.bad - {unit}, "good") != "bad" for unit in found.bad)


@given(first=st.integers(1, 300), count=st.integers(1, 300))
def test_in_a_row_the_first_bad_one_is_found(first: int, count: int) -> None:
    first = min(first, count)
    row = [frozenset(range(unit + 1)) for unit in range(count)]
    world = World(frozenset({first - 1}))
    found = boundary(row, world)
    assert (len(found.good), len(found.bad)) == (first - 1, first)
    assert len(world.tried) <= (ceil(log2(count)) if count > 1 else 0)
