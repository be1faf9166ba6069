"""What the wheel channel holds of no package that is needed: archives, and the wheels that they were made of."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from mlviews.channel.names import conda_name
from mlviews.channel.requirements import conda_version
from mlviews.files import aged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

__all__ = ["unused_archives", "unused_wheels"]


def unused_archives(cache: Path, stems: Collection[str]) -> Iterator[Path]:
    """Yield the archives in the channel that are not needed; none of the last day, which a lock may be about to name.

    Args:
        cache: the folder that `make_channel` was given.
        stems: ``name-version-build`` of the packages that are needed.
    """
    return aged(path for path in cache.glob("channel/*/*.conda") if path.stem not in stems)


def unused_wheels(cache: Path, versions: Collection[tuple[str, str]]) -> Iterator[Path]:
    """Yield the folders of the wheels that no needed package was made of; none of the last day.

    Args:
        cache: the folder that `make_channel` was given.
        versions: name and version of the conda packages that are needed.
    """
    for path in aged(cache.glob("wheels/*/*.whl")):
        with suppress(InvalidWheelFilename):
            name, version, *_ = parse_wheel_filename(path.name)
            if (conda_name(name), conda_version(version)) not in versions:
                yield path.parent
