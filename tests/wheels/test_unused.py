"""Of the wheel channel goes what no package needs that is there, and nothing of the last day."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from mlviews.wheels.channel import make_channel
from mlviews.wheels.restore import restore_archives, unused_archives, unused_wheels

DAY = 86_400


@pytest.fixture
def cache(make_wheel: Any, wheelhouse: Path, same_place: Any, tmp_path: Path) -> Path:
    """A cache with two views' wheels, two days old; ``torch`` has another name on conda-forge."""

    def fill() -> None:
        make_wheel(wheelhouse, "torch", "2.0+cpu", requires=["low"])
        make_wheel(wheelhouse, "low", "1.0")
        make_channel(["pytorch"], pins={}, cache=tmp_path)
        make_wheel(wheelhouse, "low", "1.1")
        make_channel(["pytorch"], pins={}, cache=tmp_path)
        for path in tmp_path.rglob("*"):
            os.utime(path, (time.time() - 2 * DAY,) * 2)

    same_place.once(fill)
    return tmp_path


def packages(cache: Path) -> dict[str, str]:
    """Return sha256 by ``name-version-build`` of all that is in the channel."""
    files = [json.loads(path.read_text())["packages.conda"] for path in cache.glob("channel/*/repodata.json")]
    return {name.removesuffix(".conda"): record["sha256"] for file in files for name, record in file.items()}


def versions(stems: set[str]) -> set[tuple[str, str]]:
    return {tuple(stem.rsplit("-", 2)[:2]) for stem in stems}


def test_what_is_needed_stays(cache):
    needed = {*packages(cache)}

    assert {*unused_archives(cache, needed)} == set()
    assert {*unused_wheels(cache, versions(needed))} == set()


def test_what_nobody_needs_goes_and_can_be_made_again(cache):
    (old,) = (stem for stem in packages(cache) if stem.startswith("low-1.0-"))
    needed = {*packages(cache)} - {old}

    archives, wheels = [*unused_archives(cache, needed)], [*unused_wheels(cache, versions(needed))]

    assert [path.stem for path in archives] == [old]
    assert [json.loads(path.read_text())["wheel"]["version"] for path in wheels] == ["1.0"]
    archives[0].unlink()
    wheels[0].unlink()
    restore_archives({f"noarch/{old}.conda": packages(cache)[old]}, cache=cache)
    assert archives[0].exists()


def test_what_came_today_stays(cache):
    for path in cache.rglob("*"):
        os.utime(path)

    assert [*unused_archives(cache, ())] == []
    assert [*unused_wheels(cache, ())] == []
