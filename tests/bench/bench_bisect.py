"""Print how many builds a bisection takes: ``python tests/bench/bench_bisect.py``.

The search alone, with mixtures that answer at once; each culprit, or pair of culprits, is drawn so many times. What is
counted is what `mlviews bisect` would build beside the trials of both locks and of the answer, which are repeated.
"""

from __future__ import annotations

import argparse
import random
from math import ceil, log2
from statistics import mean

from mlviews.bisect.search import Verdict, smallest_change

COUNTS = (8, 64, 512, 4096)


def trials(needs: list[frozenset[int]], culprits: frozenset[int]) -> int:
    """Return how many mixtures are tried until the culprits are found."""
    tried = 0

    def outcome(applied: frozenset[int], /, *, left: int) -> Verdict:
        nonlocal tried
        del left
        tried += 1
        return "bad" if culprits <= applied else "good"

    assert culprits <= smallest_change(needs, outcome).bad
    return tried


def needs_of(count: int, *, asking: float, draw: random.Random) -> list[frozenset[int]]:
    """Return changes of which a part cannot be had without another one, as packages of one stack cannot."""
    needs = [frozenset({0})]
    for unit in range(1, count):
        other = needs[draw.randrange(unit)] if draw.random() < asking else frozenset()
        needs.append(other | {unit})
    return needs


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=8)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    print(f"{'changes':>8} {'culprits':>8} {'ask for others':>15} {'mean':>6} {'most':>5} {'log2':>5}")
    for count in COUNTS:
        for culprits in (1, 2, 3):
            for asking in (0.0, 0.5):
                needs = needs_of(count, asking=asking, draw=draw)
                found = [trials(needs, frozenset(draw.sample(range(count), culprits))) for _ in range(options.draws)]
                counted = f"{mean(found):>6.1f} {max(found):>5} {ceil(log2(count)):>5}"
                print(f"{count:>8} {culprits:>8} {asking:>15.0%} {counted}")


if __name__ == "__main__":
    main()
