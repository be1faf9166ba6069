"""What the ONNX checks share: sessions, and proof of which provider ran each node."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from _protocol import Check, WrongError, gpu_name, visible_gpus

OPSET, IR = 17, 8  # LayerNormalization's first; read by every ONNX Runtime since 1.13
GPU_PROVIDER, CPU_PROVIDER = "CUDAExecutionProvider", "CPUExecutionProvider"


def providers(check: Check, runtime: Any) -> list[str]:
    """Return the providers to try: the CPU's, and CUDA's where this build has it and the driver offers a GPU."""
    check.device = "cpu"
    usable = GPU_PROVIDER in runtime.get_available_providers() and visible_gpus()
    return [CPU_PROVIDER, GPU_PROVIDER] if usable else [CPU_PROVIDER]


def settled(provider: str) -> Any:
    """Return a provider as sessions take it: CUDA's is told to multiply float32 as float32."""
    return (provider, {"use_tf32": "0"}) if provider == GPU_PROVIDER else provider


def model(
    onnx: Any, nodes: list[Any], x: tuple[int, list[int]], out: tuple[str, int, list[int]], weights: dict[str, Any]
) -> bytes:
    """Return a model of nodes.

    Args:
        x: type and shape of the input ``x``.
        out: name, type and shape of the output.
    """
    value = onnx.helper.make_tensor_value_info
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "smoke", [value("x", *x)], [value(*out)], constants)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(made, full_check=True)
    serialized: bytes = made.SerializeToString()
    return serialized


def infer(check: Check, content: bytes, feeds: dict[str, Any], *, provider: str, what: str) -> list[Any]:
    """Run a model and prove that one provider ran every node of it, by ONNX Runtime's own profile.

    A session may put nodes that its provider lacks on the CPU, and says nothing: the profile does. Copies between host
    and device (MemcpyToHost, MemcpyFromHost) are no nodes of the model.
    """
    runtime = check.need("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        options = runtime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")  # noqa: PTH118
        options.log_severity_level = 3
        session = runtime.InferenceSession(content, options, providers=[settled(provider)])
        if session.get_providers()[0] != provider:
            raise WrongError(f"{what}: asked for {provider}, given {session.get_providers()[0]}")
        results: list[Any] = session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    ran: dict[str, set[str]] = {}
    for event in events:
        arguments = event.get("args", {})
        if event.get("cat") == "Node" and arguments.get("provider") and "Memcpy" not in arguments.get("op_name", ""):
            ran.setdefault(arguments["provider"], set()).add(event["name"].removesuffix("_kernel_time"))
    elsewhere = sorted(node for other, nodes in ran.items() if other != provider for node in nodes)
    if elsewhere or not ran.get(provider):
        raise WrongError(f"{what}: not run by {provider}: {', '.join(elsewhere[:5]) or 'any node'}")
    check.figures[f"{what}: nodes by {provider}"] = len(ran[provider])
    if provider == GPU_PROVIDER:
        check.device = gpu_name()
    return results
