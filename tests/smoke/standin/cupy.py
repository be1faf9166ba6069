"""Stands in for CuPy where no GPU is: its arrays are numpy's, and CUDA C is compiled as C++, one thread after another.

What it cannot tell is what CuPy and a GPU do; what it tells is whether cupy_kernel.py would notice.
"""

import ctypes
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

__version__ = "stand-in"

PRELUDE = """
#include <cmath>
using std::exp; using std::sin;
#define __global__
static struct { unsigned x; } blockIdx, blockDim, threadIdx, gridDim;
static unsigned atomicAdd(unsigned* place, unsigned value) { unsigned old = *place; *place += value; return old; }
"""
LAUNCH = """
extern "C" void launch(unsigned blocks, unsigned threads, void* x, void* out, int count) {
    gridDim.x = blocks; blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) KERNEL((TYPE)x, (OUT)out, count);
}
"""
TYPES = {"hash": ("const unsigned long long*", "unsigned long long*"), "functions": ("const double*", "double*")}
TYPES["tally"] = (TYPES["hash"][0], "unsigned*")


class ndarray(np.ndarray):  # noqa: N801
    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return np.asarray(array).view(ndarray)


def asarray(array):
    return np.array(array).view(ndarray)


def asnumpy(array):
    return np.array(array).view(np.ndarray)


def zeros(shape, dtype=float):
    return asarray(np.zeros(shape, dtype))


def zeros_like(array):
    return zeros(array.shape, array.dtype)


def sort(array):
    return asarray(np.sort(array))


LIBRARIES = {}


class RawKernel:
    def __init__(self, source, name):
        if name not in LIBRARIES:
            folder = Path(tempfile.mkdtemp())
            given, out = TYPES[name]
            launch = LAUNCH.replace("KERNEL", name).replace("TYPE", given).replace("OUT", out)
            (folder / "kernel.cpp").write_text(PRELUDE + source + launch)
            command = ["g++", "-O1", "-shared", "-fPIC", "kernel.cpp", "-o", "kernel.so"]
            subprocess.run(command, cwd=folder, check=True)
            LIBRARIES[name] = ctypes.CDLL(folder / "kernel.so")
        self.library = LIBRARIES[name]

    def __call__(self, grid, block, arguments):
        x, out, count = arguments
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (x, out))
        self.library.launch(grid[0], block[0], *pointers, int(count))


def ElementwiseKernel(*_):  # noqa: N802
    return lambda x: asarray(x * np.uint64(3) + np.uint64(7))


def ReductionKernel(*_):  # noqa: N802
    return lambda x: asarray(np.sum(x * x))


class Event:
    def record(self):
        self.time = time.perf_counter()

    def synchronize(self):
        pass


cuda = SimpleNamespace(
    Event=Event,
    get_elapsed_time=lambda start, end: (end.time - start.time) * 1000,
    runtime=SimpleNamespace(runtimeGetVersion=lambda: 0),
)
fft = SimpleNamespace(fft=lambda x: asarray(np.fft.fft(x)))


def get_default_memory_pool():
    return SimpleNamespace(total_bytes=lambda: 1, used_bytes=lambda: 1)
