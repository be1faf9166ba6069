"""From a recipe to a release: the one that is there already, or a new one.

A build that has nothing to do waits for nothing: what only makes releases or locks is imported where it is needed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlviews.errors import MlviewsError, RefusedError
from mlviews.files.filelock import announce
from mlviews.files.permissions import check_file_system, share
from mlviews.hardware import host_platform
from mlviews.lock.status import LockStatus, lock_status
from mlviews.progress import Progress, silent
from mlviews.release import RELEASE_LOCK, Clobber, LinkScripts, Release
from mlviews.smoke.programs import BASIC, programs
from mlviews.smoke.records import last_results, proves, read_records, write_record
from mlviews.smoke.report import CheckLine, failures
from mlviews.store.disk import ReleaseEntry, Store
from mlviews.values import from_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlviews.files.reading import Unreadable
    from mlviews.lock.diff import PackageChange
    from mlviews.lock.summary import FoundLock
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A release that is there now: ``mlviews build VIEW``.

    Attributes:
        status: ``unchanged`` where the same lock was installed already, and the release states the same.
        default: whether a plain `module load` gives this release.
        lock: the lock's digest.
        packages: how many; of one that extends another, how many it adds.
        gaps: packages that it should hold and cannot yet, and why.
        absent: packages that this site cannot have, and why.
        differs: what the site has instead of what the recipe asks for.
        served: how the binaries serve each GPU; empty in a view without CUDA.
        left_out: GPUs that the recipe names and the binaries do not serve.
        notes: what the packages' activation scripts printed, wanted to write, or set in vain.
        pip_check_waivers: packages that may lack what they say that they need, and why.
        link_scripts: what became of packages' post-link scripts.
        clobbers: files that packages lost to others.
        checks: what the first checks found; of an unchanged release, those that the recipe has asked for since.
        chosen: why it is this variant of the view; empty where the view has none, or one was named.
        others: the other variants that were asked for, and their releases.
        unreadable: what lies among the view's releases and cannot be read; one may be of this lock.
        base: the release that it extends; null where it extends none.
        base_changes: what differs between that and the one that the last release extends.
        added: of one that extends another, the packages that it adds and their versions.
        overrides: which requirements of wheels the recipe loosened, and why.
        sdists: projects that are built of their sources where there is no wheel.
        editable: folders of projects that are read where they lie.
        replaced: of the base's packages, which others go in front of: the one version and the other.
        broken: of the base's packages, which ask for something else then, and for what.
    """

    view: str
    release: str
    platform: str
    status: Literal["new", "unchanged"]
    default: bool
    folder: Path
    module: str
    lock: str
    packages: int
    gaps: Mapping[str, str]
    absent: Mapping[str, str]
    differs: Mapping[str, str]
    served: Mapping[str, Literal["native", "ptx", "none"]]
    left_out: Sequence[str]
    notes: Sequence[str]
    pip_check_waivers: Mapping[str, str]
    link_scripts: LinkScripts
    clobbers: Sequence[Clobber]
    checks: Sequence[CheckLine]
    chosen: str = ""
    others: Mapping[str, str] = field(default_factory=dict)
    unreadable: Sequence[Unreadable] = ()
    base: str | None = None
    added: Mapping[str, str] = field(default_factory=dict)
    base_changes: Sequence[PackageChange] = ()
    overrides: Sequence[str] = ()
    sdists: Sequence[str] = ()
    editable: Sequence[str] = ()
    replaced: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)


