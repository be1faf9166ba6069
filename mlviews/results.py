"""What each command gives back: the ``data`` of the JSON envelope, one model a command.

Their JSON Schemas travel with mlviews, in ``mlviews/schemas/``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "BisectResult", "BuildResult", "CellState", "CiGithubResult", "ContainerBuildResult", "DiffResult", "DoctorResult",
    "GcResult", "GpuLine", "GpusResult", "KernelAddResult", "KernelLine", "KernelListResult", "KernelRemoveResult",
    "ListResult", "LockResult", "LockState", "NewResult", "NightCell", "NightRun", "NightlyResult", "PackageChange",
    "PinResult", "Problem", "PromoteResult", "PublishResult", "ReleasesResult", "RemoveResult", "RenderResult",
    "RollbackResult", "ShowResult", "SmokeResult", "VerifyResult", "ViewLine",
]  # fmt: skip

LockState = Literal["current", "stale", "none", "invalid", "unavailable"]
CellState = Literal["ok", "updated", "unsolvable", "install-failed", "check-failed", "not-run"]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Problem(_Result):
    """One error."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(pattern="^[a-z0-9]+(-[a-z0-9]+)*$", description="What scripts may rely on.")
    message: str = Field(description="What happened, for people; it may change.")
    hint: str = Field(description="What to do next, for people; empty where there is nothing to do.")


class ViewLine(_Result):
    """One view in ``mlviews list``."""

    name: str
    module: str
    summary: str
    platforms: list[str]
    cuda: str | None
    lock: LockState
    packages: int | None = Field(description="Packages locked for the first platform.")


class ListResult(_Result):
    """``mlviews list``."""

    recipes: str = Field(description="The folder of recipes.")
    views: list[ViewLine]


class AskedPackage(_Result):
    """A request and who made it."""

    spec: str
    by: list[str]


class Why(_Result):
    """A package and the reason it is treated as it is."""

    package: str
    why: str


class ShownHardware(_Result):
    """What the view is solved for."""

    glibc: str
    cuda: str | None
    archspec: str | None
    gpus: list[str]


class ShownLock(_Result):
    """The state of the view's lock."""

    state: LockState
    path: str | None
    digest: str | None
    packages: dict[str, int] = Field(description="Packages by platform.")
    bytes: dict[str, int] = Field(description="Bytes of archives by platform.")
    changes: list[str] = Field(description="What the recipe changed since, where the lock is stale.")


class GpuLine(_Result):
    """What is known of a view's lock on one GPU; see docs/smoke.md."""

    gpu: str = Field(description="As the recipe names it; the driver's name for one that it does not.")
    status: Literal["proved", "failed", "unproved"]
    device: str = Field("", description="The driver's name for it.")
    driver: str = Field("", description="Version of NVIDIA's driver.")
    checked: str | None = Field(None, description="When it was last tested (UTC).")
    passed: list[str] = Field([], description="Checks that passed on it then.")
    failed: list[str] = Field([], description="Checks that failed on it then.")


class ShowResult(_Result):
    """``mlviews show VIEW``."""

    name: str
    summary: str
    module: str
    layers: list[str]
    platforms: list[str]
    hardware: ShownHardware
    dependencies: list[AskedPackage]
    constraints: list[AskedPackage]
    pypi: list[AskedPackage]
    gaps: list[Why]
    cpu_only: list[Why] = Field(alias="cpu-only")
    some_gpus_only: list[Why] = Field(alias="some-gpus-only")
    smoke: list[str]
    lock: ShownLock
    gpus: list[GpuLine] = Field(description="What proves this lock on the GPUs that the recipe names, and others.")


class NewResult(_Result):
    """``mlviews new VIEW``."""

    view: str
    path: str


class PackageChange(_Result):
    """One package that differs between two locks."""

    kind: Literal["added", "removed", "up", "down", "rebuilt"]
    name: str
    platform: str
    before: str | None
    after: str | None
    bytes: int = Field(description="Bytes of archive added; negative where taken away.")


