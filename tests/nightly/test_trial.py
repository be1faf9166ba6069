"""A trial: one lock installed, checked with its own Python, and gone again."""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlviews.errors import FailedError
from mlviews.files.filelock import held_by
from mlviews.lock.parse import read_lock
from mlviews.site.profile import open_site
from mlviews.site.spec import for_site
from mlviews.smoke.process import Limits
from mlviews.trial import TrialJob, scratch, try_lock


@pytest.fixture
def job_of(builder: Any, tmp_path: Path) -> Callable[..., TrialJob]:
    """Return a function that locks a recipe and makes the job that tries it."""

    def make(*dependencies: str, checks: tuple[str, ...] = ("imports", "pip-check")) -> TrialJob:
        from mlviews.recipe.catalogue import open_catalogue

        builder.recipes.recipe("demo", *dependencies)
        locked = builder("lock", "demo")
        assert locked.code == 0, locked.err
        site = open_site(
            "local",
            root=builder.root,
            lockfiles=builder.lockfiles,
            mirrors=dict([os.environ["MLVIEWS_MIRROR"].split("=")]),
        )
        site_spec = for_site(open_catalogue(builder.recipes.folder).view("demo"), site)
        folder = builder.root / "scratch"
        folder.mkdir(parents=True)
        return TrialJob(
            site_spec=site_spec, lock=read_lock(builder.lock("demo")), site=site, scratch=folder, checks=checks,
            limits=Limits(seconds=60),
        )  # fmt: skip

    return make


def test_a_trial_runs_the_checks_with_the_locks_own_python_and_leaves_nothing(job_of):
    job = job_of("python", "greet", "plain")

    found = try_lock(job)

    assert found.problem is None
    assert [(check.name, check.status) for check in found.checks] == [("imports", "pass"), ("pip-check", "pass")]
    assert found.checks[0].reason == "1 module: greet"
    assert found.digest == job.lock.digest
    assert found.bytes > 0
    assert found.install_seconds > 0 < found.check_seconds
    assert list(job.scratch.iterdir()) == []
    assert (job.site.cache / "pkgs").is_dir()
    assert not (job.site.root / "envs").exists()


def test_a_failing_check_is_the_trials_result(job_of, shelf):
    shelf.add("broken", modules={"broken": "raise OSError('no such driver')\n"})

    found = try_lock(job_of("python", "broken"))

    assert found.problem is None
    assert [check.status for check in found.checks] == ["fail", "pass"]
    assert "no such driver" in found.checks[0].reason


def test_what_cannot_be_installed_is_the_trials_result_too(job_of, shelf):
    job = job_of("python", "greet")
    shelf.archive("greet").unlink()

    found = try_lock(job)

    assert found.problem
    assert found.problem.code == "archive-missing"
    assert (found.checks, found.bytes) == ((), 0)
    assert list(job.scratch.iterdir()) == []


def test_a_fault_of_our_own_is_the_trials_result_too(job_of):
    job = job_of("python", "greet")
    job.scratch.rmdir()

    found = try_lock(job)

    assert found.problem
    assert found.problem.code == "internal-error"
    assert "FileNotFoundError" in found.problem.message


def test_a_lock_for_other_platforms_is_not_tried(job_of, monkeypatch):
    job = job_of("python", "greet")
    monkeypatch.setattr("mlviews.trial.host_platform", lambda: "linux-riscv64")

    found = try_lock(job)

    assert found.problem
    assert found.problem.code == "platform-missing"


def test_a_job_and_its_result_travel_to_other_processes(job_of):
    job = job_of("python", "greet", checks=("imports",))

    again = pickle.loads(pickle.dumps(job))
    found = try_lock(again)

    assert again == job
    assert pickle.loads(pickle.dumps(found)) == found
    assert found.checks[0].status == "pass"


def test_a_killed_process_leaves_scratch_that_the_next_one_removes(tmp_path):
    program = (
        "import os, pathlib, sys\nfrom mlviews.trial import scratch\n"
        "with scratch(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'prefix').mkdir()\n    print(folder, flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    left = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    folder = tmp_path / "nightly/.scratch" / left.stdout.strip().rpartition("/")[2]
    assert (folder / "prefix").is_dir()

    with scratch(tmp_path) as mine, scratch(tmp_path) as other:
        assert not folder.exists()
        assert mine.is_dir()
        assert other.is_dir()
    assert list((tmp_path / "nightly/.scratch").iterdir()) == []


def test_scratch_that_another_process_takes_for_a_dead_ones_is_made_again(tmp_path, monkeypatch):
    """It lies there without a lock for a moment; that moment is hit here each time."""
    taken: list[Path] = []
    lock = fcntl.flock

    def late(file, kind):
        if not taken:
            taken.extend((tmp_path / "nightly/.scratch").iterdir())
            shutil.rmtree(taken[0])
        lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch(tmp_path) as folder:
        assert [folder] == taken
        assert folder.is_dir()
        assert held_by(folder / ".lock")


def test_scratch_needs_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda file, kind: None)

    with pytest.raises(FailedError) as caught, scratch(tmp_path):
        pass

    assert caught.value.code == "locks-missing"
    assert list((tmp_path / "nightly/.scratch").iterdir()) == []
