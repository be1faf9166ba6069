"""Reads one wheel, and trusts nothing in it.

A wheel comes from an index and is hostile until checked: whatever is wrong with it is one `FailedError`, ``bad-wheel``,
that names the file. Sources: PEP 427 (the format, WHEEL, RECORD), core metadata (METADATA), the entry points
specification.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import lzma
import re
import stat
import zipfile
import zlib
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_string
from typing import IO, TYPE_CHECKING, cast

from packaging.metadata import InvalidMetadata, Metadata, RawMetadata, parse_email
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mlviews.errors import FailedError
from mlviews.wheels.archive import is_safe_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from packaging.requirements import Requirement
    from packaging.tags import Tag

_SCRIPT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")
_INTERPRETER = re.compile(r"python[0-9.]*\Z")
_REFERENCE = re.compile(r"([\w.]+)\s*:\s*([\w.]+)\s*(?:\[[\w\s,.-]*\])?\Z")


class BadWheelError(ValueError):
    """Why a wheel cannot be used; `open_wheel` adds the file's name and makes a `FailedError` of it."""


def read_record(text: str) -> dict[str, str]:
    """Return RECORD's hashes by path."""
    try:
        return {row[0]: row[1] for row in csv.reader(io.StringIO(text), strict=True) if row}
    except (csv.Error, IndexError) as error:
        raise BadWheelError(f"RECORD does not parse ({error})") from error


def record_text(rows: Iterable[tuple[str, str, object]]) -> str:
    """Return RECORD: a path, its hash as `record_hash` writes it, and its size in bytes, a row each."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def record_hash(algorithm: str, digest: bytes) -> str:
    """Return a hash as RECORD has it (PEP 427)."""
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def read_scripts(text: str) -> dict[str, str]:
    """Return the console and GUI scripts of entry_points.txt: name to ``module:attribute``."""
    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=True, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names are case-sensitive
    try:
        parser.read_string(text)
        lines = [
            item
            for group in ("console_scripts", "gui_scripts")
            if parser.has_section(group)
            for item in parser.items(group)
        ]
    except ConfigError as error:
        raise BadWheelError(f"entry_points.txt does not parse: {str(error).splitlines()[0]}") from error
    return {check_script_name(name): _reference(name, value) for name, value in lines}


def check_script_name(name: str) -> str:
    """Return ``name`` if a file of that name may go into ``bin``."""
    if not _SCRIPT_NAME.match(name) or _INTERPRETER.match(name):
        raise BadWheelError(f"it would install a program called {name!r}")
    return name


def _reference(name: str, value: str) -> str:
    # The two halves are pasted into a generated script: anything but dotted identifiers would be code.
    match = _REFERENCE.match(value)
    if not match or not all(part.isidentifier() for half in match.groups() for part in half.split(".")):
        raise BadWheelError(f"the entry point {name!r} is not module:attribute but {value!r}")
    return f"{match[1]}:{match[2]}"


_MAX_UNPACKED = 32 << 30  # bytes
_MAX_RATIO = 200  # unpacked to packed; deflate cannot do more than 1032, real wheels stay below 30
_RATIO_COUNTS_FROM = 256 << 20  # bytes; less than that hurts nobody
_MAX_READ = 16 << 20  # bytes of a file that is read whole
_HASHES = {"sha256", "sha384", "sha512"}  # PEP 427: sha256 or better
# What zipfile and its decompressors raise for damaged or unknown content.
_UNPACKING = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
_UNSIGNED = {"RECORD", "RECORD.jws", "RECORD.p7s"}
_KEPT = {
    *("name", "version", "requires_dist", "requires_python", "provides_extra"),
    *("license", "license_expression", "summary", "home_page"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelFile:
    """One file of a wheel: its size in bytes, and the hash that RECORD promises."""

    path: str
    size: int
    executable: bool
    algorithm: str
    digest: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """What a wheel's METADATA says.

    Attributes:
        raw: what is kept of it, as packaging and pip's report spell its keys.
    """

    name: NormalizedName
    version: Version
    requires: tuple[Requirement, ...]
    requires_python: SpecifierSet
    raw: RawMetadata

    @classmethod
    def read(cls, raw: RawMetadata, name: NormalizedName, version: Version) -> Stated:
        """Read core metadata, which must be of the package that the wheel's file name tells.

        Raises:
            BadWheelError: they are of another package, or do not parse.
        """
        metadata = Metadata.from_raw(raw, validate=False)  # what older wheels get wrong is mostly not needed here
        try:
            if (canonicalize_name(metadata.name), metadata.version) != (name, version):
                raise BadWheelError(f"METADATA is of {metadata.name} {metadata.version}")
            return cls(
                name=name,
                version=version,
                requires=tuple(metadata.requires_dist or ()),
                requires_python=metadata.requires_python or SpecifierSet(),
                raw=cast("RawMetadata", {key: value for key, value in raw.items() if key in _KEPT}),
            )
        except InvalidMetadata as error:
            raise BadWheelError(f"METADATA does not parse: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class StatedWheel:
    """A wheel by what it says of itself, be it here or on an index.

    Attributes:
        sha256: of the wheel, in hexadecimal.
        tags: what it fits, by its file's name.
        entries: all its files but RECORD and its signatures, as far as they are known.
    """

    sha256: str
    said: Stated
    tags: frozenset[Tag]
    entries: tuple[WheelFile, ...] = ()

    @property
    def name(self) -> NormalizedName:
        """The project's normalised name."""
        return self.said.name

    @property
    def version(self) -> Version:
        """The project's version."""
        return self.said.version


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheel(StatedWheel):
    """A checked wheel, open for reading.

    Attributes:
        scripts: console and GUI scripts -> ``module:attribute``.
        watch: called before each read of a file.
    """

    path: Path
    dist_info: str
    scripts: Mapping[str, str]
    archive: zipfile.ZipFile
    watch: Callable[[], None]

    def open(self, entry: WheelFile) -> io.BufferedIOBase:
        """Open a file; reading to its end raises `BadWheelError` if it is not what RECORD promises."""
        try:
            return _CheckedReader(entry, self.archive.open(entry.path), self.watch)
        except _UNPACKING as error:
            raise BadWheelError(f"{entry.path} cannot be unpacked ({error})") from error


