"""Faults planted in a channel of real archives: the culprit is named, and it costs few builds."""

from __future__ import annotations

from math import ceil, log2
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.lock import read_lock

if TYPE_CHECKING:
    from conftest import Garden

HALVINGS = ceil(log2(64))
BREAKS = "raise RuntimeError('planted')\n"


def changes(data: dict, key: str = "change") -> dict[str, tuple[str, str]]:
    return {change["name"]: (change["before"], change["after"]) for change in data[key]}


def versions(path: str) -> dict[str, str]:
    return {package.name: package.version for package in read_lock(Path(path)).packages}


def differing(data: dict) -> set[str]:
    good, bad = versions(data["last-good"]), versions(data["first-bad"])
    return {name for name in {*good, *bad} if good.get(name) != bad.get(name)}


def test_one_culprit_among_64(garden: Garden) -> None:
    garden.grow()
    culprit = garden.draw.choice(garden.names)
    garden.new(culprit, BREAKS)
    garden.lock()

    data = garden.bisect("--retries", "1", "--json").data

    assert data["differ"] == 64
    assert changes(data) == {culprit: ("1.0", "2.0")}
    assert changes(data, "step") == changes(data)
    assert data["checks"] == {"imports": f"{culprit}: RuntimeError: planted"}
    assert (data["because"], data["together"], data["unsolvable"]) == ([], False, 0)
    # Both locks twice, a build for each halving, and the answer's first bad lock twice; its last good is the good lock.
    assert data["builds"] <= 4 + HALVINGS + 2
    assert differing(data) == {culprit}
    assert versions(data["last-good"]) == versions("good.yml")


def test_two_that_only_break_together(garden: Garden) -> None:
    garden.grow(24)
    first, second = garden.draw.sample(garden.names, 2)
    garden.new(second, f"import {first}\nif {first}.version == 2:\n    {BREAKS}")
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    assert changes(data) == {first: ("1.0", "2.0"), second: ("1.0", "2.0")}
    assert data["together"]
    assert len(data["step"]) == 1
    assert differing(data) < {first, second}
    assert data["builds"] <= 2 + 2 * (ceil(log2(24)) + 1) + 2
    shown = garden.bisect("--retries", "0", "--resume")
    assert "2 of 24 changes break imports" in shown.out
    assert "only together" in shown.out


def test_mixtures_that_do_not_exist_are_never_built(garden: Garden) -> None:
    """Some new versions ask for other new ones, some old ones for old ones, and some both ways."""
    garden.grow(32)
    order = garden.draw.sample(garden.names, 32)
    culprit, partner, base, user = order[:4]
    garden.new(culprit, BREAKS, f"{partner} >=2", f"{base} >=2")
    garden.new(partner, "", f"{culprit} >=2")
    garden.old(user, f"{base} <2")
    for name, other in zip(order[4:], order[5:], strict=False):
        if garden.draw.random() < 0.5:
            garden.new(name, "", f"{other} >=2")
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    # Without the new base no new culprit; and the old user bears no new base.
    assert set(changes(data)) == {culprit, partner, base, user}
    assert differing(data) == {culprit, partner}
    assert not data["together"]
    assert f"{culprit} 2.0 asks for {partner} >=2, not: {partner} 1.0 h0_0" in data["because"]
    assert f"{partner} 2.0 asks for {culprit} >=2, not: {culprit} 1.0 h0_0" in data["because"]
    assert f"{user} 1.0 asks for {base} <2, not: {base} 2.0 h0_0" in data["because"]
    assert data["builds"] <= 2 + ceil(log2(32)) + 4
    assert data["unsolvable"] == 0  # the records say it all: the solver need not say no


def test_the_version_in_between_that_broke(garden: Garden) -> None:
    garden.grow(8)
    culprit, other = garden.draw.sample(garden.names, 2)
    garden.new(culprit, BREAKS)
    first = garden.draw.randint(1, 9)
    gone = garden.draw.randint(1, 9)
    for minor in range(1, 10):
        source = f"version = 1\n{BREAKS if minor >= first else ''}"
        # One of them goes with no version of another package that is in either lock.
        garden.between(culprit, f"1.{minor}", source, *([f"{other} ==1.5"] if minor == gone else []))
    garden.between(other, "1.5", "version = 1\n")
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    minors = [minor for minor in range(1, 10) if minor != gone]
    before = max((minor for minor in minors if minor < first), default=0)
    after = min((minor for minor in minors if minor >= first), default=None)
    expected = {culprit: (f"1.{before}", f"1.{after}" if after else "2.0")}
    assert changes(data, "step") == expected
    assert changes(data) == {culprit: ("1.0", expected[culprit][1])}
    assert data["skipped"] in ([], [f"{culprit} 1.{gone}, build 0"])
    assert data["builds"] <= 2 + 3 + 1 + 2 * 4
