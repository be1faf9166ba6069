"""Write the trained tagger as an ONNX file, and see that ONNX Runtime gives what PyTorch gives.

python export.py tagger.pt -o tagger.onnx
"""

from __future__ import annotations

import argparse

import numpy as np
import onnxruntime
import torch
from jets import make_jets
from tagger import Tagger


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("-o", "--output", default="tagger.onnx")
    options = parser.parse_args()
    model = Tagger().eval()
    model.load_state_dict(torch.load(options.weights))

    example = torch.from_numpy(make_jets(3, 50, seed=2).tracks)
    # The file shall take any number of jets and any number of points, not those of the example.
    any_number = {0: torch.export.Dim("jets"), 1: torch.export.Dim("points")}
    torch.onnx.export(
        model, (example,), options.output, dynamo=True, dynamic_shapes=(any_number,),
        input_names=["tracks"], output_names=["flavour"], external_data=False, verbose=False,
    )  # fmt: skip

    session = onnxruntime.InferenceSession(options.output, providers=["CPUExecutionProvider"])
    other = make_jets(6, 80, seed=3).tracks  # of another size than the example
    with torch.no_grad():
        expected = model(torch.from_numpy(other)).numpy()
    (found,) = session.run(None, {"tracks": other})
    difference = np.abs(found - expected).max()
    if difference > 1e-4:
        raise SystemExit(f"ONNX Runtime and PyTorch differ by {difference:.1e}")
    print(f"wrote {options.output}; ONNX Runtime and PyTorch differ by {difference:.1e} at most")


if __name__ == "__main__":
    main()
