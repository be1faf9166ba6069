"""From a recipe to a release: lock, install, capture, render, check, promote."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlviews.base import second_libraries
from mlviews.errors import MlviewsError, RefusedError
from mlviews.filelock import announce
from mlviews.files import walk, write_atomically
from mlviews.gpus.nvidia import GPUS
from mlviews.hardware import host_platform
from mlviews.lock.diff import compare
from mlviews.lock.lockfile import read_lock
from mlviews.lock.make import LockOptions, lock_views
from mlviews.lock.status import lock_status
from mlviews.permissions import share
from mlviews.prefix import inventory, usage
from mlviews.prefix.assemble import assemble, stated
from mlviews.prefix.install import check_prefix, installed_licenses
from mlviews.prefix.verify import verify
from mlviews.progress import silent
from mlviews.release import RELEASE_LOCK
from mlviews.smoke.records import last_results, proves, read_records, write_record
from mlviews.smoke.release import BASIC, first_checks
from mlviews.smoke.runner import NO_SUCH_CHECK
from mlviews.store.disk import Store
from mlviews.store.loaders import (
    leave_other_modules,
    write_command_loaders,
    write_default_loaders,
    write_release_loaders,
)
from mlviews.store.releases import unproved

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from mlviews.lock.diff import PackageChange
    from mlviews.lock.lockfile import Lock
    from mlviews.lock.status import LockStatus
    from mlviews.progress import Progress
    from mlviews.reading import Unreadable
    from mlviews.release import Clobber, LinkScripts, Release
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec
    from mlviews.smoke.report import CheckLine
    from mlviews.store.disk import ReleaseEntry

__all__ = ["BuildResult", "build"]


_NAMED = 20


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A release that is there now: ``mlviews build VIEW``.

    Attributes:
        status: ``unchanged`` where the same lock was installed already, and the release states the same.
        default: whether a plain `module load` gives this release.
        lock: the lock's digest.
        packages: how many.
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


def _result(
    release: Release,
    folder: Path,
    *,
    default: bool,
    status: Literal["new", "unchanged"],
    checks: Sequence[CheckLine],
    unreadable: Sequence[Unreadable] = (),
) -> BuildResult:
    return BuildResult(
        view=release.view,
        release=release.release,
        platform=release.platform,
        status=status,
        default=default,
        folder=folder,
        module=release.module,
        lock=release.lock_digest,
        packages=len(release.packages),
        gaps=release.gaps,
        absent=release.absent,
        differs=release.differs,
        served=release.served,
        left_out=[gpu for gpu in release.gpus if release.served.get(gpu) == "none"],
        notes=release.activation.notes,
        pip_check_waivers=release.pip_check_waivers,
        link_scripts=release.link_scripts,
        clobbers=release.clobbers,
        checks=checks,
        unreadable=unreadable,
        base=f"{release.base.view}/{release.base.release}" if release.base else None,
        added={one.name: one.version for one in release.packages if release.base and one.name != "python"},
        overrides=release.overrides,
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

    A release never changes. What a recipe says besides its packages (`stated`) stands in ``release.json`` and in all
    that is rendered from it: where that changed, the same lock gives another release. Checks that the recipe has asked
    for since run on the release that is there.

    Args:
        site_spec: the view.
        site: where it is built.
        rebuild: whether to make a new release in any case.
        progress: told of each step.

    Raises:
        RefusedError: the site cannot have the view, the lock is stale, the view cannot be solved or is not for this
            host, its binaries do not serve a GPU that the recipe names and the site refuses such releases, or a first
            check failed.
        FailedError: network, disk, or a package that cannot be installed.
        KeyboardInterrupt: Ctrl-C; what is left is no release, and the next build finishes the work.
    """
    if site_spec.error:
        raise site_spec.error
    view = site_spec.spec.name
    job = _Job(site_spec, site, Store(site.root, site.prefix), _host_platform(site_spec), progress)

    # Before any work: by the time of the install a lock would have been made.
    check_prefix(job.store.baked(job.store.platform_folder(view, _new_name(job), job.platform)))

    share(site.root, site.group)
    with job.store.view_lock(view, waiting=announce(progress, view)):
        _finish_publishing(job)
        entries = job.store.entries(view)
        changes = _base_changes(job, entries)
        lock_file, lock = _lock(job)
        of_lock = [entry for entry in entries if entry.platforms and entry.lock_digest == lock.digest]
        entry = next((entry for entry in reversed(of_lock) if not rebuild and _states(entry, site_spec)), None)
        unread = tuple(unreadable for entry in entries for unreadable in entry.unreadable)
        for error in entry.errors.values() if entry else ():
            raise error  # it may be what is asked for
        if entry and job.platform in entry.platforms:
            return _unchanged(job, entry, unread)
        built = _build(job, lock, lock_file, entry.name if entry else _new_name(job))
        return replace(built, unreadable=unread, base_changes=changes)


