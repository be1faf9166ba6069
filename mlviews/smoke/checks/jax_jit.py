"""What jax.jit compiles agrees with float64: products in every type, convolution, Fourier transform, solver, loop.

Matrix products keep within the bounds of _reference.py: float32 with precision ``highest`` within those of true
float32, on a GPU the default one within those of TF32. A solution is as exact as its residual (8 n u of |A||x|, LU with
pivoting: Higham, Accuracy and Stability, 9.3), the transform loses some log2(n) u of the norm, loops over integers are
exact. It is really compiled: Python traces the function once for each shape and type, and XLA says when it compiles.
"""

from __future__ import annotations

from typing import Any

import _jax_work as work
from _protocol import Check, run
from _reference import COLUMNS, INNER, ROWS, UNIT, on_devices, product, stored

SIZE = 64
COMPILED = "/jax/core/compile/backend_compile_duration"


def main(check: Check) -> str:
    found = work.benches(check)
    for bench in found:
        generator = bench.numpy.random.default_rng(4)
        a, b = bench.matrices(generator)
        for name in bench.types():
            _product(bench, name, a, b)
        _integers(bench, generator)
        _convolution(bench, generator)
        _transform(bench, generator)
        _solver(bench, generator)
        _compiles(bench)
    return f"products, convolution, transform, solver and loop agree with float64 {on_devices(found)}"


def _product(bench: work.Bench, name: str, a: Any, b: Any) -> None:
    jax = bench.jax
    precision = "default" if name == "tf32" else "highest"
    dtype = stored(name)
    x, y = bench.put(a, dtype), bench.put(b, dtype)
    multiply = jax.jit(lambda left, right: jax.numpy.matmul(left, right, precision=precision))
    got = bench.do(name, lambda: multiply(x, y))
    bench.check.expect(got.dtype == dtype, f"{name}: the result is {got.dtype}")
    bench.within(name, got, *product(bench.numpy, name, bench.wide(x), bench.wide(y)))


def _integers(bench: work.Bench, generator: Any) -> None:
    jax = bench.jax
    a, b = (generator.integers(-128, 128, shape) for shape in ((ROWS, INNER), (INNER, COLUMNS)))
    x, y = bench.put(a, "int8"), bench.put(b, "int8")
    multiply = jax.jit(lambda left, right: jax.numpy.matmul(left, right, preferred_element_type="int32"))
    bench.exact("int8", bench.do("int8", lambda: multiply(x, y)), a @ b)
    # x -> 5 x + 3 modulo 2^32: a thousand turns of a loop that XLA must not unroll wrongly.
    turn = jax.jit(lambda start: jax.lax.fori_loop(0, 1000, lambda _, value: value * 5 + 3, start))
    start = bench.put(a, "uint32")
    power = pow(5, 1000, 2**34)
    want = ((a % 2**32).astype(object) * power + 3 * ((power - 1) // 4)) % 2**32
    bench.exact("loop", bench.do("loop", lambda: turn(start)), want.astype("uint32"))


def _convolution(bench: work.Bench, generator: Any) -> None:
    jax, numpy = bench.jax, bench.numpy
    image, kernel = (
        bench.wide(bench.put(generator.standard_normal(shape), "float32")) for shape in ((2, 8, 24, 24), (16, 8, 3, 3))
    )
    x, k = bench.put(image, "float32"), bench.put(kernel, "float32")
    convolve = jax.jit(lambda left, right: jax.lax.conv(left, right, (1, 1), "VALID", precision="highest"))
    got = bench.do("convolution", lambda: convolve(x, k))
    windows = numpy.lib.stride_tricks.sliding_window_view(image, (3, 3), axis=(2, 3))
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 72)
    want, bound = product(numpy, "float32", columns, kernel.reshape(16, 72).T)
    # Winograd transforms, which libraries choose for 3x3, amplify rounding by up to a factor 10.
    want, bound = (part.reshape(2, 22, 22, 16).transpose(0, 3, 1, 2) for part in (want, 10 * bound))
    bench.within("convolution", got, want, bound)


def _transform(bench: work.Bench, generator: Any) -> None:
    jax, numpy = bench.jax, bench.numpy
    signal = generator.standard_normal(4096) + 1j * generator.standard_normal(4096)
    transform = jax.jit(jax.numpy.fft.fft)
    for name, unit in (("complex128", UNIT["float64"]), ("complex64", UNIT["float32"])):
        x = bench.put(signal, name)
        got = bench.host(bench.do(f"{name} transform", lambda: transform(x)))  # noqa: B023
        want = numpy.fft.fft(bench.host(x).astype("complex128"))
        parts = [numpy.stack([part.real, part.imag]) for part in (got, want)]
        bench.within(f"{name} transform", parts[0], parts[1], 2 * 12 * unit * numpy.linalg.norm(want) / 4096**0.5)


def _solver(bench: work.Bench, generator: Any) -> None:
    jax = bench.jax
    a, b = generator.standard_normal((SIZE, SIZE)), generator.standard_normal(SIZE)
    solve = jax.jit(jax.numpy.linalg.solve)
    for name in ("float64", "float32"):
        x, y = bench.put(a, name), bench.put(b, name)
        got = bench.wide(bench.do(f"{name} solver", lambda: solve(x, y)))  # noqa: B023
        matrix = bench.wide(x)
        bench.within(f"{name} solver", matrix @ got, bench.wide(y), 8 * SIZE * UNIT[name] * (abs(matrix) @ abs(got)))


def _compiles(bench: work.Bench) -> None:
    """The function is traced, and XLA compiles it, for each new shape and type, and not again for an old one."""
    jax = bench.jax
    traced, compiled = [], []

    def heard(event: str, _seconds: float, **_: Any) -> None:
        if event == COMPILED:
            compiled.append(event)

    def shift(x: Any) -> Any:
        traced.append(x.shape)
        return x * 2 + 1

    shifted = jax.jit(shift)
    cases = [bench.put(range(size), dtype) for size, dtype in ((8, "int32"), (8, "int32"), (9, "int32"), (8, "int64"))]
    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        counts = []
        for case in cases:
            bench.exact("shifted", bench.do("shifted", lambda: shifted(case)), [2 * k + 1 for k in range(case.size)])  # noqa: B023
            counts.append((len(traced), len(compiled)))
    finally:
        jax.monitoring.clear_event_listeners()
    bench.check.figures[f"{bench.device} compilations"] = len(compiled)
    bench.check.expect(
        counts == [(1, 1), (1, 1), (2, 2), (3, 3)],
        f"{bench.device}: one shape twice, another, another type: traced and compiled {counts} times",
    )


if __name__ == "__main__":
    run(main)
