"""Kernels in Triton's language, for triton_kernel.py. Its compiler reads annotations, too: only its own stand here."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: ANN001, PLR0917

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add(x, y, out, count, block: tl.constexpr) -> None:
    i = tl.program_id(0) * block + tl.arange(0, block)
    inside = i < count
    tl.store(out + i, tl.load(x + i, mask=inside) + tl.load(y + i, mask=inside), mask=inside)


@triton.jit
def softmax(x, out, width, block: tl.constexpr) -> None:
    i = tl.arange(0, block)
    inside = i < width
    row = tl.program_id(0) * width
    logits = tl.load(x + row + i, mask=inside, other=-float("inf"))
    powers = tl.exp(logits - tl.max(logits, axis=0))
    tl.store(out + row + i, powers / tl.sum(powers, axis=0), mask=inside)


@triton.jit
def multiply(a, b, out, size: tl.constexpr, tile: tl.constexpr, precision: tl.constexpr) -> None:
    rows = tl.program_id(0) * tile + tl.arange(0, tile)
    columns = tl.program_id(1) * tile + tl.arange(0, tile)
    total = tl.zeros((tile, tile), dtype=tl.float32)
    for start in range(0, size, tile):
        inner = start + tl.arange(0, tile)
        left = tl.load(a + rows[:, None] * size + inner[None, :])
        right = tl.load(b + inner[:, None] * size + columns[None, :])
        total += tl.dot(left, right, input_precision=precision)
    tl.store(out + rows[:, None] * size + columns[None, :], total)
