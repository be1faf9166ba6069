"""Releases on disk: where everything lies, what exists, and the one link that makes a release the default."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError, RefusedError, nearest
from mlviews.files.filelock import LOCK, hold
from mlviews.files.permissions import open_to_readers, refuse_foreign, shared_group
from mlviews.files.reading import (
    RELEASE_FILE,
    UNPROMOTED,
    Unreadable,
    UnreadableError,
    content,
    folders_in,
    is_file,
    is_folder_at,
    names_in,
    status,
)
from mlviews.files.writing import delete_tree, remove_file, swap_link, write_atomically
from mlviews.store.layout import PINNED, UNPUBLISHED, default_of, is_removed, refuse_removed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from mlviews.files.filelock import Waiting
    from mlviews.release import Release

_LOADED = ("cache", "commands", "envs", "kernels", "lockfiles", "modulefiles", "views")
"""What programs are loaded from, or made of; below the root."""
_DATED = re.compile(r"\d{4}\.\d{2}\.\d{2}(\.\d+)?")


@dataclass(frozen=True, slots=True)
class ReleaseEntry:
    """What lies where a release does: a release by platform, nothing, or what cannot be read.

    Attributes:
        errors: by platform, why nobody can tell what its release is; an empty name stands for the folder itself. It
            stays, its name is taken, and nothing is done with the release as a whole.
    """

    name: str
    platforms: Mapping[str, Release]
    errors: Mapping[str, UnreadableError] = field(default_factory=dict)

    @property
    def is_there(self) -> bool:
        """Whether this is a release, or may be one."""
        return bool(self.platforms or self.errors)

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """What of it cannot be read, for those who go on and tell it at the end."""
        return tuple(error.unreadable for error in self.errors.values())

    @property
    def releases(self) -> list[Release]:
        """The release on each of its platforms, by their names."""
        return [release for _, release in sorted(self.platforms.items())]

    @property
    def release(self) -> Release:
        """The release on the first of its platforms: what all of them have alike."""
        return self.releases[0]

    @property
    def lock_digest(self) -> str:
        """The one lock that every platform was installed from."""
        return self.release.lock_digest

    def check(self) -> None:
        """Make sure that all of it can be read."""
        for error in self.errors.values():
            raise error


@dataclass(frozen=True, slots=True)
class Store:
    """A site's root.

    Attributes:
        root: where files are written.
        prefix: the same place as files name it.
    """

    root: Path
    prefix: Path

    def view_folder(self, view: str) -> Path:
        """Return ``envs/<view>``.

        Raises:
            BadInputError: the name would lead elsewhere.
        """
        if view in {"", ".", ".."} or "/" in view:
            raise BadInputError("view-invalid", f"{view!r} cannot be a view's name", "`mlviews list` shows the views.")
        return self.root / "envs" / view

    def platform_folder(self, view: str, release: str, platform: str) -> Path:
        """Return the prefix of one release on one platform."""
        return self.view_folder(view) / release / platform

    def folder_of(self, release: Release) -> Path:
        """Return the prefix of a release."""
        return self.platform_folder(release.view, release.release, release.platform)

    def baked(self, path: Path) -> Path:
        """Return a path under the root as files name it."""
        return self.prefix / path.relative_to(self.root)

    def in_place(self, release: Release) -> bool:
        """Tell whether a release lies where its files say; in a root that was moved or copied it does not."""
        folder = self.folder_of(release)
        said = Path(release.prefix)
        return said == self.baked(folder) or (is_folder_at(said, follow=True) and said.samefile(folder))

    def views(self) -> tuple[str, ...]:
        """Return the views that have a folder here, whether or not a recipe still makes them."""
        return tuple(path.name for path in folders_in(self.root / "envs"))

    def folders(self, view: str) -> tuple[str, ...]:
        """Return what lies where releases do, oldest first: releases, what is left of them, and debris."""
        found = (path.name for path in folders_in(self.view_folder(view)))
        return tuple(sorted(found, key=_order))

    def entries(self, view: str) -> tuple[ReleaseEntry, ...]:
        """Return what there is of a view, oldest first: releases, and those that cannot be read."""
        found = map(partial(self._entry_unless_removed, view), self.folders(view))
        return tuple(entry for entry in found if entry.is_there)

    def _entry_unless_removed(self, view: str, name: str) -> ReleaseEntry:
        try:
            return ReleaseEntry(name, {}) if is_removed(self.view_folder(view), name) else self.entry(view, name)
        except UnreadableError as error:
            return ReleaseEntry(name, {}, {"": error})

    def all_entries(self) -> dict[str, tuple[ReleaseEntry, ...]]:
        """Return what there is of every view."""
        return {view: self.entries(view) for view in self.views()}

    def releases(self, view: str) -> tuple[ReleaseEntry, ...]:
        """Return the view's releases that can be read, oldest first."""
        return tuple(entry for entry in self.entries(view) if entry.platforms)

    def entry(self, view: str, name: str) -> ReleaseEntry:
        """Return what a release's folder holds; no platform where that is no release."""
        from mlviews.files.storefile import parse  # noqa: PLC0415
        from mlviews.release import Release  # noqa: PLC0415  (where there is no release, nobody waits for pydantic)

        folder = self.view_folder(view) / name
        found: dict[str, Release] = {}
        errors: dict[str, UnreadableError] = {}
        try:
            platforms = [name for name in names_in(folder) if not name.startswith(".")]
        except UnreadableError as error:
            return ReleaseEntry(name, {}, {"": error})
        for platform in platforms:
            path = folder / platform / RELEASE_FILE
            try:
                if (text := content(path)) is not None:
                    found[platform] = parse(Release, text, path)
            except UnreadableError as error:
                errors[platform] = error
        return ReleaseEntry(name, found, errors)

    def existing(self, view: str, release: str) -> ReleaseEntry:
        """Return a release.

        Raises:
            RefusedError: there is none of that name: there never was, or it was removed.
        """
        folder = self.view_folder(view)
        if release not in {"", ".", ".."} and "/" not in release:
            refuse_removed(folder, release)
            entry = self.entry(view, release) if is_folder_at(folder / release) else ReleaseEntry(release, {})
            entry.check()
            if entry.platforms:
                return entry
        there = nearest(release, (entry.name for entry in self.entries(view)))
        raise RefusedError(
            "release-missing",
            f"there is no release {release} of {view}{there}",
            f"`mlviews releases {view}` lists them.",
        )

    def is_pinned(self, view: str, release: str) -> bool:
        """Tell whether a release must never be removed."""
        return is_file(self.view_folder(view) / release / PINNED)

    def pin(self, view: str, release: str, *, pinned: bool) -> None:
        """See to it that a release is never removed, or may be again."""
        path = self.view_folder(view) / release / PINNED
        if pinned:
            write_atomically(path, "")
        else:
            remove_file(path)

    def default(self, view: str) -> str | None:
        """Return the release that the view's default link names, if there is one."""
        return default_of(self.view_folder(view))

    def lost_default(self, view: str) -> str | None:
        """Return the release that the view's default link names, if it is not there: somebody deleted its folder."""
        name = self.default(view)
        return None if name is None or self._entry_unless_removed(view, name).is_there else name

    def new_release_name(self, view: str, now: datetime) -> str:
        """Return a free name of the form ``2026.11.23``, then ``2026.11.23.2`` (UTC).

        It comes after every other: a clock that was set back makes no new release look older than the last. A name that
        a removed release had is never free again.
        """
        today = now.astimezone(timezone.utc).strftime("%Y.%m.%d")
        taken = [name for name in self.folders(view) if _DATED.fullmatch(name) and self._is_taken(view, name)]
        if not taken or _order(today) > _order(taken[-1]):
            return today
        *day, number = f"{taken[-1]}.1".split(".")[:4]
        return f"{'.'.join(day)}.{int(number) + 1}"

    def _is_taken(self, view: str, name: str) -> bool:
        """Tell whether a folder is more than debris: a release whose file is damaged may still be the default."""
        return (
            is_removed(self.view_folder(view), name)
            or self.default(view) == name
            or self.is_pinned(view, name)
            or self.entry(view, name).is_there
        )

    def clear(self, folder: Path) -> None:
        """Delete what an interrupted build left of a release.

        Raises:
            UnreadableError: it may be a release.
        """
        if status(folder / RELEASE_FILE) is not None:
            raise UnreadableError(folder / RELEASE_FILE, "it is not a release that this build made")
        delete_tree(folder)

    def write_release(self, release: Release) -> None:
        """Write ``release.json``: from here on the release exists."""
        from mlviews.release import sealed  # noqa: PLC0415

        write_atomically(self.folder_of(release) / RELEASE_FILE, sealed(release))

    def unpublished(self, view: str) -> str | None:
        """Return the release that is there, or about to be, and whose loaders and default may not be written yet."""
        found = content(self.view_folder(view) / UNPUBLISHED)
        return None if found is None else found.decode(errors="replace")

    def mark_unpublished(self, view: str, release: str | None) -> None:
        """Note which release is yet to be published; None: all are."""
        path = self.view_folder(view) / UNPUBLISHED
        if release is None:
            remove_file(path)
        else:
            write_atomically(path, release)

    def mark_unpromoted(self, view: str, release: str) -> None:
        """Note that a release that is about to exist was never the default: `promote` ends that."""
        write_atomically(self.view_folder(view) / release / UNPROMOTED, "")

    def promotable(self, view: str, release: str) -> ReleaseEntry:
        """Return a release that may become the default.

        Raises:
            RefusedError: there is no such release, or it lacks a platform that the default has.
        """
        entry = self.existing(view, release)
        default = self.default(view)
        current = self.entry(view, default) if default else ReleaseEntry("", {})
        if error := current.errors.get(""):
            raise error  # which platforms the default has, nobody knows
        if missing := sorted({*current.platforms, *current.errors} - {*entry.platforms}):
            raise RefusedError(
                "platform-missing",
                f"release {release} of {view} lacks {', '.join(missing)}, which the default has",
                f"Build it there too: `mlviews build {view}`.",
            )
        return entry

    def promote(self, view: str, release: str, *, back: bool = False, override: str = "") -> None:
        """Make a release the default, in one step that no reader sees half done.

        That it was promoted is noted after that, or else when it stops being the default, which shows it until then.

        Args:
            back: whether this is the way back to a former default.
            override: why proofs that the site demands may be missing.

        Raises:
            RefusedError: as for `promotable`.
        """
        from mlviews.store import history  # noqa: PLC0415

        entry = self.promotable(view, release)
        folder = self.view_folder(view)
        files = [folder / release / platform / RELEASE_FILE for platform in entry.platforms]
        chain = [folder.parent, folder, folder / release, *(path for file in files for path in (file.parent, file))]
        open_to_readers(chain, shared_group(self.root))
        history.note(folder, release, back=back, override=override, now=datetime.now(timezone.utc))
        if before := self.default(view):
            remove_file(folder / before / UNPROMOTED)
        swap_link(folder / "default", release)
        remove_file(folder / release / UNPROMOTED)

    def view_lock(self, view: str, *, waiting: Waiting | None) -> AbstractContextManager[int]:
        """Hold the view's lock; see `mlviews.files.filelock.hold`.

        Raises:
            FailedError: somebody else could change what is about to be written.
        """
        refuse_foreign(self.root, [self.root, *(self.root / name for name in _LOADED), self.view_folder(view)])
        return hold(self.view_folder(view) / LOCK, waiting=waiting)


def _order(name: str) -> tuple[tuple[int, str], ...]:
    """Order releases by their figures: ``.10`` comes after ``.9``."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in name.split("."))