@contextmanager
def open_wheel(path: Path, sha256: str, watch: Callable[[], None] = lambda: None) -> Iterator[Wheel]:
    """Open a wheel and check it.

    Args:
        sha256: of its bytes, which are not read for it.
        watch: called before each read of a file in it; what it raises ends the work.

    Raises:
        FailedError: ``bad-wheel``; also for every `BadWheelError` that is raised while the wheel is open.
    """
    try:
        with _zip_of(path) as archive:
            yield _read(path, sha256, archive, watch)
    except BadWheelError as error:
        raise FailedError(
            "bad-wheel",
            f"{path.name} cannot be used: {error}",
            "Nothing of it was installed. Tell the project or the index that it comes from, or choose another version.",
        ) from error


def _zip_of(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except _UNPACKING as error:
        raise BadWheelError(f"it is not a zip archive ({error})") from error


class _CheckedReader(io.BufferedIOBase):
    def __init__(self, entry: WheelFile, source: IO[bytes], watch: Callable[[], None]) -> None:
        self._entry, self._source, self._watch = entry, source, watch
        self._sum = hashlib.new(entry.algorithm)
        self._left = entry.size

    def read(self, size: int | None = -1) -> bytes:
        self._watch()
        wanted = self._left if size is None or size < 0 else min(size, self._left)
        try:
            data = self._source.read(wanted)
        except _UNPACKING as error:
            raise BadWheelError(f"{self._entry.path} cannot be unpacked ({error})") from error
        self._sum.update(data)
        self._left -= len(data)
        if len(data) < wanted:
            raise BadWheelError(f"{self._entry.path} is shorter than it says")
        if not self._left and self._sum.digest() != self._entry.digest:
            raise BadWheelError(f"{self._entry.path} does not match its hash in RECORD")
        return data

    def close(self) -> None:
        self._source.close()
        super().close()


def _read(path: Path, sha256: str, archive: zipfile.ZipFile, watch: Callable[[], None]) -> Wheel:
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise BadWheelError(f"its file name is not a wheel's ({error})") from error
    members = _check_members(archive, path.stat().st_size)
    dist_info = _find_dist_info(members, name, version)
    raw, _ = parse_email(_text(archive, members, f"{dist_info}/METADATA"))
    said = Stated.read(raw, name, version)
    wheel_format = str(message_from_string(_text(archive, members, f"{dist_info}/WHEEL"))["Wheel-Version"])
    if wheel_format.partition(".")[0] != "1":
        raise BadWheelError(f"Wheel-Version is {wheel_format!r}, not 1.x")
    entry_points = f"{dist_info}/entry_points.txt"
    return Wheel(
        path=path,
        sha256=sha256,
        said=said,
        tags=tags,
        dist_info=dist_info,
        scripts=read_scripts(_text(archive, members, entry_points)) if entry_points in members else {},
        entries=_entries(members, dist_info, _text(archive, members, f"{dist_info}/RECORD")),
        archive=archive,
        watch=watch,
    )


def _check_members(archive: zipfile.ZipFile, packed: int) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    for info in archive.infolist():
        name = info.filename.rstrip("/") if info.is_dir() else info.filename
        if not is_safe_path(name):
            raise BadWheelError(f"it holds the path {info.filename!r}")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise BadWheelError(f"{name} is a link or a special file")
        parents = name.split("/")[:-1]
        folders.update("/".join(parents[: depth + 1]) for depth in range(len(parents)))
        if info.is_dir():
            folders.add(name)
        elif name in members:
            raise BadWheelError(f"it holds {name} twice")
        else:
            members[name] = info
    if both := sorted(folders & members.keys()):
        raise BadWheelError(f"{both[0]} is both a file and a folder")
    unpacked = sum(info.file_size for info in members.values())
    if unpacked > _MAX_UNPACKED or (unpacked > _RATIO_COUNTS_FROM and unpacked > _MAX_RATIO * packed):
        raise BadWheelError(f"its {packed} bytes would unpack to {unpacked}")
    return members


def _text(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> str:
    if name not in members:
        raise BadWheelError(f"{name} is missing")
    if members[name].file_size > _MAX_READ:
        raise BadWheelError(f"{name} is too large")
    try:
        return archive.read(name).decode()
    except UnicodeDecodeError as error:
        raise BadWheelError(f"{name} is not UTF-8") from error
    except _UNPACKING as error:
        raise BadWheelError(f"{name} cannot be unpacked ({error})") from error


def _find_dist_info(members: Mapping[str, zipfile.ZipInfo], name: NormalizedName, version: Version) -> str:
    found = {top for top in (member.split("/")[0] for member in members) if top.endswith(".dist-info")}
    if len(found) != 1:
        raise BadWheelError(f"it holds {len(found)} .dist-info folders")
    folder = found.pop()
    stem, _, text = folder.removesuffix(".dist-info").rpartition("-")
    try:
        right = canonicalize_name(stem) == name and Version(text) == version
    except InvalidVersion:
        right = False
    if not right:
        raise BadWheelError(f"{folder} is another package's")
    return folder


def _entries(members: Mapping[str, zipfile.ZipInfo], dist_info: str, record: str) -> tuple[WheelFile, ...]:
    hashes = read_record(record)
    unsigned = {f"{dist_info}/{name}" for name in _UNSIGNED}
    if missing := sorted(hashes.keys() - members.keys() - unsigned):
        raise BadWheelError(f"RECORD lists {missing[0]}, which is missing")
    return tuple(_entry(info, hashes.get(name, "")) for name, info in sorted(members.items()) if name not in unsigned)


def _entry(info: zipfile.ZipInfo, promised: str) -> WheelFile:
    algorithm, _, digest = promised.partition("=")
    try:
        if algorithm not in _HASHES:
            raise ValueError(algorithm)
        expected = base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4))
    except (ValueError, binascii.Error) as error:
        raise BadWheelError(f"RECORD gives no sha256 or better for {info.filename}") from error
    if not info.file_size and expected != hashlib.new(algorithm).digest():
        raise BadWheelError(f"{info.filename} does not match its hash in RECORD")  # there is nothing to read later
    executable = bool(info.external_attr >> 16 & 0o111)
    return WheelFile(
        path=info.filename, size=info.file_size, executable=executable, algorithm=algorithm, digest=expected
    )