def _states(entry: ReleaseEntry, site_spec: SiteSpec) -> bool:
    """Tell whether a release says of itself what a build would now, and was made by the same link scripts."""
    wanted, asked = stated(site_spec), frozenset(site_spec.spec.link_scripts)
    return all(
        release.link_scripts.asked == asked and all(getattr(release, name) == value for name, value in wanted.items())
        for release in entry.platforms.values()
    )


def _unchanged(job: _Job, entry: ReleaseEntry, unread: Sequence[Unreadable]) -> BuildResult:
    release = entry.platforms[job.platform]
    folder = job.store.platform_folder(job.view, entry.name, job.platform)
    checks = _due_checks(job, release, folder)
    if write_record(job.store.root, release, checks, level="quick"):
        write_release_loaders(job.store, job.view, entry)
    failed = _failed(checks)
    if failed:
        raise RefusedError(
            "check-failed",
            f"{job.view}/{entry.name}, which is there already, failed checks of its recipe",
            f"It stays, and so does the default. Lock the view anew, or go back: `mlviews rollback {job.view}`.",
            faults=failed,
        )
    default = job.store.default(job.view) == entry.name
    return _result(release, folder, default=default, status="unchanged", checks=checks, unreadable=unread)


def _due_checks(job: _Job, release: Release, folder: Path) -> tuple[CheckLine, ...]:
    """Run the checks of which no record of the lock knows, and those that failed; nothing where they prove nothing."""
    records = read_records(job.store.root, job.view, release.lock_digest)
    known = {line.name for record in records for line in record.checks}
    settled = known - {name for name, passed in last_results(records).items() if not passed}
    names = [name for name in (*BASIC, *job.site_spec.spec.smoke) if name not in settled]
    checks = first_checks(folder, release, names, progress=job.progress) if names else ()
    return checks if proves(checks) else ()


def _new_name(job: _Job) -> str:
    return job.store.new_release_name(job.view, datetime.now(timezone.utc))


def _build(job: _Job, lock: Lock, lock_file: Path, name: str) -> BuildResult:
    view = job.view
    prefix = job.store.platform_folder(view, name, job.platform)
    job.store.clear(prefix)
    assembled = assemble(
        lock,
        job.site_spec,
        job.site,
        prefix,
        platform=job.platform,
        name=name,
        baked=job.store.baked(prefix),
        lock_text=lock_file.read_text(encoding="utf-8"),
        progress=job.progress,
    )
    _refuse_second_libraries(job, prefix)
    release = _with_served(job, assembled.release, prefix)
    checks = first_checks(prefix, release, (*BASIC, *job.site_spec.spec.smoke), progress=job.progress)
    _refuse_failed(view, checks)
    found = dict(walk(prefix))  # the last look: from here on nothing but the list and release.json is written
    release = release.model_copy(update={"files": inventory.write(prefix, found)})
    found[inventory.FILES] = (prefix / inventory.FILES).lstat()
    _refuse_unlike(job, assembled.compared, release, prefix, found)
    _write_bill(lock, prefix, job.platform)
    usage.write(prefix, usage.measure(prefix, found))
    job.store.mark_unpublished(view, name)
    job.store.write_release(release)
    write_record(job.store.root, release, checks, level="quick")
    return _result(release, prefix, default=_publish(job, name), status="new", checks=checks)


def _host_platform(site_spec: SiteSpec) -> str:
    here, spec = host_platform(), site_spec.spec
    if here not in spec.platforms:
        raise RefusedError(
            "platform-missing",
            f"view {spec.name} is for {', '.join(spec.platforms)}; this host is {here}",
            "Build it on such a host: scripts of its packages must run where it is built.",
        )
    return here


def _lock(job: _Job) -> tuple[Path, Lock]:
    status = lock_status(job.site_spec, job.site)
    if status.state == "none" or (status.state == "stale" and _on_another_base(job, status)):
        _, errors = lock_views([job.site_spec], job.site, LockOptions(), progress=job.progress)
        if errors:
            raise errors[0]
        status = lock_status(job.site_spec, job.site)
    if status.error:
        raise status.error
    assert status.path
    assert status.lock
    return status.path, status.lock


def _on_another_base(job: _Job, status: LockStatus) -> bool:
    """Tell whether a lock is stale for its base alone: the recipe is what it was, and who builds again moves on."""
    if job.site_spec.base is None or status.lock is None:
        return False
    return {**status.lock.inputs, "on": None} == {**job.site_spec.inputs, "on": None}


