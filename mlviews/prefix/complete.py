"""rattler's records of what it has just installed, made what an install from the channel itself would have written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from mlviews.conda.records import CondaRecord, conda_record, conda_record_files, load_conda_record, write_conda_record
from mlviews.files.writing import file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlviews.lock.lockfile import LockedPackage

# What index.json says of a package that a lock does not hold; all else in a record is about how it was installed.
_OF_THE_PACKAGE = (
    *("arch", "build_number", "features", "license", "license_family", "noarch", "platform", "provides_features"),
    *("purls", "timestamp", "track_features"),
)


def complete_records(prefix: Path, packages: Mapping[str, LockedPackage]) -> tuple[CondaRecord, ...]:
    """Complete the conda records of what is installed, from what each package says of itself; return all of them.

    A lock holds less than a repodata record does, and the records name the cache of whoever built the release.

    Args:
        prefix: where rattler has just installed packages.
        packages: name of the archive -> what the lock says of it.
    """
    (prefix / "CACHEDIR.TAG").unlink(missing_ok=True)  # backups would leave the release out
    return tuple(conda_record(path, _completed(path, packages)) for path in conda_record_files(prefix))


def _completed(path: Path, packages: Mapping[str, LockedPackage]) -> dict[str, Any]:
    record = load_conda_record(path)
    unpacked = record.pop("extracted_package_dir", None)
    if unpacked is None:
        return record  # an earlier install has done it
    package = packages[record["fn"]]
    record.pop("link", None)  # with it, rattler wants the cache's path
    index = from_json((Path(unpacked) / "info" / "index.json").read_bytes())
    _tell_copies(path.parent.parent, record)
    record |= {key: index[key] for key in _OF_THE_PACKAGE if key in index}
    # The channel corrects these after a package was built: the lock has the last word.
    record["depends"] = _in_order_of(index.get("depends"), package.needs)
    record["constrains"] = _in_order_of(index.get("constrains"), package.rest.constrains)
    record["url"] = package.url
    record["channel"] = package.url.rsplit("/", 2)[0]
    write_conda_record(path, record)
    return record


def _in_order_of(packed: Sequence[str] | None, locked: Sequence[str]) -> list[str]:
    """Return what the lock says, as the package orders it: a lock keeps no order, and conda's own records do."""
    places = {text: number for number, text in enumerate(packed or ())}
    return sorted(locked, key=lambda text: places.get(text, len(places)))


def _tell_copies(prefix: Path, record: dict[str, Any]) -> None:
    """Say what lies in the place of a link marked ``no_link``: rattler has copied what it leads to."""
    for entry in record["paths_data"]["paths"]:
        if entry["path_type"] != "softlink" or not entry.get("no_link"):
            continue
        copy = prefix / entry["_path"]
        if copy.is_file() and not copy.is_symlink():
            entry |= {"path_type": "hardlink", "sha256": file_sha256(copy), "size_in_bytes": copy.stat().st_size}
            entry.pop("sha256_in_prefix", None)
