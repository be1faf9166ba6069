"""DataLoader workers give every event exactly once, in order, and leave none behind; their errors reach the trainer.

Exact: loading is no arithmetic. Workers are started by fork and, in a full run, anew (spawn); their memory
is pinned where there is a GPU.
"""

from __future__ import annotations

import os
from typing import Any

import _torch_work as work
from _protocol import Check, run

COUNT, BATCH, WORKERS = 1003, 64, 2


class Events:
    """Events that tell by which process they were loaded."""

    def __init__(self, broken: int = -1) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[int, float, int]:
        if index == self.broken:
            raise KeyError("event is broken")
        return index, index / 8, os.getpid()


def main(check: Check) -> str:
    found = work.benches(check)
    torch = found[0].torch
    data = check.need("torch.utils.data")
    ways = ("fork", "spawn") if check.full else ("fork",)
    for way in ways:
        loader = data.DataLoader(
            Events(),
            batch_size=BATCH,
            num_workers=WORKERS,
            multiprocessing_context=way,
            pin_memory=len(found) > 1,
        )
        batches = list(loader)
        index, value, process = (torch.cat([batch[part] for batch in batches]) for part in range(3))
        check.exact(f"{way}: events", index.numpy(), range(COUNT))
        check.exact(f"{way}: values", value.numpy(), [k / 8 for k in range(COUNT)])
        workers = set(process.tolist())
        check.expect(len(workers) == WORKERS and os.getpid() not in workers, f"{way}: loaded by {len(workers)} workers")
        for bench in found[1:]:
            moved = bench.do("events", lambda: value.to("cuda", non_blocking=True) * 8)  # noqa: B023
            bench.exact("events", moved, list(range(COUNT)))
    _error(check, data)
    return f"{COUNT} events by {WORKERS} workers ({' and '.join(ways)}), each once and in order"


def _error(check: Check, data: Any) -> None:
    try:
        list(data.DataLoader(Events(broken=500), batch_size=BATCH, num_workers=WORKERS, multiprocessing_context="fork"))
    except KeyError as error:
        check.expect("event is broken" in str(error), f"a worker's error reads {error}")
    else:
        check.expect(truth=False, otherwise="a worker's error was swallowed")


if __name__ == "__main__":
    run(main)
