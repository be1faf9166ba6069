"""The network: hits and edges tell each other what they know, some rounds long; then each edge is judged.

Interaction networks for tracking: https://arxiv.org/abs/2103.16701.
"""

from __future__ import annotations

import torch
from graph import EDGE_FEATURES, FEATURES
from torch import nn


def _layers(before: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width))


class TrackNetwork(nn.Module):
    """Say of each edge whether one particle left both of its hits: a number that is positive if so."""

    def __init__(self, width: int = 32, rounds: int = 3) -> None:
        super().__init__()
        self.hit_in, self.edge_in = _layers(FEATURES, width), _layers(EDGE_FEATURES, width)
        self.edge_rounds = nn.ModuleList(_layers(3 * width, width) for _ in range(rounds))
        self.hit_rounds = nn.ModuleList(_layers(3 * width, width) for _ in range(rounds))
        self.judge = nn.Linear(width, 1)

    def forward(self, hits: torch.Tensor, edges: torch.Tensor, between: torch.Tensor) -> torch.Tensor:
        inner, outer = edges
        hits, between = self.hit_in(hits), self.edge_in(between)
        for edge_round, hit_round in zip(self.edge_rounds, self.hit_rounds, strict=True):
            between = between + edge_round(torch.cat([hits[inner], hits[outer], between], dim=1))
            from_inside = torch.zeros_like(hits).index_add(0, outer, between)
            from_outside = torch.zeros_like(hits).index_add(0, inner, between)
            hits = hits + hit_round(torch.cat([hits, from_inside, from_outside], dim=1))
        return self.judge(between).squeeze(1)
