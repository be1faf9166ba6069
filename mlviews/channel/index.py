"""Keeps ``repodata.json`` of the wheel channel, as conda's channel format has it.

rattler's indexer is not used: it hashes at 80 MB/s, writes in place where a solver may be reading, and dates every
record with the moment of indexing, which hides the package from a solve as of an earlier day.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlviews.channel.archive import read_index
from mlviews.errors import FailedError
from mlviews.files import make_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

__all__ = ["update_index"]

_CHUNK = 1 << 20


def update_index(channel: Path, archives: Collection[str], *, changed: Collection[str] = ()) -> None:
    """Make the index hold ``archives`` (paths in the channel), which lie there.

    What it holds already is not read again, except ``changed``.

    Raises:
        FailedError: ``write-failed``: the disk is full or read-only.
    """
    make_folder(channel)
    with _locked(channel / ".lock"):
        for subdir in sorted({"noarch", *(archive.partition("/")[0] for archive in archives)}):
            _update(channel / subdir, _inside(subdir, archives), _inside(subdir, changed))


def _inside(subdir: str, archives: Collection[str]) -> set[str]:
    return {archive.removeprefix(f"{subdir}/") for archive in archives if archive.startswith(f"{subdir}/")}


def _update(folder: Path, names: Collection[str], changed: Collection[str]) -> None:
    file = folder / "repodata.json"
    known = _records(file)
    if known is None:
        known, names = {}, {path.name for path in folder.glob("[!.]*.conda")}
    new = sorted(set(names) - known.keys() | set(changed))
    if not new and file.exists():
        return
    with ThreadPoolExecutor() as pool:
        added = dict(zip(new, pool.map(_record, (folder / name for name in new)), strict=True))
    kept = {name: record for name, record in known.items() if (folder / name).exists()}
    data = {
        "info": {"subdir": folder.name},
        "packages": {},
        "packages.conda": kept | added,
        "removed": [],
        "repodata_version": 1,
    }
    write_atomically(file, json.dumps(data, sort_keys=True, separators=(",", ":")))


def _records(file: Path) -> dict[str, Any] | None:
    """Return what the index holds, or None if there is none or it was cut: all of it can be read from the archives."""
    try:
        return dict(json.loads(file.read_bytes())["packages.conda"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _record(path: Path) -> dict[str, Any]:
    try:
        index = read_index(path)
    except ValueError as error:  # the machine went down before the disk had it all
        path.unlink()
        raise FailedError(
            "archive-damaged", f"{path.name} is damaged and was removed", "Run the command again: it is made anew."
        ) from error
    return {**index, **_hashes(path), "size": path.stat().st_size}


def _hashes(path: Path) -> dict[str, str]:
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha256")}
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for total in sums.values():
                total.update(chunk)
    return {name: total.hexdigest() for name, total in sums.items()}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # A kernel lock: it ends with the process that holds it, however that ends.
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