def _result(
    release: Release,
    folder: Path,
    *,
    default: bool,
    status: Literal["new", "unchanged"],
    checks: Sequence[CheckLine],
    unreadable: Sequence[Unreadable] = (),
) -> BuildResult:
    return from_attributes(
        BuildResult,
        release,
        status=status,
        default=default,
        folder=folder,
        lock=release.lock_digest,
        packages=release.locked_packages,
        left_out=[gpu for gpu in release.gpus if release.served.get(gpu) == "none"],
        notes=release.activation.notes,
        checks=checks,
        unreadable=unreadable,
        base=f"{release.base.view}/{release.base.release}" if release.base else None,
        added={one.name: one.version for one in release.packages if release.base and one.name != "python"},
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """One build, for the platform of this host."""

    site_spec: SiteSpec
    site: Site
    store: Store
    platform: str
    progress: Progress

    @property
    def view(self) -> str:
        return self.site_spec.spec.name


def build(site_spec: SiteSpec, site: Site, *, rebuild: bool = False, progress: Progress = silent) -> BuildResult:
    """Build a view at a site; without a lock, make one first. The same lock and recipe again are no work.

    A release never changes. What a recipe says besides its packages (`SiteSpec.stated`) stands in ``release.json`` and
    in all that is rendered from it: where that changed, the same lock gives another release. Checks that the recipe has
    asked for since run on the release that is there.

    Args:
        rebuild: whether to make a new release in any case.

    Raises:
        RefusedError: the site cannot have the view, the lock is stale, the view cannot be solved or is not for this
            host, its binaries do not serve a GPU that the recipe names and the site refuses such releases, or a first
            check failed.
        KeyboardInterrupt: Ctrl-C; what is left is no release, and the next build finishes the work.
    """
    if site_spec.error:
        raise site_spec.error
    view = site_spec.spec.name
    job = _Job(site_spec, site, Store(site.root, site.prefix), _host_platform(site_spec), progress)

    _refuse_bad_place(job)
    share(site.root, site.group)
    with job.store.view_lock(view, waiting=announce(progress, view)):
        _finish_publishing(job)
        entries = job.store.entries(view)
        changes = _base_changes(job, entries)
        lock = _lock(job)
        of_lock = [entry for entry in entries if entry.platforms and entry.lock_digest == lock.summary.digest]
        entry = next((entry for entry in reversed(of_lock) if not rebuild and _states(entry, job)), None)
        unread = tuple(unreadable for entry in entries for unreadable in entry.unreadable)
        for error in entry.errors.values() if entry else ():
            raise error  # it may be what is asked for
        if entry and job.platform in entry.platforms:
            return _unchanged(job, entry, unread)
        built = _build(job, lock, entry.name if entry else _new_name(job))
        return replace(built, unreadable=unread, base_changes=changes)


def _refuse_bad_place(job: _Job) -> None:
    """Refuse a place that packages cannot bear before any work: by the time of the install a lock would be there."""
    if not job.store.folders(job.view):
        from mlviews.prefix.install import check_prefix  # noqa: PLC0415

        check_prefix(job.store.baked(job.store.platform_folder(job.view, _new_name(job), job.platform)))
        check_file_system(job.store.root)


def _build(job: _Job, lock: FoundLock, name: str) -> BuildResult:
    from mlviews.newrelease import make_release, publish  # noqa: PLC0415

    made = make_release(
        lock, job.site_spec, job.site, job.store, platform=job.platform, name=name, progress=job.progress
    )
    default = publish(job.store, job.site, job.view, name)
    return _result(made.release, made.folder, default=default, status="new", checks=made.checks)


def _states(entry: ReleaseEntry, job: _Job) -> bool:
    """Tell whether a release says of itself what a build would now: its place and link scripts among that."""
    wanted, asked = job.site_spec.stated(), frozenset(job.site_spec.spec.link_scripts)
    return all(
        release.link_scripts.asked == asked
        and all(getattr(release, name) == value for name, value in wanted.items())
        and job.store.in_place(release)
        for release in entry.platforms.values()
    )


def _unchanged(job: _Job, entry: ReleaseEntry, unread: Sequence[Unreadable]) -> BuildResult:
    release = entry.platforms[job.platform]
    folder = job.store.platform_folder(job.view, entry.name, job.platform)
    checks = _due_checks(job, release, folder)
    if write_record(job.store.root, release, checks, level="quick"):
        from mlviews.store.loaders import write_release_loaders  # noqa: PLC0415

        write_release_loaders(job.store, job.view, entry)
    if failed := failures(checks):
        back = f" `mlviews rollback {job.view}` goes back." if len(job.store.releases(job.view)) > 1 else ""
        raise RefusedError(
            "check-failed",
            f"{job.view}/{entry.name}, which is there already, failed checks of its recipe",
            f"The release and the default stay. Lock the view again; or correct the check, if it is your own.{back}",
            faults=failed,
        )
    default = job.store.default(job.view) == entry.name
    return _result(release, folder, default=default, status="unchanged", checks=checks, unreadable=unread)


def _due_checks(job: _Job, release: Release, folder: Path) -> tuple[CheckLine, ...]:
    """Run the checks that no record of the lock answers, and those that failed; nothing where all are skipped."""
    if not release.has_python:
        return ()  # nothing could run one
    records = read_records(job.store.root, job.view, release.lock_digest)
    spec = job.site_spec.spec
    digests = {program.name: program.digest for program in programs(spec.own_checks).values()}
    known = {(line.name, line.digest) for record in records for line in record.checks if line.status != "error"}
    failed = {name for name, passed in last_results(records).items() if not passed}
    names = [
        name
        for name in dict.fromkeys((*BASIC, *spec.smoke))
        if name in failed or (name, digests.get(name, "")) not in known
    ]
    if not names:
        return ()
    from mlviews.smoke.release import first_checks  # noqa: PLC0415

    checks = first_checks(folder, release, names, own=spec.own_checks, progress=job.progress)
    return checks if proves(checks) or failures(checks) else ()


def _new_name(job: _Job) -> str:
    return job.store.new_release_name(job.view, datetime.now(timezone.utc))


def _host_platform(site_spec: SiteSpec) -> str:
    here, spec = host_platform(), site_spec.spec
    if here not in spec.platforms:
        raise RefusedError(
            "platform-missing",
            f"view {spec.name} is for {', '.join(spec.platforms)}; this host is {here}",
            "Build it on a host of that platform: the build runs scripts of its packages.",
        )
    return here


def _lock(job: _Job) -> FoundLock:
    status = lock_status(job.site_spec, job.site)
    if status.state == "none" or (status.state == "stale" and _on_another_base(job, status)):
        from mlviews.lock.make import LockOptions, lock_views  # noqa: PLC0415

        _, errors = lock_views([job.site_spec], job.site, LockOptions(), progress=job.progress)
        if errors:
            raise errors[0]
        status = lock_status(job.site_spec, job.site)
    if status.error:
        raise status.error
    assert status.found
    return status.found


def _on_another_base(job: _Job, status: LockStatus) -> bool:
    """Tell whether a lock is stale for its base alone: the recipe is what it was, and who builds again moves on."""
    if job.site_spec.base is None or status.summary is None:
        return False
    return {**status.summary.inputs, "on": None} == {**job.site_spec.inputs, "on": None}


def _base_changes(job: _Job, entries: Sequence[ReleaseEntry]) -> tuple[PackageChange, ...]:
    """Return what differs between the base that the newest release extends and the one that the next will."""
    base = job.site_spec.base
    before = next((e.platforms[job.platform].base for e in reversed(entries) if job.platform in e.platforms), None)
    if base is None or before is None or before.lock_digest == base.release.lock_digest:
        return ()
    from mlviews.lock.diff import compare  # noqa: PLC0415
    from mlviews.lock.parse import read_lock  # noqa: PLC0415

    with suppress(MlviewsError):  # the old one may be gone
        old, new = (read_lock(Path(prefix) / RELEASE_LOCK) for prefix in (before.prefix, base.release.prefix))
        return compare(old, new)
    return ()


def _finish_publishing(job: _Job) -> None:
    """Do what a build that was interrupted after its release was there had still to do."""
    view, store = job.view, job.store
    name = store.unpublished(view)
    if name and store.entry(view, name).errors:
        return  # the note stays until it can be read
    if name and any(entry.name == name for entry in store.releases(view)):
        from mlviews.newrelease import publish  # noqa: PLC0415

        with suppress(RefusedError):  # it was refused as the default then, and said so
            publish(store, job.site, view, name)
    if name:
        store.mark_unpublished(view, None)
