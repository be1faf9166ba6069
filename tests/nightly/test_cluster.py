"""Trials on a Dask cluster, a real one with workers in processes of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from mlviews.errors import FailedError
from mlviews.nightly.workers import each_on


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, processes=True) as cluster:
        yield cluster.scheduler_address


def test_a_night_on_a_cluster_gives_what_it_gives_here(builder: Any, shelf: Any, scheduler: str) -> None:
    shelf.add("broken", modules={"broken": "raise OSError('no such driver')\n"})
    builder.recipes.recipe("bad", "python", "broken")
    builder.recipes.recipe("good", "python", "greet")

    there = builder("nightly", "--scheduler", scheduler, "--json")
    here = builder("nightly", "--json")

    assert (there.code, here.code) == (1, 1)
    found = [
        [(c["view"], c["state"], c["tested"], [check["status"] for check in c["checks"]]) for c in run["cells"]]
        for run in (there.data["nights"][0], here.data["nights"][0])
    ]
    assert found[0] == found[1]
    assert [state for _, state, _, _ in found[0]] == ["check-failed", "updated"]
    assert not list((builder.root / "nightly/.scratch").iterdir())


def test_a_scheduler_that_is_not_there_is_an_error_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlviews.nightly.workers._CONNECT_SECONDS", "1s")
    with pytest.raises(FailedError) as raised:
        list(each_on("tcp://127.0.0.1:9", math.sqrt, [1]))
    assert raised.value.code == "scheduler-unreachable"


def test_what_a_worker_raises_is_its_jobs_alone(scheduler: str) -> None:
    found = dict(each_on(scheduler, math.sqrt, [4, -1]))
    assert found[4] == 2
    assert "ValueError" in str(found[-1])
