"""Train the network on events that it makes itself, and save what it has learned.

python train.py --hits 10000 --epochs 20 -o network.pt
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from graph import Graph, make_graph
from hits import make_event
from network import TrackNetwork
from torch.nn.functional import binary_cross_entropy_with_logits


def on(device: torch.device, graph: Graph) -> tuple[torch.Tensor, ...]:
    """Return a graph's arrays on a device: hits, edges, between, true."""
    arrays = (graph.hits, graph.edges, graph.between, graph.true.astype(np.float32))
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=10_000, help="of each event; 100000 is what a GPU is for")
    parser.add_argument("--events", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", default="network.pt")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(1)
    graphs = [on(device, make_graph(make_event(options.hits, seed))) for seed in range(1, options.events + 1)]
    network = TrackNetwork(options.width, options.rounds).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    print(f"{options.events} events of {options.hits} hits and {len(graphs[0][3])} edges on {device}")

    begun = time.monotonic()
    for epoch in range(1, options.epochs + 1):
        total = 0.0
        for hits, edges, between, true in graphs:  # one event a step: it is large enough
            loss = binary_cross_entropy_with_logits(network(hits, edges, between), true)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        if epoch in {1, options.epochs} or epoch % 5 == 0:
            print(f"epoch {epoch}: loss {total / len(graphs):.4f}, {time.monotonic() - begun:.0f} s")
    if device.type == "cuda":
        print(f"memory of the GPU: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at most")
    saved = {"network": network.cpu().state_dict(), "width": options.width, "rounds": options.rounds}
    torch.save(saved, options.output)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
