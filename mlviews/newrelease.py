"""A lock -> a new release: installed, captured, checked, listed and verified; then what it is loaded by."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlviews.base import second_libraries
from mlviews.conda.records import installed_licenses
from mlviews.errors import RefusedError
from mlviews.files.writing import write_atomically
from mlviews.gpus.nvidia import GPUS
from mlviews.prefix import inventory, usage
from mlviews.prefix.assemble import assemble
from mlviews.prefix.install import Prefix
from mlviews.prefix.verify import verify_new
from mlviews.progress import Progress, silent
from mlviews.render.sbom import SBOM, render_sbom
from mlviews.smoke.programs import BASIC
from mlviews.smoke.records import write_record
from mlviews.smoke.release import first_checks
from mlviews.smoke.report import CheckLine, failures
from mlviews.store.loaders import make_default, write_command_loaders, write_release_loaders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlviews.conda.records import CondaRecord
    from mlviews.lock.summary import FoundLock
    from mlviews.recipe.view import ViewSpec
    from mlviews.release import Release
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec
    from mlviews.store.disk import ReleaseEntry, Store

_NAMED = 20


@dataclass(frozen=True, slots=True)
class NewRelease:
    """A release that is there, and not yet loaded by anything."""

    release: Release
    folder: Path
    checks: tuple[CheckLine, ...]


def make_release(
    found: FoundLock,
    site_spec: SiteSpec,
    site: Site,
    store: Store,
    *,
    platform: str,
    name: str,
    progress: Progress = silent,
) -> NewRelease:
    """Make a release from a lock; the caller holds the view's lock.

    Args:
        platform: this host's.

    Raises:
        RefusedError: what was installed is not what its packages say, serves no GPU that it should where the site wants
            such releases refused, or failed a first check.
        KeyboardInterrupt: Ctrl-C; what is left is no release.
    """
    view = site_spec.spec.name
    prefix = store.platform_folder(view, name, platform)
    store.clear(prefix)
    assembled = assemble(
        found.lock,
        site_spec,
        site,
        Prefix(prefix, store.baked(prefix), platform),
        name=name,
        lock_text=found.raw.decode(),
        progress=progress,
    )
    _refuse_second_libraries(site_spec, assembled.records)
    release = _with_served(assembled.release, prefix, site, progress)
    with ThreadPoolExecutor(1) as beside:  # while the checks, which are other processes, run
        bill = beside.submit(render_sbom, found.lock, [platform], licenses=installed_licenses(assembled.records))
        checks = _checked(release, prefix, site_spec.spec, assembled.records, progress)
    release, tree = _listed(release, prefix, assembled.compared, site, progress)
    write_atomically(prefix.with_name(f"{prefix.name}.{SBOM}"), bill.result())
    usage.write(prefix, usage.measure(tree))
    store.mark_unpublished(view, name)
    if not store.entry(view, name).is_there:  # of another platform, it may be the default
        store.mark_unpromoted(view, name)
    store.write_release(release)
    write_record(store.root, release, checks, level="quick")
    return NewRelease(release, prefix, checks)


def _listed(
    release: Release, prefix: Path, compared: int, site: Site, progress: Progress
) -> tuple[Release, inventory.Tree]:
    """List what is in the prefix: the last look, after which nothing but the list and ``release.json`` is written.

    Args:
        compared: as `Assembled` has it.
    """
    tree = inventory.read_tree(prefix)
    held = inventory.take(tree)
    release = release.model_copy(update={"files": inventory.write(prefix, held)})
    tree = replace(tree, found={**tree.found, inventory.FILES: (prefix / inventory.FILES).lstat()})
    if faults := verify_new(tree, held, compared=compared, shared=site.group is not None, progress=progress):
        raise RefusedError(
            "not-as-recorded",
            f"the new release of {release.view} is not what its packages say they hold, and was not kept",
            "Lock another build of the packages named. If a script of one wrote to it, tell its maintainers.",
            faults=tuple(f"{one.package or 'no package'}: {one.path} ({one.kind})" for one in faults[:_NAMED]),
        )
    return release, tree


def _refuse_second_libraries(site_spec: SiteSpec, records: Sequence[CondaRecord]) -> None:
    base = site_spec.base
    if base and (found := second_libraries(records, base, site_spec.spec.replace)):
        raise RefusedError(
            "second-library",
            f"the new release of {site_spec.spec.name} would load a library twice, and was not kept",
            f"Take a version of it that uses {base.release.view}'s own, or ask for it in a view by itself.",
            faults=found,
        )


def _checked(
    release: Release, prefix: Path, spec: ViewSpec, records: tuple[CondaRecord, ...], progress: Progress
) -> tuple[CheckLine, ...]:
    names = (*BASIC, *spec.smoke)
    checks = first_checks(prefix, release, names, own=spec.own_checks, records=records, progress=progress)
    if failed := failures(checks):
        raise RefusedError(
            "check-failed",
            f"the new release of {release.view} failed its first checks and was not kept",
            "Correct the recipe and lock again. The default has not changed.",
            faults=failed,
        )
    return checks


def _with_served(release: Release, prefix: Path, site: Site, progress: Progress) -> Release:
    """Return the release with what its binaries do for each GPU."""
    if not release.cuda:
        return release
    from mlviews.gpus.coverage import survey  # noqa: PLC0415  (views for CPUs need neither)
    from mlviews.gpus.scan import scan  # noqa: PLC0415

    judged = survey(scan(prefix, progress=progress), release, told=GPUS)
    if judged.failures and site.gpu_coverage == "refuse":
        raise RefusedError(
            "gpu-not-served",
            f"the new release of {release.view} does not serve every GPU of its recipe, and was not kept",
            "Choose other builds, take the GPU out of hardware.gpus, or name the package under some-gpus-only.",
            faults=judged.failures,
        )
    return release.model_copy(update={"served": {verdict.gpu: verdict.way for verdict in judged.gpus}})


def publish(store: Store, site: Site, view: str, name: str) -> bool:
    """Write what a release is loaded by, then make it the default where the site says so; tell whether it is that.

    Raises:
        RefusedError: it lacks a platform that the default has.
    """
    entry = store.existing(view, name)
    write_release_loaders(store, view, entry)
    write_command_loaders(store)
    if site.promote == "on-build" and not _lacks_proofs(store, entry, site):
        make_default(store, view, store.promotable(view, name))
    store.mark_unpublished(view, None)
    return store.default(view) == name


def _lacks_proofs(store: Store, entry: ReleaseEntry, site: Site) -> bool:
    if site.promotion is None:
        return False
    from mlviews.store.releases import unproved  # noqa: PLC0415  (few sites demand proofs, and it imports repair)

    return bool(unproved(store, entry, site.promotion))
