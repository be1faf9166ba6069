"""Which GPUs device code serves: from modules to a verdict for each library, each package, and all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlviews.cudadriver import driver_key, first_cuda, minimum_driver, newest, ptx_cuda, toolkit_driver

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from mlviews.gpus.fatbin import Code
    from mlviews.gpus.libraries import DeviceCode
    from mlviews.hardware import Gpu

__all__ = ["Cover", "Way", "best", "cover", "runs", "worst"]

Way = Literal["native", "ptx", "none"]

# GPUs of Tegra and of its successors, beside which NVIDIA promises no binary compatibility: CUDA C++ Programming Guide,
# "Binary Compatibility". 8.8 has no discrete GPU that NVIDIA names, so nothing is promised for it either.
_EMBEDDED = frozenset({32, 53, 62, 72, 87, 88, 101, 110})


@dataclass(frozen=True, slots=True)
class Cover:
    """How something serves a GPU.

    Attributes:
        way: machine code that it runs, PTX that its driver compiles, or nothing.
        driver: the oldest driver that will do; None where it serves nothing, or NVIDIA's tables do not tell.
    """

    way: Way
    driver: str | None = None


def runs(code: Code, compute: int) -> bool:
    """Tell whether a GPU of a compute capability can use a piece of code.

    Machine code runs on the same major version from its own minor version on, PTX is compiled for its own and every
    later version; ``a`` is for one version alone, ``f`` for the later ones of the same major version. Sources: CUDA C++
    Programming Guide, "Binary Compatibility" and "PTX Compatibility"; PTX ISA, ".target".
    """
    if code.suffix == "a":
        return code.compute == compute
    if code.kind == "machine" and code.compute != compute and {code.compute, compute} & _EMBEDDED:
        return False
    if code.kind == "machine" or code.suffix == "f":
        return code.compute // 10 == compute // 10 and code.compute <= compute
    return code.compute <= compute


def cover(code: DeviceCode, gpu: Gpu) -> Cover:
    """Tell how a library serves a GPU: by the best that any of its modules has for it.

    Modules are not alike: mathematics libraries have one for each architecture and size. What awaits linking counts as
    PTX does, and only if all of it fits, since the driver links all of it or fails (NVCC, "JIT Linking").
    """
    fitting = [piece for module in code.linked for piece in module if runs(piece, gpu.compute)]
    if any(piece.kind == "machine" for piece in fitting):
        return Cover("native", _newest_driver([minimum_driver(code.cuda) if code.cuda else None, _first_driver(gpu)]))
    if not fitting and code.loose and all(any(runs(piece, gpu.compute) for piece in part) for part in code.loose):
        fitting = [piece for module in code.loose for piece in module if runs(piece, gpu.compute)]
    if not fitting:
        return Cover("none")
    isas = ["{}.{}".format(*piece.version) for piece in fitting if piece.kind == "ptx"]
    versions = [ptx_cuda(isa) for isa in isas] or [code.cuda]
    compiler = toolkit_driver(newest(versions)) if all(versions) else None
    return Cover("ptx", _newest_driver([compiler, _first_driver(gpu)]))


def best(covers: Iterable[Cover]) -> Cover:
    """Join what serves a GPU side by side, as the libraries of one package do: the best way, the newest driver."""
    serving = [cover for cover in covers if cover.way != "none"]
    if not serving:
        return Cover("none")
    way: Way = "native" if any(cover.way == "native" for cover in serving) else "ptx"
    return Cover(way, _newest_driver([cover.driver for cover in serving]))


def worst(covers: Collection[Cover]) -> Cover:
    """Join what must serve a GPU together, as the packages of one view do: the worst way, the newest driver."""
    if not covers or any(cover.way == "none" for cover in covers):
        return Cover("none")
    way: Way = "ptx" if any(cover.way == "ptx" for cover in covers) else "native"
    return Cover(way, _newest_driver([cover.driver for cover in covers]))


def _first_driver(gpu: Gpu) -> str | None:
    cuda = first_cuda(gpu.compute)
    return toolkit_driver(cuda) if cuda else None


def _newest_driver(drivers: Sequence[str | None]) -> str | None:
    known = [driver for driver in drivers if driver]
    return max(known, key=driver_key) if len(known) == len(drivers) else None
