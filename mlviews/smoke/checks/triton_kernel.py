"""Kernels that Triton compiles add, normalise and multiply as float64 does, with PyTorch's tensors.

Sums of whole numbers are exact, and nothing is written beyond their end. A softmax rounds its argument, up to 10 here,
and a few times more: 32 u. Products keep within the bounds of _reference.py: float32 with ``ieee`` products within
those of true float32. Where the work was done is proved as for PyTorch (_torch_work.py), by the kernel's name besides.
Triton's interpreter (TRITON_INTERPRET) runs the same kernels on the CPU and is named: it proves the program, and
nothing of a GPU.
"""

from __future__ import annotations

from typing import Any

import _kernel_work
import _torch_work as work
from _protocol import Check, WrongError, run
from _reference import UNIT, product, softmax

COUNT, BLOCK = 100_003, 1024  # prime: the last block is not full
ROWS, WIDTH = 64, 300
SIZE, TILE = 128, 32


def main(check: Check) -> str:
    triton, kernels = check.need("triton"), check.need("_triton_kernels")
    interpreted = type(kernels.add).__name__ == "InterpretedFunction"
    check.need("torch")
    _kernel_work.need_gpu(check, simulator="Triton's interpreter" if interpreted else "")
    bench = work.benches(check)[-1]
    if not interpreted and bench.device == "cpu":
        raise WrongError("the driver offers a GPU, and PyTorch, which Triton works with, does not take it")
    _add(bench, kernels.add, triton.cdiv(COUNT, BLOCK))
    _softmax(bench, kernels.softmax)
    names = ["float32", "float16"]
    if bench.has_tf32():
        names += ["bfloat16", "tf32"]
    for name in names:
        _product(bench, kernels.multiply, name)
    where = "by Triton's interpreter on the CPU, which proves nothing of a GPU" if interpreted else "on the GPU"
    return f"kernels add, normalise and multiply ({', '.join(names)}) right {where}"


def _add(bench: work.Bench, kernel: Any, blocks: int) -> None:
    torch, numpy = bench.torch, bench.numpy
    left, right = numpy.random.default_rng(4).integers(-(2**40), 2**40, (2, COUNT))
    x, y = bench.put(left), bench.put(right)

    def launch() -> Any:
        out = torch.full((COUNT + BLOCK,), -1, dtype=torch.int64, device=bench.device)
        kernel[(blocks,)](x, y, out, COUNT, block=BLOCK)
        return out

    got = bench.do("sum", launch, kernel="add")
    # What lies beyond the end was not to be written.
    bench.exact("sum", got, numpy.append(left + right, numpy.full(BLOCK, -1)))


def _softmax(bench: work.Bench, kernel: Any) -> None:
    x = bench.put(bench.numpy.random.default_rng(4).standard_normal((ROWS, WIDTH)) * 2, bench.torch.float32)
    want = softmax(bench.numpy, bench.wide(x))

    def launch() -> Any:
        out = bench.torch.zeros_like(x)
        kernel[(ROWS,)](x, out, WIDTH, block=512)
        return out

    bench.within("softmax", bench.do("softmax", launch, kernel="softmax"), want, 32 * UNIT["float32"] * want)


def _product(bench: work.Bench, kernel: Any, name: str) -> None:
    torch = bench.torch
    a, b = (
        bench.put(part, bench.dtype(name))
        for part in bench.numpy.random.default_rng(4).standard_normal((2, SIZE, SIZE))
    )

    def launch() -> Any:
        out = torch.zeros_like(a)
        precision = "tf32" if name == "tf32" else "ieee"
        kernel[(SIZE // TILE, SIZE // TILE)](a, b, out, size=SIZE, tile=TILE, precision=precision)
        return out

    got = bench.do(name, launch, kernel="multiply")
    bench.within(name, got, *product(bench.numpy, name, bench.wide(a), bench.wide(b)))


if __name__ == "__main__":
    run(main)
