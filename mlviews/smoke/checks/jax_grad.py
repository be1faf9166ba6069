"""Gradients that JAX derives agree with those derived by hand, and training with them follows float64 step by step.

Reference: back-propagation through a two-layer network, written out in numpy's float64; log-sum-exp, whose Hessian is
diag(p) - p p'; an iterated sine, whose derivative is a product of cosines; log det, whose gradient is the inverse.
Bound, relative to the largest element: 32 u sqrt(K), K = 256 events in a sum, for some ten roundings an operation; 20
steps of descent may part by as much each. bfloat16 rounds weights and activations, some ten times in sequence: 16 u.
"""

from __future__ import annotations

from typing import Any

import _jax_work as work
from _protocol import Check, run
from _reference import RATE, STEPS, UNIT, back_propagation, descend, on_devices, softmax

EVENTS, FEATURES, WIDTH = 256, 6, 16
TURNS = 30


def main(check: Check) -> str:
    found = work.benches(check)
    for bench in found:
        generator = bench.numpy.random.default_rng(4)
        for name in ("float64", "float32", "bfloat16"):
            _network(bench, name, generator)
        _by_hand(bench, generator)
    return f"gradients, Hessians and {STEPS} steps of descent agree with float64 {on_devices(found)}"


def _bound(name: str) -> float:
    return 16 * UNIT[name] if name == "bfloat16" else 32 * EVENTS**0.5 * UNIT[name]


def _network(bench: work.Bench, name: str, generator: Any) -> None:
    jax, numpy = bench.jax, bench.numpy
    shapes = ((EVENTS, FEATURES), (FEATURES, WIDTH), WIDTH)
    x, first, second = (bench.put(generator.standard_normal(shape), name) for shape in shapes)
    y = bench.put(bench.wide(x)[:, 0] > 0, name)

    def loss(weights: Any, x: Any, y: Any) -> Any:
        hidden = jax.numpy.tanh(jax.numpy.matmul(x, weights[0], precision="highest"))
        logits = jax.numpy.matmul(hidden, weights[1], precision="highest")
        # log(1 + exp(z)) - y z, the cross entropy of a yes or no
        return (jax.numpy.logaddexp(logits, 0) - y * logits).mean()

    wide = [bench.wide(part) for part in (first, second, x, y)]
    want_loss, *want = back_propagation(numpy, *wide)
    gradient = jax.jit(jax.value_and_grad(loss))
    got_loss, got = bench.do(f"{name} gradient", lambda: gradient((first, second), x, y))
    bench.within(f"{name} loss", got_loss, want_loss, _bound(name) * want_loss)
    for what, left, right in zip(("first", "second"), got, want):  # noqa: B905  (Python 3.9 has no strict)
        bench.within(f"{name} gradient, {what} layer", left, right, _bound(name) * abs(right).max())
    if name == "bfloat16":
        return
    each = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0, 0)))
    single = bench.do(f"{name} gradients by event", lambda: each((first, second), x[:, None], y[:, None]))
    bench.within(
        f"{name} mean of gradients by event", single[0].mean(axis=0), want[0], _bound(name) * abs(want[0]).max()
    )
    losses = bench.do(f"{name} descent", lambda: _descend(jax, gradient, (first, second), x, y))
    want_losses = descend(numpy, *wide)
    bench.within(f"{name} descent", losses, want_losses, STEPS * _bound(name) * want_losses[0])
    bench.check.expect(float(losses[-1]) < 0.8 * float(losses[0]), f"{bench.device} {name}: the loss does not fall")


def _descend(jax: Any, gradient: Any, weights: Any, x: Any, y: Any) -> Any:
    losses = []
    for _ in range(STEPS):
        loss, slopes = gradient(weights, x, y)
        weights = jax.tree_util.tree_map(lambda weight, slope: weight - RATE * slope, weights, slopes)
        losses.append(loss)
    return jax.numpy.stack(losses)


def _by_hand(bench: work.Bench, generator: Any) -> None:
    """Derivatives of second order, forward and backward, through a loop and through linear algebra."""
    jax, numpy = bench.jax, bench.numpy
    logits = generator.standard_normal(12)
    matrix = numpy.eye(8) * 4 + generator.standard_normal((8, 8))

    def iterate(x: Any) -> Any:
        return jax.lax.scan(lambda value, _: (jax.numpy.sin(value), None), x, None, length=TURNS)[0].sum()

    p = softmax(numpy, logits)
    value, slope = logits, numpy.ones_like(logits)
    for _ in range(TURNS):
        value, slope = numpy.sin(value), slope * numpy.cos(value)
    cases = (
        ("log-sum-exp Hessian", jax.hessian(jax.scipy.special.logsumexp), logits, numpy.diag(p) - numpy.outer(p, p)),
        ("log-sum-exp backward", jax.grad(jax.scipy.special.logsumexp), logits, p),
        ("log-sum-exp forward", jax.jacfwd(jax.scipy.special.logsumexp), logits, p),
        ("iterated sine", jax.grad(iterate), logits, slope),
        ("log det", jax.grad(lambda a: jax.numpy.linalg.slogdet(a)[1]), matrix, numpy.linalg.inv(matrix).T),
    )
    for what, derive, at, want in cases:
        x = bench.put(at, "float64")
        got = bench.do(what, lambda: jax.jit(derive)(x))  # noqa: B023
        bench.within(what, got, want, _bound("float64") * abs(want).max())


if __name__ == "__main__":
    run(main)
