"""Sums, means, softmax and extrema over a million numbers agree with exact arithmetic.

Sums are compared with ``math.fsum``, which rounds once. Bound: PyTorch sums in blocks, pairwise, at least in float32:
the error is some log2(n) roundings of the sum of magnitudes, and one of the result; 4 log2(n) u allows for blocks.
Extrema, their places, integer and boolean sums are exact. A sum that overflows its type must be infinite, not wrong.
A full run also measures a copy, which does nothing but move memory.
"""

from __future__ import annotations

import math
from typing import Any

import _torch_work as work
from _protocol import Check, run
from _reference import UNIT, on_devices, softmax, summing

COPIED = 1 << 30  # bytes: more than a GPU's cache holds (126 MB on B200)


def main(check: Check) -> str:
    found = work.benches(check)
    count = 1_000_003 if check.full else 200_003  # prime: no block divides it
    for bench in found:
        data = bench.numpy.random.default_rng(4).standard_normal(count)
        for name in ("float64", "float32", "float16", "bfloat16"):
            _sums(bench, name, data)
        _exact(bench, data)
        _softmax(bench, data)
        if check.full:
            _copy(bench)
    return f"{count} numbers are summed, compared and normalised right {on_devices(found)}"


def _sums(bench: work.Bench, name: str, data: Any) -> None:
    x = bench.put(data, getattr(bench.torch, name))
    total, mean, square = bench.do(name, lambda: (x.sum(), x.mean(), (x * x).float().mean()))
    x64 = bench.wide(x)
    want, size, count = math.fsum(x64), math.fsum(abs(x64)), x64.size
    rounding = 4 * math.log2(count) * summing(name) * size
    unit = UNIT[name]
    bench.within(f"{name} sum", total, want, rounding + 2 * unit * abs(want))
    bench.within(f"{name} mean", mean, want / count, (rounding + 2 * unit * abs(want)) / count)
    mean_square = math.fsum(x64 * x64) / count
    bound = (unit + 4 * math.log2(count) * UNIT["float32"]) * mean_square
    bench.within(f"{name} mean square", square, mean_square, bound)


def _exact(bench: work.Bench, data: Any) -> None:
    torch = bench.torch
    integers = (data * 100).astype("int8")
    x, i = bench.put(data), bench.put(integers)
    found = bench.do(
        "extrema and integers", lambda: (x.max(), x.argmax(), x.min(), i.sum(), (x > 1).sum(), i.cumsum(0)[-1])
    )
    total = integers.sum(dtype="int64")
    want = (data.max(), data.argmax(), data.min(), total, (data > 1).sum(), total)
    bench.check.exact(f"{bench.device} extrema and integers", [item.item() for item in found], want)
    overflow = torch.full((100,), 60000.0, device=bench.device, dtype=torch.float16).sum().item()
    bench.check.expect(math.isinf(overflow), f"{bench.device}: a float16 sum beyond its range is {overflow}")


def _softmax(bench: work.Bench, data: Any) -> None:
    # Large logits: without taking off the largest, exp overflows.
    logits = (data[:8000].reshape(80, 100) * 50).astype("float32")
    x = bench.put(logits)
    got = bench.do("softmax", lambda: x.softmax(dim=1))
    want = softmax(bench.numpy, logits.astype("float64"))
    # exp turns the rounding of its argument, up to 400, into a relative error of 400 u; 16 u for exp, sum and division.
    bench.within("softmax", got, want, (400 + 16) * UNIT["float32"] * want + 1e-37)


def _copy(bench: work.Bench) -> None:
    torch = bench.torch
    count = min(COPIED, bench.room() // 2) // 4
    source = torch.arange(count, dtype=torch.int32, device=bench.device)
    target = torch.zeros_like(source)
    took = bench.seconds("copy", lambda: target.copy_(source))
    # The profiler calls a copy a copy, and no kernel.
    wrong = bench.do("comparison of a copy", lambda: torch.count_nonzero(target != source))
    bench.exact("copy", target[:: count // 1000], bench.numpy.arange(count)[:: count // 1000])
    bench.exact("copy", wrong, 0)
    bench.tell("copy", 8 * count, "GB/s", took, kind="bandwidth")


if __name__ == "__main__":
    run(main)
