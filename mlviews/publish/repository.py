"""The CVMFS repository that a site builds for: its name, and what lies in it as far as this host sees it."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError
from mlviews.files.reading import content, is_folder_at, link_text, status
from mlviews.prefix import catalogs

if TYPE_CHECKING:
    import os

    from mlviews.publish.contents import Item
    from mlviews.store.disk import Store

# `cvmfs_server` puts what it is given into the text of a shell command, unquoted.
_NAME = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._][A-Za-z0-9._+=@-]*"
_PLAIN = re.compile(f"{_NAME}(?:/{_NAME})*")


@dataclass(frozen=True, slots=True)
class Repository:
    """What lies in the repository, as this host sees it.

    Attributes:
        base: the folder in it that is the store's prefix; ``/`` for the repository itself.
        seen: the store's prefix; None where the repository is not mounted.
    """

    name: str
    base: str
    seen: Path | None

    @classmethod
    def of(cls, store: Store) -> Repository:
        """Return the one that a store's prefix lies in.

        Raises:
            BadInputError: it lies in none, or `cvmfs_server` could not take its name.
        """
        place = PurePosixPath(f"/{str(store.prefix).lstrip('/')}")
        if not place.is_relative_to(catalogs.MOUNT) or place == catalogs.MOUNT:
            raise BadInputError(
                "not-cvmfs",
                f"{store.prefix} is in no CVMFS repository",
                "Name a site whose `prefix` is below /cvmfs/REPOSITORY: --site cvmfs, or your own.",
            )
        name, *rest = place.relative_to(catalogs.MOUNT).parts
        base = "/".join(rest)
        for part in filter(None, (name, base)):
            refuse_odd(part, "the site's prefix")
        mounted = is_folder_at(Path(catalogs.MOUNT) / name, follow=True)
        # A root that is mounted there says nothing of the repository.
        itself = is_folder_at(store.prefix, follow=True) and store.prefix.samefile(store.root)
        return cls(name, base or "/", store.prefix if mounted and not itself else None)

    def inside(self, path: str) -> str:
        """Return a path below the base as `cvmfs_server` wants it."""
        return path if self.base == "/" else f"{self.base}/{path}"

    def status(self, path: str) -> os.stat_result | None:
        """Return what lies there; None where nothing does, or nobody here knows."""
        return status(self.seen / path) if self.seen else None

    def content(self, path: str) -> bytes | None:
        """Return a file's bytes; None where there is none, or nobody here knows."""
        return content(self.seen / path) if self.seen else None

    def link(self, path: str) -> str | None:
        """Return what a link says; None where there is none, or nobody here knows."""
        return link_text(self.seen / path) if self.seen else None

    def default(self, view: str) -> str | None:
        """Return the view's default there; None where there is none, or nobody here knows."""
        target = self.link(f"envs/{view}/default")
        return Path(target).name if target else None

    def lacks(self, item: Item) -> bool:
        """Tell whether an item does not lie there just so; True where nobody here knows."""
        there = self.status(item.path)
        if there is None or stat.S_IFMT(there.st_mode) != stat.S_IFMT(item.status.st_mode):
            return True
        if stat.S_ISLNK(there.st_mode):
            return self.link(item.path) != item.link
        return self.content(item.path) != content(item.source)


def refuse_odd(text: str, what: str) -> None:
    """Refuse what `cvmfs_server` would hand to a shell as something else.

    Raises:
        BadInputError: it holds more than letters, digits and a few signs.
    """
    if not _PLAIN.fullmatch(text):
        hint = "`cvmfs_server` takes letters, digits and . _ + = @ - in paths; a shell would read others."
        raise BadInputError("cvmfs-name", f"{what} has a part that cannot be published: {text!r}", hint)
