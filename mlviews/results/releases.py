"""What the verbs of the store give back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlviews.results.base import Result
from mlviews.results.checks import GpuLine  # noqa: TC001  (pydantic reads it)

__all__ = [
    "BusyView",
    "FaultLine",
    "GcResult",
    "KeptRelease",
    "PinResult",
    "PromoteResult",
    "ReleaseLine",
    "ReleasesResult",
    "RemoveResult",
    "RemovedLine",
    "RemovedRelease",
    "RollbackResult",
    "VerifiedRelease",
    "VerifyResult",
]


class ReleaseLine(Result):
    """One release in ``mlviews releases``."""

    release: str
    default: bool
    platforms: list[str]
    created: str
    lock: str
    packages: int
    pinned: bool = Field(description="Whether nothing removes it until `mlviews pin --undo`.")
    bytes: int = Field(description="Bytes that its files take; files shared with others count in full.")
    shared: int = Field(description="Bytes of them that the cache or other releases hold too, by hard links.")
    passed: list[str] = Field(description="Checks that its lock passed, by the last record of each.")
    failed: list[str] = Field(description="Checks that its lock failed, by the last record of each.")
    gpus: list[GpuLine] = Field(description="What proves its lock on the GPUs that it claims, and others.")


class RemovedLine(Result):
    """A release that is gone."""

    release: str
    removed: str
    lock: str


class ReleasesResult(Result):
    """``mlviews releases VIEW``."""

    view: str
    releases: list[ReleaseLine]
    removed: list[RemovedLine] = Field([], description="What was there once.")


class PromoteResult(Result):
    """``mlviews promote VIEW/RELEASE``."""

    view: str
    release: str
    before: str | None = Field(description="The default until now.")


class RollbackResult(PromoteResult):
    """``mlviews rollback VIEW``."""


class PinResult(Result):
    """``mlviews pin VIEW/RELEASE``."""

    view: str
    release: str
    pinned: bool


class RemoveResult(Result):
    """``mlviews remove VIEW/RELEASE``."""

    view: str
    release: str
    bytes: int = Field(description="Bytes that are free now; what others share is not.")


class KeptRelease(Result):
    """A release that stays."""

    view: str
    release: str
    why: str


class RemovedRelease(Result):
    """A release that goes."""

    view: str
    release: str


class BusyView(Result):
    """A view that is left alone, since somebody is at work on it."""

    view: str
    holder: str


class GcResult(Result):
    """``mlviews gc``."""

    dry_run: bool = Field(alias="dry-run", description="Whether nothing was changed.")
    removed: list[RemovedRelease]
    kept: list[KeptRelease]
    busy: list[BusyView]
    debris: list[str] = Field(description="What processes that died had left.")
    cache: list[str] = Field(description="What nobody needs of the cache, by its path there.")
    bytes: int = Field(description="Bytes that are free then; of what has several names, only what loses them all.")


class FaultLine(Result):
    """One thing in a release that is not as it was built."""

    path: str
    kind: Literal["changed", "missing", "extra", "link", "mode"] = Field(
        description="link: it leads elsewhere, or a file and a link stand in each other's place."
    )
    package: str = Field(description="Whose it is; empty for what the build wrote and what nobody knows.")


class VerifiedRelease(Result):
    """What `verify` found of one platform of a release."""

    release: str
    platform: str
    files: int = Field(description="Files and links that were looked at.")
    bytes: int = Field(description="Bytes that were read.")
    bytecode: int = Field(description="Files of byte code that Python has written since; nobody vouches for them.")
    whole: bool = Field(description="False where a damaged record kept others from being judged.")
    faults: list[FaultLine]
    repaired: list[FaultLine]


class VerifyResult(Result):
    """``mlviews verify VIEW[/RELEASE]``."""

    view: str
    releases: list[VerifiedRelease]
