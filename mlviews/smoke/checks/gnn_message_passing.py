"""Message passing over 100,000 nodes and a million edges: scattered and segmented sums are exact, gradients too.

Features are small whole numbers, so that float32 sums have no rounding in any order, and each result must be exactly
numpy's (``bincount`` in float64). Where PyG is installed a convolution of its own does the same work.

A full run also measures it with as many features as a layer of a network has. The least that must be moved is counted:
each edge's two places, the features of its source, and the sum they go into.
"""

from __future__ import annotations

import importlib
from typing import Any

import _torch_work as work
from _protocol import Check, run
from _reference import on_devices

NODES, EDGES, FEATURES = 100_000, 1_000_000, 4
WIDE = {"cpu": 8, "cuda": 64}


def main(check: Check) -> str:
    found = work.benches(check)
    ways = ["index_add", "scatter_reduce", "segment_reduce", "sparse product"]
    if check.has("torch_geometric"):
        ways.append("PyG")
    for bench in found:
        _on(bench, ways)
    check.figures.update(nodes=NODES, edges=EDGES)
    return f"{', '.join(ways)}, maxima and gradients are exact {on_devices(found)}"


def _on(bench: work.Bench, ways: list[str]) -> None:
    torch, numpy = bench.torch, bench.numpy
    generator = numpy.random.default_rng(4)
    nodes = generator.integers(-8, 9, (NODES, FEATURES)).astype("float32")
    source, target = generator.integers(0, NODES, (2, EDGES))
    target = numpy.sort(target)
    messages = nodes[source]
    want = numpy.stack([numpy.bincount(target, messages[:, f], NODES) for f in range(FEATURES)], axis=1)
    largest = numpy.full((NODES, FEATURES), -numpy.inf)
    starts = numpy.flatnonzero(numpy.diff(target, prepend=-1))
    largest[target[starts]] = numpy.maximum.reduceat(messages, starts, axis=0)
    x, edges = bench.put(nodes), bench.put(numpy.stack([source, target]))
    for way in ways:
        bench.exact(way, bench.do(way, lambda: _sum(torch, way, x, edges)), want)  # noqa: B023
    bench.exact("largest", bench.do("largest", lambda: _largest(torch, x, edges)), largest)
    if bench.check.full:
        _measure(bench, nodes, source, target, edges)
    # The gradient of half the squared sums passes the sums back along the edges.
    gradient = bench.do("gradient", lambda: _gradient(torch, x, edges))
    bench.exact("gradient", gradient[:, 0], numpy.bincount(source, want[target, 0], NODES))


def _sum(torch: Any, way: str, x: Any, edges: Any) -> Any:
    source, target = edges
    if way == "index_add":
        return torch.zeros_like(x).index_add_(0, target, x[source])
    if way == "scatter_reduce":
        places = target[:, None].expand(-1, FEATURES)
        return torch.zeros_like(x).scatter_reduce_(0, places, x[source], reduce="sum")
    if way == "segment_reduce":
        counts = torch.bincount(target, minlength=NODES)
        return torch.segment_reduce(x[source], "sum", lengths=counts, axis=0, initial=0.0)
    if way == "PyG":
        return importlib.import_module("torch_geometric.nn").SimpleConv(aggr="sum")(x, edges)
    ones = torch.ones(EDGES, device=x.device)
    return torch.sparse.mm(torch.sparse_coo_tensor(edges.flip(0), ones, (NODES, NODES), check_invariants=False), x)


def _largest(torch: Any, x: Any, edges: Any) -> Any:
    source, target = edges
    places = target[:, None].expand(-1, FEATURES)
    empty = torch.full_like(x, -torch.inf)
    return empty.scatter_reduce_(0, places, x[source], reduce="amax", include_self=True)


def _gradient(torch: Any, x: Any, edges: Any) -> Any:
    source, target = edges
    x = x.clone().requires_grad_()
    sums = torch.zeros_like(x).index_add(0, target, x[source])
    return torch.autograd.grad((sums * sums).sum() / 2, x)[0]


def _measure(bench: work.Bench, nodes: Any, source: Any, target: Any, edges: Any) -> None:
    numpy, what = bench.numpy, "wide messages"
    # Nodes, their sums, and the messages of every edge.
    wide = min(WIDE[bench.device], bench.room() // (4 * (2 * NODES + EDGES)))
    bench.check.expect(wide > 0, f"{bench.device}: no memory for a million messages")
    # Each feature is another shift of the first, so that none can stand for another.
    x = bench.put(numpy.stack([numpy.roll(nodes[:, 0], shift) for shift in range(wide)], axis=1))

    def step() -> Any:
        return _sum(bench.torch, "index_add", x, edges)

    took = bench.seconds(what, step)
    got = bench.do(what, step)
    for shift in (0, wide - 1):
        want = numpy.bincount(target, numpy.roll(nodes[:, 0], shift)[source], NODES)
        bench.exact(what, got[:, shift], want)
    bench.tell(what, EDGES * (2 * 8 + 2 * 4 * wide), "GB/s", took, kind="bandwidth")


if __name__ == "__main__":
    run(main)
