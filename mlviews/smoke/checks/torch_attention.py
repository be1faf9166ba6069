"""Scaled-dot-product attention over a cloud of 1,000 points: every backend that this build offers agrees with float64.

Reference: softmax(Q K^T / sqrt(d)) V in numpy's float64 on the same rounded inputs. Bound: the weights are positive and
sum to one, so the result is within a few roundings of the largest |V|: 32 u in float32; float16 and bfloat16 round the
weights too, 4 u of theirs. A backend that refuses is named in the result; the plain one (math) may not refuse.

A full run also measures many clouds at once in float16, by the backend that PyTorch chooses; the first and the last are
compared.
"""

from __future__ import annotations

from typing import Any

import _torch_work as work
from _protocol import Check, WrongError, run
from _reference import UNIT, softmax

HEADS, POINTS, WIDTH = 4, 1000, 32
REAL = 700  # points of the masked cloud that are no padding
CLOUDS = {"cpu": 2, "cuda": 256}


BACKENDS = {
    "math": "MATH",
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
}


def main(check: Check) -> str:
    found = work.benches(check)
    offered: list[str] = []
    refused: list[str] = []
    for bench in found:
        cloud = bench.numpy.random.default_rng(4).standard_normal((3, 1, HEADS, POINTS, WIDTH))
        for name in ("float32", "float16", "bfloat16"):
            inputs = [bench.put(part, getattr(bench.torch, name)) for part in cloud]
            want = _attention(bench, inputs)
            for backend in BACKENDS:
                what = f"{name} {backend}"
                got = _attend(bench, what, backend, inputs)
                if got is not None:
                    bench.within(what, got, want, _bound(name, inputs))
                (refused if got is None else offered).append(f"{bench.device} {what}")
        _masked(bench, cloud)
        if check.full:
            _measure(bench)
        check.expect(f"{bench.device} float32 math" in offered, f"{bench.device}: the math backend refuses float32")
    check.figures["refused"] = ", ".join(refused)
    return f"agree with float64: {', '.join(offered)}"


def _attend(bench: work.Bench, what: str, backend: str, inputs: list[Any]) -> Any:
    """Return the result; None where this backend cannot do it here."""
    attention = bench.check.need("torch.nn.attention")
    chosen = getattr(attention.SDPBackend, BACKENDS[backend], None)
    if chosen is None:
        return None

    def work_() -> Any:
        with attention.sdpa_kernel(chosen):
            return bench.torch.nn.functional.scaled_dot_product_attention(*inputs)

    try:
        return bench.do(what, work_)
    except RuntimeError as error:
        # PyTorch's words for a refusal; anything else is a failure of the backend.
        if any(words in str(error) for words in ("No viable backend", "No available kernel")):
            return None
        raise WrongError(f"{bench.device} {what}: {error}") from error


def _bound(name: str, inputs: list[Any]) -> float:
    largest = float(inputs[2].abs().max())
    return (32 * UNIT["float32"] + (0 if name == "float32" else 4 * UNIT[name])) * largest


def _masked(bench: work.Bench, cloud: Any) -> None:
    """Points that are padding must have no weight at all, whichever backend PyTorch chooses by itself."""
    torch = bench.torch
    q, k, v = (bench.put(part, torch.float32) for part in cloud)
    mask = (torch.arange(POINTS, device=bench.device) < REAL)[None, None, None, :]
    v[:, :, REAL:] = 1e6
    got = bench.do("masked", lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    k, v = k[:, :, :REAL], v[:, :, :REAL]
    bench.within("masked", got, _attention(bench, [q, k, v]), _bound("float32", [q, k, v]))


def _measure(bench: work.Bench) -> None:
    torch, what = bench.torch, "float16 clouds"
    # The plain backend holds the weights of every pair of points, three times, in float32 at most.
    clouds = max(1, min(CLOUDS[bench.device], bench.room() // (HEADS * POINTS**2 * 12)))
    shape = (clouds, HEADS, POINTS, WIDTH)
    inputs = [torch.randn(shape, device=bench.device, dtype=torch.float16) for _ in range(3)]

    def attend() -> Any:
        return torch.nn.functional.scaled_dot_product_attention(*inputs)

    took = bench.seconds(what, attend)
    got = bench.do(what, attend)
    ends = [part[[0, -1]] for part in inputs]
    bench.within(what, got[[0, -1]], _attention(bench, ends), _bound("float16", ends))
    bench.tell(what, 4 * clouds * HEADS * POINTS**2 * WIDTH, "TFLOP/s", took, kind="float16")


def _attention(bench: work.Bench, inputs: list[Any]) -> Any:
    q, k, v = map(bench.wide, inputs)
    return softmax(bench.numpy, q @ k.swapaxes(-1, -2) / WIDTH**0.5) @ v


if __name__ == "__main__":
    run(main)
