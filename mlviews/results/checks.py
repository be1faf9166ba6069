"""What ``smoke`` gives back, and what is known of GPUs by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mlviews.results.base import Result

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CheckLine", "DoorLine", "GpuLine", "SmokeResult", "gpus_in_words"]


class GpuLine(Result):
    """What is known of a view's lock on one GPU; see docs/smoke.md."""

    gpu: str = Field(description="As the recipe names it; the driver's name for one that it does not.")
    status: Literal["proved", "failed", "unproved"]
    device: str = Field("", description="The driver's name for it.")
    driver: str = Field("", description="Version of NVIDIA's driver.")
    checked: str | None = Field(None, description="When it was last tested (UTC).")
    passed: list[str] = Field([], description="Checks that passed on it then.")
    failed: list[str] = Field([], description="Checks that failed on it then.")


def gpus_in_words(lines: Iterable[GpuLine]) -> str:
    """Return ``H100 proved; T4, V100 claimed, unproved``; empty where there is no GPU to speak of."""
    words = {"proved": "proved", "failed": "failed", "unproved": "claimed, unproved"}
    by_status: dict[str, list[str]] = {status: [] for status in words}
    for line in lines:
        by_status[line.status].append(line.gpu)
    return "; ".join(f"{', '.join(gpus)} {words[status]}" for status, gpus in by_status.items() if gpus)


class CheckLine(Result):
    """What one check found."""

    name: str
    status: Literal["pass", "fail", "skip", "error"]
    reason: str
    seconds: float
    device: str = Field(
        "", description="What did the work: `cpu`, or the GPU's name; empty where nothing was computed."
    )
    driver: str = Field("", description="Version of NVIDIA's driver, where there is one.")
    versions: dict[str, str] = Field({}, description="Of Python and the frameworks.")
    figures: dict[str, int | float | str] = Field({}, description="What was measured; errors in parts of their bound.")


class DoorLine(Result):
    """What the checks found through one door of a view."""

    door: Literal["prefix", "module", "kernel", "container"]
    checks: list[CheckLine]


class SmokeResult(Result):
    """``mlviews smoke``; view, release and lock are null for an interpreter of no view."""

    view: str | None
    release: str | None
    lock: str | None = Field(description="The lock's digest.")
    python: str | None = Field(description="The interpreter, where one was named.")
    level: Literal["quick", "full"]
    proved: bool = Field(description="Whether any check passed or failed.")
    record: str | None = Field(description="The record that was kept.")
    full_only: list[str] = Field(alias="full-only", description="Checks that only `--level full` runs.")
    checks: list[CheckLine] = Field(description="Through the first door, where doors were named.")
    doors: list[DoorLine] = Field([], description="What was found through each door that was named.")
    differences: list[str] = Field([], description="What is not the same through each, the door's name first.")
