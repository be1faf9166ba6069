"""A sample of signal and background whose best possible separation is known, for shallow models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from _protocol import Check

COUNT, FEATURES, DISTANCE = 8000, 6, 2.0
# Two normal distributions at a distance d: the best area under the ROC curve is Phi(d / sqrt 2).
BEST = 0.5 * (1 + math.erf(DISTANCE / 2))
LOSS = 0.03  # what 40 trees on 4,000 events lose against it: measured 0.01
CHANCE = 0.04  # three standard deviations of the area, with 4,000 events and no information: 3 * 0.0091, and a margin


def sample(numpy: Any) -> tuple[Any, Any]:
    """Return features and labels: signal is shifted along the diagonal."""
    generator = numpy.random.default_rng(4)
    labels = generator.integers(0, 2, COUNT)
    shift = DISTANCE / FEATURES**0.5
    return generator.standard_normal((COUNT, FEATURES)) + shift * labels[:, None], labels


def area(numpy: Any, scores: Any, labels: Any) -> float:
    """Return the area under the ROC curve, by ranks (Mann and Whitney); ties count half."""
    scores = numpy.asarray(scores, dtype=float)
    if not numpy.isfinite(scores).all():
        return math.nan
    _, place, counts = numpy.unique(scores, return_inverse=True, return_counts=True)
    ranks = (numpy.cumsum(counts) - (counts - 1) / 2)[place.ravel()]
    signal = labels == 1
    total = signal.sum()
    return float((ranks[signal].sum() - total * (total + 1) / 2) / (total * (len(labels) - total)))


def judge(
    check: Check,
    numpy: Any,
    train: Callable[[Any, Any], Any],
    score: Callable[[Any, Any], Any],
    *,
    metrics: Any = None,
    label: str = "trees",
) -> str:
    """Train on one half, judge on the other; shuffled labels must teach nothing, and one seed gives one model."""
    x, y = sample(numpy)
    half = COUNT // 2
    model = train(x[:half], y[:half])
    scores = score(model, x[half:])
    found = area(numpy, scores, y[half:])
    check.figures[f"{label}: area"] = round(found, 4)
    check.expect(
        BEST - LOSS < found < BEST + CHANCE, f"{label}: the area is {found:.3f}, and {BEST:.3f} is the best possible"
    )
    if metrics is not None:
        check.within("roc_auc_score", metrics.roc_auc_score(y[half:], scores), found, 1e-9)
    again = score(train(x[:half], y[:half]), x[half:])
    check.within(f"{label} again", again, scores, 1e-6)
    shuffled = numpy.random.default_rng(5).permutation(y[:half])
    chance = area(numpy, score(train(x[:half], shuffled), x[half:]), y[half:])
    check.expect(abs(chance - 0.5) < CHANCE, f"{label}: shuffled labels give an area of {chance:.3f}, not a half")
    return f"{label} reach an area of {found:.3f} of {BEST:.3f} at best, and 0.5 from shuffled labels"
