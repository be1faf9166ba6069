"""Make jets of three flavours, each in a crowd of pile-up tracks, and write them into a file.

    python jets.py --jets 4000 --points 200 -o jets.npz

A bottom hadron flies some millimetres before it decays, a charm hadron less, and light quarks make none of them. So the
tracks of a b jet miss the collision's vertex: their impact parameter is large. That is all that the tagger can learn
here, and its source can be checked: `mean_lifetime` gives back what went in.

Simplified: no magnetic field, so tracks are straight lines near the vertex; one kind of hadron for a flavour; a
detector without holes. Lifetimes and masses are those of the Particle Data Group.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

FLAVOURS = ("light", "charm", "bottom")  # a jet's label is the place in this list
COLUMNS = ("pt", "deta", "dphi", "d0", "d0_error", "z0", "z0_error")  # of a track; GeV, radian, mm

LIGHT_SPEED = 0.299792458  # mm/ps
MASS = {"charm": 1.865, "bottom": 5.280}  # GeV: D0, B0
LIFETIME = {"charm": 0.410, "bottom": 1.517}  # ps
TRACKS = {"charm": 2.4, "bottom": 2.6}  # charged, from that decay alone: a bottom hadron's charm adds its own
VERTEX_SPREAD = 45.0  # mm: how far collisions lie from each other along the beam


@dataclass(frozen=True)
class Jets:
    """Jets and what is true of them.

    Attributes:
        tracks: (jets, points, COLUMNS) as the detector measures them; a row of zeros is no track.
        flavour: place in FLAVOURS.
        flight: transverse distance from the collision to the decay of the heaviest hadron, in mm; 0 without one.
        hadron_pt: that hadron's transverse momentum, in GeV.
    """

    tracks: np.ndarray
    flavour: np.ndarray
    flight: np.ndarray
    hadron_pt: np.ndarray


def make_jets(number: int, points: int, seed: int = 1) -> Jets:
    """Make jets, a third of each flavour, with at most ``points`` tracks around each."""
    random = np.random.default_rng(seed)
    tracks = np.zeros((number, points, len(COLUMNS)), np.float32)
    flavour = np.arange(number) % len(FLAVOURS)
    flight, hadron_pt = np.zeros(number), np.zeros(number)
    for jet in range(number):
        rows, flight[jet], hadron_pt[jet] = _jet(FLAVOURS[flavour[jet]], points, random)
        tracks[jet, : len(rows)] = rows[:points]
    order = random.permutation(number)
    return Jets(tracks[order], flavour[order], flight[order], hadron_pt[order])


def mean_lifetime(jets: Jets, flavour: str) -> tuple[float, float]:
    """Return the mean lifetime of a flavour's hadrons and its uncertainty, in ps: t = L m / (pT c)."""
    chosen = jets.flavour == FLAVOURS.index(flavour)
    proper = jets.flight[chosen] * MASS[flavour] / jets.hadron_pt[chosen] / LIGHT_SPEED
    return float(proper.mean()), float(proper.std() / np.sqrt(len(proper)))


def split(jets: int) -> tuple[slice, slice, slice]:
    """Return which jets are for training, for choosing the best epoch, and for plots: no jet is in two of them."""
    return slice(0, jets * 7 // 10), slice(jets * 7 // 10, jets * 8 // 10), slice(jets * 8 // 10, jets)


def _jet(flavour: str, points: int, random: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Return a jet's tracks with the pile-up around it, and the flight and momentum of its hadron."""
    jet_pt = min(30 * random.random() ** -0.25, 250)  # a falling spectrum, the same for all flavours
    groups = [_tracks(1 + random.poisson(5), 0.5 * jet_pt, 0.0, 0.4, random)]  # from the quark, at the collision
    flight = hadron_pt = 0.0
    if flavour == "bottom":
        hadron_pt = jet_pt * random.beta(8, 3)
        flight = _flight("bottom", hadron_pt, random)
        groups.append(_tracks(random.poisson(TRACKS["bottom"]), 0.5 * hadron_pt, flight, 0.9, random))
        charm_pt = 0.5 * hadron_pt
        beyond = flight + _flight("charm", charm_pt, random)
        groups.append(_tracks(random.poisson(TRACKS["charm"]), 0.7 * charm_pt, beyond, 0.5, random))
    elif flavour == "charm":
        hadron_pt = jet_pt * random.beta(5, 4)
        flight = _flight("charm", hadron_pt, random)
        groups.append(_tracks(random.poisson(TRACKS["charm"]), 0.7 * hadron_pt, flight, 0.5, random))
    inside = sum(map(len, groups))
    groups.append(_pile_up(min(random.poisson(0.9 * points), max(points - inside, 0)), random))
    rows = np.concatenate(groups)
    return rows[random.permutation(len(rows))], flight, hadron_pt


def _flight(flavour: str, pt: float, random: np.random.Generator) -> float:
    """Draw how far a hadron flies in the transverse plane before it decays, in mm."""
    return random.exponential(LIGHT_SPEED * LIFETIME[flavour]) * pt / MASS[flavour]


def _tracks(number: int, pt: float, flight: float, kick: float, random: np.random.Generator) -> np.ndarray:
    """Return tracks that share ``pt`` and start ``flight`` mm out, with ``kick`` GeV across their direction."""
    momenta = np.maximum(pt * random.dirichlet(np.full(number, 1.5)), 0.5) if number else np.zeros(0)
    deta, dphi = random.normal(0, 1, (2, number)) * kick / momenta
    # A straight line from (flight, 0) passes the origin at this distance; along the beam, it starts in the jet's
    # direction and comes back with its own.
    miss = -flight * np.sin(dphi)
    along = -flight * np.sinh(deta)
    return _measured(momenta, deta, dphi, miss, along, random)


def _pile_up(number: int, random: np.random.Generator) -> np.ndarray:
    """Return tracks of other collisions, spread over half a unit around the jet."""
    momenta = 0.5 + random.exponential(0.6, number)
    deta, dphi = random.uniform(-0.5, 0.5, (2, number))
    along = random.normal(0, VERTEX_SPREAD * np.sqrt(2), number)
    return _measured(momenta, deta, dphi, np.zeros(number), along, random)


def _measured(
    pt: np.ndarray, deta: np.ndarray, dphi: np.ndarray, miss: np.ndarray, along: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Return tracks as a detector measures them: the resolution gets worse where scattering matters."""
    d0_error = np.hypot(0.010, 0.080 / pt)
    z0_error = np.hypot(0.050, 0.120 / pt)
    d0 = miss + random.normal(0, d0_error)
    z0 = along + random.normal(0, z0_error)
    # The sign is positive where the track crosses the jet's axis in front of the collision, negative behind it.
    axis = dphi + random.normal(0, 0.01)  # a jet's direction is not its hadron's
    signed = np.abs(d0) * np.sign(-np.sin(axis) * d0)
    return np.stack([pt, deta, axis, signed, d0_error, z0, z0_error], axis=1).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jets", type=int, default=4000)
    parser.add_argument(
        "--points", type=int, default=200, help="tracks around a jet, at most; 1000 is what a GPU is for"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", default="jets.npz")
    options = parser.parse_args()
    jets = make_jets(options.jets, options.points, options.seed)
    np.savez(options.output, **vars(jets))
    for flavour in ("charm", "bottom"):
        mean, error = mean_lifetime(jets, flavour)
        print(f"{flavour}: lifetime {mean:.3f} +- {error:.3f} ps, {LIFETIME[flavour]:.3f} went in")
    print(f"wrote {options.jets} jets to {options.output}")


if __name__ == "__main__":
    main()
