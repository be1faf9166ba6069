"""XGBoost separates a sample as well as can be, on the CPU and on a GPU, and both give the same model's quality.

Bounds: see _sample.py. On a GPU the booster's own configuration must name it after training, and the driver's count of
the process's memory there must have grown: XGBoost goes back to the CPU with no more than a warning.
"""

from __future__ import annotations

import json
from typing import Any

import _sample
from _protocol import Check, WrongError, gpu_memory, gpu_name, run, visible_gpus


def main(check: Check) -> str:
    numpy, xgboost = check.need("numpy"), check.need("xgboost")
    check.device = "cpu"
    said = _on(check, numpy, xgboost, "cpu")
    if xgboost.build_info().get("USE_CUDA") and visible_gpus():
        before = gpu_memory()
        said = _on(check, numpy, xgboost, "cuda")
        check.expect(gpu_memory() > before, "XGBoost took no memory on the GPU")
        check.device = gpu_name()
    return said


def _on(check: Check, numpy: Any, xgboost: Any, device: str) -> str:
    settings = {"objective": "binary:logistic", "device": device, "tree_method": "hist", "max_depth": 4, "seed": 4}

    def train(x: Any, y: Any) -> Any:
        booster = xgboost.train(settings, xgboost.DMatrix(x, y), 40)
        used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
        if not used.startswith(device):
            raise WrongError(f"asked for {device}, XGBoost used {used}")
        return booster

    return _sample.judge(
        check, numpy, train, lambda booster, x: booster.predict(xgboost.DMatrix(x)), label=f"{device} trees"
    )


if __name__ == "__main__":
    run(main)
