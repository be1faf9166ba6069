"""ONNX Runtime's CUDA provider runs every node of a model, and agrees with numpy's float64.

The model and bounds are those of onnxruntime_cpu.py; CUDA's provider may use TF32 for products and is told not to. A
build without that provider does not apply; a GPU that it does not take, or a node left on the CPU, is a failure.
"""

from __future__ import annotations

import _onnx_work as work
from _protocol import Check, SkipCheck, gpu_name, run, visible_gpus
from onnxruntime_cpu import COLUMNS, INNER, ROWS, float_model, reference


def main(check: Check) -> str:
    onnx, runtime, numpy = check.need("onnx"), check.need("onnxruntime"), check.need("numpy")
    if not visible_gpus():
        raise SkipCheck("the driver offers no GPU")
    check.device = "cpu"
    check.expect(work.GPU_PROVIDER in runtime.get_available_providers(), "this build has no CUDA provider")
    generator = numpy.random.default_rng(4)
    shapes = ((ROWS, INNER), (INNER, COLUMNS), COLUMNS)
    x, w, b = (generator.standard_normal(shape).astype("float32") for shape in shapes)
    got = work.infer(check, float_model(onnx, numpy, w, b), {"x": x}, provider=work.GPU_PROVIDER, what="float32")[0]
    check.within("float32", got, reference(numpy, x, w, b), 64 * INNER**0.5 * 2.0**-24)
    check.device = gpu_name()
    return "every node was run by the CUDA provider, and agrees with float64"


if __name__ == "__main__":
    run(main)
