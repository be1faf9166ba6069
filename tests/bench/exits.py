#!/usr/bin/env python3
"""Run each command many times in a row and compare every exit code with the right one.

    python tests/bench/exits.py --slice FOLDER [--times 20] [--lock-times 100]

py-rattler's Rust side can crash a process as it exits; only many whole processes show that mlviews does not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

BAD = """\
schema: 1
name: bad
summary: A view that cannot be solved
module: bench/bad
platforms: [linux-64]
hardware: {glibc: "2.34"}
dependencies: [python 3.13.*, numpy <2]
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", type=Path, default=os.environ.get("MLVIEWS_SLICE"), help="folder of repodata")
    parser.add_argument("--times", type=int, default=20, help="runs of each command (default: 20)")
    parser.add_argument("--lock-times", type=int, default=100, help="runs of `lock` from nothing (default: 100)")
    given = parser.parse_args()
    if given.slice is None:
        parser.error("name the folder of repodata with --slice or in MLVIEWS_SLICE")
    with tempfile.TemporaryDirectory() as work:
        return run(Path(given.slice).resolve(), Path(work), given.times, given.lock_times)


def run(channel: Path, work: Path, times: int, lock_times: int) -> int:
    (work / "recipes").mkdir()
    (work / "recipes/bad.yaml").write_text(BAD)
    mirror = f"--mirror=conda-forge={channel}"
    lock, again = work / "x/plotting.conda-lock.yml", work / "y"
    cases: list[tuple[str, int, int, list[str]]] = [
        ("lock, from nothing", 0, lock_times, ["lock", "plotting", mirror, f"--lockfiles={lock.parent}"]),
        ("lock, nothing changed", 0, times, ["lock", "plotting", mirror, f"--lockfiles={again}"]),
        ("lock --all --check", 0, times, ["lock", "--all", "--check"]),
        ("lock, cannot be solved", 1, times, ["lock", "bad", f"--recipes={work}/recipes", mirror]),
        ("lock, missing", 1, times, ["lock", "plotting", "--check", f"--lockfiles={work}/none"]),
        ("lock, no such view", 2, times, ["lock", "ploting"]),
        ("lock, no such mirror", 3, times, ["lock", "plotting", "--upgrade", f"--mirror=conda-forge={work}/none"]),
        ("list", 0, times, ["list"]),
        ("show", 0, times, ["show", "plotting", "--json"]),
        ("diff", 0, times, ["diff", "plotting", f"--from={again}/plotting.conda-lock.yml"]),
        ("new, there already", 2, times, ["new", "bad", f"--recipes={work}/recipes"]),
        ("--help", 0, times, ["--help"]),
        ("usage", 2, times, ["--bogus"]),
    ]
    wrong = 0
    call(["lock", "plotting", mirror, f"--lockfiles={again}"])
    for label, right, count, arguments in cases:
        codes: Counter[int] = Counter()
        for _ in range(count):
            lock.unlink(missing_ok=True)
            codes[call(arguments)] += 1
        wrong += count - codes[right]
        print(f"  {label:<26} {count:4} runs, exit codes {dict(codes)}, right is {right}", flush=True)
    print("every exit code was right" if not wrong else f"{wrong} exit codes were wrong")
    return 1 if wrong else 0


def call(arguments: list[str]) -> int:
    """Run one command and return its exit code; a signal's is negative."""
    command = [sys.executable, "-m", "mlviews", *arguments]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    sys.exit(main())
