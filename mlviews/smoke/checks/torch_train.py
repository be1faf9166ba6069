"""A transformer tagger of a million parameters learns, and its first steps are those of float64.

Float32 and float64 start from the same weights and take the same steps of gradient descent; losses may part by 2e-4 of
their value: some hundred roundings of float32 (6e-8) in each sum, grown by ten steps, measured at 1e-6, with a wide
margin that bfloat16 (4e-3) would still break. Then it trains with AdamW, also under automatic mixed precision, and the
loss must fall below half of ln 3, which is the loss of a tagger that knows nothing.

A full run also measures steps of AdamW on a batch that keeps a GPU busy. Their loss must fall, or nothing was trained.
"""

from __future__ import annotations

import math
from typing import Any

import _tagger
import _torch_work as work
from _protocol import Check, run
from _reference import on_devices

STEPS, LEARN = 3, 14
MEASURED = {"cpu": 32, "cuda": 2048}  # jets
ACTIVATIONS = 3_000_000  # bytes a jet that training holds at most: 20 tracks, 5 layers, some 60 numbers a width each
TARGET = 0.5 * math.log(_tagger.CLASSES)


def main(check: Check) -> str:
    found = work.benches(check)
    torch = found[0].torch
    batch = 128 if check.full else 16
    data = _tagger.jets(torch, batch * 4)
    parameters = sum(p.numel() for p in _tagger.tagger(torch).parameters())
    check.figures["parameters"] = parameters
    first = data[0][:batch], data[1][:batch]
    want = found[0].wide(_tagger.descend(torch, _tagger.tagger(torch).double(), first, STEPS))
    for bench in found:
        model = _tagger.tagger(torch).to(bench.device)
        got = bench.do("first losses", lambda: _tagger.descend(torch, model, first, STEPS))  # noqa: B023
        bench.within("first losses", got, want, _tagger.PARTING * abs(want))
        for precision in ("float32", "bfloat16", "float16")[: 2 if bench.device == "cpu" else 3]:
            _must_learn(bench, precision, data, batch)
        if check.full:
            for precision in ("float32", _half(bench)):
                _measure(bench, precision, parameters)
    return f"{parameters} parameters learn in float32 and mixed precision {on_devices(found)}"


def _must_learn(bench: work.Bench, precision: str, data: tuple[Any, Any], batch: int) -> None:
    losses = bench.do(f"{precision} training", lambda: _learn(bench, precision, data, batch))
    last = float(losses[-4:].mean())
    label = f"{bench.device} {precision} training"
    bench.check.figures[f"{label}: loss"] = round(last, 4)
    bench.check.expect(last < TARGET, f"{label}: the loss is {last:.3f} after {LEARN} steps, not below {TARGET:.3f}")


def _half(bench: work.Bench) -> str:
    """Return the 16-bit type that a device computes with at full speed."""
    return "float16" if bench.device == "cuda" and not bench.has_tf32() else "bfloat16"  # both came with 8.0


def _measure(bench: work.Bench, precision: str, parameters: int) -> None:
    torch, device, what = bench.torch, bench.device, f"{precision} step"
    batch = max(1, min(MEASURED[device], bench.room() // ACTIVATIONS))
    tracks, flavour = _tagger.jets(torch, batch, seed=5)
    x, y = tracks.to(device, torch.float32), flavour.to(device)
    model = _tagger.tagger(torch).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> Any:
        optimiser.zero_grad()
        with torch.autocast(device, getattr(torch, precision), enabled=precision != "float32"):
            loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        return loss.detach().float()

    first = float(bench.do(f"first {what}", step))
    took = bench.seconds(what, step)
    last = float(bench.do(f"last {what}", step))
    bench.check.expect(last < 0.9 * first, f"{device} {what}: the loss was {first:.3f} and became {last:.3f}")
    bench.check.figures[f"{device} {what}: milliseconds"] = float(f"{took * 1000:.3g}")
    # Forward and backward are three products with each parameter, each track.
    bench.tell(what, 6 * parameters * batch * _tagger.TRACKS, "TFLOP/s", took, kind=precision)


def _learn(bench: work.Bench, precision: str, data: tuple[Any, Any], batch: int) -> Any:
    torch, device = bench.torch, bench.device
    model = _tagger.tagger(torch).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
    losses = []
    for step in range(LEARN):
        part = slice(step % 4 * batch, (step % 4 + 1) * batch)
        x, y = data[0][part].to(device, torch.float32), data[1][part].to(device)
        with torch.autocast(device, getattr(torch, precision), enabled=precision != "float32"):
            loss = torch.nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        losses.append(loss.detach().float())
    return torch.stack(losses)


if __name__ == "__main__":
    run(main)
