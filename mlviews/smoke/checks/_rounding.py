"""How far rounding may take a result from its float64 reference."""

from __future__ import annotations

from typing import Any

UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8, "tf32": 2.0**-11}
"""Unit roundoff: the largest relative error of rounding a number to the type (TF32 keeps 10 bits, as float16 does)."""


def product(numpy: Any, name: str, x: Any, y: Any) -> tuple[Any, Any]:
    """Return the product of two matrices in float64, and how far one computed in another type may be from it.

    Bound, element by element: the rounding of the sum, 8 sqrt(K) u (|A||B|) with the accumulator's unit roundoff u (a
    random walk of K roundings: Higham and Mary, SIAM J. Sci. Comput. 41, 2019), and two roundings of the result to its
    own type. TF32 also rounds both inputs, 2 u of TF32 each.

    Args:
        numpy: numpy.
        name: the type, ``tf32`` for float32 whose products may be TF32.
        x: a matrix as float64, already rounded to the type.
        y: another.
    """
    want, size = x @ y, numpy.abs(x) @ numpy.abs(y)
    accumulator = UNIT["float64" if name == "float64" else "float32"]
    bound = 8 * x.shape[1] ** 0.5 * accumulator * size + 2 * UNIT["float32" if name == "tf32" else name] * abs(want)
    if name == "tf32":
        bound += 4 * UNIT["tf32"] * size
    elif name == "float64":
        bound *= 2  # numpy's own rounding
    return want, bound
