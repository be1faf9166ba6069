"""Tracks of edges: which edges are kept, what hangs together, and how well that is what was true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hits import LAYERS, Event

ENOUGH = 5  # hits: a shorter track is not counted


@dataclass(frozen=True)
class Found:
    """How well tracks were found.

    Attributes:
        efficiency: of all particles, those whose track holds at least half of their hits and is theirs by half.
        purity: of all tracks, those that are a particle's by half.
    """

    tracks: int
    efficiency: float
    purity: float


def tracks_of(hits: int, edges: np.ndarray) -> np.ndarray:
    """Return for each hit the number of its track: the smallest hit that edges lead to."""
    track = np.arange(hits)
    inner, outer = edges
    while True:
        least = np.minimum(track[inner], track[outer])
        before = track.copy()
        np.minimum.at(track, inner, least)
        np.minimum.at(track, outer, least)
        track = track[track]
        if (track == before).all():
            return track


def best_edges(edges: np.ndarray, score: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Return the edges above a score that are the best of both of their hits: tracks do not branch."""
    inner, outer = edges
    hits = int(edges.max(initial=0)) + 1
    best = np.full((2, hits), -np.inf)
    np.maximum.at(best[0], inner, score)
    np.maximum.at(best[1], outer, score)
    return edges[:, (score > least) & (score >= best[0][inner]) & (score >= best[1][outer])]


def judge(event: Event, track: np.ndarray) -> Found:
    """Compare tracks with the particles that left the hits."""
    number, size = np.unique(track, return_counts=True)
    long = set(number[size >= ENOUGH])
    chosen = np.isin(track, list(long))
    theirs = chosen & (event.particle >= 0)
    pairs, shared = np.unique(np.stack([track[theirs], event.particle[theirs]]), axis=1, return_counts=True)
    sizes = dict(zip(number.tolist(), size.tolist(), strict=True))
    good = [
        particle
        for (found, particle), count in zip(pairs.T.tolist(), shared.tolist(), strict=True)
        if count * 2 > sizes[found] and count * 2 >= len(LAYERS)
    ]
    pure = sum(count * 2 > sizes[found] for (found, _), count in zip(pairs.T.tolist(), shared.tolist(), strict=True))
    return Found(len(long), len(set(good)) / len(event.pt), pure / max(len(long), 1))
