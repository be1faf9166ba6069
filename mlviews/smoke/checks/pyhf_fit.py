"""A counting experiment fitted with pyhf gives the strength, and its uncertainty, that arithmetic gives.

One bin, signal s, background b without uncertainty, n observed: the best strength is (n - b) / s, and its uncertainty
from the curvature sqrt(n) / s. The likelihood ratio of two strengths has a closed form, too (bound: 1e-6 of it).
Minimisers stop early: MINUIT at an estimated distance of 2e-4 in the likelihood, 1.4 % of the uncertainty: 2 % allowed.
"""

from __future__ import annotations

from _protocol import Check, run

SIGNAL, BACKGROUND, OBSERVED = 50.0, 400.0, 437.0


def main(check: Check) -> str:
    pyhf, numpy = check.need("pyhf"), check.need("numpy")
    check.device = "cpu"
    strength = {"name": "mu", "type": "normfactor", "data": None}
    signal = {"name": "signal", "data": [SIGNAL], "modifiers": [strength]}
    background = {"name": "background", "data": [BACKGROUND], "modifiers": []}
    model = pyhf.Model({"channels": [{"name": "bin", "samples": [signal, background]}]}, poi_name="mu")
    want, error = (OBSERVED - BACKGROUND) / SIGNAL, OBSERVED**0.5 / SIGNAL
    optimisers = ["scipy", *(["minuit"] if check.has("iminuit") else [])]
    for name in optimisers:
        pyhf.set_backend("numpy", name)
        fitted = pyhf.infer.mle.fit([OBSERVED], model)
        check.within(f"{name} strength", numpy.asarray(fitted)[0], want, 2e-2 * error)
        twice, expected = (float(numpy.squeeze(pyhf.infer.mle.twice_nll([m], [OBSERVED], model))) for m in (2.0, want))
        lam = SIGNAL * 2 + BACKGROUND
        exact = 2 * (lam - OBSERVED - OBSERVED * numpy.log(lam / OBSERVED))
        check.within(f"{name} likelihood ratio", twice - expected, exact, 1e-6 * exact)
    return f"the fitted strength is {want:.3f} with {' and '.join(optimisers)}, as arithmetic gives"


if __name__ == "__main__":
    run(main)
