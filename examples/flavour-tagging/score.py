"""Apply the ONNX file to the jets that training has not seen. Only ONNX Runtime and numpy are needed.

python score.py tagger.onnx jets.npz -o scores.npz
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import onnxruntime
from jets import FLAVOURS, split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("jets")
    parser.add_argument("-o", "--output", default="scores.npz")
    options = parser.parse_args()
    jets = np.load(options.jets)
    tracks, flavour = jets["tracks"], jets["flavour"]
    *_, unseen = split(len(tracks))
    tracks, flavour = tracks[unseen], flavour[unseen]

    # Ask afterwards: where CUDA cannot be used, ONNX Runtime takes the CPU without an error.
    wanted = [name for name in onnxruntime.get_available_providers() if name.startswith(("CUDA", "CPU"))]
    session = onnxruntime.InferenceSession(options.model, providers=wanted)
    provider = session.get_providers()[0]
    started = time.perf_counter()
    scores = np.concatenate([session.run(None, {"tracks": jet[None]})[0] for jet in tracks])
    each = (time.perf_counter() - started) / len(tracks)
    np.savez(options.output, scores=scores, flavour=flavour)
    print(f"{len(tracks)} jets with {provider}, {1e3 * each:.2f} ms each")
    signal = FLAVOURS.index("bottom")
    for background in ("charm", "light"):
        area = area_under_curve(scores[:, signal], flavour, signal, FLAVOURS.index(background))
        print(f"bottom against {background}: area under the curve {area:.3f}")


def area_under_curve(score: np.ndarray, flavour: np.ndarray, signal: int, background: int) -> float:
    """Return how often a signal jet has a higher score than a background jet; 0.5 is a guess, 1 is perfect."""
    above = score[flavour == signal][:, None] - score[flavour == background][None, :]
    return float((above > 0).mean() + (above == 0).mean() / 2)


if __name__ == "__main__":
    main()
