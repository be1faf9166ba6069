"""A flavour tagger as groups train them, and jets made up for it: a transformer over the tracks of a jet."""

from __future__ import annotations

from typing import Any

TRACKS, FEATURES, CLASSES = 20, 8, 3
PARTING = 2e-4  # how far the losses of a few steps in float32 may be from float64's, in parts: see torch_train.py


def tagger(torch: Any, *, width: int = 128, layers: int = 5) -> Any:
    """Return a transformer tagger; one million parameters with the figures given."""
    nn = torch.nn

    class Tagger(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(FEATURES, width)
            # No dropout: the same numbers must come out twice.
            layer = nn.TransformerEncoderLayer(
                width, 8, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
            self.classify = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CLASSES))

        def forward(self, tracks: Any) -> Any:
            return self.classify(self.encoder(self.embed(tracks)).mean(dim=1))

    torch.manual_seed(4)
    return Tagger()


def jets(torch: Any, count: int, *, seed: int = 4) -> tuple[Any, Any]:
    """Return tracks and flavours: b and c jets hold displaced tracks, more of them and farther out for b."""
    generator = torch.Generator().manual_seed(seed)
    tracks = torch.randn(count, TRACKS, FEATURES, generator=generator, dtype=torch.float64)
    flavour = torch.randint(CLASSES, (count,), generator=generator)
    displaced = torch.rand(count, TRACKS, generator=generator) < 0.3 * flavour[:, None]
    tracks[..., 0] += 3.0 * displaced * flavour[:, None]
    return tracks, flavour


def descend(torch: Any, model: Any, data: tuple[Any, Any], steps: int) -> Any:
    """Return the loss of each step of plain gradient descent; Adam would divide small roundings by small gradients."""
    weight = next(model.parameters())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = data[0].to(weight.device, weight.dtype), data[1].to(weight.device)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)
