"""Jobs of several nodes and GPUs on a real Slurm: what the nodes must share, and a training over gloo that resumes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from desk import TRAINING, Desk, make_view, write_job
from slurm import wait_for

from mlviews.release import ReleasePackage

DDP = Path(__file__).resolve().parent / "ddp.py"
LIGHTNING = Path(__file__).resolve().parent / "lightning_training.py"
TORCH = (
    ReleasePackage(name="python", version="3.11.7", build="0_cpython"),
    ReleasePackage(name="pytorch", version="2.13.0", build="cpu_0"),
)


@pytest.mark.parametrize("kinds", [("A100", "A100"), ("A100", "V100")])
def test_the_program_starts_only_where_all_gpus_are_alike(desks, kinds):
    desk = desks("desk")
    smi = desk.folder / "nvidia-smi"
    smi.write_text(
        f'#!/bin/sh\n[ "$SLURMD_NODENAME" = n1 ] && echo "{kinds[0]}, 575.51" || echo "{kinds[1]}, 575.51"\n'
    )
    smi.chmod(0o755)
    release = make_view(desk.folder / "gpu", cuda="12.9")
    path = write_job(desk.folder, Desk(desk.slurm, desk.folder, release).job("python", "-c", PROGRAM, nodes=2, gpus=1))
    path.write_text(path.read_text().replace("nvidia-smi ", f"{smi} "))
    number = desk.slurm.submit(path)
    desk.slurm.wait(number, "COMPLETED" if len({*kinds}) == 1 else "FAILED")
    said = desk.slurm.output(number)
    assert ("do not have one lock, one kind of GPU and one driver" in said) == (len({*kinds}) == 2)
    assert said.count("computes on lo with 0") == (2 if len({*kinds}) == 1 else 0)


PROGRAM = (
    "import os; print(f\"computes on {os.environ['NCCL_SOCKET_IFNAME']} with {os.environ['CUDA_VISIBLE_DEVICES']} in\")"
)


@pytest.mark.slow
def test_two_nodes_over_gloo_end_with_the_bits_of_an_undisturbed_run(desks: Callable[..., Desk], neural: Path) -> None:
    results = []
    for name in ("undisturbed", "told"):
        desk = desks(name)
        desk.release = make_view(desk.folder / "torch", python=neural, packages=TORCH)
        result = desk.folder / "result"
        number = desk.submit(
            "python", str(DDP), str(result), "40", "0.2", resume=True, nodes=2, cores=2, check_first=name == "told"
        )
        if name == "told":
            wait_for(lambda d=desk, n=number: d.checkpoints(n), "a checkpoint")
            desk.slurm.client("scancel", "--batch", "--signal=USR1", number)
            wait_for(lambda d=desk: "goes back into the queue" in d.said(), "the requeue")
        wait_for(lambda d=desk: "the program is done" in d.said(), f"the end: {desk.said()}", 240)
        results.append(result.read_text())
        print(desk.said())
    assert results[0] == results[1]
    assert "process 1 of 2 begins at 0" in desk.said()
    assert '"status": "pass"' in desk.said()


@pytest.mark.slow
def test_a_limit_of_two_minutes(desk: Desk) -> None:
    program = ("python", str(TRAINING), str(desk.folder / "result"), "160", "1", "0.01", "0")
    number = desk.submit(*program, resume=True, seconds=120)
    wait_for(lambda: "goes back into the queue" in desk.said(), "the end of its time", 200)
    wait_for(lambda: "the program is done" in desk.said(), "the end", 120)
    assert len(list(desk.folder.glob(f"tagging-{number}/start-*"))) == 2
    assert desk.writers() == sorted(desk.writers())


def test_a_job_whose_nodes_fail_the_check_does_not_come_back(desk):
    """Its view claims PyTorch and holds none, so that torch-nccl cannot pass."""
    desk.release = make_view(desk.folder / "torch", packages=TORCH)
    number = desk.submit("python", "-c", "print('computes')", resume=True, check_first=True)
    desk.slurm.wait(number, "FAILED")
    wait_for(lambda: not desk.slurm.client("squeue", "-h", "-o", "%i"), "the end of its successor")
    assert "torch-nccl fails here" in desk.said()
    assert len(list(desk.folder.glob("tagging-*/start-*"))) == 1


@pytest.mark.slow
def test_lightnings_own_plugin_resumes(desks: Callable[..., Desk], lightning: str, tmp_path: Path) -> None:
    """It saves on USR1, requeues its job, and the next start ends with the weights of an undisturbed run."""
    subprocess.run([*lightning.split(), LIGHTNING, tmp_path / "undisturbed", "60", "0"], check=True)
    desk = desks("desk")
    packages = (*TORCH, ReleasePackage(name="lightning", version="2.6.6", build="py_0"))
    desk.release = make_view(desk.folder / "lightning", python=lightning, packages=packages)
    result = desk.folder / "result"
    number = desk.submit(
        "python", str(LIGHTNING), str(result), "60", "0.3", resume=True, lightning=True, megabytes=4000
    )  # fmt: skip
    steps = result.with_suffix(".steps")
    wait_for(lambda: steps.exists() and len(steps.read_text().splitlines()) > 5, "some steps")
    desk.slurm.client("scancel", "--signal=USR1", number)
    wait_for(lambda: desk.slurm.job(number)["Restarts"] == "1", "the requeue")
    wait_for(lambda: _started_again(desk, number, steps), "the second start")
    desk.slurm.wait(number, "COMPLETED")
    second = [line.split()[1] for line in steps.read_text().splitlines() if line.startswith("1 ")]
    assert 1 < int(second[0]) < 60
    assert second[-1] == "60"
    assert result.read_text() == (tmp_path / "undisturbed").read_text()


def _started_again(desk: Desk, number: str, steps: Path) -> bool:
    if desk.slurm.state(number) == "PENDING":
        desk.slurm.client("scontrol", "update", f"jobid={number}", "StartTime=now", check=False)
    return "1 " in steps.read_text()
