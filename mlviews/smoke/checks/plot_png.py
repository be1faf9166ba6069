"""Draw a histogram with matplotlib into a PNG file, read it back, and look for ink.

Runs with a view's own Python; writes to the path named on the command line.
"""

import sys

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np


def main(path: str) -> int:
    figure, axes = plt.subplots(figsize=(4, 3), dpi=100)
    axes.hist(np.random.default_rng(1).normal(size=1000), bins=20, color="black")
    axes.set_xlabel("$m_{bb}$ [GeV]")
    figure.savefig(path)
    pixels = matplotlib.image.imread(path)[..., :3].mean(axis=2)
    dark = float((pixels < 0.2).mean())
    print(f"{pixels.shape[1]}x{pixels.shape[0]} pixels, {dark:.1%} dark")
    # The bars alone cover about a tenth of the picture; a blank or black one is a fault.
    return 0 if pixels.shape == (300, 400) and 0.03 < dark < 0.5 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
