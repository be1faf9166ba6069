"""How fast work is: the median of repeats, as a rate and as a share of the GPU's published peak."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from _peaks import peak_of
from _protocol import WrongError, gpu_multiprocessors, gpu_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from _protocol import Check

WARM_UP, SAMPLES, FEWEST = 2, 7, 3
LEAST = 0.01  # seconds of work in one sample: some thousand times what a clock or an event cannot tell apart
MOST = 3.0  # seconds for all samples, beyond the fewest
SCALES = {"TFLOP/s": 1e12, "TOP/s": 1e12, "GB/s": 1e9}
# Some cards go beyond the published clock, by a fifth. What is further beyond has left work out.
CEILING = 1.5


def by_clock(work: Callable[[], Any], runs: int) -> float:
    """Return the seconds of runs that are over when they return."""
    start = time.perf_counter()
    for _ in range(runs):
        work()
    return time.perf_counter() - start


def by_events(torch: Any) -> Callable[[Callable[[], Any], int], float]:
    """Return what times runs on PyTorch's GPU by the GPU's own clock: calls return long before their work is over."""

    def timed(work: Callable[[], Any], runs: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(runs):
            work()
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) / 1000

    return timed


def seconds(timed: Callable[[Callable[[], Any], int], float], work: Callable[[], Any], what: str) -> float:
    """Return how long one run takes: the median of samples, each of as many runs as make its time certain.

    Args:
        timed: gives the seconds of so many runs.

    Raises:
        WrongError: a clock stood still or went back.
    """

    def sample(runs: int) -> float:
        took = timed(work, runs)
        if not 0 < took < float("inf"):
            raise WrongError(f"{what}: the clock says that {runs} run(s) took {took:g} s")
        return took

    timed(work, WARM_UP)
    runs = 1
    while sample(runs) < LEAST:
        runs *= 2
    samples: list[float] = []
    while len(samples) < SAMPLES and (len(samples) < FEWEST or sum(samples) < MOST):
        samples.append(sample(runs))
    return sorted(samples)[len(samples) // 2] / runs


def tell(check: Check, what: str, amount: float, unit: str, took: float, *, kind: str = "") -> None:
    """Note a rate, and its share of what NVIDIA publishes for this GPU where that is known.

    Args:
        amount: operations, or bytes read and written.
        unit: of the rate, one of `SCALES`.
        took: seconds.
        kind: what the peak is of: a type of numbers, or ``bandwidth``; empty for work that no GPU did.

    Raises:
        WrongError: it is faster than the GPU can be: what was timed is not the work.
    """
    rate = amount / took / SCALES[unit]
    check.figures[f"{what}: {unit}"] = float(f"{rate:.3g}")
    peak = peak_of(gpu_name(), gpu_multiprocessors()) if kind else None
    best = (peak.bandwidth if kind == "bandwidth" else peak.products.get(kind)) if peak else None
    if best:
        share = rate / best
        check.figures[f"{what}: share of the peak"] = float(f"{share:.3g}")
        if share > CEILING:
            raise WrongError(f"{what}: {rate:.3g} {unit}, and the GPU's best is {best:.3g}: work was left out")
