"""Work whose workers are jobs of a real Slurm, which loses some of them; and a whole night of it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

import dask
import pytest
from slurm import Slurm, processes, wait_for

from mlviews.jobs import cluster
from mlviews.nightly.workers import WORKERS_LOST, each_of
from mlviews.site.batch import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


SITE = {"slurm": BatchSystem.model_validate({"queues": {"main": {"limit": "1d"}}})}


@pytest.fixture(autouse=True)
def _quick(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process reach the cluster, and lose no time; all jobs are cancelled after each test."""
    for name, value in {**slurm.environment, "DASK_JOBQUEUE__SLURM__INTERFACE": "lo"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cluster, "_AGAIN_SECONDS", 0.3)
    yield
    slurm.client("scontrol", "update", "partitionname=main", "state=up")
    slurm.client("scontrol", "update", "nodename=n1", "state=resume", check=False)
    slurm.cancel_all()


@contextmanager
def doing(
    folder: Path, cells: int, jobs: int, seconds: float = 0.0, prologue: str = ""
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Give cells to workers, in a thread: each writes a line, and sleeps; what is yielded waits for the end."""
    found: list[tuple[str, Any]] = []
    commands = [f"echo x >> {folder}/cell-{number}; sleep {seconds}" for number in range(cells)]

    def work() -> None:
        jobqueue = {"interface": "lo", "job-script-prologue": [prologue] if prologue else []}
        with dask.config.set({"jobqueue.slurm": {**dask.config.get("jobqueue.slurm"), **jobqueue}}):
            planned = cluster.plan_workers(SITE, jobs, folder, gpu=False)
            with cluster.workers_on(planned, folder) as workers:
                found.extend(each_of(workers.client, os.system, commands, trouble=workers.trouble))

    thread = Thread(target=work)
    thread.start()

    def end() -> dict[str, Any]:
        thread.join(90)
        assert not thread.is_alive(), "it does not end"
        assert sorted(command for command, _ in found) == sorted(commands), "a cell is lost, or judged twice"
        return dict(found)

    yield end
    thread.join(120)


def test_jobs_that_are_refused_or_cancelled_before_they_start_are_submitted_again(slurm: Slurm, builder: Any) -> None:
    _catalogue(builder, 2)
    slurm.client("scontrol", "update", "partitionname=main", "state=inactive")
    cancelled: list[str] = []

    def disturb() -> None:
        time.sleep(2)
        # Jobs are taken from now on, and none starts.
        slurm.client("scontrol", "update", "partitionname=main", "state=down")
        cancelled.extend(_numbers(slurm, 1, "PENDING"))
        slurm.client("scancel", *cancelled)
        slurm.client("scontrol", "update", "partitionname=main", "state=up")

    thread = Thread(target=disturb)
    thread.start()
    with dask.config.set({"jobqueue.slurm.interface": "lo"}):
        night = builder("nightly", "--site", "here", "--cluster", "--jobs", "1", "--json")
    thread.join()
    assert night.code == 0, night.err
    assert _states(night.data) == [("view-0", "updated", True), ("view-1", "updated", True)]
    assert [slurm.state(number) for number in cancelled] == ["CANCELLED"]
    assert not [*(builder.root / "nightly/.scratch").iterdir()]


def test_a_night_ends_where_the_system_takes_no_jobs(
    slurm: Slurm, builder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _catalogue(builder, 1)
    monkeypatch.setattr(cluster, "_FIRST_SECONDS", 1.0)
    slurm.client("scontrol", "update", "partitionname=main", "state=inactive")
    with dask.config.set({"jobqueue.slurm.interface": "lo"}):
        night = builder("nightly", "--site", "here", "--cluster", "--json")
    assert (night.code, night.codes) == (3, [WORKERS_LOST])
    assert _states(night.data) == [("view-0", "not-run", False)]
    assert "takes no jobs" in night.data["nights"][0]["cells"][0]["reason"]


def test_workers_that_cannot_start_end_the_night(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_FRUITLESS", 2)
    with doing(tmp_path, cells=1, jobs=1, prologue="echo no python here >&2; exit 7") as end:
        (error,) = end().values()
    assert error.code == WORKERS_LOST
    assert "jobs of workers ended before they could work. The last one said: no python here" in str(error)


def test_a_site_without_a_batch_system_is_told(builder: Any) -> None:
    builder.recipes.recipe("demo", "python")
    done = builder("nightly", "--cluster", "--json")
    assert (done.code, done.codes) == (1, ["cluster-missing"])


@pytest.mark.slow
def test_a_night_on_a_cluster_that_loses_workers_says_what_a_night_says(
    slurm: Slurm, builder: Any, shelf: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf.add("slow", modules={"slow": "import time\ntime.sleep(3)\n"})
    _catalogue(builder, 6, "slow")
    night = builder.start("nightly", "--site", "here", "--cluster", "--jobs", "2")
    first, second = _numbers(slurm, 2, "RUNNING")
    wait_for(lambda: bool(_workers(first) and _workers(second)), "workers")
    _disturb(slurm, first, second)
    out, err = night.communicate(timeout=300)
    with capsys.disabled():
        print(f"\n{out}")
    assert night.returncode == 0, err
    assert "6 updated" in out


@pytest.mark.slow
def test_workers_that_are_killed_cancelled_requeued_or_drained_lose_nothing(slurm: Slurm, tmp_path: Path) -> None:
    with doing(tmp_path, cells=12, jobs=2, seconds=3) as end:
        first, second = _numbers(slurm, 2, "RUNNING")
        wait_for(lambda: bool(_workers(first) and _workers(second)), "workers")
        _disturb(slurm, first, second)
        assert set(end().values()) == {0}
    assert len([*tmp_path.glob("cell-*")]) == 12


def _disturb(slurm: Slurm, first: str, second: str) -> None:
    """Kill a worker, requeue a job, drain a node, cancel a job, and end the controller for a while."""
    for pid in _workers(first):
        os.kill(pid, signal.SIGKILL)
    slurm.client("scontrol", "requeue", second)
    slurm.client("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    slurm.client("scancel", *_numbers(slurm, 1, "RUNNING"))
    slurm.kill("slurmctld")
    time.sleep(3)
    slurm.start_controller()


def _catalogue(builder: Any, count: int, package: str = "greet") -> None:
    for number in range(count):
        builder.recipes.recipe(f"view-{number}", "python", package)
    builder.site("here", batch={"slurm": {"queues": {"main": {"limit": "1d"}}}})


def _states(data: Any) -> list[tuple[str, str, bool]]:
    (run,) = data["nights"]
    return [(cell["view"], cell["state"], cell["tested"]) for cell in run["cells"]]


def _numbers(slurm: Slurm, count: int, state: str) -> list[str]:
    """Wait for jobs in a state; returns their numbers."""
    found: list[str] = []

    def enough() -> bool:
        found[:] = [number for number, now in slurm.jobs().items() if now == state]
        return len(found) >= count

    wait_for(enough, f"{count} jobs that are {state}")
    return found[:count]


def _workers(number: str) -> list[int]:
    """Return the workers' processes of a job, those that watch them included."""
    dask = {*processes("distributed.cli.dask_worker")}
    return [pid for pid in processes(f"SLURM_JOB_ID={number}\0") if pid in dask]
