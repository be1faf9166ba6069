"""Plot what the tagger could learn, and what it has learned.

python plot.py jets.npz scores.npz -o tagger.png
"""

from __future__ import annotations

import argparse

import matplotlib.pyplot as plt
import numpy as np
from jets import COLUMNS, FLAVOURS

COLOURS = ("#0072b2", "#e69f00", "#d55e00")  # told apart by colour-blind eyes, too


def draw_impact_parameters(axes: plt.Axes, tracks: np.ndarray, flavour: np.ndarray) -> None:
    """Draw the significance of the signed impact parameter of each flavour's tracks."""
    column = dict(zip(COLUMNS, np.moveaxis(tracks, 2, 0), strict=True))
    # Pile-up is cut away by eye here; the tagger has to find out itself.
    chosen = (column["pt"] > 1) & (np.abs(column["z0"]) < 3 * column["z0_error"])
    bins = np.linspace(-15, 40, 56)
    for number, name in enumerate(FLAVOURS):
        of_flavour = chosen & (flavour == number)[:, None]
        significance = column["d0"][of_flavour] / column["d0_error"][of_flavour]
        axes.hist(significance, bins, density=True, histtype="step", label=name, color=COLOURS[number])
    axes.set(xlabel="signed impact parameter / its error", ylabel="tracks, normalised", yscale="log")
    axes.legend(frameon=False)


def draw_rejection(axes: plt.Axes, scores: np.ndarray, flavour: np.ndarray) -> None:
    """Draw how many jets of another flavour the tagger rejects, for each one that it takes, against efficiency."""
    signal = FLAVOURS.index("bottom")
    efficiency = np.linspace(0.3, 1, 141)
    cuts = np.quantile(scores[flavour == signal, signal], 1 - efficiency)
    for number, name in enumerate(FLAVOURS):
        if number != signal:
            taken = (scores[flavour == number, signal][:, None] >= cuts).mean(axis=0)
            axes.plot(efficiency[taken > 0], 1 / taken[taken > 0], label=f"{name} jets", color=COLOURS[number])
    axes.set(xlabel="efficiency for bottom jets", ylabel="rejection, 1 / efficiency", yscale="log")
    axes.legend(frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jets")
    parser.add_argument("scores")
    parser.add_argument("-o", "--output", default="tagger.png")
    options = parser.parse_args()
    jets, scores = np.load(options.jets), np.load(options.scores)
    plt.switch_backend("Agg")  # a batch node has no screen
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    draw_impact_parameters(left, jets["tracks"], jets["flavour"])
    draw_rejection(right, scores["scores"], scores["flavour"])
    figure.savefig(options.output, dpi=150)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