class LockedView(_Result):
    """What became of one view's lock."""

    view: str
    path: str
    status: Literal["new", "updated", "unchanged", "failed"]
    digest: str | None
    packages: int
    changes: list[PackageChange]


class LockResult(_Result):
    """``mlviews lock``."""

    locks: list[LockedView]


class DiffResult(_Result):
    """``mlviews diff VIEW``."""

    view: str
    before: str
    after: str
    bytes: int = Field(description="Bytes of archives added in all; negative where taken away.")
    changes: list[PackageChange]


class CheckLine(_Result):
    """What one check found."""

    name: str
    status: Literal["pass", "fail", "skip", "error"]
    reason: str
    seconds: float
    device: str = Field(
        "", description="What did the work: `cpu`, or the GPU's name; empty where nothing was computed."
    )
    driver: str = Field("", description="Version of NVIDIA's driver, where there is one.")
    versions: dict[str, str] = {}
    figures: dict[str, int | float | str] = Field({}, description="What was measured; errors in parts of their bound.")


class DoorLine(_Result):
    """What the checks found through one door of a view."""

    door: Literal["prefix", "module", "kernel", "container"]
    checks: list[CheckLine]


class SmokeResult(_Result):
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


class BuildResult(_Result):
    """``mlviews build VIEW``."""

    view: str
    release: str
    platform: str
    status: Literal["new", "unchanged"]
    default: bool = Field(description="Whether a plain `module load` gives this release.")
    folder: str
    module: str
    lock: str = Field(description="The lock's digest.")
    packages: int
    gaps: dict[str, str]
    absent: dict[str, str]
    checks: list[CheckLine]


class LayerLine(_Result):
    """One layer of an image."""

    holds: str = Field(description="Whose files: one large package's, `packages` the others', `view` mlviews' own.")
    digest: str
    bytes: int = Field(description="Compressed.")


class ContainerBuildResult(_Result):
    """``mlviews container build VIEW``."""

    view: str
    release: str
    lock: str = Field(description="The lock's digest.")
    platform: str
    digest: str = Field(description="What a registry knows the image by.")
    config: str = Field(description="Digest of its configuration: the image's id in podman and docker.")
    base: str = Field(description="The base image: a name or a file.")
    base_digest: str
    bytes: int = Field(description="Of all layers, compressed.")
    layers: list[LayerLine] = Field(description="On top of the base's.")
    archive: str | None = Field(description="The OCI archive that was written.")
    pushed: str | None = Field(description="Where it was pushed to.")
    sif: str | None = Field(description="The Apptainer image that was written.")
    remarks: list[str] = Field(description="What makes the image less than certain, such as a base without a digest.")


Way = Literal["native", "ptx", "none"]


class CodeLine(_Result):
    """Pieces of device code of one kind in a library."""

    kind: Literal["machine", "ptx"] = Field(description="Machine code, or PTX, which the driver compiles.")
    target: str = Field(description="What it was made for, such as `sm_90a` or `compute_90`.")
    isa: str | None = Field(description="Version of the PTX ISA; null for machine code.")
    modules: int = Field(description="How many modules of the library hold it.")
    linked: bool = Field(description="False for code that the driver links as it loads it, by way of the PTX.")


class GpuServed(_Result):
    """How something serves a GPU."""

    gpu: str
    way: Way = Field(description="Machine code that the GPU runs, PTX that the driver compiles for it, or nothing.")
    driver: str | None = Field(description="The oldest driver that will do; null where none, or where it is not known.")


class LibraryServing(_Result):
    """The device code of one file."""

    path: str
    package: str
    cuda: str = Field(description="The oldest CUDA that can have built it; empty where it does not tell.")
    code: list[CodeLine]
    gpus: list[GpuServed]
    fault: str = Field(description="Why it could not be read to its end; empty where it was.")


