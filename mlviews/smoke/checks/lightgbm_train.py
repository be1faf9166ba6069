"""LightGBM separates a sample as well as can be, on the CPU and, where its build can, on a GPU.

Bounds: see _sample.py. A build without CUDA refuses ``device_type=cuda``: its CPU part is then all there is.
"""

from __future__ import annotations

from typing import Any

import _sample
from _protocol import Check, gpu_memory, gpu_name, run, visible_gpus


def main(check: Check) -> str:
    numpy, lightgbm = check.need("numpy"), check.need("lightgbm")
    check.device = "cpu"
    said = _on(check, numpy, lightgbm, "cpu")
    if visible_gpus():
        before = gpu_memory()
        try:
            said = _on(check, numpy, lightgbm, "cuda")
        except lightgbm.basic.LightGBMError as error:
            if "CUDA Tree Learner was not enabled" not in str(error):
                raise
        else:
            check.expect(gpu_memory() > before, "LightGBM took no memory on the GPU")
            check.device = gpu_name()
    return said


def _on(check: Check, numpy: Any, lightgbm: Any, device: str) -> str:
    settings = {
        "objective": "binary",
        "device_type": device,
        "num_leaves": 15,
        "seed": 4,
        "deterministic": True,
        "verbosity": -1,
    }

    def train(x: Any, y: Any) -> Any:
        return lightgbm.train(settings, lightgbm.Dataset(x, y), 40)

    return _sample.judge(check, numpy, train, lambda booster, x: booster.predict(x), label=f"{device} trees")


if __name__ == "__main__":
    run(main)
