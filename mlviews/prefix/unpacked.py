"""The cache's unpacked packages: what of them no record of theirs vouches for is noted when they are unpacked.

Their files are those of every release that holds them. What somebody does to one in a release, he does to the cache,
and the next build would take it from there. rattler compares the bytes that ``paths.json`` knows. Not the permissions,
nor the other files: ``info/``, and all files of an old package without ``paths.json``. Those stand in the note.
"""

from __future__ import annotations

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from mlviews.conda.records import is_installed
from mlviews.errors import FailedError, RefusedError
from mlviews.files.permissions import CLOSED, EXECUTABLE, settle_one
from mlviews.files.writing import file_sha256, make_folder, walk, write_failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlviews.lock.lockfile import LockedPackage

PACKAGES = "pkgs"
"""The cache's folder of unpacked packages; beside each, rattler keeps a lock."""
NOTES = ".unpacked"
"""In it, the folder of notes."""


class _Note(BaseModel):
    """What was seen of a package when it was unpacked.

    Attributes:
        archive: its sha256.
        programs: the files that may be executed.
        files: file -> sha256, of those that ``paths.json`` does not vouch for and an install reads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    archive: str
    programs: frozenset[str]
    files: dict[str, str]


def note_path(entry: Path) -> Path:
    """Return where the note on an unpacked package lies."""
    return entry.parent / NOTES / f"{entry.name}.json"


def noted(folder: Path, packages: Sequence[LockedPackage]) -> set[str]:
    """Return the names of the packages that were unpacked of the archives that they name now, be they whole or not.

    Args:
        folder: of the cache.
    """
    notes = {package.name: (_read(folder / package.stem), package.sha256) for package in packages}
    return {name for name, (note, sha256) in notes.items() if note and note.archive == sha256}


def close_cache(folder: Path, group: int | None) -> None:
    """See to it that only who builds reaches unpacked packages: for a moment they have the archive's permissions.

    Raises:
        FailedError: the folder is another user's, and no group shares it.
    """
    make_folder(folder)
    status = folder.stat()
    wanted = CLOSED if group is None else CLOSED | stat.S_IRWXG | stat.S_ISGID
    try:
        if group is not None and status.st_gid != group:
            os.chown(folder, -1, group)
        if stat.S_IMODE(status.st_mode) != wanted:
            folder.chmod(wanted)
    except PermissionError as error:
        raise FailedError(
            "cache-foreign",
            f"{folder} belongs to another user, and people who do not build here can write to it",
            "Let its owner build once, or choose another folder with --root; `group` in a site's file shares a root.",
        ) from error


def check_unpacked(
    folder: Path, packages: Sequence[LockedPackage], group: int | None, *, linked_in: Path
) -> list[LockedPackage]:
    """Make sure that unpacked packages are as they were, as far as rattler does not; settle their permissions.

    Who calls it has the folder for himself until `note_unpacked` is done.

    Args:
        folder: of the cache.
        group: its number, if one shares the site's root.
        linked_in: the prefix that they are installed into; what an interrupted install left there is not damaged.

    Returns:
        Those of which nothing is noted: they must be once they are there.
    """
    fresh = []
    for package in packages:
        entry = folder / package.stem
        note = _read(entry)
        if note and note.archive == package.sha256 and _is_as_noted(entry, note, group):
            continue
        fresh.append(package)
        if note or (_is_shared(entry) and not is_installed(linked_in, package.stem)):
            _discard(entry)
    return fresh


def note_unpacked(folder: Path, packages: Sequence[LockedPackage], group: int | None) -> None:
    """Compare what was unpacked just now with its ``paths.json``, which rattler does not; note it; settle permissions.

    Raises:
        RefusedError: a package states other checksums than its files have: no release of it could be verified.
    """
    make_folder(folder / NOTES)
    _settle_locks(folder, group)
    try:
        seen = [(package, _look(folder / package.stem, group)) for package in packages]
        hashes = _hashes({path: size for _, one in seen for path, size in one.sizes.items()})
        wrong = [*chain.from_iterable(_note(folder, package, one, hashes, group) for package, one in seen)]
    except OSError as error:
        raise write_failure(f"what was unpacked to {folder} cannot be noted", error) from error
    if wrong:
        raise RefusedError(
            "package-wrong",
            "a package does not hold the files that its own list says",
            "Lock another version or build of it: add a constraint to the recipe. Tell its maintainers.",
            faults=tuple(wrong),
        )


def _note(folder: Path, package: LockedPackage, seen: _Seen, hashes: Mapping[str, str], group: int | None) -> list[str]:
    """Note one package, unless files of it are not as it says; return what to say of those."""
    entry = folder / package.stem
    files = {path.removeprefix(f"{entry}/"): hashes[path] for path in seen.sizes}
    wrong = sorted(path for path, sha256 in files.items() if seen.vouched.get(path, sha256) != sha256)
    if not wrong:
        unvouched = {path: sha256 for path, sha256 in files.items() if path not in seen.vouched}
        _write(note_path(entry), _Note(archive=package.sha256, programs=seen.programs, files=unvouched), group)
    return [f"{package.archive}: {path} has another sha256 than its info/paths.json states" for path in wrong]


def _settle_locks(folder: Path, group: int | None) -> None:
    """Let the group open the files by which rattler locks the cache, and each package of it."""
    with suppress(PermissionError), os.scandir(folder) as entries:  # another member's: that one has done it
        for entry in entries:
            if group is not None and entry.name.endswith(".lock"):
                settle_one(entry.path, entry.stat(follow_symlinks=False), group)


def unpacked_state(folder: Path, packages: Sequence[LockedPackage]) -> dict[str, bytes]:
    """Return what rattler writes into a package's lock each time that it unpacks it, by the names of the packages."""
    found = {}
    for package in packages:
        with suppress(OSError):
            found[package.name] = (folder / f"{package.stem}.lock").read_bytes()
    return found


