"""ROOT fits a histogram from Python and finds what the likelihood's own equations give.

A straight-line fit of points with equal errors has its solution in closed form (bound 1e-6, MINUIT's tolerance), and a
histogram filled from numpy holds numpy's counts exactly.
"""

from __future__ import annotations

from _protocol import Check, run


def main(check: Check) -> str:
    root, numpy = check.need("ROOT"), check.need("numpy")
    check.device = "cpu"
    root.gROOT.SetBatch(True)
    generator = numpy.random.default_rng(4)
    data = generator.normal(91.2, 2.5, 5000)
    histogram = root.TH1D("mass", "", 40, 81.2, 101.2)
    for value in data:
        histogram.Fill(float(value))
    counts, _ = numpy.histogram(data, bins=40, range=(81.2, 101.2))
    check.exact("histogram", [histogram.GetBinContent(k) for k in range(1, 41)], counts)
    x = numpy.arange(20.0)
    y = 3 + 0.5 * x + generator.normal(0, 0.1, 20)
    graph = root.TGraphErrors(20, x, y, numpy.zeros(20), numpy.full(20, 0.1))
    result = graph.Fit("pol1", "SQN")
    slope, intercept = numpy.polyfit(x, y, 1)
    check.within("straight line", [result.Parameter(0), result.Parameter(1)], [intercept, slope], 1e-6)
    return f"a histogram of {len(data)} events and a straight line are as expected"


if __name__ == "__main__":
    run(main)
