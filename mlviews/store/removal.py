"""Taking a release away so that a kill at any moment leaves nothing half there, and so that those who ask are told."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  (pydantic reads it)
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from mlviews.errors import FailedError, RefusedError
from mlviews.files import delete_tree, remove_file, write_atomically
from mlviews.prefix import usage
from mlviews.release import RECORD
from mlviews.render.gone import GONE_FILES, gone_files
from mlviews.store.faces import write_gone_faces
from mlviews.store.gone import NOTE, is_gone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlviews.store.disk import Store

__all__ = ["Removed", "finish", "is_unfinished", "remove", "removed"]


class Removed(BaseModel):
    """What is remembered of a release that was removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    view: str
    release: str
    lock_digest: str
    removed: datetime
    default: str | None


def remove(store: Store, view: str, release: str, now: datetime) -> int:
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
    note = Removed(view=view, release=release, lock_digest=entry.lock_digest, removed=now, default=default)
    text = note.model_dump_json(indent=2) + "\n"
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


def removed(store: Store, view: str) -> tuple[Removed, ...]:
    """Return what is remembered of a view's removed releases, oldest first."""
    found = []
    for name in store.folders(view):
        try:
            found.append(Removed.model_validate_json((store.view_folder(view) / name / NOTE).read_bytes()))
        except (OSError, ValidationError):
            continue
    return tuple(found)


def is_unfinished(store: Store, view: str, release: str) -> bool:
    """Tell whether a removed release still holds something to delete."""
    folder = store.view_folder(view) / release
    return is_gone(store.view_folder(view), release) and any(
        {path.name for path in item.iterdir()} - GONE_FILES if item.is_dir() else item.name != NOTE
        for item in folder.iterdir()
    )


def finish(store: Store, view: str, release: str) -> int:
    """Delete what is left of a removed release; return the bytes that are free then.

    Raises:
        FailedError: something cannot be written or deleted.
    """
    folder = store.view_folder(view) / release
    platforms = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    freed = 0
    try:
        freed += _leave_word(store, view, release, platforms)
        told = True
    except FailedError:
        told = False  # on a full disk there is room for it only when the rest is gone
    freed += sum(delete_tree(platform, keep={*GONE_FILES, RECORD}) for platform in platforms)
    freed += delete_tree(folder, keep={NOTE, *(platform.name for platform in platforms)})
    if not told:
        freed += _leave_word(store, view, release, platforms)
    for platform in platforms:  # last: of what it says the words are made
        freed += _size(platform / RECORD)
        remove_file(platform / RECORD)
    return freed


def _leave_word(store: Store, view: str, release: str, platforms: Sequence[Path]) -> int:
    """Put a word on what happened where programs and people look for the release; return what that frees."""
    if (entry := store.entry(view, release)).platforms:
        write_gone_faces(store, view, entry)
    default = str(store.baked(store.view_folder(view) / "default"))
    files = {
        platform / name: file
        for platform in platforms
        for name, file in gone_files(view, release, default, platform.name).items()
    }
    before = sum(map(_size, files))
    for path, file in files.items():
        write_atomically(path, file.text, executable=file.executable)
    return before - sum(map(_size, files))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
