"""Trainings on a real Slurm, told to end, killed, preempted: they end with the bits of an uninterrupted one."""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
import time
from pathlib import Path

import pytest
from desk import kill, members
from slurm import wait_for

TRAINING = Path(__file__).resolve().parent / "training.py"
# A task writes its own result.
PER_TASK = """
import os, runpy, sys
program, folder, steps = sys.argv[1:]
sys.argv = [program, f"{folder}/task-{os.environ['MLVIEWS_TASK']}", steps, "0.05", "0.05", "0"]
runpy.run_path(program, run_name="__main__")
"""
STEPS, SECONDS = 100, 0.3  # half a minute, had it not to start again


def expected(steps: int) -> str:
    found = ""
    for step in range(steps):
        found = hashlib.sha256((found + str(step)).encode()).hexdigest()
    return found


def ends_well(desk, number: str, *, steps: int = STEPS, starts: int = 2) -> str:
    """Wait for a training's result; returns what its jobs said."""
    result = desk.folder / "result"
    wait_for(lambda: "the program is done" in desk.said(), f"the end; {desk.slurm.jobs()} {desk.said()[-2000:]}")
    assert result.read_text() == expected(steps)
    assert desk.writers() == sorted(desk.writers()), "an older start wrote after a newer one"
    assert len(list(desk.folder.glob(f"tagging-{number}/start-*"))) == starts, desk.said()
    return desk.said()


def running(desk, number: str, checkpoints: int = 1) -> None:
    """Wait until a training has saved something, and is at work."""
    wait_for(lambda: len(desk.writers()) >= checkpoints, f"a checkpoint: {desk.said()}")
    desk.slurm.wait(number, "RUNNING")


def restart(desk, number: str) -> None:
    """Wait until a job is back in the queue, and start it at once."""
    wait_for(lambda: desk.slurm.job(number).get("Restarts", "0") != "0", f"a requeue: {desk.said()}")

    def now() -> bool:
        if desk.slurm.state(number) == "PENDING":
            desk.slurm.client("scontrol", "update", f"jobid={number}", "StartTime=now", check=False)
            time.sleep(0.5)
        return len(list(desk.folder.glob(f"tagging-{number}/start-*"))) > 1

    wait_for(now, f"the second start: {desk.slurm.job(number)}")


