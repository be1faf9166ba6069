"""What views hold: by their releases, else by their locks; every package of every view, and the catalogue as a page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from packaging.utils import canonicalize_name

from mlviews.errors import MlviewsError, RefusedError, nearest
from mlviews.files.writing import write_atomically
from mlviews.lock.parse import read_lock
from mlviews.lock.status import lock_status
from mlviews.progress import counted
from mlviews.recipe.view import ViewSpec, spec_name
from mlviews.release import RELEASE_LOCK, GpuLine, Release
from mlviews.render import webpage
from mlviews.site.spec import for_site
from mlviews.smoke.records import last_results, proved_gpus, read_records
from mlviews.upstream import TABLED, ViewGpus, cuda_of, view_of_lock, view_of_release
from mlviews.values import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlviews.lock.lockfile import Lock, LockedPackage
    from mlviews.recipe.catalogue import Catalogue
    from mlviews.site.profile import Site
    from mlviews.store.disk import ReleaseEntry, Store


@dataclass(frozen=True, slots=True)
class Gap:
    """A package that a view should hold and cannot yet.

    Attributes:
        why: the recipe's reason.
    """

    view: str
    package: str
    why: str


@dataclass(frozen=True, slots=True)
class Holdings:
    """What there is of a view here.

    Attributes:
        entry: its release: the default, else the newest; None where none is built.
        spec: where nothing is built, the view as the site makes it; None where no recipe makes it any more.
        lock: where nothing is built, its lock, be it stale; None where it has none.
    """

    view: str
    entry: ReleaseEntry | None = None
    spec: ViewSpec | None = None
    lock: Lock | None = None

    @property
    def release(self) -> Release | None:
        """The release on one of its platforms."""
        return self.entry.release if self.entry else None

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What it should hold and cannot yet."""
        if self.release:
            return tuple(Gap(self.view, package, why) for package, why in self.release.gaps.items())
        return tuple(Gap(self.view, gap.package, gap.why) for gap in (self.spec.gaps if self.spec else ()))


@dataclass(frozen=True, slots=True)
class HeldPackage:
    """A package in a view, on one platform.

    Attributes:
        variant: which one of another view's the view is; null for none.
        release: the one that holds it; null where nothing is built and the view's lock names it.
        build: empty for a wheel.
        cuda: the CUDA that it is built for; null where it is for none, or does not say which.
        asked: whether the recipe asks for it; else something that it asks for needs it.
    """

    view: str
    variant: str | None
    release: str | None
    platform: str
    name: str
    version: str
    build: str
    cuda: str | None
    asked: bool


@dataclass(frozen=True, slots=True)
class PackagesResult:
    """``mlviews packages VIEW``.

    Attributes:
        source: `release` where one is built, else `lock`.
    """

    view: str
    source: Literal["release", "lock"]
    release: str | None
    packages: Sequence[HeldPackage]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """``mlviews search PACKAGE``.

    Attributes:
        packages: those with this name, then those with a name that holds it.
        gaps: of views that should hold such a package.
        asking: views with neither a release nor a lock here whose recipes ask for such a package.
    """

    package: str
    packages: Sequence[HeldPackage]
    gaps: Sequence[Gap]
    asking: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CatalogueView:
    """A view in the catalogue's page.

    Attributes:
        summary: empty where there is neither recipe nor release.
        source: `release` where one is built, `lock` where there is a lock, else `none`.
        gpus: how it serves each; null for a view without CUDA.
        proofs: what is known of its lock on GPUs.
        passed: checks that its lock passed, by the last record of each.
        failed: those that it failed.
    """

    view: str
    summary: str
    module: str
    source: Literal["release", "lock", "none"]
    release: str | None
    cuda: str | None
    platforms: Sequence[str]
    gpus: ViewGpus | None
    proofs: Sequence[GpuLine]
    passed: Sequence[str]
    failed: Sequence[str]

    @property
    def served(self) -> tuple[str, ...]:
        """The GPUs that it serves, by machine code or PTX."""
        return tuple(line.gpu for line in (self.gpus.gpus if self.gpus else ()) if line.way in {"native", "ptx"})

    @property
    def proof(self) -> Literal["proved", "failed", "unproved"]:
        """What its checks say in a word; of a view for GPUs, only those that ran on one count as a proof."""
        if self.failed:
            return "failed"
        proved = any(line.status == "proved" for line in self.proofs) if self.cuda else bool(self.passed)
        return "proved" if proved else "unproved"


