"""Which GPUs device code serves: from modules to a verdict for each library, each package, and all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain, groupby
from typing import TYPE_CHECKING, Literal

from mlviews.gpus.nvidia import GPUS, Gpu, driver_key, first_cuda, minimum_driver, newest, ptx_cuda, toolkit_driver

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping, Sequence
    from pathlib import Path

    from mlviews.gpus.fatbin import Code
    from mlviews.gpus.libraries import DeviceCode
    from mlviews.gpus.scan import Library, Scan
    from mlviews.release import Release

Way = Literal["native", "ptx", "none"]


@dataclass(frozen=True, slots=True)
class CodeLine:
    """Pieces of device code of one kind in a library.

    Attributes:
        kind: machine code, or PTX, which the driver compiles.
        target: what it was made for, such as `sm_90a` or `compute_90`.
        isa: version of the PTX ISA; null for machine code.
        modules: how many modules of the library hold it.
        linked: false for code that the driver links as it loads it, by way of the PTX.
    """

    kind: Literal["machine", "ptx"]
    target: str
    isa: str | None
    modules: int
    linked: bool


@dataclass(frozen=True, slots=True)
class GpuServed:
    """How something serves a GPU.

    Attributes:
        way: machine code that the GPU runs, PTX that the driver compiles for it, or nothing.
        driver: the oldest driver that will do; null where none, or where it is not known.
    """

    gpu: str
    way: Way
    driver: str | None


@dataclass(frozen=True, slots=True)
class LibraryServing:
    """The device code of one file.

    Attributes:
        cuda: the oldest CUDA that can have built it; empty where it does not tell.
        fault: why it could not be read to its end; empty where it was.
    """

    path: str
    package: str
    cuda: str
    code: Sequence[CodeLine]
    gpus: Sequence[GpuServed]
    fault: str


@dataclass(frozen=True, slots=True)
class PackageServing:
    """What the libraries of a package do for each GPU together: the best of them counts.

    Attributes:
        why_some: why it may lack GPUs that are asked for; empty: it may not.
    """

    package: str
    gpus: Sequence[GpuServed]
    why_some: str


@dataclass(frozen=True, slots=True)
class GpuVerdict(GpuServed):
    """What all packages do for a GPU together: the worst of them counts, but for those that may lack it.

    Attributes:
        compute: compute capability, 70 for 7.0.
        asked: whether the release or `--gpu` names it: it must then be served.
        lacking: packages that hold device code and none for this GPU.
    """

    compute: int
    asked: bool
    lacking: Sequence[str]


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
    versions = [ptx_cuda(piece.isa) for piece in fitting if piece.isa] or [code.cuda]
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


def oldest_driver(way: Way, cuda: str, gpu: Gpu) -> str | None:
    """Return the oldest driver that will do for code of which no more is known than the CUDA that built it.

    Args:
        cuda: the version of CUDA; for PTX with its minor version.

    Returns:
        The driver's version; None where the way is ``none``, or NVIDIA's tables do not tell.
    """
    if way == "none":
        return None
    return _newest_driver([minimum_driver(cuda) if way == "native" else toolkit_driver(cuda), _first_driver(gpu)])


def _first_driver(gpu: Gpu) -> str | None:
    cuda = first_cuda(gpu.compute)
    return toolkit_driver(cuda) if cuda else None


def _newest_driver(drivers: Sequence[str | None]) -> str | None:
    known = [driver for driver in drivers if driver]
    return max(known, key=driver_key) if len(known) == len(drivers) else None


USUAL = ("V100", "T4", "A100", "L4", "H100", "B200")
"""The GPUs that are always told of."""


@dataclass(frozen=True, slots=True)
class GpusResult:
    """What libraries do for GPUs, one by one, by package, and in sum: ``mlviews gpus``.

    Attributes:
        view: null for a folder, as the release is.
        files: how many files were looked at.
        unread: what could not be read, with the reason.
        chosen: which of the view's variants this host takes, and why; empty where the view has none.
    """

    folder: Path
    view: str | None
    release: str | None
    files: int
    gpus: Sequence[GpuVerdict]
    packages: Sequence[PackageServing]
    libraries: Sequence[LibraryServing]
    unread: Mapping[str, str]
    chosen: str = ""

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each GPU that is asked for and not served."""
        return tuple(
            f"{verdict.gpu} (sm_{verdict.compute}): no machine code or PTX for it in "
            + (", ".join(verdict.lacking) or "any library")
            for verdict in self.gpus
            if verdict.asked and verdict.way == "none"
        )


