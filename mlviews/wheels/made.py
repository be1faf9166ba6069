"""Wheels that are made here: where they are kept, and what a lock says of those that are built of sources."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic_core import to_json

from mlviews.credentials import refuse
from mlviews.files.permissions import keep
from mlviews.files.writing import make_folder


def pure_wheel(file: str) -> str:
    """Return the name of a wheel if it is for every Python 3 and every platform.

    Raises:
        ValueError: it is not, or is no wheel's.
    """
    try:
        *_, tags = parse_wheel_filename(file)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise ValueError(f"{file!r} is not a wheel") from error
    if any((tag.abi, tag.platform) != ("none", "any") for tag in tags):
        raise ValueError(f"{file} is not for every platform")
    return file


def file_of(url: str) -> str:
    """Return the name of the file that a URL leads to."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


@contextmanager
def making(cache: Path) -> Iterator[Path]:
    """Give a folder for a wheel that is being made, on the disk where it will be kept."""
    make_folder(cache / "made")
    with tempfile.TemporaryDirectory(dir=cache / "made", prefix=".new-") as folder:
        yield Path(folder)


def place_of(cache: Path, sha256: str, file: str) -> Path:
    """Return where a wheel that was made here is kept."""
    return cache / "made" / sha256 / file


def keep_made(wheel: Path, sha256: str, cache: Path) -> Path:
    """Keep a wheel; return where."""
    place = place_of(cache, sha256, wheel.name)
    keep(wheel, place)
    return place


def check_names(name: str, version: str, url: str, made: Made | None) -> None:
    """Refuse a file that is no wheel of a project and version, nor sources that give one.

    Raises:
        ValueError: it is not.
    """
    file = file_of(url)
    try:
        named = (
            [parse_wheel_filename(made.wheel)[:2], parse_sdist_filename(file)]
            if made
            else [parse_wheel_filename(file)[:2]]
        )
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion) as error:
        raise ValueError(f"{url} is not a wheel") from error
    if any((str(project), str(number)) != (name, version) for project, number in named):
        raise ValueError(f"{url} is not a wheel of {name} {version}")


_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
_Url = Annotated[str, Field(pattern=r"^(https?|file)://\S+\.whl$"), AfterValidator(refuse)]


@dataclass(frozen=True, slots=True)
class Tool:
    """A wheel that took part in a build."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    name: _Name
    version: str
    url: _Url
    sha256: _Sha256


@dataclass(frozen=True, slots=True)
class Made:
    """The wheel that sources give.

    Attributes:
        wheel: its file's name.
        sha256: its own; a build that gives another one is refused.
        tools: what it was built with, sorted by name.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    wheel: Annotated[str, AfterValidator(pure_wheel)]
    sha256: _Sha256
    tools: tuple[Tool, ...] = ()


_ALL = TypeAdapter(dict[str, Made])


def made_text(made: Mapping[str, Made]) -> str:
    """Return what a lock's file says of wheels that are built, by ``platform/name``."""
    return to_json({key: asdict(one) for key, one in sorted(made.items())}).decode()


def read_made(text: str | None) -> Mapping[str, Made]:
    """Read `made_text`.

    Raises:
        ValidationError: it is none.
    """
    return {} if text is None else _ALL.validate_json(text)