@dataclass(frozen=True, slots=True)
class AllHoldings:
    """What there is of every view.

    Attributes:
        errors: why nobody can tell of some.
        unread: views with neither a release nor a lock here, and the packages that their recipes ask for.
    """

    views: Sequence[CatalogueView]
    packages: Sequence[HeldPackage]
    gaps: Sequence[Gap]
    errors: tuple[MlviewsError, ...]
    unread: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CatalogueResult:
    """``mlviews catalogue``.

    Attributes:
        page: the file to open.
    """

    page: Path
    views: Sequence[CatalogueView]
    packages: Sequence[HeldPackage]


def holdings_of(view: str, catalogue: Catalogue, site: Site, store: Store, *, release: str | None = None) -> Holdings:
    """Return what there is of a view: its default release, else its newest, else its lock.

    Args:
        release: the one that is meant; None for what stands above.

    Raises:
        BadInputError: there is neither a recipe nor a folder of releases, or the recipe or the lock is faulty.
        RefusedError: there is no such release.
    """
    newest = next((entry.name for entry in reversed(store.entries(view))), None)
    if built := release or store.default(view) or newest:
        return Holdings(view, store.existing(view, built))
    if view not in catalogue.names and view in store.views():
        return Holdings(view)
    site_spec = for_site(catalogue.view(view), site)
    found = lock_status(site_spec, site)
    if found.state == "invalid" and found.error:
        raise found.error
    return Holdings(view, spec=site_spec.spec, lock=found.lock)


def gpus_of(held: Holdings) -> ViewGpus | None:
    """Return how a view serves each GPU; None for a view without CUDA."""
    if held.release:
        return view_of_release(held.release) if held.release.cuda else None
    if held.spec and held.spec.hardware.cuda is None:
        return None
    if held.spec is None or held.lock is None:
        return ViewGpus(view=held.view, source="none", release=None, gpus=(), unknown=())
    excused = [reason.package for reason in held.spec.some_gpus_only]
    return view_of_lock(held.view, held.lock.on(held.spec.platforms[0]), excused)


def packages_of(held: Holdings, store: Store) -> tuple[HeldPackage, ...]:
    """Return what a view holds, by name and platform; a release is read by the lock that lies in it.

    Raises:
        BadInputError: that lock is damaged.
    """
    if held.entry and held.release:
        folder = store.platform_folder(held.view, held.entry.name, held.release.platform)
        locked = read_lock(folder / RELEASE_LOCK).packages
        here = [package for package in locked if package.platform in held.entry.platforms]
        return _held(held, here, held.release.requested)
    asked = [request.text for request in held.spec.asked] if held.spec else []
    return _held(held, held.lock.packages if held.lock else (), asked)


def _held(held: Holdings, locked: Iterable[LockedPackage], asked: Iterable[str]) -> tuple[HeldPackage, ...]:
    of = held.release or held.spec
    variant = of.variant if of else None
    names = {canonicalize_name(spec_name(text)) for text in asked}
    found = [
        HeldPackage(
            view=held.view,
            variant=variant.name if variant else None,
            release=held.entry.name if held.entry else None,
            platform=package.platform,
            name=package.name,
            version=package.version,
            build=package.build,
            cuda=cuda_of(package),
            asked=canonicalize_name(package.name) in names,
        )
        for package in locked
    ]
    return tuple(sorted(found, key=lambda package: (package.name, package.platform)))


def all_holdings(catalogue: Catalogue, site: Site, store: Store) -> AllHoldings:
    """Return what there is of every view of the catalogue and of the root; a faulty one does not stop the others."""
    views: list[CatalogueView] = []
    packages: list[HeldPackage] = []
    gaps: list[Gap] = []
    errors: list[MlviewsError] = []
    unread: dict[str, list[str]] = {}
    for view in sorted({*catalogue.names, *store.views()}):
        try:
            held = holdings_of(view, catalogue, site, store)
            if held.entry or held.spec:
                found = packages_of(held, store)
                views.append(catalogue_view(held, store))
                packages += found
                gaps += held.gaps
            if held.spec and not held.lock:
                unread[view] = [request.name for request in held.spec.asked]
        except MlviewsError as error:
            errors.append(error)
    return AllHoldings(views, packages, gaps, tuple(errors), unread)


