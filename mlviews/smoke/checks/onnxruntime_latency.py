"""How long ONNX Runtime takes for one event: a figure, and a failure beyond the field's aim of one second.

An event is 10 jets of 20 tracks through a dense network of about a million weights. The result agrees with numpy, or
the time would be of something else. Bound: as for matrix products, grown by each layer's norm.
"""

from __future__ import annotations

import time
from typing import Any

import _onnx_work as work
from _protocol import Check, gpu_name, run

JETS, INPUTS, WIDTH, LAYERS = 10, 160, 512, 4
AIM = 1.0  # seconds an event
EVENTS = 50


def main(check: Check) -> str:
    onnx, runtime, numpy = check.need("onnx"), check.need("onnxruntime"), check.need("numpy")
    generator = numpy.random.default_rng(4)
    weights = [
        (generator.standard_normal((INPUTS if layer == 0 else WIDTH, WIDTH)) / WIDTH**0.5).astype("float32")
        for layer in range(LAYERS)
    ]
    model = _model(onnx, weights)
    x = generator.standard_normal((JETS, INPUTS)).astype("float32")
    want = x.astype("float64")
    for w in weights:
        want = numpy.maximum(want @ w, 0)
    slowest = 0.0
    for provider in work.providers(check, runtime):
        got = work.infer(check, model, {"x": x}, provider=provider, what=provider)[0]
        check.within(provider, got, want, 32 * LAYERS * 2.0**-24 * WIDTH**0.5 * float(numpy.abs(want).max()))
        median = _median(runtime, model, x, provider)
        check.figures[f"{provider}: seconds an event"] = float(f"{median:.3g}")
        slowest = max(slowest, median)
        if provider == work.GPU_PROVIDER:
            check.device = gpu_name()
    check.expect(slowest < AIM, f"{slowest:.2f} s an event, and the aim is {AIM:g} s")
    return f"{slowest * 1000:.2f} ms an event of {JETS} jets"


def _median(runtime: Any, model: bytes, x: Any, provider: str) -> float:
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(model, options, providers=[provider])
    times = []
    for _ in range(EVENTS):
        start = time.perf_counter()
        session.run(None, {"x": x})
        times.append(time.perf_counter() - start)
    return sorted(times)[EVENTS // 2]


def _model(onnx: Any, weights: list[Any]) -> bytes:
    nodes = []
    for layer in range(len(weights)):
        before = f"h{layer - 1}" if layer else "x"
        nodes.append(onnx.helper.make_node("MatMul", [before, f"w{layer}"], [f"p{layer}"]))
        nodes.append(onnx.helper.make_node("Relu", [f"p{layer}"], [f"h{layer}"]))
    graph = onnx.helper.make_graph(
        nodes,
        "latency",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [JETS, INPUTS])],
        [onnx.helper.make_tensor_value_info(f"h{len(weights) - 1}", onnx.TensorProto.FLOAT, [JETS, WIDTH])],
        [onnx.numpy_helper.from_array(w, f"w{layer}") for layer, w in enumerate(weights)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


if __name__ == "__main__":
    run(main)
