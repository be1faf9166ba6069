"""A tagger and a graph network go from PyTorch to ONNX, and ONNX Runtime gives what PyTorch gives.

Exported by PyTorch's exporter, checked by ONNX, within an opset and IR version that onnxruntime 1.22 reads, so that an
experiment's own runtime may be older than the catalogue's; then run by ONNX Runtime on the CPU and, where it can, on a
GPU. What runs a model
elsewhere, such as Athena, must be no older than 1.18: that is the first to read IR 10 (1.17.3 refuses these models).
Reference: the model in float64. Bounds, relative to the largest logit: float32 1e-4 (measured 1e-6; some hundred
roundings a layer), float16 2e-2 (2^-11 a rounding, likewise), int8 weights 0.2 (a weight is one of 255 steps).
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _onnx_work as work
import _tagger
from _protocol import Check, run

if TYPE_CHECKING:
    from collections.abc import Iterator

OPSET, NEWEST_OPSET, NEWEST_IR = 18, 22, 10
NODES, EDGES, FEATURES = 500, 3000, 8
BOUNDS = {"float32": 1e-4, "float16": 2e-2, "int8": 0.2}


def main(check: Check) -> str:
    torch, onnx, runtime = check.need("torch"), check.need("onnx"), check.need("onnxruntime")
    check.need("onnxscript")
    torch.manual_seed(4)
    providers = work.providers(check, runtime)
    done = []
    for name, model, inputs in (
        ("tagger", *_tagger_case(torch, layers=2 if check.full else 1)),
        ("GNN", *_graph_case(torch)),
    ):
        want = model.double()(*_as(inputs, torch.float64)).detach().numpy()
        for precision, exported, given in _versions(check, name, model, inputs):
            for provider in providers if precision != "int8" else providers[:1]:
                what = f"{name} {precision} {provider}"
                got = work.infer(check, exported, _feeds(onnx, exported, given), provider=provider, what=what)[0]
                check.within(what, got, want, BOUNDS[precision] * abs(want).max())
            done.append(f"{name} {precision}")
    return f"{', '.join(done)} agree with PyTorch's float64 on {' and '.join(providers)}"


def _versions(
    check: Check, name: str, model: Any, inputs: tuple[Any, ...]
) -> Iterator[tuple[str, bytes, tuple[Any, ...]]]:
    """Yield the model in each precision, with inputs for it."""
    torch = check.need("torch")
    given = _as(inputs, torch.float32)
    exported = _export(check, model.to(torch.float32), given, name)
    yield "float32", exported, given
    if name == "tagger":
        yield "int8", _quantized(check, exported), given
        # ONNX Runtime has no scattered sum in float16 on the CPU: the tagger alone. The export takes its time.
        if check.full:
            given = _as(inputs, torch.float16)
            yield "float16", _export(check, model.to(torch.float16), given, name), given


def _tagger_case(torch: Any, layers: int) -> tuple[Any, tuple[Any, ...]]:
    return _tagger.tagger(torch, width=64, layers=layers).eval(), (_tagger.jets(torch, 8)[0],)


def _graph_case(torch: Any) -> tuple[Any, tuple[Any, ...]]:
    class Graph(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.message, self.update = torch.nn.Linear(2 * FEATURES, 16), torch.nn.Linear(FEATURES + 16, 2)

        def forward(self, nodes: Any, edges: Any) -> Any:
            messages = torch.relu(self.message(torch.cat([nodes[edges[0]], nodes[edges[1]]], dim=1)))
            places = edges[1][:, None].expand(-1, 16)
            sums = torch.zeros(nodes.shape[0], 16, dtype=nodes.dtype).scatter_add(0, places, messages)
            return self.update(torch.cat([nodes, sums], dim=1))

    generator = torch.Generator().manual_seed(4)
    nodes = torch.randn(NODES, FEATURES, generator=generator, dtype=torch.float64)
    return Graph().eval(), (nodes, torch.randint(NODES, (2, EDGES), generator=generator))


def _as(inputs: tuple[Any, ...], dtype: Any) -> tuple[Any, ...]:
    return tuple(part.to(dtype) if part.is_floating_point() else part for part in inputs)


def _export(check: Check, model: Any, inputs: tuple[Any, ...], label: str) -> bytes:
    torch, onnx = check.need("torch"), check.need("onnx")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(model, inputs, dynamo=True, opset_version=OPSET)
    proto = program.model_proto
    onnx.checker.check_model(proto, full_check=True)
    opset = max(entry.version for entry in proto.opset_import if entry.domain in {"", "ai.onnx"})
    check.figures.update({"opset": opset, "IR version": proto.ir_version})
    check.expect(
        opset <= NEWEST_OPSET and proto.ir_version <= NEWEST_IR,
        f"{label}: opset {opset} and IR {proto.ir_version} are newer than {NEWEST_OPSET} and {NEWEST_IR}",
    )
    serialized: bytes = proto.SerializeToString()
    return serialized


def _quantized(check: Check, model: bytes) -> bytes:
    quantization = check.need("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder:
        given, gives = Path(folder) / "given.onnx", Path(folder) / "gives.onnx"
        # onnxscript 0.7 notes shapes that the quantizer of ONNX Runtime 1.24 and newer then contradicts ("64 vs 3").
        proto = check.need("onnx").load_from_string(model)
        proto.graph.ClearField("value_info")
        given.write_bytes(proto.SerializeToString())
        quantization.quantize_dynamic(given, gives, weight_type=quantization.QuantType.QInt8)
        return gives.read_bytes()


def _feeds(onnx: Any, model: bytes, inputs: tuple[Any, ...]) -> dict[str, Any]:
    names = [entry.name for entry in onnx.load_from_string(model).graph.input]
    return {name: part.numpy() for name, part in zip(names, inputs)}  # noqa: B905  (Python 3.9 has no strict)


if __name__ == "__main__":
    run(main)
