"""What ``doctor`` and ``kernel`` give back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlviews.results.base import Result

__all__ = [
    "DoctorResult",
    "DriverLine",
    "Finding",
    "Fit",
    "KernelAddResult",
    "KernelLine",
    "KernelListResult",
    "KernelRemoveResult",
]


class Finding(Result):
    """One thing that ``mlviews doctor`` looked at."""

    name: str
    status: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""


class Fit(Result):
    """Whether a view runs on this host."""

    view: str
    runs: bool
    why: str


class DriverLine(Result):
    """A CUDA version that views ask for, and the driver that offers it."""

    cuda: str
    driver: str | None = Field(description="The oldest that does, on Linux; null where NVIDIA's table has none.")
    here: bool = Field(description="Whether this host's driver does.")
    views: list[str]


class DoctorResult(Result):
    """``mlviews doctor``."""

    findings: list[Finding]
    views: list[Fit]
    drivers: list[DriverLine]


class KernelLine(Result):
    """One kernel of a view."""

    name: str = Field(description="What notebooks store.")
    view: str
    release: str = Field(description="What it runs; for one that follows the default, what that was when it was added.")
    follows: Literal["release", "default"]
    lock: str = Field(description="The release's lock digest.")
    folder: str
    works: bool = Field(description="Whether what it starts is there.")


class KernelAddResult(Result):
    """``mlviews kernel add VIEW``."""

    kernel: KernelLine
    script: str | None = Field(description="What SWAN's form wants as environment script.")


class KernelListResult(Result):
    """``mlviews kernel list``."""

    kernels: list[KernelLine]


class KernelRemoveResult(Result):
    """``mlviews kernel remove VIEW``."""

    removed: list[KernelLine]
