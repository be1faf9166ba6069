"""What people do with releases: make one the default, go back, keep one for good, take one away, verify, repair."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mlviews.errors import RefusedError
from mlviews.files.reading import RELEASE_FILE, folders_in, is_file
from mlviews.prefix.verify import VerifiedRelease, verify
from mlviews.smoke.demands import missing_proofs, refuse_unproved
from mlviews.smoke.records import read_records
from mlviews.store import history
from mlviews.store.launcher import no_release_error
from mlviews.store.layout import is_removed
from mlviews.store.loaders import make_default, write_release_loaders
from mlviews.store.removal import locked, remove_held
from mlviews.store.repair import repair
from mlviews.store.users import refuse_used, release_uses, uses_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlviews.progress import Progress
    from mlviews.provenance.attest import Attestation
    from mlviews.site.model import Promotion
    from mlviews.site.profile import Site
    from mlviews.store.disk import ReleaseEntry, Store


@dataclass(frozen=True, slots=True)
class PromoteResult:
    """``mlviews promote VIEW/RELEASE``.

    Attributes:
        before: the default until now.
        missing: what no record proves of it, although the site demands it.
        override: why it is the default all the same.
    """

    view: str
    release: str
    before: str | None
    missing: Sequence[str] = ()
    override: str = ""


@dataclass(frozen=True, slots=True)
class RollbackResult(PromoteResult):
    """``mlviews rollback VIEW``."""


@dataclass(frozen=True, slots=True)
class PinResult:
    """``mlviews pin VIEW/RELEASE``."""

    view: str
    release: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class RemoveResult:
    """``mlviews remove VIEW/RELEASE``.

    Attributes:
        bytes: bytes that are free now; what others share is not.
    """

    view: str
    release: str
    bytes: int


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """``mlviews verify [VIEW[/RELEASE]]``.

    Attributes:
        view: null where all were asked for.
        moved: where releases were built for, by VIEW/RELEASE, that lie elsewhere now, and so cannot be loaded.
        attestation: with ``--attestation``, what signed statements say of the release.
    """

    view: str | None
    releases: Sequence[VerifiedRelease]
    moved: Mapping[str, str] = field(default_factory=dict)
    attestation: Attestation | None = None


def promote(
    store: Store, view: str, release: str, *, demands: Promotion | None = None, override: str = "", progress: Progress
) -> PromoteResult:
    """Make a release the default.

    Args:
        demands: what the site wants proved of a default; None where it demands nothing.
        override: why it may lack proofs; kept in the history.

    Raises:
        RefusedError: there is no such release, it lacks a platform that the default has, or proofs.
    """
    with locked(store, view, progress):
        missing = unproved(store, store.existing(view, release), demands)
        if demands and not override:
            refuse_unproved(f"{view}/{release}", missing, demands)
        why = override if missing else ""
        before = _promote(store, view, release, back=False, override=why)
        return PromoteResult(view, release, before, missing, why)


def unproved(store: Store, entry: ReleaseEntry, demands: Promotion | None) -> tuple[str, ...]:
    """Return which of the proofs that a site demands a release lacks, a line each."""
    if demands is None:
        return ()
    release = entry.release
    records = read_records(store.root, release.view, entry.lock_digest)
    return missing_proofs(release, records, demands, datetime.now(timezone.utc))


def rollback(store: Store, view: str, *, progress: Progress) -> RollbackResult:
    """Make the release the default that was it before.

    Repeated, it goes back further: a release that was left this way is none to come back to.

    Raises:
        RefusedError: nothing that was the default before is still there, or as for `promote`.
    """
    with locked(store, view, progress):
        release = _former(store, view)
        if release is None:
            raise RefusedError(
                "release-missing",
                f"no earlier default of {view} is still there",
                f"`mlviews promote {view}/RELEASE` chooses any other; `mlviews releases {view}` lists them.",
            )
        return RollbackResult(view, release, _promote(store, view, release, back=True))


def pin(store: Store, view: str, release: str, *, pinned: bool, progress: Progress) -> PinResult:
    """See to it that nothing removes a release, or end that."""
    with locked(store, view, progress):
        store.existing(view, release)
        store.pin(view, release, pinned=pinned)
    return PinResult(view, release, pinned)


def remove(store: Store, view: str, release: str, *, force: bool = False, progress: Progress) -> RemoveResult:
    """Remove a release.

    Args:
        force: whether it goes although something uses it.

    Raises:
        RefusedError: it is the default, pinned or in use, or there is no such release.
    """
    with locked(store, view, progress), progress(f"Removing {view}/{release}"):
        if not force:
            refuse_used(uses_of(release_uses(store, store.all_entries()), view, release), f"{view}/{release}")
        return RemoveResult(view, release, remove_held(store, view, release, datetime.now(timezone.utc)))


def check(store: Store, site: Site, view: str, release: str | None, *, mend: bool, progress: Progress) -> VerifyResult:
    """Verify one release of a view, or all; repair what is damaged where that is wanted.

    Raises:
        RefusedError: there is no such release; or the lock is lost that a repair needs.
    """
    with locked(store, view, progress) if mend else nullcontext():
        shared = site.group is not None
        found = [verify(prefix, shared=shared, progress=progress) for prefix in _prefixes(store, view, release)]
        if mend:
            found = [_repair(store, site, view, one, progress) if one.faults else one for one in found]
    return VerifyResult(view, found, _moved(store, found))


def _moved(store: Store, found: Sequence[VerifiedRelease]) -> dict[str, str]:
    """Return where releases were built for that do not lie there, by VIEW/RELEASE."""
    releases = (store.entry(one.view, one.release).platforms.get(one.platform) for one in found)
    return {it.label: it.prefix for it in releases if it and not store.in_place(it)}


def check_all(store: Store, site: Site, *, mend: bool, progress: Progress) -> VerifyResult:
    """Verify, or repair, every release of every view that has one; errors are those of `check`."""
    found = [
        one
        for view in store.views()
        if store.entries(view)
        for one in check(store, site, view, None, mend=mend, progress=progress).releases
    ]
    return VerifyResult(None, found, _moved(store, found))


def _repair(store: Store, site: Site, view: str, one: VerifiedRelease, progress: Progress) -> VerifiedRelease:
    release = store.entry(view, one.release).platforms.get(one.platform)
    if release is None or any(fault.path == RELEASE_FILE and fault.kind != "mode" for fault in one.faults):
        return one  # what says how to repair is itself damaged
    return repair(store, site, release, one, progress=progress)


def _prefixes(store: Store, view: str, release: str | None) -> list[Path]:
    """Return what can be verified: also where ``release.json`` is damaged, or lost of what must be a release."""
    folder, default = store.view_folder(view), store.default(view)
    names = store.folders(view) if release is None else (release,)
    found = [
        path
        for name in names
        if name in store.folders(view) and not is_removed(folder, name)
        for path in folders_in(folder / name)
        if is_file(path / RELEASE_FILE) or name == default or store.is_pinned(view, name)
    ]
    if not found and release is not None:
        store.existing(view, release)
    if not found:
        raise no_release_error(store.root, view)
    return found


def _promote(store: Store, view: str, release: str, *, back: bool, override: str = "") -> str | None:
    before = store.default(view)
    entry = store.promotable(view, release)
    # The build that should have written them may have been killed; and what cannot be written changes no default.
    write_release_loaders(store, view, entry)
    make_default(store, view, entry, back=back, override=override)
    return before


def _former(store: Store, view: str) -> str | None:
    # One that cannot be read is refused later: an older one in its place would be made the default unasked.
    there = {entry.name for entry in store.entries(view)} - {store.default(view)}
    changes = history.read(store.view_folder(view))
    return next((name for name in reversed(history.former(changes)) if name in there), None)
