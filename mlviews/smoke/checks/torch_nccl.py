"""Processes that share a training sum their numbers and gradients right: NCCL, one process a GPU; on the CPU gloo, two.

Sums of whole numbers, copies and maxima are exact, in float32 too, for they fit its 24 bits. Sums of float32 round once
a process: N u of the sum of magnitudes. DistributedDataParallel must leave in every process the mean of all gradients,
those of a linear model in numpy's float64: 8 sqrt(K) u of the magnitudes of K products (see _reference.py). NCCL's
kernels must be seen by the profiler; one GPU alone needs none. Processes that wait for each other for ever are ended,
and told of.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import _torch_work as work
from _protocol import Check, WrongError, run
from _reference import UNIT

SECONDS = 120.0  # for all of it; what a test gives instead stands on the command line
COUNT, EVENTS, FEATURES = 100_003, 64, 16


def main(check: Check) -> str:
    found = work.benches(check)
    torch = found[0].torch
    gpus = torch.cuda.device_count()
    check.expect(torch.distributed.is_available(), "this PyTorch is built without torch.distributed")
    if gpus:
        check.expect(torch.distributed.is_nccl_available(), "this PyTorch is built for CUDA and without NCCL")
        check.versions["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    world, backend = (gpus, "nccl") if gpus else (2, "gloo")
    seconds = float(check.arguments[0]) if check.arguments else SECONDS
    members = _together(world, backend, seconds)
    check.figures.update({"processes": world, "backend": backend})
    for rank, member in enumerate(members):
        check.figures.update({f"{rank}: {what}": figure for what, figure in member["figures"].items()})
    check.device = ", ".join(dict.fromkeys(member["device"] for member in members))
    who = "1 process sums" if world == 1 else f"{world} processes sum"
    proved = f"{who} numbers and gradients right with {backend}"
    return f"{proved}: one GPU, so no link between GPUs was proved" if gpus == 1 else proved


def _together(world: int, backend: str, seconds: float) -> list[dict[str, Any]]:
    """Run all processes to their end; returns what each of them found."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as ends:
        folder = Path(name)
        members = []
        for rank in range(world):
            program = f"import torch_nccl; torch_nccl.member({rank}, {world}, {backend!r}, {name!r}, {seconds})"
            log = ends.enter_context((folder / f"{rank}.log").open("wb"))
            members.append(
                subprocess.Popen(
                    [sys.executable, "-c", program], cwd=Path(__file__).parent, stdout=log, stderr=subprocess.STDOUT
                )
            )
            ends.callback(members[-1].wait)
            ends.callback(members[-1].kill)
        deadline = time.monotonic() + seconds
        while any(member.poll() is None for member in members) and not any(member.poll() for member in members):
            if time.monotonic() > deadline:
                waiting = sum(member.poll() is None for member in members)
                raise WrongError(f"no end after {seconds:g} s: {waiting} of {world} processes still wait")
            time.sleep(0.05)
        for rank, member in enumerate(members):
            if member.poll():
                said = (folder / f"{rank}.log").read_text(errors="replace").strip()
                raise WrongError(f"process {rank} of {world}: {said[-500:]}")
        return [json.loads((folder / f"{rank}.json").read_bytes()) for rank in range(world)]


def member(rank: int, world: int, backend: str, folder: str, seconds: float) -> None:
    """Be one of the processes; leaves what was found in the folder, or ends with what is wrong."""
    for setting in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(setting, "lo")  # all are on this host, whose name need not be known to any network
    check = Check(full=False)
    torch = work.load(check)
    if backend == "nccl":
        torch.cuda.set_device(rank)
    bench = work.Bench(check, torch, check.need("numpy"), "cuda" if backend == "nccl" else "cpu")
    torch.distributed.init_process_group(
        backend, init_method=f"file://{folder}/store", rank=rank, world_size=world, timeout=timedelta(seconds=seconds)
    )
    try:
        _sums(bench, rank, world)
        _gradients(bench, rank, world)
    except WrongError as wrong:
        sys.exit(str(wrong))
    torch.distributed.destroy_process_group()
    if backend == "nccl":
        check.device = torch.cuda.get_device_name()
    report = {"device": check.device, "figures": check.figures}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(report), encoding="utf-8")


def _sums(bench: work.Bench, rank: int, world: int) -> None:
    torch, numpy = bench.torch, bench.numpy
    whole = [numpy.random.default_rng(member).integers(-(2**40), 2**40, COUNT) for member in range(world)]
    real = [numpy.random.default_rng(member).standard_normal(COUNT).astype("float32") for member in range(world)]
    operations = torch.distributed.ReduceOp

    def reduce(array: Any, operation: Any) -> Any:
        tensor = bench.put(array.copy())
        torch.distributed.all_reduce(tensor, operation)
        return tensor

    def gather(array: Any) -> Any:
        tensor = bench.put(array)
        parts = [torch.empty_like(tensor) for _ in range(world)]
        torch.distributed.all_gather(parts, tensor)
        return torch.stack(parts)

    bench.exact("whole sum", _do(bench, world, "whole sum", lambda: reduce(whole[rank], operations.SUM)), sum(whole))
    largest = numpy.max(whole, axis=0)
    bench.exact("largest", _do(bench, world, "largest", lambda: reduce(whole[rank], operations.MAX)), largest)
    bench.exact("gathered", _do(bench, world, "gathered", lambda: gather(whole[rank])), numpy.stack(whole))
    counts = [array % 1000 for array in whole]
    got = _do(bench, world, "whole float32 sum", lambda: reduce(counts[rank].astype("float32"), operations.SUM))
    bench.exact("whole float32 sum", got, sum(counts))
    got = _do(bench, world, "float32 sum", lambda: reduce(real[rank], operations.SUM))
    wide = numpy.stack(real).astype("float64")
    bench.within("float32 sum", got, wide.sum(axis=0), world * UNIT["float32"] * abs(wide).sum(axis=0))


def _gradients(bench: work.Bench, rank: int, world: int) -> None:
    torch, numpy = bench.torch, bench.numpy
    inputs = numpy.random.default_rng(4).standard_normal((world, EVENTS, FEATURES)).astype("float32")
    models = []
    for seed in (0, rank):  # the first process' weights become everybody's
        torch.manual_seed(seed)
        models.append(torch.nn.Linear(FEATURES, 1).to(bench.device))
    first, model = models
    shared = torch.nn.parallel.DistributedDataParallel(model, device_ids=[rank] if bench.device == "cuda" else None)

    def backward() -> Any:
        shared(bench.put(inputs[rank])).sum().backward()
        return model.weight.grad

    got = _do(bench, world, "gradient", backward)
    want, size = inputs.astype("float64"), abs(inputs.astype("float64"))
    bound = 8 * (world * EVENTS) ** 0.5 * UNIT["float32"] * size.sum(axis=(0, 1)) / world
    bench.within("gradient", got[0], want.sum(axis=(0, 1)) / world, bound)
    bench.exact("weights", model.weight, first.weight.detach().cpu().numpy())


def _do(bench: work.Bench, world: int, what: str, step: Any) -> Any:
    # One GPU has nobody to talk to: NCCL starts no kernel for it.
    return bench.do(what, step, kernel="nccl") if world > 1 else step()


if __name__ == "__main__":
    run(main)
