"""Kernels that Numba compiles for the GPU count, add up and call mathematics right.

Whole numbers and atomic counts are exact. A block's sum over shared memory keeps within log2(n) roundings of float64;
exp and sin within 1 and 2 ulp, CUDA's own figures (CUDA C++ Programming Guide, mathematical functions), numpy's within
one each: 16 u in all. Numba's simulator (NUMBA_ENABLE_CUDASIM) runs the same kernels on the CPU and is named: it proves
the program, and nothing of a GPU.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import _kernel_work as work
from _protocol import Check, WrongError, run, visible_gpus
from _reference import UNIT

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS, BINS = 64, 32
numba: Any = None  # what the kernels name must be global: Numba's simulator puts its own there
cuda: Any = None


def main(check: Check) -> str:
    global cuda, numba  # noqa: PLW0603
    numpy, numba = check.need("numpy"), check.need("numba")
    simulated = bool(numba.config.ENABLE_CUDASIM)
    if not simulated and not visible_gpus():
        _compile(check)
    work.need_gpu(check, simulator="Numba's simulator" if simulated else "")
    check.has("numba_cuda")  # where it is installed, it stands in for numba.cuda
    cuda = check.need("numba.cuda")
    check.expect(cuda.is_available(), f"the driver offers a GPU, and Numba does not take it: {cuda.cuda_error()}")
    warnings.simplefilter("ignore")  # a small grid leaves a GPU idle
    bench = Bench(check, simulated=simulated)
    blocks = 4 if simulated else 4096
    count = blocks * THREADS - 5  # the last block is not full
    generator = numpy.random.default_rng(4)
    whole, real = generator.integers(-(2**40), 2**40, count), generator.standard_normal(count)

    check.exact(
        "whole numbers", bench.do("whole numbers", shift, blocks, whole, numpy.zeros(count, "i8")), whole * 3 - 7
    )
    bins = whole % BINS
    counts = bench.do("atomic counts", tally, 2, bins, numpy.zeros(BINS, "i4"))
    check.exact("atomic counts", counts, numpy.bincount(bins, minlength=BINS))
    padded = numpy.append(real, numpy.zeros(5)).reshape(blocks, THREADS)
    sums = bench.do("block sums", add_up, blocks, real, numpy.zeros(blocks))
    want = [math.fsum(block) for block in padded]
    check.within("block sums", sums, want, math.log2(THREADS) * UNIT["float64"] * abs(padded).sum(axis=1))
    got = bench.do("functions", functions, blocks, real, numpy.zeros(count))
    want = numpy.exp(real) * numpy.sin(real)
    check.within("functions", got, want, 16 * UNIT["float64"] * abs(want))
    return f"kernels count, add and call functions right {bench.where}"


def _compile(check: Check) -> None:
    """Compile a kernel for a GPU that is not here: that Numba and numpy do not fit shows without one.

    Seen with numba-cuda 0.30.4 and numpy 2.5: importing works, and every kernel ends in an AttributeError.
    """
    global cuda  # noqa: PLW0603
    check.has("numba_cuda")
    cuda = check.need("numba.cuda")
    warnings.simplefilter("ignore")
    try:
        cuda.compile(shift, (numba.int64[::1], numba.int64[::1]), cc=(8, 0))
    except AttributeError as error:
        raise WrongError(f"a kernel does not compile: {error}") from error
    except Exception as error:  # noqa: BLE001  (without a driver, parts of CUDA may be missing: no fault of the view)
        check.figures["compiled without a GPU"] = f"no: {type(error).__name__}"
    else:
        check.figures["compiled without a GPU"] = "yes"


class Bench:
    """Runs kernels, and proves where."""

    def __init__(self, check: Check, *, simulated: bool) -> None:
        self.check = check
        self.simulated = simulated
        self.where = "in Numba's simulator on the CPU, which proves nothing of a GPU" if simulated else "on the GPU"

    def do(self, what: str, function: Callable[..., None], blocks: int, given: Any, out: Any) -> Any:
        """Run a function as a kernel on arrays; returns what it wrote."""
        kernel = cuda.jit(function)
        x, y = cuda.to_device(given), cuda.to_device(out)
        if not self.simulated:
            kernel[blocks, THREADS](x, y)  # compiles it, which is not to be timed
            y.copy_to_device(out)
        start, end = cuda.event(), cuda.event()
        start.record()
        kernel[blocks, THREADS](x, y)
        end.record()
        end.synchronize()
        if not self.simulated:
            address = y.__cuda_array_interface__["data"][0]
            work.prove(self.check, what, address=address, milliseconds=start.elapsed_time(end))
        return y.copy_to_host()


def shift(x: Any, out: Any) -> None:
    i = cuda.grid(1)
    if i < x.size:
        out[i] = x[i] * 3 - 7


def tally(x: Any, bins: Any) -> None:
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        cuda.atomic.add(bins, x[i], 1)


def add_up(x: Any, sums: Any) -> None:
    part = cuda.shared.array(THREADS, numba.float64)
    thread, i = cuda.threadIdx.x, cuda.grid(1)
    part[thread] = 0.0
    if i < x.size:
        part[thread] = x[i]
    width = THREADS // 2
    while width > 0:
        cuda.syncthreads()
        if thread < width:
            part[thread] += part[thread + width]
        width //= 2
    if thread == 0:
        sums[cuda.blockIdx.x] = part[0]


def functions(x: Any, out: Any) -> None:
    i = cuda.grid(1)
    if i < x.size:
        out[i] = math.exp(x[i]) * math.sin(x[i])


if __name__ == "__main__":
    run(main)
