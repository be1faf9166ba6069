"""Make an event: particles that cross ten layers of a barrel detector, and the hits that they leave.

    python hits.py --hits 100000 -o event.npz

Simplified: a particle flies on a helix in a magnetic field of 2 T, from a point on the beam line; layers are whole
cylinders without material, and each measures with the same resolution. One hit in seven is noise. The physics can be
checked: `momentum` gives back what went in, from the hits alone.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

LAYERS = np.array([32.0, 72, 116, 172, 260, 360, 500, 660, 820, 1020])  # radii in mm
FIELD = 2.0  # T
BEAM_SPREAD = 50.0  # mm: how far collisions lie from each other along the beam
R_PHI_ERROR, Z_ERROR = 0.02, 0.05  # mm
LEAST_PT = 1.0  # GeV
NOISE = 1 / 7


@dataclass(frozen=True)
class Event:
    """Hits, in no order, and what is true of them.

    Attributes:
        layer: place in LAYERS.
        phi: azimuth, in radian.
        z: place along the beam, in mm.
        particle: whose hit it is; -1 for noise.
        pt: by particle, its transverse momentum in GeV.
        charge: by particle, +1 or -1.
    """

    layer: np.ndarray
    phi: np.ndarray
    z: np.ndarray
    particle: np.ndarray
    pt: np.ndarray
    charge: np.ndarray


def make_event(hits: int, seed: int = 1) -> Event:
    """Make an event of about ``hits`` hits."""
    random = np.random.default_rng(seed)
    number = max(1, round(hits * (1 - NOISE) / len(LAYERS)))
    pt = LEAST_PT * random.random(number) ** -0.5  # a falling spectrum
    charge = random.choice([-1, 1], number)
    start_phi, start_z = random.uniform(-np.pi, np.pi, number), random.normal(0, BEAM_SPREAD, number)
    slope = np.sinh(random.uniform(-1.5, 1.5, number))  # dz by path in the transverse plane

    # On a circle of radius R through the beam line, a chord of length r ends at asin(r / 2R) from its first direction.
    turned = np.arcsin(LAYERS / (2 * radius(pt)[:, None]))
    phi = start_phi[:, None] - charge[:, None] * turned
    z = start_z[:, None] + 2 * radius(pt)[:, None] * turned * slope[:, None]
    layer = np.broadcast_to(np.arange(len(LAYERS)), phi.shape)
    particle = np.broadcast_to(np.arange(number)[:, None], phi.shape)
    phi = phi + random.normal(0, R_PHI_ERROR, phi.shape) / LAYERS
    z = z + random.normal(0, Z_ERROR, z.shape)

    noise = hits - phi.size
    noise_layer = random.integers(0, len(LAYERS), noise)
    noise_z = random.uniform(-2.2, 2.2, noise) * LAYERS[noise_layer]
    order = random.permutation(hits)

    def mixed(of_particles: np.ndarray, of_noise: np.ndarray) -> np.ndarray:
        return np.concatenate([of_particles.ravel(), of_noise])[order]

    return Event(
        layer=mixed(layer, noise_layer),
        phi=_around(mixed(phi, random.uniform(-np.pi, np.pi, noise))),
        z=mixed(z, noise_z),
        particle=mixed(particle, np.full(noise, -1)),
        pt=pt,
        charge=charge,
    )


def radius(pt: np.ndarray) -> np.ndarray:
    """Return the radius of a particle's circle, in mm: R = pT / (0.3 B), with GeV, T and m."""
    return 1000 * pt / (0.3 * FIELD)


def momentum(event: Event, inner: int = 0, outer: int = len(LAYERS) - 1) -> np.ndarray:
    """Return each particle's transverse momentum in GeV, from its hits in two layers and the beam line."""
    at = {}
    for place in (inner, outer):
        there = (event.layer == place) & (event.particle >= 0)
        at[place] = np.zeros(len(event.pt))
        at[place][event.particle[there]] = event.phi[there]
    # Three points of a circle; two sides from the beam line and the angle between them give its radius.
    first, last = LAYERS[inner], LAYERS[outer]
    angle = np.abs(_around(at[outer] - at[inner]))
    opposite = np.sqrt(first**2 + last**2 - 2 * first * last * np.cos(angle))
    return 0.3 * FIELD * opposite / (2 * np.sin(angle)) / 1000


def _around(phi: np.ndarray) -> np.ndarray:
    """Return angles between -pi and pi."""
    return (phi + np.pi) % (2 * np.pi) - np.pi


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", default="event.npz")
    options = parser.parse_args()
    event = make_event(options.hits, options.seed)
    np.savez(options.output, **vars(event))
    ratio = np.median(momentum(event) / event.pt)
    print(f"{len(event.pt)} particles; momentum from their hits / what went in: {ratio:.3f}")
    print(f"wrote {options.hits} hits to {options.output}")


if __name__ == "__main__":
    main()
