"""CuPy compiles CUDA C and runs it, and its own kernels and CUDA's libraries give what numpy gives.

Whole numbers (a 64-bit hash, atomic counts, sums, sorting) are exact. exp and sin keep within 16 u, as in
numba_kernel.py, products within the bounds of _reference.py, a Fourier transform within log2(n) u of the norm. Every
result must lie in the GPU's memory, says the driver, and CuPy's pool must have given it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import _kernel_work as work
from _protocol import Check, WrongError, run
from _reference import UNIT, product

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT, BINS, THREADS = 1_000_003, 64, 256  # prime: the last block is not full
SIZE = 256
SOURCE = r"""
extern "C" __global__ void hash(const unsigned long long* x, unsigned long long* out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) {
        unsigned long long value = x[i];
        value ^= value >> 33;
        value *= 0xff51afd7ed558ccdULL;
        out[i] = value ^ (value >> 33);
    }
}
extern "C" __global__ void tally(const unsigned long long* x, unsigned int* bins, int count) {
    int step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) atomicAdd(bins + x[i] % 64, 1u);
}
extern "C" __global__ void functions(const double* x, double* out, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = exp(x[i]) * sin(x[i]);
}
"""


def main(check: Check) -> str:
    numpy, cupy = check.need("numpy"), check.need("cupy")
    work.need_gpu(check)
    check.versions["cuda"] = str(cupy.cuda.runtime.runtimeGetVersion())
    generator = numpy.random.default_rng(4)
    whole, real = generator.integers(0, 2**63, COUNT).astype("uint64"), generator.standard_normal(COUNT)
    _raw(check, numpy, cupy, whole, real)
    _own(check, numpy, cupy, whole, real)
    _libraries(check, numpy, cupy, real)
    pool = cupy.get_default_memory_pool()
    check.figures.update({"pool: bytes": pool.total_bytes(), "pool: bytes in use": pool.used_bytes()})
    check.expect(pool.total_bytes() > 0, "CuPy's pool gave out no memory")
    return f"CUDA C, CuPy's own kernels and CUDA's libraries agree with numpy on {COUNT} numbers"


def _do(check: Check, cupy: Any, what: str, step: Callable[[], Any]) -> Any:
    """Do a step and prove that the GPU did it; returns its result as numpy's."""
    step()  # compiles it, which is not to be timed
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    result = step()
    end.record()
    end.synchronize()
    if not isinstance(result, cupy.ndarray):
        raise WrongError(f"{what}: the result is a {type(result).__name__}, no array of CuPy's")
    milliseconds = cupy.cuda.get_elapsed_time(start, end)
    work.prove(check, what, address=int(result.data.ptr), milliseconds=milliseconds)
    return cupy.asnumpy(result)


def _raw(check: Check, numpy: Any, cupy: Any, whole: Any, real: Any) -> None:
    """CUDA C, compiled by NVRTC."""
    blocks = -(-COUNT // THREADS)
    x, y = cupy.asarray(whole), cupy.asarray(real)

    def launch(name: str, blocks: int, given: Any, out: Any) -> Any:
        cupy.RawKernel(SOURCE, name)((blocks,), (THREADS,), (given, out, numpy.int32(COUNT)))
        return out

    got = _do(check, cupy, "hash", lambda: launch("hash", blocks, x, cupy.zeros_like(x)))
    value = (whole ^ (whole >> numpy.uint64(33))) * numpy.uint64(0xFF51AFD7ED558CCD)
    check.exact("hash", got, value ^ (value >> numpy.uint64(33)))
    got = _do(check, cupy, "tally", lambda: launch("tally", 8, x, cupy.zeros(BINS, "u4")))
    check.exact("tally", got, numpy.bincount((whole % numpy.uint64(BINS)).astype("i8"), minlength=BINS))
    got = _do(check, cupy, "functions", lambda: launch("functions", blocks, y, cupy.zeros_like(y)))
    want = numpy.exp(real) * numpy.sin(real)
    check.within("functions", got, want, 16 * UNIT["float64"] * abs(want))


def _own(check: Check, numpy: Any, cupy: Any, whole: Any, real: Any) -> None:
    """What CuPy makes kernels of, and CUB's sums and sorting."""
    x, y = cupy.asarray(whole), cupy.asarray(real)
    shift = cupy.ElementwiseKernel("T x", "T out", "out = 3 * x + 7", "smoke_shift")
    squares = cupy.ReductionKernel("T x", "T out", "x * x", "a + b", "out = a", "0", "smoke_squares")
    check.exact("elementwise", _do(check, cupy, "elementwise", lambda: shift(x)), 3 * whole + numpy.uint64(7))
    check.exact("reduction", _do(check, cupy, "reduction", lambda: squares(x)), (whole * whole).sum())
    check.exact("sum", _do(check, cupy, "sum", x.sum), whole.sum())
    check.exact("sorted", _do(check, cupy, "sorted", lambda: cupy.sort(y)), numpy.sort(real))


def _libraries(check: Check, numpy: Any, cupy: Any, real: Any) -> None:
    """What is done by cuBLAS and cuFFT."""
    for name in ("float64", "float32"):
        a, b = (real[part * SIZE**2 : (part + 1) * SIZE**2].reshape(SIZE, SIZE).astype(name) for part in (0, 1))
        x, y = cupy.asarray(a), cupy.asarray(b)
        got = _do(check, cupy, f"{name} product", lambda: x @ y)  # noqa: B023
        check.within(f"{name} product", got, *product(numpy, name, a.astype("float64"), b.astype("float64")))
    signal = real[: SIZE**2]
    x = cupy.asarray(signal)
    got, want = _do(check, cupy, "transform", lambda: cupy.fft.fft(x)), numpy.fft.fft(signal)
    bound = 2 * numpy.log2(signal.size) * UNIT["float64"] * numpy.linalg.norm(want) / signal.size**0.5
    check.within("transform", numpy.stack([got.real, got.imag]), numpy.stack([want.real, want.imag]), bound)


if __name__ == "__main__":
    run(main)
