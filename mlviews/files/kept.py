"""What was made of files, kept in the user's own cache: to read and check them again takes 20 times as long.

It is kept for the bytes of the files and the mlviews that read them; any other makes it worthless. It is believed only
if nobody but the user can have written it. What cannot be kept or read is no error: the files are read instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import mlviews
from mlviews.files.writing import replacing

_MAX_BYTES = 8 << 20
_CODE = Path(__file__).resolve().parents[1]
_T = TypeVar("_T")


def state_of(parts: Iterable[bytes], *, rooms: Iterable[str]) -> str:
    """Return the digest of what something is made of.

    Args:
        parts: the bytes, each part in its place.
        rooms: the packages of mlviews whose code makes it: where that is worked on, its version stays the same.
    """
    digest = hashlib.sha256(repr([mlviews.__version__, *map(_code, rooms)]).encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


@cache
def _code(room: str) -> list[tuple[str, int]]:
    return sorted((entry.name, entry.stat().st_mtime_ns) for entry in os.scandir(_CODE / room) if entry.is_file())


@dataclass(frozen=True, slots=True)
class Kept:
    """A place in the cache, and the state that counts.

    Attributes:
        kind: the folder.
        name: the file in it, without its ending.
        state: of `state_of`.
    """

    kind: str
    name: str
    state: str

    def recall(self, read: Callable[[Any], _T]) -> _T | None:
        """Return what is kept of this state; None where nothing is, or nothing that can be believed.

        Args:
            read: makes the value of what `json.loads` gives; any ValueError, LookupError, TypeError or AttributeError
                says that it is none.
        """
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            if place := self._place():
                descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                with os.fdopen(descriptor, "rb") as file:
                    status = os.fstat(descriptor)
                    own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
                    if own and (said := json.loads(file.read(_MAX_BYTES)))["state"] == self.state:
                        return read(said["summary"])
        return None

    def keep(self, summary: Any) -> None:
        """Keep what `json.dumps` takes; of two that do so at once one wins."""
        with suppress(OSError):
            if place := self._place():
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with replacing(place) as part:
                    part.write_text(json.dumps({"state": self.state, "summary": summary}), encoding="utf-8")
                    part.chmod(0o600)

    def _place(self) -> Path | None:
        """Return the file; None without a home folder of one's own, as in containers and under sudo."""
        base = os.environ.get("XDG_CACHE_HOME", "")
        try:
            folder = (Path(base) if base.startswith("/") else Path.home() / ".cache") / "mlviews" / self.kind
            there = next(path for path in (folder, *folder.parents) if path.is_dir())
            return (
                folder / f"{self.name}.json" if there.stat().st_uid == os.geteuid() and "/" not in self.name else None
            )
        except (OSError, RuntimeError):
            return None
