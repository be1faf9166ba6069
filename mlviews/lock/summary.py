"""What most commands ask of a lock: kept by `mlviews.files.kept`, and never installed from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlviews.files.kept import Kept, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlviews.lock.lockfile import Lock


@dataclass(frozen=True, slots=True)
class LockSummary:
    """A lock without its packages.

    Attributes:
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
        kept = Kept("locks", self.view, state_of([self.raw], rooms=["lock"]))
        summary = kept.recall(_checked)
        if summary is None:
            summary = summary_of(self.lock)
            kept.keep(asdict(summary))
        return summary


def _checked(said: dict[str, Any]) -> LockSummary:
    """Return a summary of what a file says.

    Raises:
        TypeError: it says something else, or more.
    """
    made = LockSummary(**said)
    texts, counts = (made.view, made.digest, *made.inputs), (*made.packages.values(), *made.bytes.values())
    platforms = made.inputs.get("platforms")
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(count, int) for count in counts):
        raise TypeError("texts and counts are expected")
    if not isinstance(platforms, list) or not made.packages.keys() == made.bytes.keys() == {*platforms}:
        raise TypeError("each platform has its counts")
    return made
