"""How much memory does a training take on a GPU? Counted on any computer; measured where there is a GPU.

    python memory.py tagger --points 1000 --batch 256
    python memory.py tracking --hits 100000

    memory = 16 bytes * parameters + what the forward pass keeps for the backward pass + the largest step

16 bytes are a weight, its gradient and AdamW's two means, in single precision. What is kept is counted by PyTorch's own
hooks on a small batch, and grows with the batch. The largest step is a share of that: a quarter is added.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

GPUS = {"T4": 16, "V100": 32, "A100": 40, "A100 80GB": 80, "H100": 80, "H200": 141}  # GB, as sold
HERE = Path(__file__).resolve().parent
STEP = 1.25


def kept_bytes(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, each tensor once."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)  # an address means the same for as long as what lies there lives
        return tensor

    alive: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(*inputs)
    return sum(kept.values())


def model_of(name: str, options: argparse.Namespace, part: int) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """Return a network and inputs for it, of which there are ``1 / part`` of what is asked for."""
    # One of two models: the other one's folder may hold files of the same names.
    if name == "tagger":
        sys.path.insert(0, str(HERE / "flavour-tagging"))
        from jets import make_jets  # noqa: PLC0415
        from tagger import Tagger  # noqa: PLC0415

        jets = make_jets(max(1, options.batch // part), options.points)
        return Tagger(), (torch.from_numpy(jets.tracks),)
    sys.path.insert(0, str(HERE / "tracking"))
    from graph import make_graph  # noqa: PLC0415
    from hits import make_event  # noqa: PLC0415
    from network import TrackNetwork  # noqa: PLC0415

    graph = make_graph(make_event(max(1000, options.hits // part)))
    print(f"{len(graph.hits)} hits, {len(graph.true)} edges")
    return TrackNetwork(options.width, options.rounds), tuple(
        torch.from_numpy(array) for array in (graph.hits, graph.edges, graph.between)
    )


def measured(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """Return the most bytes that PyTorch held on the GPU in three steps of a training."""
    network, inputs = network.cuda(), tuple(tensor.cuda() for tensor in inputs)
    optimizer = torch.optim.AdamW(network.parameters())
    for _ in range(3):
        network(*inputs).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return torch.cuda.max_memory_allocated()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["tagger", "tracking"])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--hits", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", type=int, default=1, help="count with so small a part of the batch, and multiply")
    options = parser.parse_args()
    network, inputs = model_of(options.model, options, options.part)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    network.train()
    kept = kept_bytes(network, inputs) * (options.part if options.model == "tagger" else 1)
    needed = 16 * parameters + STEP * kept
    print(f"{parameters} parameters: {16 * parameters / 1e9:.3f} GB; kept for the backward pass: {kept / 1e9:.3f} GB")
    roomy = [gpu for gpu, memory in GPUS.items() if needed / 1e9 < 0.9 * memory]
    print(f"counted: {needed / 1e9:.2f} GB; has room: {', '.join(roomy) or 'none of them'}")
    if torch.cuda.is_available():
        found = measured(*model_of(options.model, options, 1))
        print(f"measured on {torch.cuda.get_device_name()}: {found / 1e9:.2f} GB at most")


if __name__ == "__main__":
    main()
