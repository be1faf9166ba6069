"""From a folder to the libraries with device code in it, and the packages that they belong to."""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mlviews.conda.records import CondaRecordError, is_conda_record, read_conda_record
from mlviews.errors import BadInputError
from mlviews.gpus.fatbin import BrokenCodeError
from mlviews.gpus.libraries import DeviceCode, read_code
from mlviews.progress import Progress, silent

_SMALLEST = 1024  # no library with code in it is smaller

# Sources, texts and data: on CVMFS to open a file is to fetch it, and an LCG view has hundreds of thousands.
_NO_LIBRARIES = frozenset({
    ".a", ".bz2", ".c", ".cc", ".cmake", ".cpp", ".csv", ".css", ".cu", ".cuh", ".cxx", ".f90", ".gif", ".gz", ".h",
    ".hh", ".hpp", ".htm", ".html", ".hxx", ".inc", ".ipynb", ".jpg", ".js", ".json", ".la", ".log", ".map", ".md",
    ".mo", ".npy", ".npz", ".o", ".pc", ".pcm", ".pdf", ".php", ".pl", ".pm", ".png", ".po", ".proto", ".ps", ".pxd",
    ".py", ".pyc", ".pyi", ".pyx", ".qml", ".root", ".rst", ".sh", ".sql", ".svg", ".tcl", ".tex", ".toml", ".ts",
    ".ttf", ".txt", ".whl", ".xml", ".xz", ".yaml", ".yml", ".zip", ".zst",
})  # fmt: skip
# A link into these leads out of any file system that holds libraries.
_NO_FOLDERS = (Path("/dev"), Path("/proc"), Path("/sys"))
_AT_ONCE = 8  # a network file system answers several reads as fast as one


@dataclass(frozen=True, slots=True)
class Library:
    """A file with device code.

    Attributes:
        path: where it lies, below the folder that was scanned.
        package: what it belongs to: a conda package or a wheel, else the folder that it really lies in.
    """

    path: str
    package: str
    code: DeviceCode


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found in a folder.

    Attributes:
        libraries: files with device code, by package and path.
        unread: files and folders that could not be read, with the reason.
        files: how many files were looked at.
    """

    folder: Path
    libraries: tuple[Library, ...]
    unread: Mapping[str, str]
    files: int


def scan(folder: Path, *, progress: Progress = silent) -> Scan:
    """Read every library below a folder, or one file; links are followed, and what they lead to twice counts once.

    Args:
        folder: a prefix, an unpacked wheel, an LCG view, a virtual environment.

    Raises:
        BadInputError: there is no such folder.
    """
    if not folder.exists():
        raise BadInputError("folder-missing", f"there is no {folder}", "Name a view, or a folder with libraries in it.")
    walk = _Walk()
    with progress("Looking for libraries"):
        walk.visit(folder)
    found: dict[Path, DeviceCode] = {}
    with progress("Reading libraries", total=len(walk.files)) as advance, ThreadPoolExecutor(_AT_ONCE) as readers:
        paths = tuple(walk.files.values())
        for path, outcome in zip(paths, readers.map(_read, paths), strict=True):
            advance()
            if isinstance(outcome, str):
                walk.unread[str(path)] = outcome
            elif outcome:
                found[path] = outcome
    real = {path: path.resolve() for path in found}
    owners = _owners(walk.lists, real.values())
    libraries = [
        Library(_below(path, folder), owners.get(real[path]) or _below(real[path].parent, folder), code)
        for path, code in found.items()
    ]
    ordered = sorted(libraries, key=lambda library: (library.package, library.path))
    return Scan(
        folder, tuple(ordered), {_below(Path(path), folder): why for path, why in walk.unread.items()}, len(paths)
    )


def _below(path: Path, folder: Path) -> str:
    for base in (folder, folder.resolve()):
        if path != base and path.is_relative_to(base):
            return str(path.relative_to(base))
    return path.name if path == folder and path.is_file() else str(path)


def _read(path: Path) -> DeviceCode | str | None:
    """Return a file's device code, or why it could not be read."""
    try:
        return read_code(path)
    except BrokenCodeError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


class _Walk:
    """Goes through a tree and the trees that its links lead to, each folder and file once.

    An LCG view is such a tree of links. A file is known by its own place rather than by a link's, where it has one.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[int, int], Path] = {}
        self.lists: list[Path] = []
        self.unread: dict[str, str] = {}
        self._links: set[tuple[int, int]] = set()
        self._folders: set[tuple[int, int]] = set()

    def visit(self, top: Path) -> None:
        waiting = [top]
        while waiting:
            place = waiting.pop()
            try:
                self._look(place, waiting)
            except OSError as error:
                self.unread[str(place)] = error.strerror or str(error)

    def _look(self, place: Path, waiting: list[Path]) -> None:
        here = place.stat()
        if stat.S_ISREG(here.st_mode):
            self._file(place, here, linked=False)
            return
        if not stat.S_ISDIR(here.st_mode) or (here.st_dev, here.st_ino) in self._folders:
            return
        self._folders.add((here.st_dev, here.st_ino))
        with os.scandir(place) as entries:
            for entry in entries:
                path = place / entry.name
                try:
                    if entry.is_dir():
                        if not entry.is_symlink() or not any(map(path.resolve().is_relative_to, _NO_FOLDERS)):
                            waiting.append(path)
                    elif entry.is_file():
                        self._file(path, entry.stat(), linked=entry.is_symlink())
                except OSError as error:
                    self.unread[str(path)] = error.strerror or str(error)

    def _file(self, path: Path, found: os.stat_result, *, linked: bool) -> None:
        if _is_list(path):
            self.lists.append(path)
        elif found.st_size >= _SMALLEST and path.suffix.lower() not in _NO_LIBRARIES:
            key = (found.st_dev, found.st_ino)
            if key not in self.files or (key in self._links and not linked):
                self.files[key] = path
                (self._links.add if linked else self._links.discard)(key)


def _is_list(path: Path) -> bool:
    return is_conda_record(f"{path.parent.name}/{path.name}") or (
        path.name == "RECORD" and path.parent.suffix == ".dist-info"
    )


def _owners(lists: Iterable[Path], files: Collection[Path]) -> dict[Path, str]:
    """Return the package that each file belongs to; a conda package goes before the wheel that it was made from."""
    owners: dict[Path, str] = {}
    by_base: dict[Path, dict[str, Path]] = {}
    for path in sorted(lists, key=lambda path: path.name == "RECORD"):
        base = path.parent.parent.resolve()
        if base not in by_base:
            by_base[base] = {os.path.relpath(file, base): file for file in files}
        try:
            name, listed = _wheel(path) if path.name == "RECORD" else _conda(path)
        except (OSError, ValueError, CondaRecordError, csv.Error):
            continue  # whoever wrote it; the files are then known by their folder
        for file in by_base[base].keys() & listed:
            owners.setdefault(by_base[base][file], name)
    return owners


def _conda(path: Path) -> tuple[str, set[str]]:
    package = read_conda_record(path)
    return f"{package.name} {package.version}", set(package.files)


def _wheel(path: Path) -> tuple[str, set[str]]:
    name, _, version = path.parent.stem.partition("-")
    with path.open(encoding="utf-8", newline="") as file:
        return f"{name} {version}", {os.path.normpath(row[0]) for row in csv.reader(file) if row}
