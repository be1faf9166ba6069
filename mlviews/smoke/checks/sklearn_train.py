"""scikit-learn finds what is known: the least-squares solution, principal axes, and two flavours told apart.

Least squares and principal components are compared with numpy's own decompositions in float64 (bound 1e-9: conditions
below 100 times 2^-53, with a margin); boosted trees must separate a sample, and not one whose labels were shuffled.
"""

from __future__ import annotations

import _sample
from _protocol import Check, run


def main(check: Check) -> str:
    numpy = check.need("numpy")
    check.need("sklearn")
    linear, decomposition = check.need("sklearn.linear_model"), check.need("sklearn.decomposition")
    ensemble, metrics = check.need("sklearn.ensemble"), check.need("sklearn.metrics")
    check.device = "cpu"
    features, _ = _sample.sample(numpy)
    target = features @ numpy.arange(1.0, features.shape[1] + 1) + 0.5
    fit = linear.LinearRegression().fit(features, target)
    check.within("least squares", [*fit.coef_, fit.intercept_], [*range(1, features.shape[1] + 1), 0.5], 1e-9)
    found = decomposition.PCA(svd_solver="full").fit(features)
    wanted = numpy.linalg.eigvalsh(numpy.cov(features.T))[::-1]
    check.within("principal components", found.explained_variance_, wanted, 1e-9)

    def train(x: object, y: object) -> object:
        return ensemble.HistGradientBoostingClassifier(max_iter=40, random_state=4).fit(x, y)

    return _sample.judge(check, numpy, train, lambda model, x: model.predict_proba(x)[:, 1], metrics=metrics)


if __name__ == "__main__":
    run(main)
