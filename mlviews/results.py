"""What each command gives back: the ``data`` of the JSON envelope, where no value of its own is that already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlviews.adopt import Adopted
    from mlviews.doctor import DriverLine, Finding, Fit
    from mlviews.jupyter import Kernel
    from mlviews.lock.diff import PackageChange
    from mlviews.lock.status import LockState
    from mlviews.newview import Held
    from mlviews.nightly.night import NightRun
    from mlviews.pack.offline import OfflineChannel
    from mlviews.pack.squashfs import PackedImage
    from mlviews.recipe.view import Override, Reason, ViewHardware
    from mlviews.release import Clobber, GpuLine
    from mlviews.site.batch import System
    from mlviews.smoke.programs import Level
    from mlviews.smoke.records import SpeedDrop
    from mlviews.smoke.report import CheckLine, GpuKindLine, RouteLine
    from mlviews.store.built import BuiltView
    from mlviews.store.listing import ReleaseSummary
    from mlviews.store.proofs import GatheredRecord
    from mlviews.variants import VariantChoice


@dataclass(frozen=True, slots=True)
class DiffResult:
    """``mlviews diff VIEW``.

    Attributes:
        bytes: bytes of archives added in all; negative where taken away.
    """

    view: str
    before: str
    after: str
    bytes: int
    changes: Sequence[PackageChange]


@dataclass(frozen=True, slots=True)
class PackResult:
    """``mlviews pack VIEW``.

    Attributes:
        image: with ``-o FILE``.
        channel: with ``--offline FOLDER``.
    """

    image: PackedImage | None = None
    channel: OfflineChannel | None = None


@dataclass(frozen=True, slots=True)
class NightlyResult:
    """``mlviews nightly``.

    Attributes:
        report: the report's first page.
    """

    report: str | None
    nights: Sequence[NightRun]


@dataclass(frozen=True, slots=True)
class CiGitlabResult:
    """``mlviews ci gitlab``.

    Attributes:
        path: the file that was written; null if none was named.
        pipeline: the pipeline, as YAML.
    """

    path: str | None
    pipeline: str


@dataclass(frozen=True, slots=True)
class CiGithubResult:
    """``mlviews ci github``.

    Attributes:
        path: the file that was written; null if none was named.
        workflow: the workflow, as YAML.
    """

    path: str | None
    workflow: str


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """``mlviews doctor``.

    Attributes:
        variants: of views that have some, the one that this host takes.
    """

    findings: Sequence[Finding]
    views: Sequence[Fit]
    drivers: Sequence[DriverLine]
    variants: Sequence[VariantChoice]


@dataclass(frozen=True, slots=True)
class KernelAddResult:
    """``mlviews kernel add VIEW``.

    Attributes:
        script: what SWAN's form wants as environment script.
    """

    kernel: Kernel
    script: Path | None


@dataclass(frozen=True, slots=True)
class KernelListResult:
    """``mlviews kernel list``."""

    kernels: Sequence[Kernel]


@dataclass(frozen=True, slots=True)
class KernelRemoveResult:
    """``mlviews kernel remove VIEW``."""

    removed: Sequence[Kernel]


@dataclass(frozen=True, slots=True)
class JobResult:
    """``mlviews job VIEW``.

    Attributes:
        release: the release that the job enters, or what stands for it in the image.
        lock: its lock's digest.
        image: the image's name; empty where the job enters the release on the shared root.
        gpus: of each node.
        queue: partition, flavour or queue; empty where the system chooses.
        serves: the GPUs that the view's binaries serve, as far as that is known.
        path: the submit file that was written; null if none was.
        files: text by file name, the submit file first.
        submitted: what the system said when it took the job; null if it was not submitted.
        line: the line that gives a shell on a node; null if a job was asked for.
        to_fill_in: what nobody has said yet.
        absent: the script that the job is to run, if there is no such file here; null if there is.
    """

    view: str
    system: System
    release: str
    lock: str
    image: str
    nodes: int
    gpus: int
    queue: str
    serves: Sequence[str]
    path: Path | None
    files: Mapping[str, str]
    submitted: str | None
    line: str | None
    to_fill_in: Sequence[str]
    absent: Path | None


@dataclass(frozen=True, slots=True)
class ViewLine:
    """One view in ``mlviews list``.

    Attributes:
        own: whether it is a recipe of the user's own folder; others travel with mlviews.
        packages: packages locked for the first platform.
        built: what there is of it at the site; null where nothing is.
    """

    name: str
    module: str
    summary: str
    own: bool
    platforms: Sequence[str]
    cuda: str | None
    lock: LockState
    packages: int | None
    built: BuiltView | None


@dataclass(frozen=True, slots=True)
class ListResult:
    """``mlviews list``.

    Attributes:
        recipes: the folder of recipes.
        hidden: views that travel with mlviews -> the folder's own view, another one, that has the name, or the module,
            of each.
        elsewhere: views that are built at the site, and whose recipes lie in other folders.
        variants: of views that have some, the one that this host takes.
    """

    recipes: str
    views: Sequence[ViewLine]
    hidden: Mapping[str, str]
    elsewhere: Sequence[str]
    variants: Sequence[VariantChoice]


@dataclass(frozen=True, slots=True)
class NewResult:
    """``mlviews new VIEW``.

    Attributes:
        adopted: what ``--from`` gave, unless that was a view.
        held: the view that holds most of it; null where none holds any.
    """

    view: str
    path: str
    adopted: Adopted | None
    held: Held | None


@dataclass(frozen=True, slots=True)
class LayerLine:
    """One layer in ``mlviews layers``.

    Attributes:
        dependencies: what it asks for itself, as conda's match specs and pins of wheels.
        layers: those that it builds on.
        smoke: checks that it brings.
        path: its file.
    """

    name: str
    summary: str
    dependencies: Sequence[str]
    layers: Sequence[str]
    smoke: Sequence[str]
    path: Path


@dataclass(frozen=True, slots=True)
class LayersResult:
    """``mlviews layers``."""

    layers: Sequence[LayerLine]


@dataclass(frozen=True, slots=True)
class KnownCheck:
    """One check in ``mlviews checks``.

    Attributes:
        proves: what has passed where it passes.
        gpu: whether it has work for a GPU.
        level: ``full`` where it takes too long for every build.
        file: where it lies beside the recipes; null for those that come with mlviews.
    """

    name: str
    proves: str
    gpu: bool
    level: Level
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class ChecksResult:
    """``mlviews checks``."""

    checks: Sequence[KnownCheck]


@dataclass(frozen=True, slots=True)
class RenderResult:
    """``mlviews render VIEW FORMAT``.

    Attributes:
        path: what was written: a file, or a folder where there are several files.
        files: text by file name, the main file first.
        remarks: what makes them less than certain, such as an image without a digest.
    """

    view: str
    format: str
    platform: str
    path: Path | None
    files: Mapping[str, str]
    remarks: Sequence[str]


@dataclass(frozen=True, slots=True)
class RecordsGatherResult:
    """``mlviews records gather``.

    Attributes:
        records: those that are kept here now.
    """

    records: Sequence[GatheredRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokedView:
    """What was found of one view.

    Attributes:
        lock: the lock's digest.
        proved: whether any check passed or failed.
        record: the record that was kept.
        full_only: checks that only `--level full` runs.
        checks: through the first route, where routes were named.
        slower: figures far below what earlier records of the same GPU hold; a warning.
    """

    view: str | None = None
    release: str | None = None
    lock: str | None = None
    proved: bool
    record: Path | None = None
    full_only: Sequence[str] = ()
    checks: Sequence[CheckLine] = ()
    slower: Sequence[SpeedDrop] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult(SmokedView):
    """``mlviews smoke``; view, release and lock are null for an interpreter of no view, and for all views.

    Attributes:
        python: the interpreter, where one was named.
        routes: what was found through each route that was named.
        differences: what is not the same through each, the route's name first.
        gpus: what was found on each kind of GPU of a batch system, with `--cluster`.
        views: what was found of each view, where nothing was named.
    """

    python: Path | None = None
    level: Level
    routes: Sequence[RouteLine] = ()
    differences: Sequence[str] = ()
    gpus: Sequence[GpuKindLine] = ()
    views: Sequence[SmokedView] = ()


@dataclass(frozen=True, slots=True)
class UseResult:
    """``mlviews use [SITE]``.

    Attributes:
        site: the site that is meant where a call names none.
        root: folder of its releases.
        file: the file that says so; null if nothing was written.
    """

    site: str
    root: str
    file: str | None


@dataclass(frozen=True, slots=True)
class AskedPackage:
    """A request and who made it."""

    spec: str
    by: Sequence[str]


@dataclass(frozen=True, slots=True)
class ShownLock:
    """The state of the view's lock.

    Attributes:
        packages: packages by platform.
        bytes: bytes of archives by platform.
        changes: what the recipe changed since, where the lock is stale.
    """

    state: LockState
    path: str | None
    digest: str | None
    packages: Mapping[str, int]
    bytes: Mapping[str, int]
    changes: Sequence[str]


@dataclass(frozen=True, slots=True)
class ShownSite:
    """What a view is at the site, where that is not what the recipe says.

    Attributes:
        cuda: the CUDA of its packages.
        absent: packages that the site cannot have, and why.
        differs: what there is instead of what the recipe asks for.
        served: how the binaries of the default release serve each GPU; empty where none is built.
        clobbers: files that packages of the default release lost to others.
    """

    name: str
    cuda: str | None
    absent: Mapping[str, str]
    differs: Mapping[str, str]
    served: Mapping[str, Literal["native", "ptx", "none"]]
    clobbers: Sequence[Clobber]


@dataclass(frozen=True, slots=True)
class ShownRecipe:
    """What a view is by its recipe, and the lock that there is.

    Attributes:
        link_scripts: packages whose post-link scripts a build runs.
        on: the view that it extends.
        unknown_checks: names under ``smoke`` that no check has, each with the nearest that one has.
        link_scripts_skipped: packages whose scripts it does not run, as far as the cache or a release tells.
        site: what it is here; null where the site cannot have it.
        gpus: what proves this lock on the GPUs that the recipe names, and others.
    """

    name: str
    summary: str
    module: str
    layers: Sequence[str]
    platforms: Sequence[str]
    hardware: ViewHardware
    dependencies: Sequence[AskedPackage]
    constraints: Sequence[AskedPackage]
    pypi: Sequence[AskedPackage]
    sdists: Sequence[str]
    gaps: Sequence[Reason]
    cpu_only: Sequence[Reason]
    some_gpus_only: Sequence[Reason]
    smoke: Sequence[str]
    unknown_checks: Sequence[str]
    link_scripts: Sequence[str]
    link_scripts_skipped: Sequence[str]
    pip_check_waivers: Sequence[Reason]
    overrides: Sequence[Override]
    on: str | None
    lock: ShownLock
    site: ShownSite | None
    gpus: Sequence[GpuLine]


@dataclass(frozen=True, slots=True)
class ShownRelease:
    """What a release says of itself, whatever its recipe says by now.

    Attributes:
        facts: what `mlviews releases` tells of it.
        site: where it was built.
        cuda: the CUDA of its packages; null where it is for no GPU.
        base: the release that it extends, as VIEW/RELEASE.
        requested: packages that its recipe asked for.
        gaps: packages that it should hold and cannot yet, and why.
        absent: packages that the site cannot have, and why.
        differs: what there is instead of what the recipe asked for.
        overrides: requirements of wheels that were loosened, and why.
        served: how its binaries serve each GPU; empty where nobody looked.
        clobbers: files that packages lost to others.
    """

    summary: str
    module: str
    facts: ReleaseSummary
    site: str
    glibc: str | None
    cuda: str | None
    base: str | None
    requested: Sequence[str]
    gaps: Mapping[str, str]
    absent: Mapping[str, str]
    differs: Mapping[str, str]
    overrides: Sequence[str]
    served: Mapping[str, Literal["native", "ptx", "none"]]
    clobbers: Sequence[Clobber]


@dataclass(frozen=True, slots=True)
class ShowResult:
    """``mlviews show VIEW[/RELEASE]``.

    Attributes:
        recipe: null where a release was asked for.
        release: null where a view was asked for.
    """

    view: str
    recipe: ShownRecipe | None
    release: ShownRelease | None
