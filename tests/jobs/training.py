"""A training without any framework: its state is a hash that each step changes, so that a lost or repeated step shows.

training.py OUTPUT STEPS SECONDS LATER WORKERS: SECONDS pass in each step of the first start, LATER in those of others;
the last hash goes into OUTPUT. OUTPUT.log tells at which step each start begins, and after which it would name, and
then names, a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import IO, Any

from mlviews_resume import Checkpoints


def put(state: dict[str, Any], file: IO[bytes]) -> None:
    file.write(json.dumps(state).encode())


def main(output: Path, steps: int, seconds: float, later: float, workers: int) -> None:
    checkpoints = Checkpoints(every=0.2)
    seconds = seconds if checkpoints.start == 1 else later
    newest = checkpoints.newest()
    state = json.loads(newest.read_text()) if newest else {"step": 0, "hash": ""}
    print(f"starts at step {state['step']} as process {os.getpid()}", flush=True)

    def note(what: str) -> None:
        with Path(f"{output}.log").open("a") as log:
            log.write(f"{what} {checkpoints.start} {state['step']}\n")

    note("begins")
    replace = Path.replace

    def logged(self: Path, target: Path) -> Path:
        """Write down who writes, while nobody else can: before as well, since a kill may fall in between."""
        note("would-name")
        done = replace(self, target)
        note("names")
        return done

    Path.replace = logged
    with multiprocessing.get_context("fork").Pool(workers) if workers else Path(os.devnull).open() as pool:
        while state["step"] < steps:
            step = str(state["step"])
            fed = pool.apply(str, (step,)) if workers else step
            state = {"step": state["step"] + 1, "hash": hashlib.sha256((state["hash"] + fed).encode()).hexdigest()}
            time.sleep(seconds)
            if checkpoints.due():
                checkpoints.save(partial(put, state))
    part = Path(f"{output}.{os.getpid()}")
    part.write_text(state["hash"])
    replace(part, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
