"""Which packages of a channel are built for CUDA: told by their records, and kept for each state of the metadata.

To look through the records of all packages of a view takes longer than to solve it. So what was seen is kept in
mlviews' cache, with the digest of the metadata that it was seen in. Other metadata, another rule, a damaged file: it is
made anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock, get_ident
from typing import TYPE_CHECKING

from mlviews.errors import FailedError
from mlviews.files.writing import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rattler import RepoDataRecord

Builds = dict[str, int]
"""Build string of a CUDA build -> when the first such build was made, in milliseconds since 1970; 0: not known."""

_CUDA_PACKAGES = frozenset({"__cuda", "cuda-version", "cudatoolkit"})
"""What conda-forge ties every CUDA build to; the last one up to CUDA 11."""

_CUDA_BUILD = re.compile(r"(^|_)cuda(\d|_|$)")
_RULE = f"{_CUDA_BUILD.pattern} {sorted(_CUDA_PACKAGES)}"


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


def _kept(text: bytes, state: str | None) -> dict[str, Builds] | None:
    """Return the builds that a file holds, package by package; None where they are of another state.

    The file has the ``state`` of the metadata and of the rule by which builds are told, the ``builds``, and their
    ``sum``: a wrong table would lock a CPU build, and nobody would see it. Packages that nobody has asked for are not
    named.

    Raises:
        ValueError: it is no such file; or LookupError, TypeError, AttributeError.
    """
    said = json.loads(text)
    builds: dict[str, Builds] = said["builds"]
    if (said["state"], said["sum"]) != (state, _sum(builds)):
        return None
    if not all(isinstance(made, int) for found in builds.values() for made in found.values()):
        raise TypeError("builds have a time")
    return builds


@dataclass(frozen=True, slots=True)
class SeenBuilds:
    """What is kept of folders of metadata: a file for the channels and each platform, so that none is left over.

    Attributes:
        places: the channels, and where they are read from.
        metadata: conda subdir -> each ``repodata.json``, with what `os.stat` said before it was opened.
    """

    folder: Path
    places: Mapping[str, str]
    metadata: Mapping[str, Sequence[tuple[Path, os.stat_result]]]
    _states: dict[str, str | None] = field(default_factory=dict)
    _recalling: Lock = field(default_factory=Lock)

    def recall(self, platform: str) -> dict[str, Builds] | None:
        """Return what is known of a platform; None where that is of another state, is damaged, or was asked for before.

        It reads all metadata, for its digest.
        """
        with self._recalling:
            if platform in self._states:
                return None
            state = self._states[platform] = self._state(platform)
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return _kept(self._path(platform).read_bytes(), state)
        return None

    def keep(self, platform: str, builds: Mapping[str, Builds]) -> None:
        """Keep what was seen; of two that do so at once one wins, and the other's work is done again some day.

        It is not flushed to the disk: what is lost or cut is made anew. Where nothing can be written, nothing is kept.
        """
        if not (state := self._states.get(platform)):
            return
        kept = json.dumps({"state": state, "sum": _sum(builds), "builds": dict(builds)}, separators=(",", ":"))
        path = self._path(platform)
        with suppress(OSError, FailedError):
            make_folder(path.parent)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}")
            temporary.write_text(kept, encoding="utf-8")
            temporary.replace(path)

    def _path(self, platform: str) -> Path:
        name = hashlib.sha256(json.dumps([*self.places.items()]).encode()).hexdigest()[:16]
        return self.folder / f"{name}.{platform}.json"

    def _state(self, platform: str) -> str | None:
        """Return the state of the metadata; None if it is no longer what was opened."""
        digest = hashlib.sha256(_RULE.encode())
        try:
            for path, opened in (*self.metadata[platform], *self.metadata["noarch"]):
                with path.open("rb") as file:
                    if _identity(os.fstat(file.fileno())) != _identity(opened):
                        return None
                    part = hashlib.sha256()
                    while chunk := file.read(1 << 20):
                        part.update(chunk)
                digest.update(part.digest())
        except OSError:
            return None
        return digest.hexdigest()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _sum(builds: Mapping[str, Builds]) -> str:
    return hashlib.sha256(json.dumps(builds, sort_keys=True).encode()).hexdigest()
