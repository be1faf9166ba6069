"""Convolutions forward and backward agree with float64 arithmetic of numpy on the same rounded inputs.

The reference is the definition: windows of the padded image against the kernel, and its transpose for the gradient.
Bound: as for matrix products, with K the number of products in a sum (_reference.py), with TF32 and without.
Winograd transforms, which libraries choose for 3x3, amplify rounding by up to a factor 10: they are allowed for. The
gradient of the input is gathered from nine partial sums in the type itself, each about size / sqrt(K): 4 u of those.
"""

from __future__ import annotations

from typing import Any

import _torch_work as work
from _protocol import Check, run
from _reference import UNIT, on_devices, summing

BATCH, IN, OUT, SIDE, KERNEL = 4, 8, 16, 24, 3
WINOGRAD = 10


def main(check: Check) -> str:
    found = work.benches(check)
    for bench in found:
        generator = bench.numpy.random.default_rng(4)
        image = generator.standard_normal((BATCH, IN, SIDE, SIDE))
        kernel = generator.standard_normal((OUT, IN, KERNEL, KERNEL))
        for name in bench.types():
            _one(bench, name, image, kernel)
    return f"float64, float32, float16 and bfloat16 agree with float64 {on_devices(found)}"


def _one(bench: work.Bench, name: str, image: Any, kernel: Any) -> None:
    torch, numpy = bench.torch, bench.numpy
    torch.backends.cudnn.allow_tf32 = name == "tf32"
    dtype = bench.dtype(name)
    x, k = bench.put(image, dtype).requires_grad_(), bench.put(kernel, dtype).requires_grad_()

    def forward_and_backward() -> tuple[Any, Any, Any, Any]:
        y = torch.nn.functional.conv2d(x, k, padding=1)
        # A constant gradient would hide exchanged elements.
        gradient = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(bench.device, dtype)
        return (y, gradient, *torch.autograd.grad(y, (x, k), gradient))

    y, gradient, of_x, of_k = bench.do(name, forward_and_backward)
    x64, k64, g64 = bench.wide(x), bench.wide(k), bench.wide(gradient)
    flipped = k64[:, :, ::-1, ::-1].swapaxes(0, 1)
    bench.within(f"{name} forward", y, *_want(numpy, name, x64, k64))
    bench.within(f"{name} input gradient", of_x, *_want(numpy, name, g64, flipped))
    windows = _windows(numpy, x64)
    want, size = (
        numpy.einsum("nchwij,nohw->ocij", left, right, optimize=True)
        for left, right in ((windows, g64), (numpy.abs(windows), numpy.abs(g64)))
    )
    bench.within(f"{name} kernel gradient", of_k, want, _bound(numpy, name, want, size, BATCH * SIDE**2))


def _windows(numpy: Any, image: Any) -> Any:
    padded = numpy.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return numpy.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(2, 3))


def _want(numpy: Any, name: str, image: Any, kernel: Any) -> tuple[Any, Any]:
    want, size = (
        numpy.einsum("nchwij,ocij->nohw", _windows(numpy, left), right, optimize=True)
        for left, right in ((image, kernel), (numpy.abs(image), numpy.abs(kernel)))
    )
    return want, _bound(numpy, name, want, size, kernel[0].size)


def _bound(numpy: Any, name: str, want: Any, size: Any, products: int) -> Any:
    partial = numpy.abs(want) + size / products**0.5
    bound = WINOGRAD * 8 * products**0.5 * summing(name) * size + 4 * UNIT[name] * partial
    return bound + WINOGRAD * 4 * UNIT["tf32"] * size if name == "tf32" else bound


if __name__ == "__main__":
    run(main)
