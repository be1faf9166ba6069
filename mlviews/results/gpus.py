"""What ``gpus`` gives back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlviews.results.base import Result

__all__ = ["CodeLine", "GpuServed", "GpuVerdict", "GpusResult", "LibraryServing", "PackageServing", "Way"]

Way = Literal["native", "ptx", "none"]


class CodeLine(Result):
    """Pieces of device code of one kind in a library."""

    kind: Literal["machine", "ptx"] = Field(description="Machine code, or PTX, which the driver compiles.")
    target: str = Field(description="What it was made for, such as `sm_90a` or `compute_90`.")
    isa: str | None = Field(description="Version of the PTX ISA; null for machine code.")
    modules: int = Field(description="How many modules of the library hold it.")
    linked: bool = Field(description="False for code that the driver links as it loads it, by way of the PTX.")


class GpuServed(Result):
    """How something serves a GPU."""

    gpu: str
    way: Way = Field(description="Machine code that the GPU runs, PTX that the driver compiles for it, or nothing.")
    driver: str | None = Field(description="The oldest driver that will do; null where none, or where it is not known.")


class LibraryServing(Result):
    """The device code of one file."""

    path: str
    package: str
    cuda: str = Field(description="The oldest CUDA that can have built it; empty where it does not tell.")
    code: list[CodeLine]
    gpus: list[GpuServed]
    fault: str = Field(description="Why it could not be read to its end; empty where it was.")


class PackageServing(Result):
    """What the libraries of a package do for each GPU together: the best of them counts."""

    package: str
    gpus: list[GpuServed]
    why_some: str = Field(alias="why-some", description="Why it may lack GPUs that are asked for; empty: it may not.")


class GpuVerdict(GpuServed):
    """What all packages do for a GPU together: the worst of them counts, but for those that may lack it."""

    compute: int = Field(description="Compute capability, 70 for 7.0.")
    asked: bool = Field(description="Whether the release or `--gpu` names it: it must then be served.")
    lacking: list[str] = Field(description="Packages that hold device code and none for this GPU.")


class GpusResult(Result):
    """``mlviews gpus``; view and release are null for a folder."""

    folder: str
    view: str | None
    release: str | None
    files: int = Field(description="How many files were looked at.")
    gpus: list[GpuVerdict]
    packages: list[PackageServing]
    libraries: list[LibraryServing]
    unread: dict[str, str] = Field(description="What could not be read, with the reason.")
