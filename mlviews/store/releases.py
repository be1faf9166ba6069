"""What people do with releases: make one the default, go back, keep one for good, take one away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mlviews.errors import RefusedError
from mlviews.filelock import announce
from mlviews.prefix.verify import verify
from mlviews.release import RECORD
from mlviews.store import history
from mlviews.store.faces import write_default_faces, write_release_faces
from mlviews.store.gone import is_gone
from mlviews.store.removal import remove as remove_release
from mlviews.store.repair import repair

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mlviews.prefix.verify import Fault, Verified
    from mlviews.progress import Progress
    from mlviews.site.profile import Site
    from mlviews.store.disk import Store

__all__ = ["Checked", "check", "pin", "promote", "remove", "rollback"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check` found of one platform of a release.

    Attributes:
        found: what is not as it was built; after a repair, what still is not.
        repaired: what was not, and is again.
    """

    release: str
    platform: str
    found: Verified
    repaired: tuple[Fault, ...] = ()


def promote(store: Store, view: str, release: str, *, progress: Progress) -> str | None:
    """Make a release the default; return what was the default before.

    Raises:
        RefusedError: there is no such release, or it lacks a platform that the default has.
        FailedError: it cannot be written.
    """
    with _locked(store, view, progress):
        return _promote(store, view, release, back=False)


def rollback(store: Store, view: str, *, progress: Progress) -> tuple[str, str | None]:
    """Make the release the default that was it before; return it, and the one that was the default until now.

    Repeated, it goes back further: a release that was left this way is none to come back to.

    Raises:
        RefusedError: nothing that was the default before is still there, or as for `promote`.
        FailedError: it cannot be written.
    """
    with _locked(store, view, progress):
        release = _former(store, view)
        if release is None:
            raise RefusedError(
                "release-missing",
                f"no release of {view} that was its default before is still there",
                f"`mlviews promote {view}/RELEASE` takes any; `mlviews releases {view}` lists them.",
            )
        return release, _promote(store, view, release, back=True)


def pin(store: Store, view: str, release: str, *, pinned: bool, progress: Progress) -> None:
    """See to it that nothing removes a release, or end that.

    Raises:
        RefusedError: there is no such release.
        FailedError: it cannot be written.
    """
    with _locked(store, view, progress):
        store.existing(view, release)
        store.pin(view, release, pinned=pinned)


def remove(store: Store, view: str, release: str, *, progress: Progress) -> int:
    """Remove a release; return the bytes that are free then.

    Raises:
        RefusedError: it is the default or pinned, or there is no such release.
        FailedError: something cannot be written or deleted.
    """
    with _locked(store, view, progress), progress(f"Removing {view}/{release}"):
        return remove_release(store, view, release, datetime.now(timezone.utc))


def check(store: Store, site: Site, view: str, release: str | None, *, mend: bool, progress: Progress) -> list[Checked]:
    """Verify one release of a view, or all; repair what is damaged where that is wanted.

    Raises:
        RefusedError: there is no such release; or the lock is lost that a repair needs.
        FailedError: an archive cannot be had, or the disk failed.
    """
    if not mend:
        return [_check(prefix, progress) for prefix in _prefixes(store, view, release)]
    with _locked(store, view, progress):
        checked = [_check(prefix, progress) for prefix in _prefixes(store, view, release)]
        return [_repair(store, site, view, one, progress) if one.found.faults else one for one in checked]


def _check(prefix: Path, progress: Progress) -> Checked:
    return Checked(prefix.parent.name, prefix.name, verify(prefix, progress=progress))


def _repair(store: Store, site: Site, view: str, one: Checked, progress: Progress) -> Checked:
    release = store.entry(view, one.release).platforms.get(one.platform)
    if release is None or any(fault.path == RECORD for fault in one.found.faults):
        return one  # what says how to repair is itself damaged
    left, repaired = repair(store, site, release, one.found, progress=progress)
    return replace(one, found=left, repaired=repaired)


def _prefixes(store: Store, view: str, release: str | None) -> list[Path]:
    """Return what can be verified: also where ``release.json`` is damaged, or lost of what must be a release."""
    folder, default = store.view_folder(view), store.default(view)
    names = store.folders(view) if release is None else (release,)
    found = [
        path
        for name in names
        if name in store.folders(view) and not is_gone(folder, name)
        for path in sorted((folder / name).iterdir())
        if path.is_dir() and ((path / RECORD).is_file() or name == default or store.is_pinned(view, name))
    ]
    if not found and release is not None:
        store.existing(view, release)
    if not found:
        raise _nothing(store, view)
    return found


def _nothing(store: Store, view: str) -> RefusedError:
    return RefusedError(
        "release-missing", f"there is no release of {view} under {store.root}", f"`mlviews build {view}` makes one."
    )


def _locked(store: Store, view: str, progress: Progress) -> AbstractContextManager[None]:
    if not store.view_folder(view).is_dir():  # a mistyped name must not leave a folder
        raise _nothing(store, view)
    return store.view_lock(view, waiting=announce(progress, view))


def _promote(store: Store, view: str, release: str, *, back: bool) -> str | None:
    before = store.default(view)
    store.promote(view, release, back=back)
    entry = store.existing(view, release)
    # The modulefiles too: the build that should have written them may have been killed.
    write_release_faces(store, view, entry)
    write_default_faces(store, view, entry)
    return before


def _former(store: Store, view: str) -> str | None:
    there = {entry.name for entry in store.releases(view)} - {store.default(view)}
    changes = history.read(store.view_folder(view))
    return next((name for name in reversed(history.former(changes)) if name in there), None)
