"""Find tracks in an event: keep the edges that the network likes, and take what hangs together.

python find.py network.pt event.npz
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from graph import make_graph
from hits import Event
from network import TrackNetwork
from tracks import best_edges, judge, tracks_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("event")
    options = parser.parse_args()
    event = Event(**np.load(options.event))
    graph = make_graph(event)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    saved = torch.load(options.network)
    network = TrackNetwork(saved["width"], saved["rounds"]).to(device).eval()
    network.load_state_dict(saved["network"])
    with torch.no_grad():
        inputs = (torch.from_numpy(array).to(device) for array in (graph.hits, graph.edges, graph.between))
        score = network(*inputs).cpu().numpy()
    found = judge(event, tracks_of(len(event.phi), best_edges(graph.edges, score)))
    print(f"{len(event.phi)} hits, {len(score)} edges, of which {graph.true.sum()} are true")
    print(f"{found.tracks} tracks: efficiency {found.efficiency:.3f}, purity {found.purity:.3f}")


if __name__ == "__main__":
    main()
