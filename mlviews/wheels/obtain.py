"""Wheels that pip chose -> archives in the channel: fetched, converted, and gone once their archive is made.

What stays of a wheel is its METADATA and the plan of its package, a few kilobytes: enough to plan what depends on it,
and to fetch it again should the archive get lost. CUDA's wheels are fetched one by one, the others in large groups: a
disk that is full or a process that is killed costs no more than what is on its way.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, NormalizedName, parse_wheel_filename

from mlviews.files.filelock import LOCK, announce, hold
from mlviews.files.permissions import keep
from mlviews.files.writing import file_sha256, is_intact, write_atomically
from mlviews.wheels.convert import FORMAT, PackagePlan, plan_wheel, write_wheel
from mlviews.wheels.pip import Found, fetch
from mlviews.wheels.wheel import Stated, open_wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from mlviews.progress import Advance, Progress
    from mlviews.wheels.target import Target

_GROUP = 40  # wheels that are fetched together: starting pip takes half a second
_AT_ONCE = 4  # one that is fetched while another is converted, and as much again


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """What a wheel says, the plan of the package that was made of it, and the sha256 of its archive."""

    said: Stated
    plan: PackagePlan
    sha256: str = ""


class _Stopped(Exception):  # noqa: N818  (no error: the work was called off)
    pass


def obtain(
    found: Sequence[Found],
    cache: Path,
    channel: Path,
    target: Target,
    progress: Progress,
    *,
    wanted: Container[str] | None = None,
) -> list[Converted]:
    """Make a package of each wheel that has none in the channel yet.

    Args:
        cache: the folder whose ``wheels`` holds what is on its way, and what is known of wheels that are gone.
        channel: root folder of the channel that archives are written to.
        wanted: write only these archives (paths in the channel); all if None.

    Raises:
        FailedError: ``network``, ``hash-mismatch``, ``write-failed``, ``bad-wheel``.
        OSError: the disk.
    """
    wheels = cache / "wheels"

    def is_done(kept: Converted) -> bool:
        unwanted = wanted is not None and kept.plan.archive not in wanted
        return unwanted or (channel / kept.plan.archive).exists()

    # Views share most of their wheels: who waits has less to do.
    with hold(wheels / LOCK, waiting=announce(progress, "the wheel cache")):
        kept = {wheel: known for wheel in found if (known := _kept(wheels, wheel, target))}
        done = {wheel: known for wheel, known in kept.items() if is_done(known)}
        missing = [wheel for wheel in found if wheel not in done]
        if missing:
            with (
                progress("Downloading wheels", unit="bytes") as loaded,
                progress("Converting wheels", total=len(missing)) as made,
            ):
                work = _Work(wheels, channel, target, wanted, _Loaded(loaded), made)
                done |= work.on(list(_groups(missing)))
    return [done[wheel] for wheel in found]


def known(cache: Path, projects: Mapping[NormalizedName, str]) -> list[Found]:
    """Return where the wheels of these projects at these versions came from, local versions too."""
    found = []
    for path in sorted(cache.glob("wheels/*.json")):
        with suppress(ValueError, KeyError, TypeError, InvalidWheelFilename):
            wheel = Found(**json.loads(path.read_bytes())["wheel"])
            name, version, *_ = parse_wheel_filename(wheel.file_name)
            if projects.get(name) == version.public:
                found.append(wheel)
    return found


def _groups(wheels: Sequence[Found]) -> Iterator[Sequence[Found]]:
    """Yield what is fetched together: the large ones first, so that no core is left with one at the end."""
    yield from ((wheel,) for wheel in wheels if wheel.large)
    small = [wheel for wheel in wheels if not wheel.large]
    yield from (small[start : start + _GROUP] for start in range(0, len(small), _GROUP))


class _Loaded:
    """Adds up bytes that several fetches report."""

    def __init__(self, advance: Advance) -> None:
        self._advance, self._total, self._lock = advance, 0, threading.Lock()

    def __call__(self, came: int, begins: int) -> None:
        with self._lock:
            self._total += begins
            self._advance(came, total=self._total)


@dataclass(frozen=True, slots=True)
class _Work:
    """Fetching and converting, some wheels at a time."""

    wheels: Path
    channel: Path
    target: Target
    wanted: Container[str] | None
    loaded: _Loaded
    made: Advance

    def on(self, groups: Iterable[Sequence[Found]]) -> dict[Found, Converted]:
        stop = threading.Event()

        def one(group: Sequence[Found]) -> list[tuple[Found, Converted]]:
            return self._group(group, stop)

        # Threads do: pip is a process, and inflating, hashing and packing release the interpreter's lock.
        with ThreadPoolExecutor(min(_AT_ONCE, 1 + (os.cpu_count() or 1))) as pool:
            try:
                return dict(chain.from_iterable(pool.map(one, groups)))
            except BaseException:
                stop.set()
                raise

    def _group(self, group: Sequence[Found], stop: threading.Event) -> list[tuple[Found, Converted]]:
        def watch() -> None:
            if stop.is_set():
                raise _Stopped

        watch()
        self._fetch([wheel for wheel in group if not is_intact(self._path(wheel), wheel.sha256)], watch)
        return [(wheel, self._convert(wheel, watch)) for wheel in group]

    def _path(self, wheel: Found) -> Path:
        return self.wheels / wheel.sha256 / wheel.file_name

    def _fetch(self, group: Sequence[Found], watch: Callable[[], None]) -> None:
        if not group:
            return

        def loaded(came: int, begins: int) -> None:
            watch()
            self.loaded(came, begins)

        def advance(step: int = 0, *, total: int | None = None, note: str = "") -> None:
            del step, total
            watch()
            self.made(0, note=note)

        with tempfile.TemporaryDirectory(dir=self.wheels, prefix=".new-") as scratch:
            fetch(group, Path(scratch), advance, loaded)
            for wheel in group:
                keep(Path(scratch) / wheel.file_name, self._path(wheel))

    def _convert(self, found: Found, watch: Callable[[], None]) -> Converted:
        path = self._path(found)
        with open_wheel(path, found.sha256, watch) as wheel:
            plan = plan_wheel(wheel, self.target)
            written = self.wanted is None or plan.archive in self.wanted
            if written:  # what lies there without a note of it may be anything
                write_wheel(self.channel, plan, wheel, self.target)
        sha256 = file_sha256(self.channel / plan.archive) if written else ""
        converted = Converted(said=wheel.said, plan=plan, sha256=sha256)
        _keep(self.wheels, found, converted, self.target)
        path.unlink()
        path.parent.rmdir()
        self.made(note=wheel.name)
        return converted


def _keep(folder: Path, found: Found, converted: Converted, target: Target) -> None:
    data = {
        "format": FORMAT,
        "target": [target.subdir, target.python, target.abi],
        "wheel": asdict(found),
        "index": dict(converted.plan.index),
        "glibc": converted.plan.glibc,
        "metadata": converted.said.raw,
        "archive": converted.sha256,
    }
    write_atomically(_note(folder, found, target), json.dumps(data, sort_keys=True))


def _note(folder: Path, found: Found, target: Target) -> Path:
    return folder / f"{found.sha256}-{target.subdir}-{target.python}-{target.abi}.json"


def _kept(folder: Path, found: Found, target: Target) -> Converted | None:
    """Return what is known of a wheel that was converted before, for the same target and in the same way."""
    try:
        data = json.loads(_note(folder, found, target).read_bytes())
        if (data["format"], data["target"]) != (FORMAT, [target.subdir, target.python, target.abi]):
            return None
        name, version, *_ = parse_wheel_filename(found.file_name)
        said = Stated.read(data["metadata"], name, version)
        plan = PackagePlan(index=data["index"], glibc=data["glibc"])
        return Converted(said=said, plan=plan, sha256=data["archive"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # it is then made again
