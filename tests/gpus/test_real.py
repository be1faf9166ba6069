"""Against NVIDIA's own tools: what `cuobjdump` lists of real libraries, and what `ptxas` and `fatbinary` write."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from elftools.elf.elffile import ELFFile

from mlviews.gpus.coverage import survey
from mlviews.gpus.fatbin import FatbinEntry, modules
from mlviews.gpus.libraries import read_code
from mlviews.gpus.scan import scan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def tools(cuda_wheels: Path) -> Path:
    folder = cuda_wheels / "nvidia/cu13/bin"
    for name in ("cuobjdump", "ptxas", "fatbinary"):
        (folder / name).chmod(0o755)
    return folder


def entries(path: Path) -> list[FatbinEntry]:
    with path.open("rb") as file:

        def pread(offset: int, size: int) -> bytes:
            return os.pread(file.fileno(), size, offset)

        spans = [(0, path.stat().st_size)]
        if pread(0, 4) == b"\x7fELF":
            sections = [ELFFile(file).get_section_by_name(name) for name in (".nv_fatbin", "__nv_relfatbin")]
            spans = [(one["sh_offset"], one["sh_offset"] + one["sh_size"]) for one in sections if one]
        return [entry for span in spans for module in modules(pread, *span) for entry in module]


def read(path: Path) -> Counter[str]:
    """Every piece of code, the empty ones too, in the names of `cuobjdump`, which gives machine code no ``f``."""
    return Counter(
        f"{'elf' if code.kind == 'machine' else 'ptx'} sm_{code.compute}"
        + (code.suffix if code.kind == "ptx" else code.suffix.replace("f", ""))
        for code in (entry.code for entry in entries(path))
    )


def packings(path: Path) -> set[str]:
    return {entry.packing for entry in entries(path)}


def listed(tools: Path, path: Path) -> Counter[str]:
    """The same as `cuobjdump` lists it."""
    found: Counter[str] = Counter()
    for kind, ending in (("elf", "cubin"), ("ptx", "ptx")):
        done = subprocess.run(
            [tools / "cuobjdump", "-all", f"-l{kind}", path], capture_output=True, text=True, check=False
        )
        assert "fatal" not in done.stderr, done.stderr
        found.update(
            f"{kind} {target}" for target in re.findall(rf"\.(sm_\d+[af]?)\.{ending}$", done.stdout, re.MULTILINE)
        )
    return found


@pytest.mark.parametrize("library", ["nvjpeg/lib/libnvjpeg.so.12", "cu13/lib/libnvjpeg.so.13"])
def test_a_library_holds_what_cuobjdump_lists(cuda_wheels, tools, library):
    path = cuda_wheels / "nvidia" / library
    expected = listed(tools, path)
    assert sum(expected.values()) > 50
    assert read(path) == expected


def test_a_library_of_cuda_11_holds_what_its_cuobjdump_listed(cuda_wheels):
    # cuobjdump 12.4.99 lists so; 13.4 refuses a file with sm_35 in it.
    machine = dict.fromkeys(f"elf sm_{one}" for one in (35, 37, 50, 52, 60, 61, 70, 75, 80, 86, 89, 90))
    assert read(cuda_wheels / "nvidia/nvjpeg/lib/libnvjpeg.so.11") == {**dict.fromkeys(machine, 9), "ptx sm_90": 8}


def test_cuda_13_left_v100_behind(cuda_wheels):
    served = {
        line.package: {served.gpu: served.way for served in line.gpus} for line in survey(scan(cuda_wheels)).packages
    }
    usual = {"V100": "native", "T4": "native", "A100": "native", "L4": "native", "H100": "native"}
    assert served == {
        "nvidia_nvjpeg_cu11 11.9.0.86": {**usual, "B200": "ptx"},
        "nvidia_nvjpeg_cu12 12.4.0.76": {**usual, "B200": "native"},
        "nvidia_nvjpeg 13.0.1.86": {**usual, "V100": "none", "B200": "native"},
    }


def test_the_cuda_that_built_a_library_is_told(cuda_wheels):
    found = {library.path.rpartition(".")[2]: library.code.cuda for library in scan(cuda_wheels).libraries}
    assert found == {"11": "11.8", "12": "12.9", "13": "13.0"}


PACKINGS = {
    "plain": ["--compress=false"],
    "lz4": ["--compress-all", "--compress-mode=speed"],
    "zstd": ["--compress-all", "--compress-mode=balance"],
}
KERNEL = ".version {isa}\n.target {target}\n.address_size 64\n.visible .entry k()\n{{\n{body}\tret;\n}}\n"


@pytest.mark.parametrize(
    ("target", "isa"),
    [("75", "6.3"), ("80", "7.0"), ("90", "8.0"), ("90a", "8.0"), ("100", "8.6"), ("100a", "8.6"), ("100f", "8.8"),
     ("103", "8.8"), ("103a", "8.8"), ("120", "8.7"), ("120f", "8.8"), ("121", "8.8")],
)  # fmt: skip
@pytest.mark.parametrize("packing", PACKINGS)
def test_what_nvidias_tools_write_is_read(tools, tmp_path, target, isa, packing):
    source, cubin, fatbin = tmp_path / "k.ptx", tmp_path / "k.cubin", tmp_path / "k.fatbin"
    source.write_text(KERNEL.format(isa=isa, target=f"sm_{target}", body=""))
    subprocess.run([tools / "ptxas", f"-arch=sm_{target}", source, "-o", cubin], check=True)
    images = [f"--image3=kind=elf,sm={target},file={cubin}", f"--image3=kind=ptx,sm={target},file={source}"]
    subprocess.run([tools / "fatbinary", "-64", *PACKINGS[packing], f"--create={fatbin}", *images], check=True)

    assert read(fatbin) == listed(tools, fatbin)
    (module,) = read_code(fatbin).linked
    assert {str(code) for code in module} == {f"sm_{target}", f"compute_{target}"}
    assert packings(fatbin) == {packing.replace("plain", "")}
    assert {code.version for code in module if code.kind == "ptx"} == {tuple(map(int, isa.split(".")))}
    # A cubin on its own does not say `f`, and `cuobjdump` does not either.
    (alone,) = read_code(cubin).linked
    assert {str(code) for code in alone} == {f"sm_{target.rstrip('f')}"}


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_nvidias_tools_write_without_a_function_is_hollow(tools, tmp_path, packing):
    source, cubin, fatbin = tmp_path / "k.ptx", tmp_path / "k.cubin", tmp_path / "k.fatbin"
    source.write_text(".version 8.0\n.target sm_80\n.address_size 64\n")
    subprocess.run([tools / "ptxas", "-arch=sm_80", source, "-o", cubin], check=True)
    images = [f"--image3=kind=elf,sm=80,file={cubin}", f"--image3=kind=ptx,sm=80,file={source}"]
    subprocess.run([tools / "fatbinary", "-64", *PACKINGS[packing], f"--create={fatbin}", *images], check=True)
    assert sum(listed(tools, fatbin).values()) == 2
    assert packings(fatbin) == {packing.replace("plain", "")}
    assert read_code(fatbin) is None