def survey(
    found: Scan, release: Release | None = None, asked: Iterable[str] = (), *, told: Iterable[str] = USUAL
) -> GpusResult:
    """Judge the libraries of a release or of any folder.

    A package serves a GPU if any of its libraries does, natively or by PTX; all of them together serve it if every
    package does that holds device code. Where no package holds any, nothing is served.

    Args:
        release: names GPUs that must be served, and packages that may lack them; ``*`` stands for any letters.
        asked: names of more GPUs that must be served.
        told: names of GPUs that are told of besides.
    """
    asked = (*(release.gpus if release else ()), *asked)
    some = release.some_gpus_only if release else {}
    gpus = [GPUS[name] for name in dict.fromkeys((*told, *asked))]
    gpus.sort(key=lambda gpu: gpu.compute)
    covers: dict[str, dict[str, Cover]] = {}
    packages, lines = [], []
    for package, members in groupby(found.libraries, key=lambda library: library.package):
        serving = []
        for library in members:
            each = {gpu.name: cover(library.code, gpu) for gpu in gpus}
            serving.append(each)
            lines.append(_library(library, each))
        covers[package] = {gpu.name: best(each[gpu.name] for each in serving) for gpu in gpus}
        packages.append(
            PackageServing(package=package, gpus=_served(covers[package]), why_some=_why_some(package, some))
        )
    excused = {line.package for line in packages if line.why_some}
    verdicts = tuple(_verdict(gpu, covers, excused, asked=gpu.name in asked) for gpu in gpus)
    return GpusResult(
        folder=found.folder,
        view=release.view if release else None,
        release=release.release if release else None,
        files=found.files,
        gpus=verdicts,
        packages=packages,
        libraries=lines,
        unread=found.unread,
    )


def _verdict(
    gpu: Gpu, covers: Mapping[str, Mapping[str, Cover]], excused: Container[str], *, asked: bool
) -> GpuVerdict:
    each = {package: served[gpu.name] for package, served in covers.items()}
    counted = {name: cover for name, cover in each.items() if cover.way != "none" or name not in excused}
    total = worst(counted.values())
    lacking = [name for name, cover in counted.items() if cover.way == "none"]
    return GpuVerdict(
        gpu=gpu.name, compute=gpu.compute, way=total.way, driver=total.driver, asked=asked, lacking=lacking
    )


def _library(library: Library, covers: Mapping[str, Cover]) -> LibraryServing:
    return LibraryServing(
        path=library.path,
        package=library.package,
        cuda=library.code.cuda,
        code=_code(library.code),
        gpus=_served(covers),
        fault=library.code.fault,
    )


def _served(covers: Mapping[str, Cover]) -> list[GpuServed]:
    return [GpuServed(gpu=name, way=cover.way, driver=cover.driver) for name, cover in covers.items()]


def _code(code: DeviceCode) -> list[CodeLine]:
    return [
        CodeLine(
            kind=piece.kind,
            target=str(piece),
            isa=piece.isa or None,
            modules=count,
            linked=linked,
        )
        for linked, modules in ((True, code.linked), (False, code.loose))
        for piece, count in sorted(Counter(chain.from_iterable(modules)).items())
    ]


def _why_some(package: str, some: Mapping[str, str]) -> str:
    name = package.partition(" ")[0]
    return next((why for pattern, why in some.items() if fnmatchcase(name, pattern)), "")
