"""Taking a release away: a kill at any moment leaves nothing half there, and who asks for what is gone is told."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime  # noqa: TC003  (pydantic reads it)
from typing import TYPE_CHECKING

from mlviews.errors import FailedError, RefusedError
from mlviews.files import delete_tree, remove_file, write_atomically
from mlviews.prefix import usage
from mlviews.reading import DamagedError, content, is_folder_at, names_in, status
from mlviews.release import RELEASE_FILE, Inside
from mlviews.render.setup_script import REMOVED_FILES, removed_files
from mlviews.store.launcher import NOTE, is_removed
from mlviews.store.loaders import write_removed_loaders
from mlviews.storefile import StoreFile, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlviews.store.disk import ReleaseEntry, Store

__all__ = ["RemovalNote", "finish", "is_unfinished", "removal_note", "remove_held"]


class RemovalNote(StoreFile):
    """``removed.json``.

    Attributes:
        module: whose modulefile tells of it; None in notes from before they said so.
    """

    view: str
    release: str
    lock_digest: str
    removed: datetime
    default: str | None
    module: Inside | None = None


def removal_note(store: Store, view: str, release: str) -> RemovalNote | None:
    """Return what is remembered of a release that was removed; None where it was not, or the note is damaged.

    Raises:
        UnreadableError: nobody can tell.
    """
    path = store.view_folder(view) / release / NOTE
    with suppress(DamagedError):
        if text := content(path):
            return parse(RemovalNote, text, path)
    return None


def remove_held(store: Store, view: str, release: str, now: datetime) -> int:
    """Remove a release, under its view's lock; return the bytes that are free then.

    First it is noted as removed, which is the moment when it is no release any more. All that follows is repeated by
    `finish` if it does not come to its end.

    Raises:
        RefusedError: it is the default or pinned, or there is no such release.
        FailedError: something cannot be written or deleted.
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
            f"`mlviews pin {view}/{release} --undo` ends that.",
        )
    note = RemovalNote(
        view=view,
        release=release,
        lock_digest=entry.lock_digest,
        removed=now,
        default=default,
        module=entry.platforms[min(entry.platforms)].module,
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


def is_unfinished(store: Store, view: str, release: str) -> bool:
    """Tell whether a removed release still holds something to delete."""
    folder = store.view_folder(view) / release
    return is_removed(store.view_folder(view), release) and any(
        {*names_in(folder / name)} - REMOVED_FILES if is_folder_at(folder / name) else name != NOTE
        for name in names_in(folder)
    )


def finish(store: Store, view: str, release: str) -> int:
    """Delete what is left of a removed release; return the bytes that are free then.

    Raises:
        FailedError: something cannot be written or deleted.
    """
    folder = store.view_folder(view) / release
    platforms = [folder / name for name in names_in(folder) if is_folder_at(folder / name)]
    entry = store.entry(view, release)
    for error in entry.errors.values():  # what it says is needed for the words that stay
        raise error
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