class PackageServing(_Result):
    """What the libraries of a package do for each GPU together: the best of them counts."""

    package: str
    gpus: list[GpuServed]
    why_some: str = Field(alias="why-some", description="Why it may lack GPUs that are asked for; empty: it may not.")


class GpuVerdict(GpuServed):
    """What all packages do for a GPU together: the worst of them counts, but for those that may lack it."""

    compute: int = Field(description="Compute capability, 70 for 7.0.")
    asked: bool = Field(description="Whether the release or `--gpu` names it: it must then be served.")
    lacking: list[str] = Field(description="Packages that hold device code and none for this GPU.")


class GpusResult(_Result):
    """``mlviews gpus``; view and release are null for a folder."""

    folder: str
    view: str | None
    release: str | None
    files: int = Field(description="How many files were looked at.")
    gpus: list[GpuVerdict]
    packages: list[PackageServing]
    libraries: list[LibraryServing]
    unread: dict[str, str] = Field(description="What could not be read, with the reason.")


class ReleaseLine(_Result):
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


class RemovedLine(_Result):
    """A release that is gone."""

    release: str
    removed: str
    lock: str


class ReleasesResult(_Result):
    """``mlviews releases VIEW``."""

    view: str
    releases: list[ReleaseLine]
    removed: list[RemovedLine] = []


class PromoteResult(_Result):
    """``mlviews promote VIEW/RELEASE``."""

    view: str
    release: str
    before: str | None = Field(description="The default until now.")


class RollbackResult(PromoteResult):
    """``mlviews rollback VIEW``."""


class PinResult(_Result):
    """``mlviews pin VIEW/RELEASE``."""

    view: str
    release: str
    pinned: bool


class RemoveResult(_Result):
    """``mlviews remove VIEW/RELEASE``."""

    view: str
    release: str
    bytes: int = Field(description="Bytes that are free now; what others share is not.")


class CatalogLine(_Result):
    """A folder with a catalog of its own on CVMFS."""

    folder: str
    entries: int


class RemarkLine(_Result):
    """Something that a rule says of what would be published."""

    rule: str
    path: str
    why: str
    forbids: bool


class PublishResult(_Result):
    """``mlviews publish VIEW --plan``."""

    view: str
    release: str
    repository: str
    base: str = Field(description="The folder in the repository that everything is put into.")
    files: int
    bytes: int
    catalogs: list[CatalogLine]
    replaced: list[str] | None = Field(description="What becomes another; null where the repository is not mounted.")
    remarks: list[RemarkLine]
    tar: str | None = Field(description="What was packed for `cvmfs_server ingest`.")
    command: str = Field(description="What publishes it.")


class KeptRelease(_Result):
    """A release that stays."""

    view: str
    release: str
    why: str


class RemovedRelease(_Result):
    """A release that goes."""

    view: str
    release: str


class BusyView(_Result):
    """A view that is left alone, since somebody is at work on it."""

    view: str
    holder: str


class GcResult(_Result):
    """``mlviews gc``."""

    dry_run: bool = Field(alias="dry-run", description="Whether nothing was changed.")
    removed: list[RemovedRelease]
    kept: list[KeptRelease]
    busy: list[BusyView]
    debris: list[str] = Field(description="What processes that died had left.")
    cache: list[str] = Field(description="Packages in the cache that no release has.")
    bytes: int = Field(description="Bytes that are free then; of what has several names, only what loses them all.")


class FaultLine(_Result):
    """One thing in a release that is not as it was built."""

    path: str
    kind: Literal["changed", "missing", "extra", "link", "mode"] = Field(
        description="link: it leads elsewhere, or a file and a link stand in each other's place."
    )
    package: str = Field(description="Whose it is; empty for what the build wrote and what nobody knows.")


class VerifiedRelease(_Result):
    """What `verify` found of one platform of a release."""

    release: str
    platform: str
    files: int = Field(description="Files and links that were looked at.")
    bytes: int = Field(description="Bytes that were read.")
    bytecode: int = Field(description="Files of byte code that Python has written since; nobody vouches for them.")
    whole: bool = Field(description="False where a damaged record kept others from being judged.")
    faults: list[FaultLine]
    repaired: list[FaultLine]