def search(name: str, held: AllHoldings) -> SearchResult:
    """Return the packages of a name, then those with a name that holds it, and what views lack of them.

    Hyphens, dots and underscores are alike, as are capital letters; ``*`` stands for any letters.

    Raises:
        RefusedError: no view holds any, and none says why; where some views could not be looked at, their errors.
    """
    wanted = canonicalize_name(name)
    pattern = wanted if "*" in wanted else f"*{wanted}*"

    def matches(name: str) -> bool:
        return fnmatchcase(canonicalize_name(name), pattern)

    found = [package for package in held.packages if matches(package.name)]
    found.sort(key=lambda it: (canonicalize_name(it.name) != wanted, it.name, it.view, it.platform))
    gaps = [gap for gap in held.gaps if matches(gap.package)]
    asking = [view for view, asked in held.unread.items() if any(map(matches, asked))]
    if not found and not gaps and held.errors:
        raise held.errors[0]
    if not found and not gaps:
        raise _not_found(name, asking, held)
    return SearchResult(name, found, gaps, asking)


def _not_found(name: str, asking: Sequence[str], held: AllHoldings) -> RefusedError:
    """Say that no view holds a package, and of how many views nobody can tell."""
    which = "view that is built or locked here" if held.unread else "view"
    message = f"no {which} holds a package {name!r}"
    if asking:
        return RefusedError(
            "package-unknown",
            f"{message}; the recipe of {' and that of '.join(asking)} asks for it",
            f"`mlviews lock {asking[0]}` finds its version; `mlviews build {asking[0]}` makes the view.",
        )
    message += nearest(name, {package.name for package in held.packages})
    if held.unread:
        unread = counted(len(held.unread), "view")
        hint = f"Of {unread} neither a release nor a lock is here: `mlviews lock --all` makes locks."
        return RefusedError("package-unknown", message, hint)
    return RefusedError("package-unknown", message, "`mlviews extend VIEW PACKAGE` puts it on top of a view.")


def catalogue_view(held: Holdings, store: Store) -> CatalogueView:
    """Return what the catalogue tells of a view."""
    release, spec = held.release, held.spec
    of = release or spec
    digest = release.lock_digest if release else held.lock.digest if held.lock else ""
    records = read_records(store.root, held.view, digest) if digest else ()
    results = last_results(records)
    claimed = release.gpus if release else spec.hardware.gpus if spec else ()
    return CatalogueView(
        view=held.view,
        summary=of.summary if of else "",
        module=of.module if of else "",
        source="release" if release else "lock" if held.lock else "none",
        release=release.release if release else None,
        cuda=release.cuda if release else spec.hardware.cuda if spec else None,
        platforms=sorted(held.entry.platforms if held.entry else spec.platforms if spec else ()),
        gpus=gpus_of(held),
        proofs=proved_gpus(claimed, records),
        passed=sorted(name for name, passed in results.items() if passed),
        failed=sorted(name for name, passed in results.items() if not passed),
    )


def write_catalogue(folder: Path, held: AllHoldings) -> CatalogueResult:
    """Write ``index.html``, which needs no server and asks no host, and ``catalogue.json`` beside it.

    Args:
        folder: where to; it is made.
    """
    by_view = {view.view: view for view in held.views}
    values = {
        "views": held.views,
        "rows": [(package, by_view[package.view]) for package in sorted(held.packages, key=lambda it: it.name)],
        "gpus": [gpu.name for gpu in TABLED],
        "cudas": sorted({package.cuda for package in held.packages if package.cuda}),
        "platforms": sorted({package.platform for package in held.packages}),
    }
    page = folder / "index.html"
    data = {"views": to_json(held.views), "packages": to_json(held.packages)}
    write_atomically(folder / "catalogue.json", json.dumps(data, ensure_ascii=False) + "\n")
    write_atomically(page, webpage.render(webpage.environment(), "catalogue", values))
    return CatalogueResult(page, held.views, held.packages)
