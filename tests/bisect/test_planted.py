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
    good, bad = versions(data["last_good"]), versions(data["first_bad"])
    assert {name for name in good if good[name] != bad[name]} == {culprit}
    assert good == versions("good.yml")
