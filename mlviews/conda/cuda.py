"""Which packages of a channel are built for CUDA: told by their records, and kept for each state of the metadata.

To look through the records of all packages of a view takes longer than to solve it. So what was seen is kept for the
metadata that it was seen in; see `mlviews.files.kept`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from mlviews.files.kept import Kept, state_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rattler import RepoDataRecord

Builds = dict[str, int]
"""Build string of a CUDA build -> when the first such build was made, in milliseconds since 1970; 0: not known."""

_CUDA_PACKAGES = frozenset({"__cuda", "cuda-version", "cudatoolkit"})
"""What conda-forge ties every CUDA build to; the last one up to CUDA 11."""

_CUDA_BUILD = re.compile(r"(^|_)cuda(\d|_|$)")


def is_cuda_build(record: RepoDataRecord) -> bool:
    """Tell whether a package is built for CUDA, by what it depends on or by conda-forge's build strings."""
    if _CUDA_BUILD.search(str(record.build)) or record.name.normalized in _CUDA_PACKAGES:
        return True
    return any(dependency.split(maxsplit=1)[0] in _CUDA_PACKAGES for dependency in record.depends)


def cuda_builds(records: Iterable[RepoDataRecord]) -> Builds:
    """Return the CUDA builds among the records of one package."""
    found: Builds = {}
    for record in records:
        if is_cuda_build(record):
            made = int(record.timestamp.timestamp() * 1000) if record.timestamp else 0
            build = str(record.build)
            found[build] = min(made, found.get(build, made))
    return found


def _builds(summary: Any) -> dict[str, Builds]:
    """Return the builds that are kept, package by package; packages that nobody has asked for are not named.

    With them is their sum: a wrong table would lock a CPU build, and nobody would see it.
    """
    builds: dict[str, Builds] = summary["builds"]
    if summary["sum"] != _sum(builds) or not all(
        isinstance(made, int) for one in builds.values() for made in one.values()
    ):
        raise ValueError("the table was changed")
    return builds


@dataclass(frozen=True, slots=True)
class SeenBuilds:
    """What is kept of folders of metadata: a place for the channels and each platform, so that none is left over.

    Attributes:
        places: the channels, and where they are read from.
        metadata: conda subdir -> each ``repodata.json``, with what `os.stat` said before it was opened.
    """

    places: Mapping[str, str]
    metadata: Mapping[str, Sequence[tuple[Path, os.stat_result]]]
    _kept: dict[str, Kept | None] = field(default_factory=dict)
    _recalling: Lock = field(default_factory=Lock)

    def recall(self, platform: str) -> dict[str, Builds] | None:
        """Return what is known of a platform; None where that is of another state, is damaged, or was asked for before.

        It reads all metadata, for its digest.
        """
        with self._recalling:
            if platform in self._kept:
                return None
            kept = self._kept[platform] = self._place(platform)
        return kept.recall(_builds) if kept else None

    def keep(self, platform: str, builds: Mapping[str, Builds]) -> None:
        """Keep what was seen; of two that do so at once one wins, and the other's work is done again some day."""
        if kept := self._kept.get(platform):
            kept.keep({"sum": _sum(builds), "builds": dict(builds)})

    def _place(self, platform: str) -> Kept | None:
        """Return where it is kept; None if the metadata are no longer what was opened."""
        parts = []
        try:
            for path, opened in (*self.metadata[platform], *self.metadata["noarch"]):
                with path.open("rb") as file:
                    if _identity(os.fstat(file.fileno())) != _identity(opened):
                        return None
                    part = hashlib.sha256()
                    while chunk := file.read(1 << 20):
                        part.update(chunk)
                parts.append(part.digest())
        except OSError:
            return None
        name = hashlib.sha256(json.dumps([*self.places.items()]).encode()).hexdigest()[:16]
        return Kept("cuda-builds", f"{name}.{platform}", state_of(parts, rooms=["conda"]))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _sum(builds: Mapping[str, Builds]) -> str:
    return hashlib.sha256(json.dumps(builds, sort_keys=True).encode()).hexdigest()
