"""Matrix products in every type agree with float64 arithmetic of numpy on the same rounded inputs.

Bounds: see _reference.py. int8 products summed in int32 are exact. float32 with TF32 switched off must keep within the
bound of true float32, which TF32 does not.

A full run also measures products of matrices that are large enough to keep a GPU busy; rows and columns all over the
result are compared in the same way.
"""

from __future__ import annotations

from typing import Any

import _torch_work as work
from _protocol import Check, run
from _reference import COLUMNS, INNER, ROWS, on_devices, product

SIDES = {"cpu": (512,), "cuda": (2048, 4096, 8192, 16384)}
BUSY = 0.004  # seconds: the time to start a product on a GPU is nothing beside it
COMPARED = 64  # rows, and columns, of a large product


def main(check: Check) -> str:
    found = work.benches(check)
    for bench in found:
        a, b = bench.matrices(bench.numpy.random.default_rng(4))
        for name in bench.types():
            _floats(bench, name, a, b)
        _int8(bench)
        if check.full:
            for name in (*bench.types(), *(["int8"] if hasattr(bench.torch, "_int_mm") else [])):
                _measure(bench, name)
    return f"float64, float32, float16, bfloat16 and int8 agree with float64 {on_devices(found)}"


def _floats(bench: work.Bench, name: str, a: Any, b: Any) -> None:
    dtype = _prepare(bench, name)
    x, y = bench.put(a, dtype), bench.put(b, dtype)
    got = bench.do(name, lambda: x @ y)
    bench.check.expect(got.dtype == dtype, f"{name}: the result is {got.dtype}")
    want, bound = product(bench.numpy, name, bench.wide(x), bench.wide(y))
    bench.within(name, got, want, bound)


def _prepare(bench: work.Bench, name: str) -> Any:
    """Let PyTorch multiply numbers of a type with that type's precision and no other; returns PyTorch's own type."""
    settings = bench.torch.backends.cuda.matmul
    settings.allow_fp16_reduced_precision_reduction = settings.allow_bf16_reduced_precision_reduction = False
    settings.allow_tf32 = name == "tf32"
    return bench.dtype(name)


def _int8(bench: work.Bench) -> None:
    torch = bench.torch
    if not hasattr(torch, "_int_mm"):
        return
    generator = bench.numpy.random.default_rng(5)
    a, b = (generator.integers(-128, 128, shape, dtype="int8") for shape in ((ROWS, INNER), (INNER, COLUMNS)))
    x, y = bench.put(a), bench.put(b)
    got = bench.do("int8", lambda: torch._int_mm(x, y))  # noqa: SLF001
    bench.exact("int8", got, a.astype("int64") @ b.astype("int64"))


def _measure(bench: work.Bench, name: str) -> None:
    torch, what, room = bench.torch, f"large {name} product", bench.room()
    dtype = _prepare(bench, name)
    multiply = torch._int_mm if name == "int8" else torch.matmul  # noqa: SLF001
    size = torch.empty((), dtype=dtype).element_size()
    sides = [side for side in SIDES[bench.device] if side**2 * (2 * size + max(size, 4)) <= room]
    bench.check.expect(sides, f"{bench.device}: {room} bytes are too few for a product of any size")
    for side in sides:
        x, y = _matrix(bench, side, dtype), _matrix(bench, side, dtype)
        if name == "int8":
            y = y.T  # cuBLAS multiplies int8 on tensor cores in this layout alone
        took = bench.seconds(what, lambda: multiply(x, y))  # noqa: B023
        if took > BUSY:
            break
    result = bench.do(what, lambda: multiply(x, y))
    rows, columns = (bench.numpy.linspace(0, side - 1, COMPARED).astype("int64") for _ in range(2))
    got = result[rows][:, columns]
    left, right = bench.wide(x[rows]), bench.wide(y[:, columns])
    if name == "int8":
        bench.exact(what, got, left @ right)
    else:
        bench.within(what, got, *product(bench.numpy, name, left, right))
    bench.tell(what, 2 * side**3, "TOP/s" if name == "int8" else "TFLOP/s", took, kind=name)


def _matrix(bench: work.Bench, side: int, dtype: Any) -> Any:
    torch = bench.torch
    if dtype == torch.int8:
        return torch.randint(-128, 128, (side, side), dtype=dtype, device=bench.device)
    return torch.randn((side, side), dtype=dtype, device=bench.device)


if __name__ == "__main__":
    run(main)
