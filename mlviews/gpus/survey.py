"""From the libraries of a folder to the verdict on each GPU."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain, groupby
from typing import TYPE_CHECKING

from mlviews.gpus.coverage import best, cover, worst
from mlviews.hardware import GPUS
from mlviews.results.gpus import CodeLine, GpuServed, GpuVerdict, LibraryServing, PackageServing

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from mlviews.gpus.coverage import Cover
    from mlviews.gpus.libraries import DeviceCode
    from mlviews.gpus.scan import Library
    from mlviews.hardware import Gpu

__all__ = ["USUAL", "Survey", "survey"]

USUAL = ("V100", "T4", "A100", "L4", "H100", "B200")
"""The GPUs that are always told of."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What libraries do for GPUs, one by one, by package, and in sum."""

    gpus: tuple[GpuVerdict, ...]
    packages: tuple[PackageServing, ...]
    libraries: tuple[LibraryServing, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each GPU that is asked for and not served."""
        return tuple(
            f"{verdict.gpu} (sm_{verdict.compute}): no machine code or PTX for it in "
            + (", ".join(verdict.lacking) or "any library")
            for verdict in self.gpus
            if verdict.asked and verdict.way == "none"
        )


def survey(libraries: Iterable[Library], asked: Iterable[str] = (), *, some: Mapping[str, str] | None = None) -> Survey:
    """Judge the libraries of a view or of any folder.

    A package serves a GPU if any of its libraries does, natively or by PTX; all of them together serve it if every
    package does that holds device code. Where no package holds any, nothing is served.

    Args:
        libraries: what was found, ordered by package.
        asked: names of GPUs that must be served.
        some: packages that may lack GPUs, and why; ``*`` stands for any letters.
    """
    asked = tuple(asked)
    gpus = [GPUS[name] for name in dict.fromkeys((*USUAL, *asked))]
    gpus.sort(key=lambda gpu: gpu.compute)
    covers: dict[str, dict[str, Cover]] = {}
    packages, lines = [], []
    for package, members in groupby(libraries, key=lambda library: library.package):
        found = []
        for library in members:
            each = {gpu.name: cover(library.code, gpu) for gpu in gpus}
            found.append(each)
            lines.append(_library(library, each))
        covers[package] = {gpu.name: best(each[gpu.name] for each in found) for gpu in gpus}
        packages.append(
            PackageServing(package=package, gpus=_served(covers[package]), why_some=_why_some(package, some or {}))
        )
    excused = {line.package for line in packages if line.why_some}
    verdicts = tuple(_verdict(gpu, covers, excused, asked=gpu.name in asked) for gpu in gpus)
    return Survey(verdicts, tuple(packages), tuple(lines))


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
            isa="{}.{}".format(*piece.version) if piece.kind == "ptx" else None,
            modules=count,
            linked=linked,
        )
        for linked, modules in ((True, code.linked), (False, code.loose))
        for piece, count in sorted(Counter(chain.from_iterable(modules)).items())
    ]


def _why_some(package: str, some: Mapping[str, str]) -> str:
    name = package.partition(" ")[0]
    return next((why for pattern, why in some.items() if fnmatchcase(name, pattern)), "")
