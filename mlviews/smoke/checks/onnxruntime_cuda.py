"""ONNX Runtime's CUDA provider runs every node of a model, and agrees with numpy's float64.

The model and bounds are those of onnxruntime_cpu.py; CUDA's provider may use TF32 for products and is told not to. A
build without that provider does not apply; a GPU that it does not take, or a node left on the CPU, is a failure.
"""

from __future__ import annotations

import _onnx_work as work
from _protocol import Check, SkipCheck, run, visible_gpus
from onnxruntime_cpu import compare


def main(check: Check) -> str:
    check.need("onnx")
    runtime = check.need("onnxruntime")
    if not visible_gpus():
        raise SkipCheck("the driver offers no GPU")
    check.device = "cpu"
    check.expect(work.GPU_PROVIDER in runtime.get_available_providers(), "this build has no CUDA provider")
    compare(check, "float32", work.GPU_PROVIDER)
    return "every node was run by the CUDA provider, and agrees with float64"


if __name__ == "__main__":
    run(main)
