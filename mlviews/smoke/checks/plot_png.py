"""A histogram drawn with matplotlib, in mplhep's ATLAS style where it is installed, matches a reference picture.

The reference is arithmetic, not a stored file: where each bar must be dark follows from the axes' position and the bin
contents, for any version of the fonts. A pixel that a bar's edge crosses is not compared; all others are, exactly on
their side of grey. Labels are only looked for: their pixels depend on the version of FreeType.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from _protocol import Check, run

WIDTH, HEIGHT, DPI = 640, 480, 100
LEFT, BOTTOM, SPAN, RISE = 0.2, 0.2, 0.7, 0.6  # the axes, in parts of the figure
TOP = 40  # the y axis ends here
CONTENTS = (3, 10, 24, 36, 31, 18, 9, 4, 0, 1)


def main(check: Check) -> str:
    matplotlib, numpy = check.need("matplotlib"), check.need("numpy")
    matplotlib.use("Agg")
    pyplot, image = check.need("matplotlib.pyplot"), check.need("matplotlib.image")
    mplhep = check.has("mplhep")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plot.png"
        _draw(pyplot, mplhep, numpy, path)
        pixels = image.imread(path)[..., :3].mean(axis=2)
    check.expect(pixels.shape == (HEIGHT, WIDTH), f"the picture has the shape {pixels.shape}")
    reference, certain = _reference(numpy)
    wrong = certain & ((pixels < 0.5) != reference)
    check.figures.update(pixels=int(certain.sum()), wrong=int(wrong.sum()))
    check.expect(not wrong.any(), f"{int(wrong.sum())} of {int(certain.sum())} pixels differ from the reference")
    below = pixels[int(HEIGHT * (1 - BOTTOM)) + 8 :]
    ink = float((below < 0.5).mean())
    check.expect(0.002 < ink < 0.2, f"the axis' label covers {ink:.1%} of its place")
    return f"{WIDTH}x{HEIGHT} pixels as expected, drawn with {'mplhep' if mplhep else 'matplotlib alone'}"


def _draw(pyplot: Any, mplhep: Any, numpy: Any, path: Path) -> None:
    edges = numpy.arange(len(CONTENTS) + 1)
    if mplhep:
        pyplot.style.use(mplhep.style.ATLAS)
    figure = pyplot.figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
    axes = figure.add_axes((LEFT, BOTTOM, SPAN, RISE))
    if mplhep:
        mplhep.histplot(numpy.array(CONTENTS), edges, ax=axes, histtype="fill", color="black", linewidth=0)
    else:
        axes.stairs(CONTENTS, edges, fill=True, color="black", linewidth=0)
    axes.set(xlim=(0, len(CONTENTS)), ylim=(0, TOP))
    axes.set_xlabel("$m_{bb}$ [GeV]", fontsize=16)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
    figure.savefig(path, dpi=DPI, bbox_inches=None)
    pyplot.close(figure)


def _reference(numpy: Any) -> tuple[Any, Any]:
    """Return where the picture must be dark, and where that is certain: inside the axes and off every edge."""
    x = ((numpy.arange(WIDTH) + 0.5) / WIDTH - LEFT) / SPAN * len(CONTENTS)
    y = ((HEIGHT - numpy.arange(HEIGHT) - 0.5) / HEIGHT - BOTTOM) / RISE * TOP
    half_x, half_y = 1.5 * len(CONTENTS) / (SPAN * WIDTH), 1.5 * TOP / (RISE * HEIGHT)
    inside_x = (x > half_x) & (x < len(CONTENTS) - half_x)
    inside_y = (y > half_y) & (y < TOP - half_y)
    height = numpy.where(inside_x, numpy.array(CONTENTS)[numpy.clip(x.astype(int), 0, len(CONTENTS) - 1)], 0)
    off_edge = inside_x & (numpy.abs(x - numpy.round(x)) > half_x)
    certain = inside_y[:, None] & off_edge & (numpy.abs(y[:, None] - height) > half_y)
    return y[:, None] < height, certain


if __name__ == "__main__":
    run(main)
