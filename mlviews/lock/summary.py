"""What most commands ask of a lock, kept in the user's own cache: reading a lock itself takes 20 times as long.

A summary is of the bytes of one file, as this version of mlviews reads them; any other byte or version makes it
worthless. It is believed only if nobody but the user can have written it, and then never for an install, which reads
the lock. What cannot be kept or read is no error: the lock is read instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlviews
from mlviews.files import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.lock.lockfile import Lock

__all__ = ["FoundLock", "LockSummary", "summary_of"]

_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class LockSummary:
    """A lock without its packages.

    Attributes:
        view: whose it is.
        inputs: what it was solved from; see `mlviews.lock.lockfile.Lock`.
        digest: its identity.
        packages: platform -> how many.
        bytes: platform -> bytes of their archives.
    """

    view: str
    inputs: Mapping[str, Any]
    digest: str
    packages: Mapping[str, int]
    bytes: Mapping[str, int]


def summary_of(lock: Lock) -> LockSummary:
    """Return a lock's summary."""
    packages = {platform: lock.on(platform) for platform in lock.platforms}
    return LockSummary(
        view=lock.view,
        inputs=lock.inputs,
        digest=lock.digest,
        packages={platform: len(found) for platform, found in packages.items()},
        bytes={platform: sum(package.size for package in found) for platform, found in packages.items()},
    )


@dataclass(frozen=True)
class FoundLock:
    """A lock file's bytes, read once: what they say is found out when it is asked for, and once.

    Attributes:
        path: where it lies.
        view: whose it should be.
        raw: its bytes.
    """

    path: Path
    view: str
    raw: bytes

    @cached_property
    def lock(self) -> Lock:
        """The lock.

        Raises:
            BadInputError: it is none, or was changed by hand.
        """
        from mlviews.lock.parse import parse_lock  # noqa: PLC0415  (where a summary does, nobody waits for it)

        return parse_lock(self.raw, str(self.path))

    @cached_property
    def summary(self) -> LockSummary:
        """The lock's summary; errors are those of `lock`."""
        state = hashlib.sha256(mlviews.__version__.encode() + b"\0" + self.raw).hexdigest()
        place = _place(self.view)
        if place and (kept := _kept(place, state)):
            return kept
        made = summary_of(self.lock)
        if place:
            _keep(place, state, made)
        return made


def _place(view: str) -> Path | None:
    """Return where a view's summary lies; None without a home folder of one's own, as in containers and under sudo."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(base) if base.startswith("/") else Path.home() / ".cache") / "mlviews" / "locks"
        there = next(path for path in (folder, *folder.parents) if path.is_dir())
        return folder / f"{view}.json" if there.stat().st_uid == os.geteuid() and "/" not in view else None
    except (OSError, RuntimeError):
        return None


def _kept(place: Path, state: str) -> LockSummary | None:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
            if own and (said := json.loads(file.read(_MAX_BYTES)))["state"] == state:
                return _checked(**said["summary"])
    return None


def _checked(view: str, inputs: dict[str, Any], digest: str, packages: dict[str, int], **rest: Any) -> LockSummary:
    """Return a summary of what a file says.

    Raises:
        TypeError: it says something else, or more.
    """
    made = LockSummary(view, inputs, digest, packages, **rest)
    texts, counts = (view, digest, *inputs), (*packages.values(), *made.bytes.values())
    platforms = inputs.get("platforms")
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(count, int) for count in counts):
        raise TypeError("texts and counts are expected")
    if not isinstance(platforms, list) or not packages.keys() == made.bytes.keys() == {*platforms}:
        raise TypeError("each platform has its counts")
    return made


def _keep(place: Path, state: str, summary: LockSummary) -> None:
    with suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(place) as part:
            part.write_text(json.dumps({"state": state, "summary": asdict(summary)}), encoding="utf-8")
            part.chmod(0o600)
