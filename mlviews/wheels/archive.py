"""Writes one conda package as a ``.conda`` archive, the same bytes for the same content.

A ``.conda`` file (conda's package format version 2) is a zip that stores two zstd-compressed tars, one with the
metadata under ``info/`` and one with everything else. Every date is fixed, members are sorted, owners are dropped, and
one zstd level is used: an archive that was lost can be made again and proved equal by its sha256.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mlviews.files.writing import HashingReader, make_folder, replacing

_EPOCH = 315_532_800  # 1980-01-01, the first date that a zip can state
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
# libtorch_cpu.so (434 MB) packs to 116 MB in 0.8 s at level 1, 96 MB in 2.6 s at level 5; its inflating takes 3.3 s.
_ZSTD_LEVEL = 1
_CHUNK = 1 << 20
_LONGEST_NAME = 255  # bytes; Linux's limit for one step of a path
_ZIP64_FROM = 1 << 30  # bytes; with room for what tar and zstd add before zip's own limit of 2 GiB


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A regular file of a package.

    Attributes:
        source: the content itself, a file on disk, or a function that opens it.
        size: in bytes, where a function opens it.
        sha256: the content's, where whoever opens it compares it with that; else it is taken while it is packed.
        placeholder: the string that the installer replaces by the prefix; the file is then text.
    """

    path: str
    source: bytes | Path | Callable[[], io.BufferedIOBase]
    size: int = -1
    sha256: bytes | None = None
    executable: bool = False
    placeholder: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A symbolic link of a package; ``target`` is relative to the folder of ``path``."""

    path: str
    target: str


Member = File | Link


def is_safe_path(path: str) -> bool:
    """Tell whether ``path`` is a plain relative POSIX path: no root, no ``..``, no empty step, no control character."""
    return (
        path != ""
        and path.isprintable()
        and "\\" not in path
        and all(step not in {"", ".", ".."} and len(os.fsencode(step)) <= _LONGEST_NAME for step in path.split("/"))
    )


def write_conda(
    channel: Path,
    *,
    index: Mapping[str, Any],
    members: Iterable[Member] = (),
    about: Mapping[str, Any] | None = None,
    entry_points: Sequence[str] = (),
) -> Path:
    """Write ``<channel>/<subdir>/<name>-<version>-<build>.conda`` and return its path.

    The archive appears under its name whole or not at all; one that is there already is replaced.

    Args:
        channel: root folder of the channel.
        index: what goes into ``info/index.json``; names, version, build and subdir are taken from it.
        members: the package's files and links, in any order.
        about: what goes into ``info/about.json`` (summary, license, home).
        entry_points: for ``noarch: python`` packages, lines such as ``f2py = numpy.f2py:main``.

    Raises:
        ValueError: a path that leaves the prefix, lies in ``info/``, or stands twice.
        OSError: the disk.
    """
    stem = f"{index['name']}-{index['version']}-{index['build']}"
    ordered = sorted(members, key=lambda member: member.path)
    _check_paths(ordered)
    size = sum(_file_size(member) for member in ordered if isinstance(member, File))
    folder = channel / str(index["subdir"])
    make_folder(folder)
    path = folder / f"{stem}.conda"
    # A writer that is killed leaves a name with a leading dot, which no index and no later writer looks at.
    with replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        part.chmod(0o644)
        archive.writestr(_zip_entry("metadata.json"), b'{"conda_pkg_format_version": 2}')
        with _tar_in(archive, f"pkg-{stem}.tar.zst", size) as tar:
            paths = [_add(tar, member) for member in ordered]
        info = {"index.json": index, "about.json": about or {}, "paths.json": {"paths": paths, "paths_version": 1}}
        if index.get("noarch") == "python":
            noarch = {"type": "python", "entry_points": list(entry_points)}
            info["link.json"] = {"noarch": noarch, "package_metadata_version": 1}
        with _tar_in(archive, f"info-{stem}.tar.zst", 0) as tar:
            for name, value in sorted(info.items()):
                text = json.dumps(value, sort_keys=True).encode()
                _add(tar, File(path=f"info/{name}", source=text))
    return path


def read_index(path: Path) -> dict[str, Any]:
    """Read ``info/index.json`` of a ``.conda`` archive.

    Raises:
        ValueError: the archive is cut or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = archive.read(f"info-{path.stem}.tar.zst")
        content = zstd.decompress(packed)
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            index: dict[str, Any] = json.loads(tar.extractfile("info/index.json").read())  # type: ignore[union-attr]
            return index
    except (zipfile.BadZipFile, KeyError, zstd.ZstdError, tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} is damaged") from error


def _check_paths(members: Sequence[Member]) -> None:
    seen: set[str] = set()
    for member in members:
        path = member.path
        if not is_safe_path(path) or PurePosixPath(path).parts[0] in {"info", "conda-meta"}:
            raise ValueError(f"a package must not hold {path!r}")
        if path in seen:
            raise ValueError(f"a package must not hold {path!r} twice")
        seen.add(path)


def _file_size(file: File) -> int:
    if isinstance(file.source, bytes):
        return len(file.source)
    return file.source.stat().st_size if isinstance(file.source, Path) else file.size


def _zip_entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, date_time=_ZIP_DATE)


@contextmanager
def _tar_in(archive: zipfile.ZipFile, name: str, size: int) -> Iterator[tarfile.TarFile]:
    with (
        archive.open(_zip_entry(name), "w", force_zip64=size > _ZIP64_FROM) as entry,
        zstd.ZstdFile(entry, "w", level=_ZSTD_LEVEL) as stream,
        tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, copybufsize=_CHUNK) as tar,
    ):
        yield tar


def _add(tar: tarfile.TarFile, member: Member) -> dict[str, Any]:
    info = tarfile.TarInfo(member.path)
    info.mtime = _EPOCH
    if isinstance(member, Link):
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.target, 0o777
        tar.addfile(info)
        return {
            "_path": member.path,
            "path_type": "softlink",
            "sha256": hashlib.sha256(b"").hexdigest(),
            "size_in_bytes": 0,
        }
    info.size = _file_size(member)
    info.mode = 0o755 if member.executable else 0o644
    with _open(member) as source:
        if member.sha256:
            tar.addfile(info, source)
            digest = member.sha256.hex()
        else:
            reader = HashingReader(source)
            tar.addfile(info, reader)
            digest = reader.digest.hexdigest()
    entry = {"_path": member.path, "path_type": "hardlink", "sha256": digest, "size_in_bytes": info.size}
    if member.placeholder:
        entry |= {"file_mode": "text", "prefix_placeholder": member.placeholder}
    return entry


def _open(file: File) -> io.BufferedIOBase:
    if isinstance(file.source, bytes):
        return io.BytesIO(file.source)
    return file.source.open("rb") if isinstance(file.source, Path) else file.source()
