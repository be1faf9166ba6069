"""The wheels that were downloaded, kept by their sha256, and their conversion, side by side."""

from __future__ import annotations

import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from mlviews.channel.convert import write_wheel
from mlviews.channel.pip import fetch
from mlviews.channel.plan import plan_wheel
from mlviews.channel.wheel import open_wheel
from mlviews.files import file_sha256, make_folder

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from packaging.utils import NormalizedName

    from mlviews.channel.pip import Found
    from mlviews.channel.plan import Plan
    from mlviews.channel.target import Target
    from mlviews.channel.wheel import Wheel
    from mlviews.progress import Progress

__all__ = ["Converted", "cached", "collect", "convert"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """A wheel, closed again, and the plan of the package that was made of it."""

    wheel: Wheel
    plan: Plan


class _Stopped(Exception):  # noqa: N818  (no error: the work was called off)
    pass


def collect(found: Sequence[Found], folder: Path, progress: Progress) -> list[Path]:
    """Return the files of the wheels; those that ``folder`` does not hold yet are downloaded.

    Raises:
        FailedError: ``network``, ``write-failed``.
    """
    make_folder(folder)
    paths = {wheel: folder / wheel.sha256 / wheel.file_name for wheel in found}
    with ThreadPoolExecutor() as pool:
        intact = list(pool.map(_is_intact, paths.values()))
    missing = [wheel for wheel, there in zip(paths, intact, strict=True) if not there]
    if missing:
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch,
            progress("Downloading wheels", total=len(missing)) as advance,
        ):
            fetch(missing, Path(scratch), advance)
            for wheel in missing:
                paths[wheel].parent.mkdir(exist_ok=True)
                (Path(scratch) / wheel.file_name).replace(paths[wheel])
    return list(paths.values())


def cached(folder: Path, projects: Mapping[NormalizedName, str], target: Target) -> list[Path]:
    """Return the intact wheels in ``folder`` of these projects at these versions, local ones too, for the target."""
    found = []
    for path in sorted(folder.glob("*/*.whl")):
        with suppress(InvalidWheelFilename):
            name, version, _, tags = parse_wheel_filename(path.name)
            if projects.get(name) == version.public and tags & target.tags and _is_intact(path):
                found.append(path)
    return found


def convert(
    paths: Sequence[Path],
    channel: Path,
    target: Target,
    progress: Progress,
    *,
    wanted: Container[str] | None = None,
) -> list[Converted]:
    """Make a package of each wheel that has none in the channel yet.

    Args:
        paths: wheels as `collect` returns them.
        channel: root folder of the channel.
        target: where the packages will run.
        progress: told of each wheel.
        wanted: write only these archives (paths in the channel); all if None.

    Raises:
        FailedError: ``bad-wheel``.
        OSError: the disk.
    """
    stop = threading.Event()

    def watch() -> None:
        if stop.is_set():
            raise _Stopped

    def one(path: Path) -> Converted:
        with open_wheel(path, path.parent.name, watch) as wheel:
            plan = plan_wheel(wheel, target)
            if (wanted is None or plan.archive in wanted) and not (channel / plan.archive).exists():
                write_wheel(channel, plan, wheel, target)
        advance(note=wheel.name)
        return Converted(wheel=wheel, plan=plan)

    # The largest first, so that no core is left with it at the end. Threads do: inflating, hashing and packing release
    # the interpreter's lock.
    ordered = sorted(paths, key=lambda path: path.stat().st_size, reverse=True)
    with progress("Converting wheels", total=len(paths)) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            return list(pool.map(one, ordered))
        except BaseException:
            stop.set()
            raise


def _is_intact(path: Path) -> bool:
    return path.is_file() and file_sha256(path) == path.parent.name
