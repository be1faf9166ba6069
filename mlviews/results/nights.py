"""What ``nightly``, ``bisect`` and ``ci`` give back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlviews.results.base import Problem, Result
from mlviews.results.checks import CheckLine  # noqa: TC001  (pydantic reads it)
from mlviews.results.locks import LockState, PackageChange  # noqa: TC001  (pydantic reads it)

__all__ = [
    "BisectResult",
    "CellFigures",
    "CellState",
    "CiGithubResult",
    "Earlier",
    "NightCell",
    "NightRun",
    "NightlyResult",
]

CellState = Literal["ok", "updated", "unsolvable", "install-failed", "check-failed", "not-run"]


class CellFigures(Result):
    """What a cell measured; null where that was not looked at."""

    packages: int | None = None
    download: int | None = Field(None, description="Bytes of archives.")
    installed: int | None = Field(None, description="Bytes of installed files.")
    age: float | None = Field(None, description="Median age of the packages that night, in days.")
    solve_seconds: float | None = Field(None, alias="solve-seconds")
    install_seconds: float | None = Field(None, alias="install-seconds")
    check_seconds: float | None = Field(None, alias="check-seconds")


class Earlier(Result):
    """What earlier nights found of the same view on the same platform."""

    last: str | None = Field(None, description="The night before.")
    last_state: CellState | None = Field(None, alias="last-state")
    since: str | None = Field(None, description="The first night of this failure.")
    good: str | None = Field(None, description="The last night before it that was without.")


class NightCell(Result):
    """One view on one platform in one night."""

    # Files are named after these, and a history may come from another host.
    view: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    platform: str = Field(pattern=r"^[a-z0-9_]+(-[a-z0-9_]+)*$")
    state: CellState = Field(description="not-run is no success: there was no such platform or GPU, or no way to know.")
    reason: str = Field("", description="The state in a line.")
    problem: Problem | None = Field(None, description="Why it could not be solved, installed, or looked at.")
    tested: bool = Field(False, description="Whether the newest packages were installed and checked.")
    lock: LockState = Field(description="Of the committed lock.")
    committed: str | None = Field(None, description="Digest of the committed lock's part for this platform.")
    committed_state: CellState | None = Field(
        None, alias="committed-state", description="What the committed lock gave; null: it was not tried."
    )
    digest: str | None = Field(None, description="Digest of the lock that the newest packages would give.")
    changes: list[PackageChange] = Field([], description="What that lock changes in the committed one.")
    suspects: list[PackageChange] = Field([], description="Where it fails: what changed since the last good night.")
    checks: list[CheckLine] = Field([], description="What they found with the newest packages.")
    figures: CellFigures = CellFigures()
    earlier: Earlier = Earlier()
    looked_back: bool = Field(False, alias="looked-back", description="Whether it was found on a later day.")


class NightRun(Result):
    """One night: views x platforms."""

    night: str = Field(description="The day (UTC), which names its folder.")
    as_of: str | None = Field(alias="as-of", description="The moment that it looks back to.")
    cuda: str | None = Field(description="The CUDA version that was supposed in the place of the recipes'.")
    solve_only: bool = Field(alias="solve-only", description="Whether nothing was installed, and so nothing tested.")
    seconds: float
    cells: list[NightCell]


class NightlyResult(Result):
    """``mlviews nightly``."""

    report: str | None = Field(description="The report's first page.")
    nights: list[NightRun]


class BisectResult(Result):
    """``mlviews bisect VIEW``."""

    view: str
    platform: str
    good: str = Field(description="What the good lock was called.")
    bad: str = Field(description="What the bad lock was called.")
    differ: int = Field(description="Packages that differ between these two.")
    checks: dict[str, str] = Field(description="The checks that break, and what they say of the first bad lock.")
    change: list[PackageChange] = Field(description="The smallest change that breaks the good lock.")
    step: list[PackageChange] = Field(description="What of it lies between the last good and the first bad lock.")
    together: bool = Field(description="Whether parts of the change can be had, and break nothing alone.")
    because: list[str] = Field(description="Why parts of the change cannot be had alone.")
    skipped: list[str] = Field(description="Versions in between that no mixture exists of.")
    last_good: str = Field(alias="last-good", description="The file of the last good lock.")
    first_bad: str = Field(alias="first-bad", description="The file of the first bad lock.")
    builds: int = Field(description="Locks that were installed and checked, repetitions included.")
    kept: int = Field(description="Outcomes that were there from a bisection before.")
    unsolvable: int = Field(description="Mixtures that the solver refused.")


class CiGithubResult(Result):
    """``mlviews ci github``."""

    path: str | None = Field(description="The file that was written; null if none was named.")
    workflow: str = Field(description="The workflow, as YAML.")
