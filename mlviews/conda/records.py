"""Conda records, ``conda-meta/*.json``: what is installed in a prefix, and whose each file is. Read here alone.

`rattler.PrefixRecord` does not serve. Of a package with 20,000 files it takes 132 ms of processor time until Python has
the paths and 72 until it has their names; this module takes 57 and 18. And it writes no key that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mlviews.errors import FailedError
from mlviews.files.reading import content, paths_in

_FOLDER = "conda-meta"
_SITE_PACKAGES = re.compile(r"lib/python3\.\d+t?/site-packages")
_KINDS: dict[str, Literal["link", "folder"]] = {"softlink": "link", "directory": "folder"}


class CondaRecordError(FailedError):
    """A file in ``conda-meta`` is no conda record."""

    def __init__(self, file: Path) -> None:
        hint = "`mlviews verify VIEW --repair` makes it again."
        super().__init__("conda-record-broken", f"{file} is not the record of a conda package", hint)


class RecordedPath(NamedTuple):  # of a hundred thousand, a dataclass takes three times as long
    """What should lie at a path of a prefix.

    Attributes:
        package: whose it is, as its record is named; empty for what no package brought.
        path: in the prefix.
        sha256: of the file as it lies there, or of the text of the link; empty where the record does not say.
        packed: whether it is a file with the very bytes of the archive.
    """

    package: str
    path: str
    sha256: str
    kind: Literal["file", "link", "folder"] = "file"
    packed: bool = False


@dataclass(frozen=True, slots=True)
class CondaRecord:
    """What is known of one installed package.

    Attributes:
        archive: name of the archive that it was unpacked from.
        sha256: of that archive.
        license: as the package states it.
        depends: names of what it depends on.
        files: paths in the prefix.
    """

    file: Path
    name: str
    version: str
    archive: str
    sha256: str
    license: str
    depends: tuple[str, ...]
    files: tuple[str, ...]
    _paths: tuple[RecordedPath, ...] | None

    @property
    def stem(self) -> str:
        """Name, version and build: what the record's file is called."""
        return self.file.stem

    @property
    def paths(self) -> tuple[RecordedPath, ...]:
        """What the package put into the prefix, path by path.

        ``sha256_in_prefix`` stands only for files that had the prefix written into them, and for the text of links.

        Raises:
            CondaRecordError: the record does not say it, as those of conda before 4.4 do not.
        """
        if self._paths is None:
            raise CondaRecordError(self.file)
        return self._paths


def _paths(package: str, content: Mapping[str, Any]) -> tuple[RecordedPath, ...] | None:
    try:
        return tuple(_path(package, entry) for entry in content["paths_data"]["paths"])
    except (LookupError, TypeError, AttributeError):
        return None


def _path(package: str, entry: Mapping[str, Any]) -> RecordedPath:
    sha256 = str(entry.get("sha256_in_prefix") or entry.get("sha256") or "")
    kind = entry.get("path_type", "")
    packed = kind == "hardlink" and not entry.get("prefix_placeholder") and sha256 == entry.get("sha256")
    return RecordedPath(package, str(entry["_path"]), sha256, _KINDS.get(kind, "file"), packed)


def conda_record_files(prefix: Path) -> list[Path]:
    """Return the files of a prefix's records, sorted."""
    return paths_in(prefix / _FOLDER, ".json")


def conda_record_path(stem: str) -> str:
    """Return the path in a prefix of a package's record, by its name, version and build."""
    return f"{_FOLDER}/{stem}.json"


def link_script(name: str) -> str:
    """Return the path in a prefix, or in an unpacked package, of a package's post-link script."""
    return f"bin/.{name}-post-link.sh"


def is_installed(prefix: Path, stem: str) -> bool:
    """Tell whether a prefix holds a package, by its name, version and build."""
    return (prefix / conda_record_path(stem)).is_file()


def is_conda_record(path: str) -> bool:
    """Tell whether a path of a prefix is one where `conda_record_files` finds a record."""
    folder, _, name = path.rpartition("/")
    return folder == _FOLDER and name.endswith(".json") and not name.startswith(".")


def read_conda_records(prefix: Path) -> tuple[CondaRecord, ...]:
    """Return all records of a prefix, by their names.

    Raises:
        CondaRecordError: one is none.
    """
    return tuple(map(read_conda_record, conda_record_files(prefix)))


def read_conda_record(file: Path) -> CondaRecord:
    """Return one record; whoever wrote it.

    Raises:
        CondaRecordError: it is none.
    """
    return conda_record(file, load_conda_record(file))


def installed_licenses(records: Iterable[CondaRecord]) -> dict[str, str]:
    """Return the licences of installed packages, by the names of their archives."""
    return {record.archive: record.license for record in records if record.license}


def conda_record(file: Path, content: Mapping[str, Any]) -> CondaRecord:
    """Return what a record's keys say.

    Args:
        content: as `load_conda_record` gives it.

    Raises:
        CondaRecordError: it is none.
    """
    try:
        return CondaRecord(
            file=file,
            name=str(content["name"]),
            version=str(content["version"]),
            archive=str(content.get("fn") or ""),
            sha256=str(content.get("sha256") or ""),
            license=str(content.get("license") or ""),
            depends=tuple(text.split()[0] for text in content.get("depends") or () if text.split()),
            files=tuple(map(str, content["files"])),
            _paths=_paths(file.stem, content),
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise CondaRecordError(file) from error


def parse_conda_record(file: Path, text: bytes) -> CondaRecord:
    """Return what the bytes of a record say.

    Raises:
        CondaRecordError: it is none.
    """
    return conda_record(file, _keys(file, text))


def load_conda_record(file: Path) -> dict[str, Any]:
    """Return a record with all its keys, to be changed and written again.

    Raises:
        CondaRecordError: it is none.
    """
    return _keys(file, content(file) or b"")


def _keys(file: Path, text: bytes) -> dict[str, Any]:
    from pydantic_core import from_json  # noqa: PLC0415  (who only asks for names does not wait for it)

    try:
        record = from_json(text)
    except ValueError as error:
        raise CondaRecordError(file) from error
    if not isinstance(record, dict):
        raise CondaRecordError(file)
    return record


def write_conda_record(file: Path, content: Mapping[str, Any]) -> None:
    """Write a record.

    Raises:
        OSError: it cannot be written.
    """
    from pydantic_core import to_json  # noqa: PLC0415

    file.write_bytes(to_json(content, indent=2) + b"\n")


def site_packages_fault(path: str | None) -> str:
    """Say why Python's modules cannot lie there, by ``python_site_packages_path`` (CEP 17); empty where they can."""
    return f"its modules would be in {path!r}" if path and not _SITE_PACKAGES.fullmatch(path) else ""
