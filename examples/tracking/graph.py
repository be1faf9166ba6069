"""Make a graph of an event: an edge joins two hits of neighbouring layers that one particle may have left.

The two cuts are physics: a particle of at least 1 GeV does not bend more, and it comes from the beam line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hits import BEAM_SPREAD, LAYERS, LEAST_PT, Event, radius

BEND = 1.02  # of the strongest bend: what the resolution adds
FEATURES = 4  # of a hit
EDGE_FEATURES = 3


@dataclass(frozen=True)
class Graph:
    """Hits and edges as a network reads them.

    Attributes:
        hits: (hits, FEATURES), each of the size of one.
        edges: (2, edges): the inner and the outer hit of each.
        between: (edges, EDGE_FEATURES): how its two hits lie to each other.
        true: whether one particle left both.
    """

    hits: np.ndarray
    edges: np.ndarray
    between: np.ndarray
    true: np.ndarray


def make_graph(event: Event) -> Graph:
    """Return an event's graph."""
    edges = np.concatenate([_edges(event, layer) for layer in range(len(LAYERS) - 1)], axis=1)
    r = LAYERS[event.layer]
    inner, outer = edges
    bend = (event.phi[outer] - event.phi[inner] + np.pi) % (2 * np.pi) - np.pi
    step = r[outer] - r[inner]
    rise = (event.z[outer] - event.z[inner]) / step
    origin = event.z[inner] - r[inner] * rise
    hits = np.stack([r / 1000, np.cos(event.phi), np.sin(event.phi), event.z / 1000], axis=1)
    # Of one particle, all edges have the same bend over step, and the same origin.
    between = np.stack([1000 * bend / step, rise, origin / (3 * BEAM_SPREAD)], axis=1)
    true = (event.particle[inner] == event.particle[outer]) & (event.particle[inner] >= 0)
    return Graph(hits.astype(np.float32), edges, between.astype(np.float32), true)


def _edges(event: Event, layer: int) -> np.ndarray:
    """Return the edges from a layer to the next."""
    inner, outer = (np.flatnonzero(event.layer == place) for place in (layer, layer + 1))
    near, far = LAYERS[layer], LAYERS[layer + 1]
    strongest = radius(np.array(LEAST_PT))
    window = BEND * (np.arcsin(far / (2 * strongest)) - np.arcsin(near / (2 * strongest))) + 0.003

    # Outer hits in the order of their azimuth, once more before and after, so that no window ends at pi.
    outer = outer[np.argsort(event.phi[outer])]
    turns = np.concatenate([event.phi[outer] + turn for turn in (-2 * np.pi, 0, 2 * np.pi)])
    first = np.searchsorted(turns, event.phi[inner] - window)
    count = np.searchsorted(turns, event.phi[inner] + window) - first
    begin = np.repeat(first - np.cumsum(count) + count, count)
    pairs = np.stack([np.repeat(inner, count), np.tile(outer, 3)[begin + np.arange(count.sum())]])

    z_inner, z_outer = event.z[pairs]
    origin = z_inner - near * (z_outer - z_inner) / (far - near)
    return pairs[:, np.abs(origin) < 3 * BEAM_SPREAD]
