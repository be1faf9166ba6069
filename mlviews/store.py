"""Releases on disk: where everything lies, what exists, and the one link that makes a release the default."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from pydantic import ValidationError

from mlviews.errors import BadInputError, RefusedError
from mlviews.files import make_folder, swap_link, write_atomically, write_failure
from mlviews.release import Release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["ReleaseEntry", "Store"]

RECORD = "release.json"
UNPUBLISHED = ".unpublished"


@dataclass(frozen=True, slots=True)
class ReleaseEntry:
    """A release that exists, with its record for each platform."""

    name: str
    platforms: Mapping[str, Release]

    @property
    def lock_digest(self) -> str:
        """The one lock that every platform was installed from."""
        return next(iter(self.platforms.values())).lock_digest


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
            raise BadInputError("view-invalid", f"{view!r} cannot be a view's name", "`mlviews list` names them.")
        return self.root / "envs" / view

    def views(self) -> tuple[str, ...]:
        """Return the names of the views that have a folder of releases."""
        return tuple(path.name for path in _folders(self.root / "envs"))

    def platform_folder(self, view: str, release: str, platform: str) -> Path:
        """Return the prefix of one release on one platform."""
        return self.view_folder(view) / release / platform

    def baked(self, path: Path) -> Path:
        """Return a path under the root as files name it."""
        return self.prefix / path.relative_to(self.root)

    def releases(self, view: str) -> tuple[ReleaseEntry, ...]:
        """Return the view's releases, oldest first; folders without a whole ``release.json`` are none."""
        folder = self.view_folder(view)
        names = sorted((path.name for path in _folders(folder) if not path.is_symlink()), key=_order)
        entries = [self._entry(view, name) for name in names]
        return tuple(entry for entry in entries if entry.platforms)

    def _entry(self, view: str, name: str) -> ReleaseEntry:
        found: dict[str, Release] = {}
        for path in _folders(self.view_folder(view) / name):
            with suppress(OSError, ValidationError):
                found[path.name] = Release.model_validate_json((path / RECORD).read_bytes())
        return ReleaseEntry(name, found)

    def default(self, view: str) -> str | None:
        """Return the release that the view's default link names, if there is one."""
        try:
            return (self.view_folder(view) / "default").readlink().name
        except OSError:
            return None

    def new_release_name(self, view: str, now: datetime) -> str:
        """Return a free name of the form ``2026.11.23``, then ``2026.11.23.2`` (UTC)."""
        day = now.astimezone(timezone.utc).strftime("%Y.%m.%d")
        number = 1
        while True:
            name = day if number == 1 else f"{day}.{number}"
            if not self._entry(view, name).platforms:
                return name
            number += 1

    def clear(self, folder: Path) -> None:
        """Delete what an interrupted build left of a release.

        Raises:
            FailedError: it cannot be deleted.
        """
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise write_failure(f"{folder} holds an unfinished release and cannot be deleted", error) from error

    def record(self, release: Release) -> None:
        """Write ``release.json``: from here on the release exists.

        Raises:
            FailedError: it cannot be written.
        """
        folder = self.platform_folder(release.view, release.release, release.platform)
        write_atomically(folder / RECORD, release.model_dump_json(indent=2) + "\n")

    def unpublished(self, view: str) -> str | None:
        """Return the release that is recorded, or about to be, and whose faces and default may not be written yet."""
        try:
            return (self.view_folder(view) / UNPUBLISHED).read_text(encoding="utf-8")
        except OSError:
            return None

    def mark_unpublished(self, view: str, release: str | None) -> None:
        """Note which release is yet to be published; None: all are.

        Raises:
            FailedError: it cannot be written.
        """
        path = self.view_folder(view) / UNPUBLISHED
        if release is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, release)

    def promote(self, view: str, release: str) -> None:
        """Make a release the default, in one step that no reader sees half done.

        Raises:
            RefusedError: there is no such release, or it lacks a platform that the default has.
            FailedError: the link cannot be written.
        """
        entries = {entry.name: entry for entry in self.releases(view)}
        if release not in entries:
            raise RefusedError(
                "release-missing", f"there is no release {release} of {view}", f"`mlviews releases {view}` lists them."
            )
        current = entries.get(self.default(view) or "")
        missing = sorted({*current.platforms} - {*entries[release].platforms}) if current else []
        if missing:
            raise RefusedError(
                "platform-missing",
                f"release {release} of {view} lacks {', '.join(missing)}, which the default has",
                f"Build it there too: `mlviews build {view}`.",
            )
        swap_link(self.view_folder(view) / "default", release)

    @contextmanager
    def view_lock(self, view: str, *, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the view's lock, which the kernel gives back when its process dies, however it dies.

        Args:
            view: the view.
            waiting: told once who holds the lock, if this has to wait.

        Raises:
            FailedError: the lock file cannot be made.
        """
        folder = self.view_folder(view)
        make_folder(folder)
        try:
            file = (folder / ".lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise write_failure(f"{folder} cannot be written", error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                waiting(file.read().strip() or "another process")
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))
    except OSError:
        return []


def _order(name: str) -> tuple[tuple[int, str], ...]:
    """Order releases by their figures: ``.10`` comes after ``.9``."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in name.split("."))
