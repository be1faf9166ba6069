"""Matrix products in every type agree with float64 arithmetic of numpy on the same rounded inputs.

Bounds: see _rounding.py. int8 products summed in int32 are exact. float32 with TF32 switched off must keep within the
bound of true float32, which TF32 does not.
"""

from __future__ import annotations

from typing import Any

import _torch_work as work
from _protocol import Check, run
from _rounding import product

ROWS, INNER, COLUMNS = 192, 512, 256


def main(check: Check) -> str:
    found = work.benches(check)
    for bench in found:
        generator = bench.numpy.random.default_rng(4)
        scale = 4 if check.full else 1
        a = generator.standard_normal((ROWS * scale, INNER))
        b = generator.standard_normal((INNER, COLUMNS * scale))
        for name in work.types(bench):
            _floats(bench, name, a, b)
        _int8(bench)
    return f"float64, float32, float16, bfloat16 and int8 agree with float64 {work.on_devices(found)}"


def _floats(bench: work.Bench, name: str, a: Any, b: Any) -> None:
    torch = bench.torch
    settings = torch.backends.cuda.matmul
    settings.allow_fp16_reduced_precision_reduction = settings.allow_bf16_reduced_precision_reduction = False
    settings.allow_tf32 = name == "tf32"
    dtype = torch.float32 if name == "tf32" else getattr(torch, name)
    x, y = bench.put(a, dtype), bench.put(b, dtype)
    got = bench.do(name, lambda: x @ y)
    bench.check.expect(got.dtype == dtype, f"{name}: the result is {got.dtype}")
    want, bound = product(bench.numpy, name, work.numbers(x), work.numbers(y))
    bench.within(name, got, want, bound)
    settings.allow_tf32 = False


def _int8(bench: work.Bench) -> None:
    torch = bench.torch
    if not hasattr(torch, "_int_mm"):
        return
    generator = bench.numpy.random.default_rng(5)
    a, b = (generator.integers(-128, 128, shape, dtype="int8") for shape in ((ROWS, INNER), (INNER, COLUMNS)))
    x, y = bench.put(a), bench.put(b)
    got = bench.do("int8", lambda: torch._int_mm(x, y))  # noqa: SLF001
    bench.exact("int8", got, a.astype("int64") @ b.astype("int64"))


if __name__ == "__main__":
    run(main)