class VerifyResult(_Result):
    """``mlviews verify VIEW[/RELEASE]``."""

    view: str
    releases: list[VerifiedRelease]


class Finding(_Result):
    """One thing that ``mlviews doctor`` looked at."""

    name: str
    status: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""


class Fit(_Result):
    """Whether a view runs on this host."""

    view: str
    runs: bool
    why: str


class DriverLine(_Result):
    """A CUDA version that views ask for, and the driver that offers it."""

    cuda: str
    driver: str | None = Field(description="The oldest that does, on Linux; null where NVIDIA's table has none.")
    here: bool = Field(description="Whether this host's driver does.")
    views: list[str]


class DoctorResult(_Result):
    """``mlviews doctor``."""

    findings: list[Finding]
    views: list[Fit]
    drivers: list[DriverLine]


class RenderResult(_Result):
    """``mlviews render VIEW FORMAT``."""

    view: str
    format: str
    platform: str
    path: str | None = Field(description="What was written: a file, or a folder where there are several files.")
    files: dict[str, str] = Field(description="Text by file name, the main file first.")
    remarks: list[str] = Field(description="What makes them less than certain, such as an image without a digest.")


class KernelLine(_Result):
    """One kernel of a view."""

    name: str = Field(description="What notebooks store.")
    view: str
    release: str = Field(description="What it runs; for one that follows the default, what that was when it was added.")
    follows: Literal["release", "default"]
    lock: str = Field(description="The release's lock digest.")
    folder: str
    works: bool = Field(description="Whether what it starts is there.")


class KernelAddResult(_Result):
    """``mlviews kernel add VIEW``."""

    kernel: KernelLine
    script: str | None = Field(description="What SWAN's form wants as environment script.")


class KernelListResult(_Result):
    """``mlviews kernel list``."""

    kernels: list[KernelLine]


class KernelRemoveResult(_Result):
    """``mlviews kernel remove VIEW``."""

    removed: list[KernelLine]


class CellFigures(_Result):
    """What a cell measured; null where that was not looked at."""

    packages: int | None = None
    download: int | None = Field(None, description="Bytes of archives.")
    installed: int | None = Field(None, description="Bytes of installed files.")
    age: float | None = Field(None, description="Median age of the packages that night, in days.")
    solve_seconds: float | None = Field(None, alias="solve-seconds")
    install_seconds: float | None = Field(None, alias="install-seconds")
    check_seconds: float | None = Field(None, alias="check-seconds")


class Earlier(_Result):
    """What earlier nights found of the same view on the same platform."""

    last: str | None = Field(None, description="The night before.")
    last_state: CellState | None = Field(None, alias="last-state")
    since: str | None = Field(None, description="The first night of this failure.")
    good: str | None = Field(None, description="The last night before it that was without.")


class NightCell(_Result):
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
    checks: list[CheckLine] = []
    figures: CellFigures = CellFigures()
    earlier: Earlier = Earlier()
    looked_back: bool = Field(False, alias="looked-back", description="Whether it was found on a later day.")


class NightRun(_Result):
    """One night: views x platforms."""

    night: str = Field(description="The day (UTC), which names its folder.")
    as_of: str | None = Field(alias="as-of", description="The moment that it looks back to.")
    cuda: str | None = Field(description="The CUDA version that was supposed in the place of the recipes'.")
    solve_only: bool = Field(alias="solve-only", description="Whether nothing was installed, and so nothing tested.")
    seconds: float
    cells: list[NightCell]


class NightlyResult(_Result):
    """``mlviews nightly``."""

    report: str | None = Field(description="The report's first page.")
    nights: list[NightRun]


class BisectResult(_Result):
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


class CiGithubResult(_Result):
    """``mlviews ci github``."""

    path: str | None = Field(description="The file that was written; null if none was named.")
    workflow: str = Field(description="The workflow, as YAML.")
