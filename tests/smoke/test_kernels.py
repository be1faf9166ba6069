"""The checks' own kernels are compiled for every GPU of the catalogue, to machine code or PTX: that needs no GPU."""

from __future__ import annotations

import json
import subprocess

import pytest

ARCHITECTURES = (70, 75, 80, 90)  # V100, T4, A100, H100

TRITON = """
import json, sys
import _triton_kernels as kernels
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

cases = [
    (kernels.add, {"x": "*i64", "y": "*i64", "out": "*i64", "count": "i32"}, {"block": 1024}),
    (kernels.softmax, {"x": "*fp32", "out": "*fp32", "width": "i32"}, {"block": 512}),
]
for kind, precision in (("*fp32", "ieee"), ("*fp32", "tf32"), ("*fp16", "ieee"), ("*bf16", "ieee")):
    settings = {"size": 128, "tile": 32, "precision": precision}
    cases.append((kernels.multiply, {"a": kind, "b": kind, "out": kind}, settings))
sizes = {}
for architecture in map(int, sys.argv[1:]):
    for kernel, types, constants in cases:
        source = ASTSource(kernel, types | dict.fromkeys(constants, "constexpr"), constants)
        code = compile(source, target=GPUTarget("cuda", architecture, 32)).asm["cubin"]
        sizes.setdefault(architecture, []).append(len(code))
print(json.dumps(sizes))
"""

CUPY = """
import json, sys
from cupy.cuda import nvrtc
from cupy_kernel import SOURCE

sizes = {}
for architecture in sys.argv[1:]:
    program = nvrtc.createProgram(SOURCE, "smoke.cu", (), ())
    nvrtc.compileProgram(program, (f"-arch=sm_{architecture}",))
    sizes[architecture] = [len(nvrtc.getCUBIN(program))]
print(json.dumps(sizes))
"""


NUMBA = """
import json, sys
import numba, numba_kernel as kernels
from numba import cuda

kernels.numba, kernels.cuda = numba, cuda
whole, small, real = numba.int64[::1], numba.int32[::1], numba.float64[::1]
cases = [
    (kernels.shift, (whole, whole)), (kernels.tally, (whole, small)),
    (kernels.add_up, (real, real)), (kernels.functions, (real, real)),
]
sizes = {}
for architecture in map(int, sys.argv[1:]):
    for kernel, types in cases:
        code, _ = cuda.compile_ptx(kernel, types, cc=divmod(architecture, 10))
        assert f".target sm_{architecture}" in code
        sizes.setdefault(architecture, []).append(len(code))
print(json.dumps(sizes))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("python", "program"), [("neural", TRITON), ("cuda", CUPY), ("cuda", NUMBA)], ids=["triton", "cupy", "numba"]
)
def test_kernels_are_compiled_for_every_gpu(python, program, request, repository, tmp_path):
    command = [request.getfixturevalue(python), "-c", program, *map(str, ARCHITECTURES)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": "mlviews/smoke/checks"}

    said = subprocess.run(command, env=environment, cwd=repository, capture_output=True, text=True, check=True).stdout

    sizes = json.loads(said)
    assert list(sizes) == list(map(str, ARCHITECTURES))
    assert all(size > 1000 for found in sizes.values() for size in found)