def _is_shared(entry: Path) -> bool:
    """Tell whether a release has files of a package that nothing is noted of: then any of them may be damaged."""
    with suppress(FileNotFoundError):  # nothing is unpacked
        return any(status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode) for _, status in walk(entry))
    return False


def _is_as_noted(entry: Path, note: _Note, group: int | None) -> bool:
    try:
        settle_one(str(entry), entry.lstat(), group)
        for path, status in walk(entry):
            program = path in note.programs if stat.S_ISREG(status.st_mode) else None
            settle_one(f"{entry}/{path}", status, group, executable=program)
        return all(file_sha256(f"{entry}/{path}") == sha256 for path, sha256 in note.files.items())
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class _Seen:
    """An unpacked package, before its files are read.

    Attributes:
        programs: the files that may be executed.
        vouched: file -> sha256, as ``paths.json`` has it.
        sizes: bytes of each file that an install reads or ``paths.json`` vouches for, by where it lies.
    """

    programs: frozenset[str]
    vouched: Mapping[str, str]
    sizes: Mapping[str, int]


def _look(entry: Path, group: int | None) -> _Seen:
    """Look at what was unpacked, and settle its permissions."""
    vouched = _vouched(entry)
    programs, sizes = set(), {}
    settle_one(str(entry), entry.lstat(), group)
    for path, status in walk(entry):
        settle_one(f"{entry}/{path}", status, group)
        if stat.S_ISREG(status.st_mode):
            if status.st_mode & EXECUTABLE:
                programs.add(path)
            if path in vouched or not path.startswith(_UNREAD):
                sizes[f"{entry}/{path}"] = status.st_size
    return _Seen(frozenset(programs), vouched, sizes)


def _hashes(sizes: Mapping[str, int]) -> dict[str, str]:
    """Return the sha256 of files that were written just now, and so are in memory.

    Python's threads take turns. At each small file they would wait for each other, and two take twice as long as one:
    small files are read one after another, beside the large ones.

    Args:
        sizes: bytes of each file, by its path.
    """
    large = sorted((path for path, size in sizes.items() if size >= _LARGE), key=lambda path: -sizes[path])
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        beside = [pool.submit(file_sha256, path) for path in large]
        found = {path: file_sha256(path) for path, size in sizes.items() if size < _LARGE}
        return found | {path: one.result() for path, one in zip(large, beside, strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for gigabytes


_LARGE = 64 << 10  # bytes
_UNREAD = ("info/recipe/", "info/test/", "info/tests/", "info/licenses/")


def _vouched(entry: Path) -> dict[str, str]:
    """Return the sha256 of the files whose bytes rattler compares: those of which ``paths.json`` gives it."""
    try:
        paths = from_json((entry / "info/paths.json").read_bytes())["paths"]
        return {path["_path"]: path["sha256"] for path in paths if path.get("sha256")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _discard(entry: Path) -> None:
    """Delete an unpacked package, which rattler then unpacks again; what a release has of it, that one keeps."""
    try:
        shutil.rmtree(entry)
    except FileNotFoundError:
        return
    except OSError as error:
        raise write_failure(f"{entry} is damaged and cannot be deleted", error) from error


def _read(entry: Path) -> _Note | None:
    try:
        return _Note.model_validate_json(note_path(entry).read_bytes())
    except (OSError, ValidationError):
        return None


def _write(path: Path, note: _Note, group: int | None) -> None:
    """Write a note, not flushed to the disk: one that is lost or cut costs no more than unpacking again."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(note.model_dump_json(), encoding="utf-8")
    settle_one(str(temporary), temporary.lstat(), group)
    temporary.replace(path)
