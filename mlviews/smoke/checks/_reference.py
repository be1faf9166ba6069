"""What results are compared with: float64 references, and how far rounding may take a result from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from _protocol import WrongError, gpu_memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _protocol import Check

UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "tf32": 2.0**-11}
"""Unit roundoff: the largest relative error of rounding a number to the type (TF32 keeps 10 bits, as float16 does)."""

ROWS, INNER, COLUMNS = 192, 512, 256  # of matrices to multiply
STEPS, RATE = 20, 0.5  # of gradient descent


def stored(name: str) -> str:
    """Return the type that numbers are kept in: TF32 is one of multiplying."""
    return "float32" if name == "tf32" else name


def summing(name: str) -> float:
    """Return the unit roundoff of what sums in a type are gathered in: at least float32."""
    return UNIT["float64" if name == "float64" else "float32"]


def product(numpy: Any, name: str, x: Any, y: Any) -> tuple[Any, Any]:
    """Return the product of two matrices in float64, and how far one computed in another type may be from it.

    Bound, element by element: the rounding of the sum, 8 sqrt(K) u (|A||B|) with the accumulator's unit roundoff u (a
    random walk of K roundings: Higham and Mary, SIAM J. Sci. Comput. 41, 2019), and two roundings of the result to its
    own type. TF32 also rounds both inputs, 2 u of TF32 each.

    Args:
        name: the type, ``tf32`` for float32 whose products may be TF32.
        x: a matrix as float64, already rounded to the type, as ``y`` is.
    """
    want, size = x @ y, numpy.abs(x) @ numpy.abs(y)
    bound = 8 * x.shape[1] ** 0.5 * summing(name) * size + 2 * UNIT[stored(name)] * abs(want)
    if name == "tf32":
        bound += 4 * UNIT["tf32"] * size
    elif name == "float64":
        bound *= 2  # numpy's own rounding
    return want, bound


def softmax(numpy: Any, logits: Any) -> Any:
    """Return it over the last axis."""
    powers = numpy.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def back_propagation(numpy: Any, first: Any, second: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """Return a two-layer network's mean cross entropy of a yes or no, and its gradient by both layers."""
    hidden = numpy.tanh(x @ first)
    logits = hidden @ second
    loss = (numpy.logaddexp(logits, 0) - y * logits).mean()
    by_logits = (1 / (1 + numpy.exp(-logits)) - y) / len(y)
    by_hidden = by_logits[:, None] * second * (1 - hidden**2)
    return loss, x.T @ by_hidden, hidden.T @ by_logits


def descend(numpy: Any, first: Any, second: Any, x: Any, y: Any) -> Any:
    """Return that loss before each of `STEPS` steps of gradient descent."""
    losses = []
    for _ in range(STEPS):
        loss, by_first, by_second = back_propagation(numpy, first, second, x, y)
        first, second = first - RATE * by_first, second - RATE * by_second
        losses.append(float(loss))
    return numpy.array(losses)


class Bench:
    """A device to work on. A framework's own kind of it also puts arrays there, and proves where work was done.

    Attributes:
        check: the run of the check.
        numpy: numpy.
        device: ``cpu``, or what the framework calls a GPU.
    """

    def __init__(self, check: Check, numpy: Any, device: str) -> None:
        self.check = check
        self.numpy = numpy
        self.device = device

    def matrices(self, generator: Any) -> tuple[Any, Any]:
        """Return two matrices to multiply, larger in a full run."""
        scale = 4 if self.check.full else 1
        return generator.standard_normal((ROWS * scale, INNER)), generator.standard_normal((INNER, COLUMNS * scale))

    def types(self) -> list[str]:
        """Return the types of floating-point numbers to multiply; ``tf32`` is float32 whose products may be TF32."""
        return ["float64", "float32", "float16", "bfloat16", *(["tf32"] if self.has_tf32() else [])]

    def has_tf32(self) -> bool:
        """Tell whether the device can multiply float32 as TF32; a GPU is taken for one that does."""
        return self.device != "cpu"

    def host(self, result: Any) -> Any:
        """Return a result as a numpy array."""
        return self.numpy.asarray(result)

    def wide(self, result: Any) -> Any:
        """Return a result as a numpy array of float64."""
        return self.host(result).astype("float64")

    def within(self, what: str, got: Any, want: Any, bound: Any) -> None:
        """Compare a result with a float64 reference; see `Check.within`."""
        self.check.within(f"{self.device} {what}", self.wide(got), want, bound)

    def exact(self, what: str, got: Any, want: Any) -> None:
        """Compare a result with a reference where arithmetic leaves no rounding."""
        self.check.exact(f"{self.device} {what}", self.host(got), want)

    def need_memory(self, what: str, allocated: int) -> None:
        """Have two witnesses of work on the GPU: the framework's allocator, and the driver."""
        if allocated <= 0:
            raise WrongError(f"{what}: the GPU's allocator gave out no memory")
        if not gpu_memory():
            raise WrongError(f"{what}: the driver counts no memory in use on the GPU")


def on_devices(found: Iterable[Bench]) -> str:
    """Return where work was done, for people."""
    return "on " + " and ".join("the CPU" if bench.device == "cpu" else "the GPU" for bench in found)
