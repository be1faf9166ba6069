"""What `mlviews show` gives back: a view by its recipe and lock, or a release by what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlviews.lock.status import LockState
    from mlviews.recipe.view import Override, Reason, ViewHardware
    from mlviews.release import Clobber, GpuLine
    from mlviews.store.listing import ReleaseSummary


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
