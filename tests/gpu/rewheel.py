"""Make wheels again from what is installed: RECORD says which files belong to each.

Files are stored, not compressed: a channel is made of them at once, on the same machine.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

# What an installer wrote, and no wheel holds.
_INSTALLER = {"RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Installed:
    """A project that is installed.

    Attributes:
        name: normalised.
        version: with its local part, such as ``2.11.0+cu130``.
        metadata: its ``.dist-info`` folder.
    """

    name: str
    version: str
    metadata: Path


@dataclass(frozen=True, slots=True)
class Remade:
    """What became of the projects that were asked for.

    Attributes:
        wheels: the files.
        lost: project -> why no wheel can be made of it.
        size: bytes of all wheels.
    """

    wheels: Sequence[Path]
    lost: Mapping[str, str]
    size: int


def installed(path: Sequence[str]) -> dict[str, Installed]:
    """Return what an interpreter finds on its path, by normalised name; the first of a name wins, as for Python."""
    found: dict[str, Installed] = {}
    for folder in path:
        for info in sorted(Path(folder).glob("*.dist-info")):
            told = metadata.Distribution.at(info).metadata
            if told and told["Name"] and told["Version"]:
                name = str(canonicalize_name(told["Name"]))
                found.setdefault(name, Installed(name, told["Version"], info))
    return found


def needed(asked: Iterable[str], there: Mapping[str, Installed]) -> tuple[dict[str, Installed], dict[str, str]]:
    """Return what is asked for and all that it needs, and what of that is not installed, with who needs it.

    Args:
        asked: requirements.
        there: what is installed, by name.
    """
    chosen: dict[str, Installed] = {}
    missing: dict[str, str] = {}
    waiting = [(Requirement(text), "the recipe") for text in asked]
    seen: set[str] = set()
    while waiting:
        wanted, who = waiting.pop()
        name = str(canonicalize_name(wanted.name))
        if f"{name} {sorted(wanted.extras)}" in seen:
            continue
        seen.add(f"{name} {sorted(wanted.extras)}")
        if not (item := there.get(name)):
            missing.setdefault(name, who)
            continue
        chosen[name] = item
        waiting += [(further, name) for further in _requirements(item, wanted.extras)]
    return chosen, missing


def _requirements(item: Installed, extras: Iterable[str]) -> Iterable[Requirement]:
    for text in metadata.Distribution.at(item.metadata).requires or ():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield wanted


def remake_all(items: Iterable[Installed], folder: Path) -> Remade:
    """Make wheels of projects, several at a time."""
    chosen = list(items)
    lost: dict[str, str] = {}
    wheels: list[Path] = []

    def one(item: Installed) -> Path | str:
        try:
            return remake(item, folder)
        except (OSError, ValueError) as error:
            return str(error) or type(error).__name__

    with ThreadPoolExecutor() as pool:
        for item, made in zip(chosen, pool.map(one, chosen), strict=True):
            if isinstance(made, Path):
                wheels.append(made)
            else:
                lost[item.name] = made
    return Remade(wheels, lost, sum(wheel.stat().st_size for wheel in wheels))


def remake(item: Installed, folder: Path) -> Path:
    """Write the wheel that a project was installed from, but for what installing changed; returns its file.

    Raises:
        ValueError: it has no WHEEL or RECORD, as what Debian installed, or a file of it lies where no wheel puts one.
        OSError: a file is gone, or cannot be read.
    """
    info = item.metadata
    if not (info / "WHEEL").is_file() or not (info / "RECORD").is_file():
        raise ValueError("it was not installed from a wheel: there is no WHEEL, or no RECORD")
    stem = info.name.removesuffix(".dist-info")
    told = HeaderParser().parsestr((info / "WHEEL").read_text(encoding="utf-8"))
    build = f"-{told['Build']}" if told["Build"] else ""
    path = folder / f"{stem}{build}-{_tags(told.get_all('Tag') or [])}.whl"
    scripts = _generated(info)
    rows: list[tuple[str, str, int]] = []
    partial = path.with_suffix(".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for name in _recorded(info):
            if place := _place(name, info, stem, scripts):
                source = info.parent / name
                rows.append((place, *_write(archive, place, source)))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows((place, f"sha256={digest}", size) for place, digest, size in rows)
        writer.writerow((f"{info.name}/RECORD", "", ""))
        archive.writestr(zipfile.ZipInfo(f"{info.name}/RECORD"), text.getvalue())
    return partial.rename(path)


def _recorded(info: Path) -> list[str]:
    with (info / "RECORD").open(newline="", encoding="utf-8") as file:
        return [row[0] for row in csv.reader(file) if row]


def _tags(tags: Sequence[str]) -> str:
    """Return tags as a wheel's name has them: each part's values joined by dots."""
    parts = [tag.split("-") for tag in tags]
    if not parts or any(len(part) != 3 for part in parts):
        raise ValueError(f"its tags are {', '.join(tags) or 'missing'}")
    return "-".join(".".join(dict.fromkeys(part[index] for part in parts)) for index in range(3))


def _generated(info: Path) -> set[str]:
    """Return the names of the scripts that an installer makes of entry points."""
    groups = ("console_scripts", "gui_scripts")
    return {entry.name for entry in metadata.Distribution.at(info).entry_points if entry.group in groups}


def _place(name: str, info: Path, stem: str, scripts: set[str]) -> str:
    """Return where a wheel keeps a file of RECORD; empty for what an installer added.

    Raises:
        ValueError: no wheel puts a file there.
    """
    if name.endswith(".pyc") or (name.startswith(f"{info.name}/") and name.rpartition("/")[2] in _INSTALLER):
        return ""
    if not name.startswith("/") and ".." not in name.split("/"):
        return name
    # From lib/python3.12/site-packages to what lies beside lib.
    inside = re.fullmatch(r"(?:\.\./){3}(bin|share|etc|include)/(.+)", name)
    if not inside or ".." in inside[2].split("/"):
        raise ValueError(f"{name} lies where no wheel puts a file")
    kind, rest = inside.groups()
    if kind == "bin":
        return "" if rest in scripts else f"{stem}.data/scripts/{rest}"
    return f"{stem}.data/data/{kind}/{rest}"


def _write(archive: zipfile.ZipFile, place: str, source: Path) -> tuple[str, int]:
    """Store a file; returns its sha256 as RECORD writes it, and its size."""
    entry = zipfile.ZipInfo(place)
    entry.external_attr = (source.stat().st_mode & 0xFFFF) << 16
    entry.file_size = source.stat().st_size  # lets zipfile choose the format for more than 2 GB
    total, size = hashlib.sha256(), 0
    with source.open("rb") as file, archive.open(entry, "w") as out:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
            out.write(chunk)
            size += len(chunk)
    return base64.urlsafe_b64encode(total.digest()).rstrip(b"=").decode(), size
