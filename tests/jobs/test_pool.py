"""What mlviews writes for HTCondor, run by a real pool."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from desk import make_view, write_job
from pool import GPUS
from slurm import wait_for

from mlviews.jobs import cluster
from mlviews.jobs.job import JobRequest, by_launch, plan_job
from mlviews.nightly.workers import each_of
from mlviews.site.batch import BatchSystem

if TYPE_CHECKING:
    from pathlib import Path

    from pool import Pool

TELL = "import json, os, sys; print(json.dumps([os.environ['MLVIEWS_TASK'], *sys.argv[1:]]))"

# What the first start alone writes must come back, too.
TRAIN = """
import json, pathlib, sys, time
from mlviews_resume import Checkpoints

checkpoints = Checkpoints(every=0.2)
newest = checkpoints.newest()
step = json.loads(newest.read_text()) if newest else 0
print(f"from {step}", flush=True)
print("start", checkpoints.start, file=sys.stderr, flush=True)
if checkpoints.start == 1:
    pathlib.Path("of the first start").write_text("kept")
while step < int(sys.argv[1]):
    step += 1
    time.sleep(0.04)
    if checkpoints.due():
        checkpoints.save(lambda file: file.write(json.dumps(step).encode()))
pathlib.Path("result").write_text(str(step))
"""


@pytest.fixture
def submit(pool: Pool, tmp_path_factory: pytest.TempPathFactory):
    """Return a function that submits a job of a view, and returns its number and folder."""

    def submit(*command: str, view: dict[str, Any] | None = None, **keys: Any) -> tuple[str, Path]:
        folder = tmp_path_factory.mktemp("job")
        request = JobRequest(command=command, **{"gpus": 0, "cores": 1, "seconds": 600, **keys})
        job = plan_job(request, by_launch(make_view(folder, **view or {})), "htcondor", None)
        return pool.submit(write_job(folder, job, "x.sub")), folder

    return submit


def test_each_task_gets_the_arguments_as_they_are(pool, submit):
    words = ["a b", "$(Process)", 'quo"te', "it's", "$HOME", "line\nline", "\\", "", "é"]
    number, folder = submit("python", "-c", TELL, *words, array=2)
    pool.wait(number)
    told = [json.loads((folder / f"tagging.{number}.{task}.out").read_text()) for task in (0, 1)]
    assert told == [["0", *words], ["1", *words]]


@pytest.mark.parametrize(("served", "other"), [("A100", "V100"), ("V100", "A100")])
def test_a_job_gets_a_gpu_that_its_view_serves(pool, submit, served, other):
    view = {"cuda": "12.9", "gpus": ("V100", "A100"), "served": {served: "native", other: "none"}}
    tell = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    number, folder = submit("python", "-c", tell, view=view, gpus=1)
    pool.wait(number)
    assert (folder / f"tagging.{number}.0.out").read_text().startswith(GPUS[served])


def test_a_training_continues_in_the_next_slot_and_all_that_it_wrote_comes_back(pool, submit):
    """The time of a start ends, somebody sends the job away, and its shell is killed."""
    steps = 260
    number, folder = submit("python", "-c", TRAIN, str(steps), resume=True, seconds=36)  # the last 30 s are for saving

    def started(start: int) -> bool:
        """Tell whether this start has saved."""
        assert pool.ask(number, "HoldReason") == [["undefined"]]
        return bool(list(pool.folder.glob(f"execute/**/checkpoints/checkpoint-{start:06}-*")))

    wait_for(lambda: started(2), "the second start")
    errors = folder / f"tagging.{number}.0.err"
    wait_for(lambda: "start 2" in errors.read_text(), "errors, while the job runs", 10)
    pool.client("condor_vacate_job", number)
    wait_for(lambda: started(3), "the third start")
    subprocess.run(["pkill", "-KILL", "-o", "-f", f"{pool.folder}/execute/.*/x.job.sh"], check=True)
    pool.wait(number)

    said = (folder / f"tagging.{number}.0.out").read_text()
    begun = [int(line.split()[1]) for line in said.splitlines() if line.startswith("from")]
    assert begun[0] == 0
    assert all(0 < step <= steps for step in begun[1:])  # one that is done may be sent away before it has ended
    assert begun[1] < begun[2]
    assert (folder / "result").read_text() == str(steps)
    assert (folder / "of the first start").read_text() == "kept"
    assert errors.read_text().split()[:6] == ["start", "1", "start", "2", "start", "3"]
    with tarfile.open(folder / f"tagging.{number}.0.checkpoints.tar") as archive:
        assert any(name.startswith("checkpoints/checkpoint-") for name in archive.getnames())


def test_a_program_that_fails_before_it_saves_is_not_started_again(pool, submit):
    number, folder = submit("python", "-c", "import sys; sys.exit(3)", resume=True)
    pool.wait(number)
    assert "ended with status 3: it is not started again" in (folder / f"tagging.{number}.0.out").read_text()
    assert "return value 3" in (folder / f"tagging.{number}.log").read_text()


def test_workers_that_are_removed_are_replaced_and_none_is_left(pool, tmp_path, monkeypatch):
    for name, value in pool.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cluster, "_AGAIN_SECONDS", 0.3)
    commands = [f"echo x >> {tmp_path}/cell-{number}; sleep 1" for number in range(8)]

    def disturb() -> None:
        wait_for(lambda: bool([*tmp_path.glob("cell-*")]), "the first cell")
        pool.client("condor_rm", "-all")

    thread = Thread(target=disturb)
    thread.start()
    planned = cluster.plan_workers({"htcondor": BatchSystem()}, 2, tmp_path, gpu=False)
    with cluster.workers_on(planned, tmp_path) as workers:
        found = list(each_of(workers.client, os.system, commands, trouble=workers.trouble))
    thread.join()
    assert sorted(found) == sorted((command, 0) for command in commands)
    assert len([*tmp_path.glob("worker-*.log")]) > 2
    wait_for(lambda: pool.client("condor_q", "-af", "ClusterId") == "", "an empty queue", 30)
