"""ONNX Runtime computes what numpy's float64 does, in float32, float64 and int8, on the CPU.

The model is written with ONNX's own helper: a matrix product, a bias, Relu, a LayerNormalization and a Softmax, which
runtimes fuse and rewrite. Bound: the product as in torch_matmul.py; normalising divides by a deviation of about
sqrt(K), Softmax's weights are below one: 64 u sqrt(K) in all. The int8 product (MatMulInteger) is exact. A last model
states no version, as users' do: ONNX then writes its newest, which this runtime must read.
"""

from __future__ import annotations

from typing import Any

import _onnx_work as work
from _protocol import Check, WrongError, run
from _reference import UNIT, softmax

ROWS, INNER, COLUMNS = 64, 128, 32


def main(check: Check) -> str:
    onnx, numpy = check.need("onnx"), check.need("numpy")
    check.need("onnxruntime")
    check.device = "cpu"
    generator = numpy.random.default_rng(4)
    for name in ("float32", "float64"):
        compare(check, name, work.CPU_PROVIDER)
    a, c = (generator.integers(0, 256, shape, dtype="uint8") for shape in ((ROWS, INNER), (INNER, COLUMNS)))
    got = work.infer(check, _int8_model(onnx, c), {"x": a}, provider=work.CPU_PROVIDER, what="int8")[0]
    check.exact("int8", got, a.astype("int64") @ c.astype("int64"))
    check.exact("ONNX's default versions", _default_version(check, onnx, a), a)
    return "float32, float64 and int8 agree with float64; every node was run by the CPU provider"


def compare(check: Check, name: str, provider: str) -> None:
    """Let a provider run the model in a type of floating-point numbers."""
    onnx, numpy = check.need("onnx"), check.need("numpy")
    generator = numpy.random.default_rng(4)
    x, w, b = (generator.standard_normal(shape).astype(name) for shape in ((ROWS, INNER), (INNER, COLUMNS), COLUMNS))
    got = work.infer(check, _float_model(onnx, numpy, w, b), {"x": x}, provider=provider, what=name)[0]
    bound = 64 * INNER**0.5 * UNIT[name] * (2 if name == "float64" else 1)
    check.within(name, got, _reference(numpy, x, w, b), bound)


def _float_model(onnx: Any, numpy: Any, w: Any, b: Any) -> bytes:
    ones = numpy.ones(COLUMNS, w.dtype)
    weights = {"w": w, "b": b, "scale": ones, "shift": ones * 0}
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["product"]),
        onnx.helper.make_node("Add", ["product", "b"], ["sum"]),
        onnx.helper.make_node("Relu", ["sum"], ["positive"]),
        onnx.helper.make_node("LayerNormalization", ["positive", "scale", "shift"], ["normal"]),
        onnx.helper.make_node("Softmax", ["normal"], ["y"], axis=-1),
    ]
    kind = onnx.helper.np_dtype_to_tensor_dtype(w.dtype)
    return work.model(onnx, nodes, (kind, [ROWS, INNER]), ("y", kind, [ROWS, COLUMNS]), weights)


def _int8_model(onnx: Any, w: Any) -> bytes:
    nodes = [onnx.helper.make_node("MatMulInteger", ["x", "w"], ["y"])]
    given, gives = onnx.TensorProto.UINT8, onnx.TensorProto.INT32
    return work.model(onnx, nodes, (given, [ROWS, INNER]), ("y", gives, [ROWS, COLUMNS]), {"w": w})


def _default_version(check: Check, onnx: Any, x: Any) -> Any:
    """Give ONNX Runtime a model of whatever opset and IR version onnx's helper writes: it may not know them yet."""
    shape = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, x.shape)
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, x.shape)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "default", [shape], [result])
    model = onnx.helper.make_model(graph)
    opset, version = model.opset_import[0].version, model.ir_version
    try:
        session = check.need("onnxruntime").InferenceSession(model.SerializeToString(), providers=[work.CPU_PROVIDER])
    except Exception as error:
        raise WrongError(f"a model of onnx's own opset {opset} and IR {version} is not read: {error}") from error
    return session.run(None, {"x": x})[0]


def _reference(numpy: Any, x: Any, w: Any, b: Any) -> Any:
    positive = numpy.maximum(x.astype("float64") @ w.astype("float64") + b, 0)
    centred = positive - positive.mean(axis=-1, keepdims=True)
    normal = centred / numpy.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return softmax(numpy, normal)


if __name__ == "__main__":
    run(main)
