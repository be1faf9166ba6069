"""The checks there are: the names that recipes use, and the program that answers each."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlviews.errors import nearest

Level = Literal["quick", "full"]

BASIC = ("imports", "pip-check")
"""The checks of every release, whatever its recipe says."""

_CHECKS = Path(__file__).resolve().parent / "checks"


@dataclass(frozen=True, slots=True)
class Program:
    """One check.

    Attributes:
        gpu: whether it has work for a GPU; one that ran on the CPU alone proves nothing about GPUs.
        level: ``full`` where it takes too long for every build.
        long: whether it takes ten seconds and more: started first, so that nothing waits for it at the end.
        alone: whether its figures are times, which other checks beside it would spoil.
        per_gpu: whether it starts a process for each GPU: each may take what another check may.
    """

    name: str
    gpu: bool = False
    level: Level = "quick"
    long: bool = False
    alone: bool = False
    per_gpu: bool = False

    @property
    def path(self) -> Path:
        """The program's file."""
        return _CHECKS / f"{self.name.replace('-', '_')}.py"


def about(program: Program) -> str:
    """Return what a check proves: the first sentence of its program."""
    text = ast.get_docstring(ast.parse(program.path.read_bytes())) or ""
    sentence = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].removesuffix(".")
    return sentence.replace("``", "`")  # reStructuredText is for programmers


PROGRAMS: dict[str, Program] = {
    program.name: program
    for program in (
        Program("cupy-kernel", gpu=True),
        Program("environment-leaks"),
        Program("event-formats", alone=True),
        Program("gnn-message-passing", gpu=True),
        Program("hdf5-roundtrip"),
        Program("import-order", long=True),
        Program("imports", long=True),
        Program("jax-grad", gpu=True),
        Program("jax-jit", gpu=True),
        Program("kernel-start"),
        Program("lightgbm-train", gpu=True),
        Program("numba-kernel", gpu=True),
        Program("onnx-roundtrip", gpu=True, long=True),
        Program("onnxruntime-cpu"),
        Program("onnxruntime-cuda", gpu=True),
        Program("onnxruntime-latency", gpu=True, alone=True),
        Program("pip-check"),
        Program("plot-png"),
        Program("pyhf-fit"),
        Program("pyroot-fit"),
        Program("root-roundtrip"),
        Program("salt-train", gpu=True, long=True),
        Program("sklearn-train"),
        Program("tensorflow-matmul", gpu=True),
        Program("tensorflow-train", gpu=True, long=True),
        Program("torch-attention", gpu=True),
        Program("torch-compile", gpu=True, level="full"),
        Program("torch-convolution", gpu=True),
        Program("torch-dataloader", gpu=True),
        Program("torch-errors", gpu=True),
        Program("torch-matmul", gpu=True),
        Program("torch-nccl", gpu=True, per_gpu=True),
        Program("torch-reduction", gpu=True),
        Program("torch-resume", gpu=True),
        Program("torch-train", gpu=True, long=True),
        Program("triton-kernel", gpu=True),
        Program("xgboost-train", gpu=True),
    )
}
"""By name. A name that a recipe uses and that is not here is reported as an error when the view is tested."""


def unknown_checks(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that no check answers, each in quotes and with the nearest that one does."""
    return tuple(f"{name!r}{nearest(name, PROGRAMS)}" for name in names if name not in PROGRAMS)
