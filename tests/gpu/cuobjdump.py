"""Compares what `mlviews gpus` reads of libraries with what NVIDIA's cuobjdump lists of them."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile

from mlviews.gpus.fatbin import Code, modules

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path) -> Counter[str]:
    """Return every piece of code that mlviews sees, empty ones too, as cuobjdump names it."""
    found: Counter[str] = Counter()
    with path.open("rb") as file:
        sections = [ELFFile(file).get_section_by_name(name) for name in (".nv_fatbin", "__nv_relfatbin")]
        for section in filter(None, sections):
            start = section["sh_offset"]
            pieces = modules(lambda at, size: os.pread(file.fileno(), size, at), start, start + section["sh_size"])
            for code in (entry.code for module in pieces for entry in module):
                found[_name(code)] += 1
    return found


def _name(code: Code) -> str:
    # cuobjdump gives machine code no ``f``.
    kind, suffix = ("elf", code.suffix.replace("f", "")) if code.kind == "machine" else ("ptx", code.suffix)
    return f"{kind} sm_{code.compute}{suffix}"


def listed(tool: Path, path: Path, seconds: float) -> Counter[str]:
    """Return the same as cuobjdump lists it.

    Raises:
        ValueError: it refuses the file.
        subprocess.TimeoutExpired: it takes longer.
    """
    found: Counter[str] = Counter()
    for kind, ending in (("elf", "cubin"), ("ptx", "ptx")):
        command = [tool, "-all", f"-l{kind}", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
        if "fatal" in done.stderr:
            raise ValueError(" ".join(done.stderr.split())[:200])
        found.update(
            f"{kind} {_real(sm)}" for sm in re.findall(rf"\.(sm_\d+[af]?)\.{ending}$", done.stdout, re.MULTILINE)
        )
    return found


def _real(target: str) -> str:
    """Return a target without the ``a`` that no GPU before compute capability 9.0 has, whatever cuobjdump writes.

    "Architecture-specific features are available on devices of compute capability 9.0 and higher": CUDA C++
    Programming Guide, "Feature Availability". cuobjdump 12.8 lists pieces of libcublas 12.8 as ``sm_50a``.
    """
    number = int(re.sub(r"\D", "", target))
    return target.removesuffix("a") if number < 90 else target
