"""The storm and the crowd, small enough for every day; docs/reliability.md says how to run them large."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture
def run():
    """Return a function that runs one of the programs beside this file, in memory where that can be."""

    def run(program: str, *arguments: str) -> str:
        memory = ["--folder", "/dev/shm"] if os.access("/dev/shm", os.W_OK) else []
        seed = ["--seed", os.environ["MLVIEWS_SEED"]] if "MLVIEWS_SEED" in os.environ else []
        done = subprocess.run(
            [sys.executable, HERE / program, *memory, *seed, *arguments],
            capture_output=True, text=True, check=False, timeout=500,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_builds_that_are_killed_at_any_moment_leave_a_whole_store(run):
    said = run("storm.py", "--kills", "2", "--small")  # and one at the start of each of thirteen stages

    print(said)
    assert "\n2 kills counted" in said
    assert "13 more" in said


def test_a_crowd_makes_what_one_after_another_makes(run):
    said = run("crowd.py", "--rounds", "1", "--small")

    print(said)
    assert "the same as one after another" in said


def test_reads_that_fail_at_any_moment_of_any_verb_lose_nothing_and_are_told(run):
    said = run("reads.py", "--faults", "28")  # each call once

    print(said)
    assert "0 releases lost" in said


def test_trainings_that_are_killed_at_any_moment_end_with_the_bits_of_undisturbed_ones(run):
    said = run("jobs.py", "--kills", "5", "--side-by-side", "4", "--small")

    print(said)
    assert "5 kills of " in said
    assert "every result is right" in said
