"""A two-layer network and its gradient, written out for numpy: what automatic differentiation is compared with."""

from __future__ import annotations

from typing import Any

STEPS, RATE = 20, 0.5


def back_propagation(numpy: Any, first: Any, second: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Return the mean cross entropy of a yes or no, and its gradient by both layers."""
    hidden = numpy.tanh(x @ first)
    logits = hidden @ second
    loss = (numpy.logaddexp(logits, 0) - y * logits).mean()
    by_logits = (1 / (1 + numpy.exp(-logits)) - y) / len(y)
    by_hidden = by_logits[:, None] * second * (1 - hidden**2)
    return loss, x.T @ by_hidden, hidden.T @ by_logits


def descend(numpy: Any, first: Any, second: Any, x: Any, y: Any) -> Any:
    """Return the loss before each of some steps of gradient descent."""
    losses = []
    for _ in range(STEPS):
        loss, by_first, by_second = back_propagation(numpy, first, second, x, y)
        first, second = first - RATE * by_first, second - RATE * by_second
        losses.append(float(loss))
    return numpy.array(losses)
