"""The training that resumes: its result is the same, however often it was stopped."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PROGRAM = REPOSITORY / "examples/resuming/train.py"


def train(folder: Path, *, start: int = 0, steps: int = 3000, every: float = 600) -> Any:
    """Run the training as a job does, at its n-th start; 0: without a job."""
    job = {"PYTHONPATH": str(REPOSITORY / "mlviews/jobs/beside"), "MLVIEWS_CHECKPOINTS": str(folder)}
    job["MLVIEWS_START"] = str(start)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | (job if start else {})
    call = [sys.executable, PROGRAM, "--steps", str(steps), "--every", str(every)]
    return subprocess.run(call, env=environment, capture_output=True, text=True, check=False, cwd=folder)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = train(tmp_path)
    for start in (1, 2):
        (tmp_path / f"start-{start}").mkdir()
        (tmp_path / f"start-{start}/told").touch()  # the job tells it to end, here at its next step
        assert train(tmp_path, start=start).returncode == 85
    (tmp_path / "start-3").mkdir()
    done = train(tmp_path, start=3)

    assert whole.stdout.startswith("begins at step 0\n")
    assert done.stdout.startswith("begins at step 2\n")
    assert done.stdout.splitlines()[1] == whole.stdout.splitlines()[1]
    (lifetime,) = re.findall(r"lifetime ([.\d]+) ps", whole.stdout)
    assert 1.4 < float(lifetime) < 1.65