def _base_changes(job: _Job, entries: Sequence[ReleaseEntry]) -> tuple[PackageChange, ...]:
    """Return what differs between the base that the newest release extends and the one that the next will."""
    base = job.site_spec.base
    before = next((e.platforms[job.platform].base for e in reversed(entries) if job.platform in e.platforms), None)
    if base is None or before is None or before.lock_digest == base.release.lock_digest:
        return ()
    with suppress(MlviewsError):  # the old one may be gone
        old, new = (read_lock(Path(prefix) / RELEASE_LOCK) for prefix in (before.prefix, base.release.prefix))
        return compare(old, new)
    return ()


def _refuse_second_libraries(job: _Job, prefix: Path) -> None:
    base = job.site_spec.base
    if base and (found := second_libraries(prefix, base)):
        raise RefusedError(
            "second-library",
            f"the new release of {job.view} would load a library twice, and was not kept",
            f"Take a version of it that uses {base.release.view}'s own, or ask for it in a view by itself.",
            faults=found,
        )


def _write_bill(lock: Lock, prefix: Path, platform: str) -> None:
    """Write the release's bill of materials, beside the prefix: what licences it states, only the packages know."""
    from mlviews.render.sbom import SBOM, render_sbom  # noqa: PLC0415  (a build that has nothing to do is not to wait)

    text = render_sbom(lock, [platform], licenses=installed_licenses(prefix))
    write_atomically(prefix.with_name(f"{prefix.name}.{SBOM}"), text)


def _refuse_failed(view: str, checks: tuple[CheckLine, ...]) -> None:
    failed = _failed(checks)
    if failed:
        raise RefusedError(
            "check-failed",
            f"the new release of {view} failed its first checks and was not kept",
            "Fix the recipe and lock again; the default is what it was.",
            faults=failed,
        )


def _refuse_unlike(
    job: _Job, compared: int, release: Release, prefix: Path, found: Mapping[str, os.stat_result]
) -> None:
    """Refuse a release that its own `verify` would call damaged from the start, and no repair could mend."""
    shared = job.site.group is not None
    judged = verify(prefix, built=release, compared=compared, found=found, shared=shared, progress=job.progress)
    if judged.faults:
        raise RefusedError(
            "not-as-recorded",
            f"the new release of {release.view} is not what its packages say they hold, and was not kept",
            "Lock another build of the packages named. If a script of one wrote to it, tell its maintainers.",
            faults=tuple(f"{one.package or 'no package'}: {one.path} ({one.kind})" for one in judged.faults[:_NAMED]),
        )


def _failed(checks: Sequence[CheckLine]) -> tuple[str, ...]:
    found = (check for check in checks if check.reason != NO_SUCH_CHECK and check.status in {"fail", "error"})
    return tuple(f"{check.name}: {check.reason}" for check in found)


def _with_served(job: _Job, release: Release, prefix: Path) -> Release:
    """Return the release with what its binaries do for each GPU.

    Raises:
        RefusedError: they hold nothing for one that the recipe names, where the first kernel would fail, and the site
            wants such releases refused.
    """
    if not release.cuda:
        return release
    # A build that has nothing to do is not to wait for these.
    from mlviews.gpus.coverage import survey  # noqa: PLC0415
    from mlviews.gpus.scan import scan  # noqa: PLC0415

    judged = survey(scan(prefix, progress=job.progress), release, told=GPUS)
    if judged.failures and job.site.gpu_coverage == "refuse":
        raise RefusedError(
            "gpu-not-served",
            f"the new release of {release.view} does not serve every GPU of its recipe, and was not kept",
            "Take other builds or the GPU out of hardware.gpus; a package that may lack it goes under some-gpus-only.",
            faults=judged.failures,
        )
    return release.model_copy(update={"served": {verdict.gpu: verdict.way for verdict in judged.gpus}})


def _finish_publishing(job: _Job) -> None:
    """Do what a build that was interrupted after its release was there had still to do."""
    view, store = job.view, job.store
    name = store.unpublished(view)
    if name and store.entry(view, name).errors:
        return  # the note stays until it can be read
    if name and any(entry.name == name for entry in store.releases(view)):
        with suppress(RefusedError):  # it was refused as the default then, and said so
            _publish(job, name)
    if name:
        store.mark_unpublished(view, None)


def _publish(job: _Job, name: str) -> bool:
    """Write what the release is loaded by, then make it the default where the site says so."""
    view, store = job.view, job.store
    entry = next(entry for entry in store.releases(view) if entry.name == name)
    write_release_loaders(store, view, entry)
    write_command_loaders(store)
    if job.site.promote == "on-build" and not unproved(store, entry, job.site.promotion):
        leave_other_modules(store, view, store.promotable(view, name))
        store.promote(view, name)
        write_default_loaders(store, view, entry)
    store.mark_unpublished(view, None)
    return store.default(view) == name
