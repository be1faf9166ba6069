"""Train the tagger on jets and keep the best one.

    python train.py jets.npz -o tagger.pt

It takes a GPU if there is one. A fifth of the jets is left for plots: the model never sees them.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from jets import split
from tagger import Tagger
from torch import nn


def train(tracks: torch.Tensor, flavour: torch.Tensor, epochs: int, batch: int, device: str) -> Tagger:
    """Return the tagger of the epoch that did best on jets which it was not trained on."""
    training, choosing, _ = split(len(tracks))
    model = Tagger().to(device)
    steps = epochs * -(-training.stop // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss()
    best, kept = float("inf"), model.state_dict()
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        model.train()
        for chosen in torch.randperm(training.stop).split(batch):
            loss = loss_of(model.logits(tracks[chosen].to(device)), flavour[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        found = loss_on(model, tracks[choosing], flavour[choosing], batch, device)
        if found < best:
            best, kept = found, {name: value.clone() for name, value in model.state_dict().items()}
        seconds = time.monotonic() - started
        print(
            f"epoch {epoch + 1}: loss {total / training.stop:.3f}, on other jets {found:.3f}, {seconds:.1f} s",
            flush=True,
        )
    model.load_state_dict(kept)
    return model


@torch.no_grad()
def loss_on(model: Tagger, tracks: torch.Tensor, flavour: torch.Tensor, batch: int, device: str) -> float:
    """Return the mean loss on jets."""
    model.eval()
    logits = torch.cat([model.logits(part.to(device)).cpu() for part in tracks.split(batch)])
    return nn.functional.cross_entropy(logits, flavour).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jets")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("-o", "--output", default="tagger.pt")
    options = parser.parse_args()
    torch.manual_seed(1)
    jets = np.load(options.jets)
    tracks, flavour = torch.from_numpy(jets["tracks"]), torch.from_numpy(jets["flavour"])
    print(f"{len(tracks)} jets of {tracks.shape[1]} points on {options.device}")
    model = train(tracks, flavour, options.epochs, options.batch, options.device)
    torch.save(model.cpu().state_dict(), options.output)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
