"""A night whose trials are jobs of a real Slurm, which loses some of them."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from slurm import processes, wait_for

CELLS = 6


def test_a_night_loses_no_cell_with_its_workers(builder: Any, shelf: Any, slurm: Any, monkeypatch: Any) -> None:
    for name, value in {**slurm.environment, "DASK_JOBQUEUE__SLURM__INTERFACE": "lo"}.items():
        monkeypatch.setenv(name, value)
    shelf.add("slow", modules={"slow": "import time\ntime.sleep(3)\n"})
    for number in range(CELLS):
        builder.recipes.recipe(f"view-{number}", "python", "slow" if number else "greet")
    builder.site("here", batch={"slurm": {"queues": {"main": {"limit": "1d"}}}})

    night = builder.start("nightly", "--site", "here", "--cluster", "--jobs", "2", "--json")
    try:
        first, second = _running(slurm, 2)
        assert _workers(first), "no worker to kill"
        for pid in _workers(first):
            os.kill(pid, signal.SIGKILL)
        slurm.client("scancel", second)
        slurm.client("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        slurm.kill("slurmctld")
        slurm.start_controller()
        out, err = night.communicate(timeout=300)
    finally:
        night.kill()
        slurm.client("scontrol", "update", "nodename=n1", "state=resume", check=False)

    assert night.returncode == 0, err
    (run,) = json.loads(out)["data"]["nights"]
    assert [(cell["view"], cell["state"], cell["tested"]) for cell in run["cells"]] == [
        (f"view-{number}", "updated", True) for number in range(CELLS)
    ]
    wait_for(lambda: not slurm.client("squeue", "-h", "-o", "%i"), "the end of the workers' jobs")


def _running(slurm: Any, count: int) -> list[str]:
    found: list[str] = []

    def enough() -> bool:
        found[:] = [number for number, state in slurm.jobs().items() if state == "RUNNING"]
        return len(found) >= count and all(_workers(number) for number in found)

    wait_for(enough, f"{count} workers")
    return found[:count]


def _workers(number: str) -> list[int]:
    dask = {*processes("distributed.cli.dask_worker")}
    return [pid for pid in processes(f"SLURM_JOB_ID={number}\0") if pid in dask]


def test_a_site_without_a_batch_system_is_told(builder: Any) -> None:
    builder.recipes.recipe("demo", "python")
    done = builder("nightly", "--cluster", "--json")
    assert (done.code, done.codes) == (1, ["cluster-missing"])
