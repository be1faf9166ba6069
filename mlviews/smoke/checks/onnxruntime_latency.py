"""How long ONNX Runtime takes for one event: a figure, and a failure beyond the field's aim of one second.

An event is 10 jets of 20 tracks through a dense network of about a million weights. The result agrees with numpy, or
the time would be of something else. Bound: as for matrix products, grown by each layer's norm.

A full run also takes events of 1,000 points, such as a calorimeter's cells, through a layer that embeds each point and
one of attention among all. Bound: that of ONNX models in float32, 1e-4 of the largest value (onnx_roundtrip.py).
"""

from __future__ import annotations

from typing import Any

import _onnx_work as work
import _speed
from _protocol import Check, run
from _reference import UNIT, softmax

JETS, INPUTS, WIDTH, LAYERS = 10, 160, 512, 4
AIM = 1.0  # seconds an event
POINTS, FEATURES, HIDDEN = 1000, 8, 128


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
        check.within(provider, got, want, 32 * LAYERS * UNIT["float32"] * WIDTH**0.5 * float(numpy.abs(want).max()))
        took = _seconds(runtime, model, x, provider)
        check.figures[f"{provider}: seconds an event"] = float(f"{took:.3g}")
        slowest = max(slowest, took)
        if check.full:
            slowest = max(slowest, _points(check, onnx, runtime, numpy, provider))
    check.expect(slowest < AIM, f"{slowest:.2f} s an event, and the aim is {AIM:g} s")
    return f"{slowest * 1000:.2f} ms an event at most"


def _seconds(runtime: Any, model: bytes, x: Any, provider: str) -> float:
    """Return the time of one event, from numpy's memory and back to it: that is what a trigger waits for."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(model, options, providers=[work.settled(provider)])
    return _speed.seconds(_speed.by_clock, lambda: session.run(None, {"x": x}), provider)


def _points(check: Check, onnx: Any, runtime: Any, numpy: Any, provider: str) -> float:
    generator = numpy.random.default_rng(5)
    shapes = [(FEATURES, HIDDEN), *[(HIDDEN, HIDDEN)] * 3]
    weights = [(generator.standard_normal(shape) / shape[0] ** 0.5).astype("float32") for shape in shapes]
    x = generator.standard_normal((POINTS, FEATURES)).astype("float32")
    model, what = _cloud_model(onnx, numpy, weights), f"{provider}, {POINTS} points"
    got = work.infer(check, model, {"x": x}, provider=provider, what=what)[0]
    hidden = numpy.maximum(x.astype("float64") @ weights[0], 0)
    q, k, v = (hidden @ w for w in weights[1:])
    want = softmax(numpy, q @ k.T / HIDDEN**0.5) @ v
    check.within(what, got, want, 1e-4 * float(numpy.abs(want).max()))
    took = _seconds(runtime, model, x, provider)
    check.figures[f"{what}: seconds an event"] = float(f"{took:.3g}")
    operations = 2 * POINTS * sum(w.size for w in weights) + 4 * POINTS**2 * HIDDEN
    _speed.tell(check, what, operations, "TFLOP/s", took, kind="float32" if provider == work.GPU_PROVIDER else "")
    return took


def _cloud_model(onnx: Any, numpy: Any, weights: list[Any]) -> bytes:
    node = onnx.helper.make_node
    nodes = [
        node("MatMul", ["x", "w0"], ["e"]),
        node("Relu", ["e"], ["h"]),
        *(node("MatMul", ["h", f"w{i}"], [name]) for i, name in enumerate("qkv", start=1)),
        node("Transpose", ["k"], ["t"], perm=[1, 0]),
        node("MatMul", ["q", "t"], ["products"]),
        node("Mul", ["products", "scale"], ["logits"]),
        node("Softmax", ["logits"], ["weights"], axis=1),
        node("MatMul", ["weights", "v"], ["out"]),
    ]
    constants = {"scale": numpy.array(HIDDEN**-0.5, "float32"), **_named(weights)}
    kind = onnx.TensorProto.FLOAT
    return work.model(onnx, nodes, (kind, [POINTS, FEATURES]), ("out", kind, [POINTS, HIDDEN]), constants)


def _model(onnx: Any, weights: list[Any]) -> bytes:
    nodes = []
    for layer in range(len(weights)):
        before = f"h{layer - 1}" if layer else "x"
        nodes.append(onnx.helper.make_node("MatMul", [before, f"w{layer}"], [f"p{layer}"]))
        nodes.append(onnx.helper.make_node("Relu", [f"p{layer}"], [f"h{layer}"]))
    kind, last = onnx.TensorProto.FLOAT, f"h{len(weights) - 1}"
    return work.model(onnx, nodes, (kind, [JETS, INPUTS]), (last, kind, [JETS, WIDTH]), _named(weights))


def _named(weights: list[Any]) -> dict[str, Any]:
    return {f"w{layer}": w for layer, w in enumerate(weights)}


if __name__ == "__main__":
    run(main)
