"""torch.compile builds code that gives what eager PyTorch gives, trains with it, and really is compiled.

A tagger in float32 is compared with itself in float64: bound 1e-4 of the largest value, as for ONNX; the losses of its
first steps of training as in torch_train.py, and they must fall. Inductor's own counters must say that graphs were
captured and no part of the model was left to Python. Needs a C++ compiler; on a GPU it needs Triton.
"""

from __future__ import annotations

import shutil
import time
from typing import Any

import _tagger
import _torch_work as work
from _protocol import Check, SkipCheck, run
from _reference import on_devices

STEPS = 5


def main(check: Check) -> str:
    found = work.benches(check)
    if not any(map(shutil.which, ("g++", "c++", "clang++"))):
        raise SkipCheck("there is no C++ compiler: torch.compile builds C++ where it runs")
    # Where there is a GPU, nobody compiles for the CPU; its C++ takes four times as long to build.
    bench = found[-1]
    _on(bench)
    return f"a compiled tagger gives what the eager one gives {on_devices([bench])}"


def _on(bench: work.Bench) -> None:
    torch = bench.torch
    dynamo = bench.check.need("torch._dynamo")
    tracks, flavour = _tagger.jets(torch, 16)

    def outcome(model: Any, dtype: Any, device: str) -> tuple[Any, Any]:
        x = tracks.to(device, dtype).requires_grad_()
        logits = model(x)
        loss = torch.nn.functional.cross_entropy(logits, flavour.to(device))
        return logits.detach(), torch.autograd.grad(loss, x)[0]

    want = [bench.wide(part) for part in outcome(_small(torch).double(), torch.float64, "cpu")]
    dynamo.reset()
    dynamo.utils.counters.clear()
    compiled = torch.compile(_small(torch).to(bench.device), fullgraph=True)
    began = time.perf_counter()
    outcome(compiled, torch.float32, bench.device)  # compiles it: the profiler would watch every step of that
    bench.check.figures[f"{bench.device} compiling: seconds"] = round(time.perf_counter() - began, 1)
    got = bench.do("compiled tagger", lambda: outcome(compiled, torch.float32, bench.device))
    for what, left, right in zip(("logits", "gradient"), got, want):  # noqa: B905  (Python 3.9 has no strict)
        bench.within(f"compiled {what}", left, right, 1e-4 * abs(right).max())
    # Tracks with a gradient, as above: others are another graph, compiled once more.
    data = tracks.to(bench.device, torch.float32).requires_grad_(), flavour
    losses = bench.do("compiled training", lambda: _tagger.descend(torch, compiled, data, STEPS))
    want_losses = bench.wide(_tagger.descend(torch, _small(torch).double(), (tracks, flavour), STEPS))
    bench.within("compiled training", losses, want_losses, _tagger.PARTING * abs(want_losses))
    bench.check.expect(losses[-1] < losses[0], f"{bench.device}: the loss of a compiled tagger does not fall")
    graphs = dynamo.utils.counters["stats"]["unique_graphs"]
    bench.check.figures[f"{bench.device} graphs"] = int(graphs)
    bench.check.expect(graphs >= 1, f"{bench.device}: nothing was compiled")


def _small(torch: Any) -> Any:
    """Return a tagger of two layers: each further one is compiled again, and proves nothing more."""
    return _tagger.tagger(torch, layers=2)


if __name__ == "__main__":
    run(main)