def test_a_training_that_is_not_disturbed_starts_once(desk):
    number = desk.train(STEPS, 0.01, workers=2)
    ends_well(desk, number, starts=1)
    assert len(desk.checkpoints(number)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_usr1_to_the_batch_shell_requeues_it(desk, workers):
    number = desk.train(STEPS, SECONDS, workers=workers)
    running(desk, number)
    desk.slurm.client("scancel", "--batch", "--signal=USR1", number)
    restart(desk, number)
    text = ends_well(desk, number)
    assert "goes back into the queue" in text
    assert len(re.findall(r"starts at step (?!0 )\d+", text)) == 1


def test_one_that_is_preempted_goes_on_afterwards(desk):
    number = desk.train(STEPS, SECONDS)
    running(desk, number)
    other = desk.folder / "other.sh"
    other.write_text("#!/bin/bash\nsleep 1\n")
    desk.slurm.submit(other, "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null")
    restart(desk, number)
    ends_well(desk, number)


@pytest.mark.parametrize("victim", ["program", "step"])
def test_a_program_or_step_that_is_killed_is_started_again(desk, victim):
    number = desk.train(STEPS, SECONDS)
    running(desk, number)
    kill(members(number)[victim])
    restart(desk, number)
    ends_well(desk, number)


def test_a_successor_takes_over_when_the_batch_shell_is_killed(desk):
    number = desk.train(STEPS, SECONDS)
    running(desk, number)
    kill(members(number)["shell"])
    ends_well(desk, number)
    assert desk.slurm.state(number) == "FAILED"


def test_nobody_succeeds_a_job_that_was_cancelled(desk):
    number = desk.train(STEPS, SECONDS)
    running(desk, number)
    desk.slurm.client("scancel", number)
    wait_for(lambda: not desk.slurm.client("squeue", "-h", "-o", "%i"), "the end of all jobs")
    assert "was cancelled, so this one does nothing" in desk.said()
    assert len(list(desk.folder.glob(f"tagging-{number}/start-*"))) == 1
    assert not (desk.folder / "result").exists()


@pytest.mark.slow
def test_what_slurm_takes_its_time_to_notice(desks):
    """Three trainings at once: one's time is over, one has lost its stepd, one its whole node."""
    over, orphan, lost = desks("over"), desks("orphan"), desks("lost")
    slurm = over.slurm
    first = over.train(STEPS, 1, options=("--nodelist=n1",))
    second = orphan.train(STEPS, 1, options=("--nodelist=n1",))
    third = lost.train(STEPS, 1, options=("--nodelist=n2",))
    for desk, number in ((over, first), (orphan, second), (lost, third)):
        running(desk, number)

    slurm.client("scontrol", "update", f"jobid={first}", "EndTime=now+50")  # Slurm looks every 30 s
    kill(members(second)["stepd"])
    alive = members(second)["program"]
    slurm.kill("n2")
    kill(pid for pids in members(third).values() for pid in pids)
    try:
        wait_for(lambda: slurm.state(third) == "PENDING", "Slurm to notice that the node is lost")
        slurm.client("scontrol", "update", f"jobid={third}", "ReqNodeList=")
        restart(lost, third)  # on the other node
        ends_well(lost, third)
    finally:
        slurm.start_node("n2")
    restart(orphan, second)
    ends_well(orphan, second)
    assert alive, "the first program did not live on: nothing was fenced"
    restart(over, first)
    ends_well(over, first)


def test_a_full_disk_keeps_the_checkpoints_that_were_there(desk, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", small], check=True)
    try:
        number = desk.train(STEPS, SECONDS, arguments=(str(small),))
        wait_for(lambda: list(small.glob("checkpoint-*")), "a checkpoint")
        (small / "filler").write_bytes(b"")
        with contextlib.suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 512)
        wait_for(lambda: "no checkpoint could be saved" in desk.said(), "a checkpoint that fails")
        assert list(small.glob("checkpoint-*"))
        desk.slurm.client("scancel", "--batch", "--signal=USR1", number)
        wait_for(lambda: "goes back into the queue" in desk.said(), f"the requeue: {desk.said()}")
        (small / "filler").unlink()
        wait_for((small / "start-2").exists, "the second start")
        result = desk.folder / "result"
        wait_for(result.exists, f"the result: {desk.said()}")
        assert result.read_text() == expected(STEPS)
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_each_task_of_an_array_resumes_for_itself(desk):
    number = desk.submit(
        "python", "-c", PER_TASK, str(TRAINING), str(desk.folder), str(STEPS), resume=True, array=3
    )  # fmt: skip
    tasks = [desk.folder / f"task-{task}" for task in range(3)]
    wait_for(
        lambda: all(list(desk.folder.glob(f"tagging-{number}-{task}/checkpoint-*")) for task in range(3)),
        "three checkpoints",
    )
    desk.slurm.client("scancel", "--batch", "--signal=USR1", f"{number}_1")
    wait_for(lambda: "goes back into the queue" in desk.said(), f"the requeue: {desk.said()}")
    wait_for(lambda: all(path.exists() for path in tasks), f"three results: {desk.said()}")
    assert {path.read_text() for path in tasks} == {expected(STEPS)}
    assert len(list(desk.folder.glob(f"tagging-{number}-1/start-*"))) == 2
    assert len(list(desk.folder.glob(f"tagging-{number}-0/start-*"))) == 1


def test_a_program_that_needs_too_much_memory_is_told_so_and_not_started_again(desk):
    greedy = "import time; held = b'x' * 400_000_000; time.sleep(60)"
    number = desk.submit("python", "-c", greedy, resume=True, megabytes=150)
    desk.slurm.wait(number, "FAILED")
    said = desk.said()
    assert "the program needs more memory than its job has: ask for more, --memory" in said
    assert said.count("start ") == 1
