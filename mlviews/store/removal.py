"""Taking a release away: a kill at any moment leaves nothing half there, and who asks for what is gone is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from mlviews.errors import FailedError, RefusedError
from mlviews.files.filelock import announce
from mlviews.files.reading import NOTE, RELEASE_FILE, is_folder_at, names_in, status
from mlviews.files.writing import delete_tree, remove_file, write_atomically
from mlviews.jupyter import Place, kernels_below, remove_below
from mlviews.prefix import usage
from mlviews.render.setup_script import REMOVED_FILES, removed_files
from mlviews.store.launcher import no_release_error
from mlviews.store.layout import is_removed
from mlviews.store.listing import RemovalNote, removal_note
from mlviews.store.loaders import remove_loaders, write_removed_loaders
from mlviews.store.users import refuse_used, release_uses

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mlviews.progress import Progress
    from mlviews.store.disk import ReleaseEntry, Store


@dataclass(frozen=True, slots=True)
class UninstallResult:
    """``mlviews uninstall VIEW``.

    Attributes:
        releases: what was removed, oldest first.
        kernels: folders of kernels that were removed outside the root.
        bytes: bytes that are free now; what others share is not.
    """

    view: str
    releases: Sequence[str]
    kernels: Sequence[Path]
    bytes: int


def remove_held(store: Store, view: str, release: str, now: datetime) -> int:
    """Remove a release, under its view's lock; return the bytes that are free then.

    First it is noted as removed, which is the moment when it is no release any more. All that follows is repeated by
    `finish` if it does not come to its end.

    Raises:
        RefusedError: it is the default or pinned, or there is no such release.
    """
    entry = store.existing(view, release)
    default = store.default(view)
    if release == default:
        raise RefusedError(
            "release-default",
            f"release {release} is the default of {view}",
            f"Make another one the default first: `mlviews rollback {view}` or `mlviews promote {view}/RELEASE`.",
        )
    if store.is_pinned(view, release):
        raise RefusedError(
            "release-pinned",
            f"release {release} of {view} is pinned",
            f"`mlviews pin {view}/{release} --undo` unpins it.",
        )
    note = RemovalNote(
        view=view,
        release=release,
        lock_digest=entry.lock_digest,
        removed=now,
        default=default,
        module=entry.release.module,
        variant=entry.release.variant,
    )
    text = note.text()
    folder = store.view_folder(view) / release
    try:
        write_atomically(folder / NOTE, text)
    except FailedError as error:
        if error.code != "disk-full":
            raise
        for platform in entry.platforms:  # what can be made again makes room
            usage.forget(folder / platform)
        write_atomically(folder / NOTE, text)
    return finish(store, view, release)


def locked(store: Store, view: str, progress: Progress) -> AbstractContextManager[int]:
    """Hold a view's lock; who waits for it is told.

    Raises:
        RefusedError: there is nothing of the view.
    """
    if not is_folder_at(store.view_folder(view), follow=True):  # a mistyped name must not leave a folder
        raise no_release_error(store.root, view)
    return store.view_lock(view, waiting=announce(progress, view))


def uninstall(
    store: Store, view: str, places: Sequence[Place], *, force: bool = False, progress: Progress
) -> UninstallResult:
    """Remove all of a view: releases, modules, kernels; also those kernels that were added to other places.

    Args:
        places: where else kernels of it may be.
        force: whether a release goes although something besides these kernels uses it.

    Raises:
        RefusedError: a release is pinned or in use, or there is nothing of the view.
    """
    below = store.baked(store.view_folder(view))
    with locked(store, view, progress), progress(f"Removing {view}"):
        if not force:
            going = {str(kernel.folder) for place in places for kernel in kernels_below(place, below)}
            uses = (use for use in release_uses(store, store.all_entries()) if use.view == view)
            refuse_used([use for use in uses if use.name not in going], view)
        names, freed = _uninstall(store, view, datetime.now(timezone.utc))
    kernels = [kernel.folder for place in places for kernel in remove_below(place, below)]
    return UninstallResult(view, names, kernels, freed)


def _uninstall(store: Store, view: str, now: datetime) -> tuple[tuple[str, ...], int]:
    """Remove every release of a view, under its lock, with its modules and kernels; return their names and bytes.

    The default goes first: from then on nothing starts half a view. A name is given once, so that a note of each
    release stays, and scripts that still ask for one are told. Ended at any moment, it is repeated.
    """
    entries = store.entries(view)
    for entry in entries:
        entry.check()
    if pinned := [entry.name for entry in entries if store.is_pinned(view, entry.name)]:
        raise RefusedError(
            "release-pinned",
            f"{' and '.join(f'{view}/{name}' for name in pinned)} {'is' if len(pinned) == 1 else 'are'} pinned",
            f"`mlviews pin {view}/{pinned[0]} --undo` unpins it.",
        )
    remove_file(store.view_folder(view) / "default")
    freed = sum(remove_held(store, view, entry.name, now) for entry in entries)
    notes = [note for name in store.folders(view) if (note := removal_note(store, view, name))]
    if not notes:
        raise no_release_error(store.root, view)
    remove_loaders(store, view, {note.release: note.modules for note in notes})
    return tuple(entry.name for entry in entries), freed


def is_unfinished(store: Store, view: str, release: str) -> bool:
    """Tell whether a removed release still holds something to delete."""
    folder = store.view_folder(view) / release
    return is_removed(store.view_folder(view), release) and any(
        {*names_in(folder / name)} - REMOVED_FILES if is_folder_at(folder / name) else name != NOTE
        for name in names_in(folder)
    )


def finish(store: Store, view: str, release: str) -> int:
    """Delete what is left of a removed release; return the bytes that are free then."""
    folder = store.view_folder(view) / release
    platforms = [folder / name for name in names_in(folder) if is_folder_at(folder / name)]
    entry = store.entry(view, release)
    entry.check()  # what it says is needed for the words that stay
    freed = 0
    try:
        freed += _leave_word(store, view, entry, platforms)
        told = True
    except FailedError:
        told = False  # on a full disk there is room for it only when the rest is gone
    freed += sum(delete_tree(platform, keep={*REMOVED_FILES, RELEASE_FILE}) for platform in platforms)
    freed += delete_tree(folder, keep={NOTE, *(platform.name for platform in platforms)})
    if not told:
        freed += _leave_word(store, view, entry, platforms)
    for platform in platforms:  # last: of what it says the words are made
        freed += _size(platform / RELEASE_FILE)
        remove_file(platform / RELEASE_FILE)
    return freed


def _leave_word(store: Store, view: str, entry: ReleaseEntry, platforms: Sequence[Path]) -> int:
    """Put a word on what happened where programs and people look for the release; return what that frees."""
    if entry.platforms:
        write_removed_loaders(store, view, entry)
    default = str(store.baked(store.view_folder(view) / "default"))
    files = {
        platform / name: file
        for platform in platforms
        for name, file in removed_files(view, entry.name, default, platform.name).items()
    }
    before = sum(map(_size, files))
    for path, file in files.items():
        write_atomically(path, file.text, executable=file.executable)
    return before - sum(map(_size, files))


def _size(path: Path) -> int:
    found = status(path)
    return found.st_size if found else 0
