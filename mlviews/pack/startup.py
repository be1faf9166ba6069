"""How long a program of a view takes until it has imported its framework, and what it reads for that, place by place.

A release is started from where it lies, from where CVMFS has it, from a squashfs image of it that is mounted at the
same path, and from a container's image: cold and warm, with byte code and without. Cold means that the pages of its
files were dropped from the cache before, by posix_fadvise(2). That needs nobody's rights and leaves names and inodes in
memory, and what CVMFS keeps on the disk: the host's whole cache is not ours.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlviews.errors import BadInputError, FailedError, MlviewsError, last_line
from mlviews.files.writing import walk
from mlviews.pack.mounting import entering
from mlviews.pack.squashfs import pack
from mlviews.release import LOCK_VARIABLE, Release
from mlviews.render import webpage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlviews.progress import Progress

_PROGRAM = Path(__file__).with_name("startup_program.py")
# What a user of a view waits for: the first of these that it holds.
_MODULES = {
    **dict.fromkeys(("pytorch", "pytorch-cpu", "pytorch-gpu"), "torch"),
    "tensorflow": "tensorflow", "jax": "jax", "root": "ROOT", "scikit-learn": "sklearn", "numpy": "numpy",
}  # fmt: skip
_SECONDS = 600
_NS = 1e9

PlaceName = Literal["prefix", "cvmfs", "squashfs", "image"]


@dataclass(frozen=True, slots=True)
class StartupLine:
    """What starts from one place took: medians over the runs.

    Attributes:
        place: ``prefix`` where the release lies, ``cvmfs`` where it is published, ``squashfs``, a file that is packed
            of it, or ``image``, a container's.
        filesystem: the type of the file system that holds the release; of ``squashfs``, what mounted it.
        bytecode: whether the release's byte code was used; otherwise Python compiled each module.
        cold: whether the pages of the files, or of the image, were dropped from the cache before. Each program has a
            mount of its own: of an image in the cache, its kernel unpacks all that is read once more.
        seconds: from the start of ``launch`` (and of the mount) until the module was imported; ``shortest`` and
            ``longest`` are the extremes.
        importing: seconds of the import alone.
        opens: files that Python opened for the import.
        libraries: files that were mapped for it, shared libraries above all.
        read_bytes: bytes that ``read`` returned for it; null where the host does not tell.
        disk_bytes: bytes that came from a disk for it, mapped libraries too, as the kernel charges the process. Of an
            image that the kernel mounts: bytes of the image, also where they are in the cache; what squashfuse reads is
            not among them.
        faults: page faults that needed a disk.
    """

    place: PlaceName
    filesystem: str
    bytecode: bool
    cold: bool
    seconds: float
    shortest: float
    longest: float
    importing: float
    opens: int
    libraries: int
    read_bytes: int | None
    disk_bytes: int | None
    faults: int


@dataclass(frozen=True, slots=True)
class StartupResult:
    """``mlviews startup VIEW``.

    Attributes:
        lock: the lock's digest.
        module: what was imported.
        runs: of each line.
        left_out: places that could not be measured, and why.
    """

    view: str
    release: str
    platform: str
    lock: str
    module: str
    host: str
    kernel: str
    created: datetime
    runs: int
    lines: Sequence[StartupLine]
    left_out: Mapping[str, str] = field(default_factory=dict)


def module_of(release: Release) -> str:
    """Return the module whose import a view's users wait for.

    Raises:
        BadInputError: it holds none that is known.
    """
    held = {package.name for package in release.packages}
    found = next((module for package, module in _MODULES.items() if package in held), None)
    if found is None:
        raise BadInputError(
            "startup-module", f"{release.view} holds none of {', '.join(dict.fromkeys(_MODULES.values()))}",
            "Name the module to import: --module NAME.",
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class _Start:
    """One way of starting a release.

    Attributes:
        words: what goes before a program for it to start in the view.
        cached: the file, or the folder of files, whose pages are dropped before a cold start.
        bytecode: whether the release's byte code is used.
    """

    place: PlaceName
    words: tuple[str, ...]
    cached: Path
    bytecode: bool = True

    def run(self, *command: str) -> str:
        """Return what a program in the view prints.

        Raises:
            FailedError: it does not start, or does not end.
        """
        words = [*self.words, *command]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise _fault(self.place, f"no end after {_SECONDS} s") from error
        if done.returncode:
            raise _fault(self.place, last_line(done.stderr, f"status {done.returncode}"))
        return done.stdout.strip()

    def filesystem(self) -> str:
        """Return the type of the file system that the release is read from; of a packed one, what mounts it."""
        # Not `stat -f`, which says "ext2/ext3" of ext4.
        told = self.run("sh", "-c", 'df --output=fstype "$CONDA_PREFIX"').split()[-1]
        if self.place == "squashfs":
            return "kernel" if told == "squashfs" else "squashfuse"
        return told

    def time(self, module: str, *, cold: bool) -> dict[str, Any]:
        """Import a module; return what the program said, and the seconds until it said so."""
        if cold:
            _forget([self.cached] if self.cached.is_file() else [self.cached / path for path, _ in walk(self.cached)])
        with tempfile.TemporaryDirectory(prefix="mlviews-startup-") as empty:
            options = () if self.bytecode else ("-B", "-X", f"pycache_prefix={empty}")
            start = time.monotonic_ns()
            said = self.run("python", *options, "-c", _PROGRAM.read_text(encoding="utf-8"), module)
        found: dict[str, Any] = json.loads(said.splitlines()[-1])  # before it a module may print what it likes
        return {**found, "seconds": (found["ended"] - start) / _NS}


def _fault(place: PlaceName, last: str) -> MlviewsError:
    if "ModuleNotFoundError" in last:
        return BadInputError("startup-module", last, "Name another one: --module NAME.")
    return FailedError("startup-failed", f"from {place} it does not start: {last}", "Try `mlviews smoke`.")


def measure(
    prefix: Path, release: Release, module: str, *, sif: Path | None = None, runs: int, progress: Progress
) -> StartupResult:
    """Start a release from each place, cold and warm, with byte code and without.

    The places take turns, so that what else the host does meets all of them.

    Args:
        sif: a container's image of it, in Apptainer's format.
        runs: how often each is done.

    Raises:
        BadInputError: the module cannot be imported; the image is of another lock.
        FailedError: the release does not start.
    """
    left_out: dict[str, str] = {}
    found: dict[tuple[_Start, bool], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="mlviews-startup-") as scratch:
        image = [_image(sif, release)] if sif else []
        places = [_Start("prefix", (f"{prefix}/launch",), prefix), *_published(prefix, release)]
        try:
            places.append(_packed(prefix, release, Path(scratch), progress))
        except MlviewsError as error:
            left_out["squashfs"] = "; ".join((error.message, *error.faults))
        places += image
        starts = [replace(place, bytecode=bytecode) for place in places for bytecode in (True, False)]
        filesystems = {place.place: place.filesystem() for place in places}
        with progress("Starting", total=len(starts) * (1 + 2 * runs)) as advance:
            for start in starts:
                start.time(module, cold=False)  # what the first start makes is not measured, nor is its warning
                advance(note=f"{start.place}, not measured")
            for _, start, cold in product(range(runs), starts, (True, False)):
                found.setdefault((start, cold), []).append(start.time(module, cold=cold))
                advance(note=f"{start.place}{'' if start.bytecode else ', no byte code'}{', cold' if cold else ''}")
    lines = [_line(start, filesystems[start.place], cold, times) for (start, cold), times in found.items()]
    return StartupResult(
        release.view, release.release, release.platform, release.lock_digest, module, socket.gethostname(),
        platform.release(), datetime.now(timezone.utc), runs, lines, left_out,
    )  # fmt: skip


def _published(prefix: Path, release: Release) -> list[_Start]:
    """Return where the release is published, if that is mounted here and not where it was built."""
    place = Path(release.prefix)
    there = place.is_relative_to("/cvmfs") and place != prefix and (place / "launch").exists()
    return [_Start("cvmfs", (f"{place}/launch",), place)] if there else []


def _image(sif: Path, release: Release) -> _Start:
    image = _Start("image", ("apptainer", "--silent", "run", "-e", str(sif)), sif)
    if image.run("sh", "-c", f'echo "${LOCK_VARIABLE}"') != release.lock_digest:
        hint = f"`mlviews container build {release.view} --apptainer` makes one of it."
        raise BadInputError("startup-image", f"{sif} is not an image of the lock of {release.label}", hint)
    return image


def _packed(prefix: Path, release: Release, scratch: Path, progress: Progress) -> _Start:
    image = scratch / "image.sqfs"
    pack(prefix, release, image, progress=progress)
    return _Start("squashfs", (*entering(image, Path(release.prefix)), f"{release.prefix}/launch"), image)


def _forget(paths: Iterable[Path]) -> None:
    """Drop the pages of files from the cache, where nobody maps or changes them."""
    for path in paths:
        with suppress(OSError):  # links that lead nowhere
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _line(start: _Start, filesystem: str, cold: bool, found: Sequence[Mapping[str, Any]]) -> StartupLine:
    def middle(key: str) -> float:
        return float(statistics.median(one[key] for one in found))

    def count(key: str) -> int | None:
        return None if any(one[key] is None for one in found) else round(middle(key))

    seconds = [one["seconds"] for one in found]
    return StartupLine(
        place=start.place, filesystem=filesystem, bytecode=start.bytecode, cold=cold, seconds=middle("seconds"),
        shortest=min(seconds), longest=max(seconds), importing=middle("importing"), opens=round(middle("opens")),
        libraries=round(middle("libraries")), read_bytes=count("read_bytes"), disk_bytes=count("disk_bytes"),
        faults=round(middle("faults")),
    )  # fmt: skip


def render_page(result: StartupResult) -> str:
    """Return the report as one page that needs no other file and no network."""
    values = {"it": result, "longest": max(line.seconds for line in result.lines)}
    return webpage.render(webpage.environment(), "startup", values)
