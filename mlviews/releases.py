"""What people do with releases: make one the default, go back, keep one for good, take one away."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mlviews import history
from mlviews.errors import RefusedError
from mlviews.faces import write_default_faces, write_release_faces
from mlviews.locks import announce
from mlviews.removal import remove as remove_release

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mlviews.progress import Progress
    from mlviews.store import Store

__all__ = ["pin", "promote", "remove", "rollback"]


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


def _locked(store: Store, view: str, progress: Progress) -> AbstractContextManager[None]:
    if not store.view_folder(view).is_dir():  # a mistyped name must not leave a folder
        raise RefusedError(
            "release-missing", f"there is no release of {view} under {store.root}", f"`mlviews build {view}` makes one."
        )
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
