"""What the tests of jobs share: a release that jobs enter, what they run in it, and where that lies."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.jobs.job import JobRequest, by_launch, plan_job
from mlviews.jobs.render import job_files
from mlviews.release import Activation, Release, ReleasePackage
from mlviews.render.setup_script import prefix_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurm import Slurm

    from mlviews.jobs.job import Job

TRAINING = Path(__file__).resolve().parent / "training.py"


def make_view(root: Path, **changes: Any) -> Release:
    """Write a release whose Python is the tests' own, with its launch; nothing else is in it."""
    values: dict[str, Any] = {
        "mlviews": "0.1.0", "view": "tagging", "release": "2026.11.26", "platform": "linux-64", "summary": "Taggers",
        "module": "atlasml/tagging", "site": "local", "lock_digest": "sha256:0123456789abcdef", "glibc": "2.34",
        "created": datetime(2026, 11, 26, 12, tzinfo=timezone.utc),
        "packages": (ReleasePackage(name="python", version="3.12.9", build="0_cpython"),),
    }  # fmt: skip
    prefix = root / "envs/tagging/2026.11.26/linux-64"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/python").symlink_to(sys.executable)
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

    def writers(self) -> list[tuple[int, int]]:
        """Return which start named a checkpoint after which step, in that order."""
        log = self.folder / "result.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [tuple(map(int, line.split())) for line in lines]


@pytest.fixture(name="make_view")
def _make_view() -> Callable[..., Release]:
    """Return the function that writes a release."""
    return make_view


@pytest.fixture
def desks(slurm: Slurm, tmp_path: Path) -> Iterator[Callable[[str], Desk]]:
    """Return a function that makes a folder for a test's jobs; all jobs are cancelled after it."""
    tmp_path.chmod(0o755)

    def make(name: str) -> Desk:
        (tmp_path / name).mkdir()
        return Desk(slurm, tmp_path / name, make_view(tmp_path / name))

    yield make
    slurm.cancel_all()


@pytest.fixture
def desk(desks: Callable[[str], Desk]) -> Desk:
    """A folder for one test's jobs."""
    return desks("desk")
