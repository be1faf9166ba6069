"""TensorFlow's products, convolution and sums agree with float64, called one by one and compiled into a graph.

Bounds: see _reference.py; float32 with TF32 switched off must keep within those of true float32, and on a GPU that has
TF32 the products are made with it, too. Sums over segments of whole numbers are exact. A graph (tf.function) is traced
once for a shape and gives what its operations give.
"""

from __future__ import annotations

from typing import Any

import _tensorflow_work as work
from _protocol import Check, run
from _reference import on_devices, product, stored

NODES, EDGES = 1000, 20_000


def main(check: Check) -> str:
    found = work.benches(check)
    for bench in found:
        generator = bench.numpy.random.default_rng(4)
        a, b = bench.matrices(generator)
        for name in bench.types():
            _product(bench, name, a, b)
        _convolution(bench, generator)
        _segments(bench, generator)
    return f"products, convolution and sums agree with float64, also as a graph, {on_devices(found)}"


def _product(bench: work.Bench, name: str, a: Any, b: Any) -> None:
    tensorflow = bench.tensorflow
    tensorflow.config.experimental.enable_tensor_float_32_execution(name == "tf32")
    dtype = stored(name)
    x, y = bench.put(a, dtype), bench.put(b, dtype)
    want, bound = product(bench.numpy, name, bench.wide(x), bench.wide(y))
    traced = []

    def multiply(left: Any, right: Any) -> Any:
        traced.append(left.shape)
        return tensorflow.matmul(left, right)

    graph = tensorflow.function(multiply)
    for what, call in ((name, multiply), (f"{name} graph", graph), (f"{name} graph again", graph)):
        got = bench.do(what, lambda: call(x, y))  # noqa: B023
        bench.check.expect(got.dtype.name == dtype, f"{what}: the result is {got.dtype.name}")
        bench.within(what, got, want, bound)
    bench.check.expect(
        len(traced) == 2, f"{bench.device} {name}: a graph of one shape was traced {len(traced) - 1} times"
    )
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)


def _convolution(bench: work.Bench, generator: Any) -> None:
    tensorflow, numpy = bench.tensorflow, bench.numpy
    x = bench.put(generator.standard_normal((2, 24, 24, 8)), "float32")
    k = bench.put(generator.standard_normal((3, 3, 8, 16)), "float32")
    got = bench.do("convolution", lambda: tensorflow.nn.conv2d(x, k, strides=1, padding="VALID"))
    windows = numpy.lib.stride_tricks.sliding_window_view(bench.wide(x), (3, 3), axis=(1, 2))
    columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 72)
    want, bound = product(numpy, "float32", columns, bench.wide(k).reshape(72, 16))
    # Winograd transforms, which libraries choose for 3x3, amplify rounding by up to a factor 10.
    bench.within("convolution", got, want.reshape(2, 22, 22, 16), 10 * bound.reshape(2, 22, 22, 16))


def _segments(bench: work.Bench, generator: Any) -> None:
    tensorflow, numpy = bench.tensorflow, bench.numpy
    values, target = generator.integers(-8, 9, EDGES), generator.integers(0, NODES, EDGES)
    x, places = bench.put(values, "float32"), bench.put(target, "int64")
    got = bench.do("segments", lambda: tensorflow.math.unsorted_segment_sum(x, places, NODES))
    bench.exact("segments", got, numpy.bincount(target, values, NODES))


if __name__ == "__main__":
    run(main)
