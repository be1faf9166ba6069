"""The tagger: a transformer that reads all tracks around a jet at once and tells light, charm and bottom apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tagger(nn.Module):
    """Tracks in, a probability for each flavour out.

    It takes tracks as `jets.py` writes them, in GeV, radian and mm. What makes numbers of a handy size of them is part
    of the model, so that the ONNX file needs no program beside it.
    """

    def __init__(self, width: int = 32, layers: int = 2, heads: int = 2, flavours: int = 3) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(6, width), nn.GELU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.weight = nn.Linear(width, 1)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, flavours))

    def forward(self, tracks: Tensor) -> Tensor:
        """Return probabilities of shape (jets, flavours) for tracks of shape (jets, points, 7)."""
        return self.logits(tracks).softmax(dim=1)

    def logits(self, tracks: Tensor) -> Tensor:
        """Return what the loss takes: probabilities before the softmax."""
        there = tracks[:, :, 0] > 0  # rows of zeros are no tracks
        points = self.embed(features(tracks))
        for layer in self.layers:
            points = layer(points, there)
        # A weighted mean over the tracks: the model learns which ones matter.
        weight = self.weight(points).squeeze(2).masked_fill(~there, -1e4).softmax(dim=1)
        return self.head((weight.unsqueeze(2) * points).sum(dim=1))


class Layer(nn.Module):
    """Attention among all points, then the same two-layer network for each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, points: Tensor, there: Tensor) -> Tensor:
        """Return ``points`` after each has looked at all that are ``there``."""
        split = self.query_key_value(self.before(points)).unflatten(2, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (jets, heads, points, width of a head)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=there[:, None, None, :])
        points = points + self.out(seen.transpose(1, 2).flatten(2))
        return points + self.mix(points)


def features(tracks: Tensor) -> Tensor:
    """Return six numbers of a handy size for each track."""
    pt, deta, dphi, d0, d0_error, z0, z0_error = tracks.unbind(dim=2)
    there = pt > 0
    significances = (squeeze(d0 / d0_error.clamp_min(1e-3)), squeeze(z0 / z0_error.clamp_min(1e-3)))
    numbers = torch.stack(
        [pt.clamp_min(0.1).log(), deta, dphi, (deta**2 + dphi**2 + 1e-6).log() / 4, *significances], dim=2
    )
    return numbers * there.unsqueeze(2)


def squeeze(number: Tensor) -> Tensor:
    """Return the sign times log(1 + size): small numbers stay, a significance of 1000 becomes 7."""
    return number.sign() * number.abs().log1p()
