"""A training that goes on where it was stopped. In a job, mlviews_resume.py lies beside it; alone, it just runs.

    python train.py --steps 20000

It fits the lifetime of 2,000 decays by stochastic gradient descent: one decay a step, no package needed. What a
training needs to go on is in `state`: parameters, the step, and the state of each random generator. So the result is
the same, however often it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import random

try:
    from mlviews_resume import Checkpoints  # the job puts it here
except ModuleNotFoundError:
    Checkpoints = None

LIFETIME = 1.517  # ps, of the B0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=float, default=600, help="seconds from one checkpoint to the next")
    options = parser.parse_args()

    decays = [random.Random(number).expovariate(1 / LIFETIME) for number in range(2000)]
    checkpoints = Checkpoints(every=options.every) if Checkpoints else None
    newest = checkpoints.newest() if checkpoints else None
    state = json.loads(newest.read_text()) if newest else {"step": 0, "log_tau": 0.0, "random": _seed()}
    print(f"begins at step {state['step']}", flush=True)

    drawn = random.Random()
    drawn.setstate(_as_state(state["random"]))
    while state["step"] < options.steps:
        state["step"] += 1
        decay = drawn.choice(decays)
        # -log likelihood of a decay is log tau + t / tau; by log tau its slope is 1 - t / tau.
        state["log_tau"] -= (1 - decay / math.exp(state["log_tau"])) / (10 + state["step"])
        if checkpoints and checkpoints.due():
            state["random"] = drawn.getstate()
            checkpoints.save(lambda file: file.write(json.dumps(state).encode()))
    print(f"lifetime {math.exp(state['log_tau']):.4f} ps after {state['step']} steps; {LIFETIME} went in")


def _seed() -> object:
    return random.Random(1).getstate()


def _as_state(saved: list) -> tuple:
    """Return a generator's state as it was before JSON made lists of it."""
    version, numbers, gauss = saved
    return version, tuple(numbers), gauss


if __name__ == "__main__":
    main()
