"""The checks there are: the names that recipes use, and the program that answers each."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlviews.errors import nearest
from mlviews.recipe.checks import parse_check

if TYPE_CHECKING:
    from mlviews.recipe.view import OwnCheck

Level = Literal["quick", "full"]

BASIC = ("imports", "pip-check")
"""The checks of every release, whatever its recipe says."""

PROTOCOL = "_protocol.py"
"""What every check imports of mlviews."""

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
        own: where it lies beside somebody's recipes, and its text; None for those that come with mlviews.
    """

    name: str
    gpu: bool = False
    level: Level = "quick"
    long: bool = False
    alone: bool = False
    per_gpu: bool = False
    own: OwnCheck | None = None

    @property
    def path(self) -> Path:
        """The program's file."""
        return Path(self.own.file) if self.own else _CHECKS / f"{self.name.replace('-', '_')}.py"

    @property
    def digest(self) -> str:
        """The sha256 of an own check's text, in hexadecimal: what another text found proves nothing of this one."""
        return hashlib.sha256(self.own.text.encode()).hexdigest() if self.own else ""

    def place(self, folder: Path) -> Path:
        """Return the program to start; of an own check a copy in a new folder, beside what it imports of mlviews.

        So what runs is the text whose digest is recorded, and a container needs no folder of recipes.
        """
        if not self.own:
            return self.path
        copy = folder / "check" / self.path.name
        copy.parent.mkdir()
        copy.write_text(self.own.text, encoding="utf-8")
        (copy.parent / PROTOCOL).write_bytes((_CHECKS / PROTOCOL).read_bytes())
        return copy


def about(program: Program) -> str:
    """Return what a check proves: the first sentence of its program."""
    text = ast.get_docstring(parse_check(program.own.text if program.own else program.path.read_text("utf-8"))) or ""
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


def programs(own: Iterable[OwnCheck]) -> dict[str, Program]:
    """Return all checks by name: mlviews' and those that lie beside somebody's recipes.

    An own check says of itself, at its top level, ``GPU = True`` where it has work for a GPU and ``LEVEL = "full"``
    where it takes too long for every build. That is read, not run.
    """
    return {**PROGRAMS, **{check.name: _own(check) for check in own}}


def _own(check: OwnCheck) -> Program:
    said = {
        target.id: node.value.value
        for node in parse_check(check.text).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    level: Level = "full" if said.get("LEVEL") == "full" else "quick"
    return Program(check.name, gpu=said.get("GPU") is True, level=level, own=check)


def unknown_checks(names: Iterable[str], own: Iterable[OwnCheck]) -> tuple[str, ...]:
    """Return the names that no check answers, each in quotes and with the nearest that one does."""
    known = {*PROGRAMS, *(check.name for check in own)}
    return tuple(f"{name!r}{nearest(name, known)}" for name in names if name not in known)
