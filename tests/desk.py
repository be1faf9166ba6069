"""A release that jobs enter, and the trainings that they run in it: for tests and for the storm of kills."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm import Slurm, processes

from mlviews.jobs.job import Job, JobRequest, by_launch, plan_job
from mlviews.jobs.render import job_files
from mlviews.release import Activation, Release, ReleasePackage
from mlviews.render.setup_script import prefix_files

if TYPE_CHECKING:
    from collections.abc import Iterable


TRAINING = Path(__file__).resolve().parent / "jobs/training.py"


def make_view(root: Path, *, python: str | Path = sys.executable, **changes: Any) -> Release:
    """Write a release that starts the tests' own Python or another one, with its launch; nothing else is in it."""
    values: dict[str, Any] = {
        "mlviews": "0.1.0", "view": "tagging", "release": "2026.11.26", "platform": "linux-64", "summary": "Taggers",
        "module": "atlasml/tagging", "site": "local", "lock_digest": "sha256:0123456789abcdef", "glibc": "2.34",
        "created": datetime(2026, 11, 26, 12, tzinfo=timezone.utc),
        "packages": (ReleasePackage(name="python", version="3.12.9", build="0_cpython"),),
    }  # fmt: skip
    prefix = root / "envs/tagging/2026.11.26/linux-64"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/python").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    (prefix / "bin/python").chmod(0o755)
    activation = Activation(
        prepend={"PATH": (f"{prefix}/bin",)}, set={"CONDA_PREFIX": str(prefix)}, unset=("PYTHONPATH", "PYTHONHOME")
    )
    release = Release(**{**values, "prefix": str(prefix), "activation": activation, **changes})
    for name, file in prefix_files(release).items():
        path = prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
        path.chmod(0o755 if file.executable else 0o644)
    (prefix / "release.json").write_text(release.text())
    return release


def write_job(folder: Path, job: Job, name: str = "job.sh") -> Path:
    """Write a job's files; returns the submit file."""
    for file, text in job_files(job, folder / name).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return folder / name


@dataclass
class Desk:
    """A folder on the cluster's disk, a view, and jobs of it."""

    slurm: Slurm
    folder: Path
    release: Release
    submitted: list[str] = field(default_factory=list)

    def job(self, *command: str, **keys: Any) -> Job:
        request = JobRequest(command=command, **{"gpus": 0, "cores": 1, "seconds": 600, **keys})
        return plan_job(request, by_launch(self.release), "slurm", None)

    def submit(self, *command: str, options: tuple[str, ...] = (), arguments: tuple[str, ...] = (), **keys: Any) -> str:
        path = write_job(self.folder, self.job(*command, **keys))
        number = self.slurm.submit(path, *options, arguments=arguments)
        self.submitted.append(number)
        return number

    def train(self, steps: int, seconds: float, *, later: float = 0.005, workers: int = 0, **keys: Any) -> str:
        """Submit a training that resumes; its hash goes into ``result`` in the folder."""
        program = ("python", str(TRAINING), str(self.folder / "result"), *map(str, (steps, seconds, later, workers)))
        return self.submit(*program, resume=True, **keys)

    def checkpoints(self, number: str) -> list[Path]:
        return sorted(self.folder.glob(f"tagging-{number}/checkpoint-*"))

    def history(self) -> list[tuple[str, int, int]]:
        """Return in order what trainings did: a start ``begins`` at a step, ``would-name``, ``names`` a checkpoint."""
        log = self.folder / "result.log"
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [(what, int(start), int(step)) for what, start, step in lines]

    def writers(self) -> list[int]:
        """Return which start named each checkpoint, in that order."""
        return [start for what, start, _ in self.history() if what == "names"]

    def said(self) -> str:
        """Return what all jobs have printed."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.out")))


def members(number: str) -> dict[str, list[int]]:
    """Return the processes of a job by what they are: program, step (srun), stepd, shell."""
    found: dict[str, list[int]] = {"program": [], "step": [], "stepd": [], "shell": []}
    for pid in processes(f"SLURM_JOB_ID={number}\0") + processes(f"slurmstepd: [{number}."):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            kind = (
                "stepd" if command.startswith("slurmstepd") else "shell" if "slurm_script" in command
                else "step" if command.startswith("srun") else "program" if "training.py" in command else ""
            )  # fmt: skip
            if kind:
                found[kind].append(pid)
    return found


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
