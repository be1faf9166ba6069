"""A training of several processes over gloo: ddp.py OUTPUT STEPS SECONDS. The first one saves; all end together."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import torch
from mlviews_resume import Checkpoints
from torch import distributed

output, steps, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
distributed.init_process_group("gloo")
rank = distributed.get_rank()
checkpoints = Checkpoints(every=0.5)
torch.manual_seed(1)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
first = 0
if newest := checkpoints.newest():
    state = torch.load(newest)
    first = state["step"]
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
print(
    f"process {rank} of {distributed.get_world_size()} begins at {first}: {os.environ['GLOO_SOCKET_IFNAME']}",
    flush=True,
)
for step in range(first, steps):
    generator = torch.Generator().manual_seed(1000 * step + rank)
    loss = (model(torch.randn(32, 16, generator=generator)) - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(seconds)
    wanted = torch.tensor([checkpoints.told(), rank == 0 and checkpoints.due()])
    distributed.all_reduce(wanted, distributed.ReduceOp.MAX)
    told, due = wanted.tolist()
    if rank == 0 and due:
        state = {"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
        checkpoints.save(lambda file, state=state: torch.save(state, file))
    if told:
        checkpoints.end()
if rank == 0:
    weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    output.write_text(hashlib.sha256(weights).hexdigest())
distributed.barrier()
distributed.destroy_process_group()
