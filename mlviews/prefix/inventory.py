"""What lies in a prefix, looked at once; and what should: its conda records, and ``files.json`` for all else.

Who judges, lists or measures a prefix takes a `Tree` and looks at no file that it tells of. Every look costs a walk
through all files, and reading the records of hundreds of packages.
"""

from __future__ import annotations

import hashlib
import stat
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlviews.conda.records import CondaRecord, CondaRecordError, RecordedPath, is_conda_record, parse_conda_record
from mlviews.errors import MlviewsError
from mlviews.files.permissions import decided, private
from mlviews.files.reading import RELEASE_FILE, content
from mlviews.files.storefile import StoreFile
from mlviews.files.writing import file_sha256, is_folder, walk, write_atomically

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

FILES = "files.json"
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


@dataclass(frozen=True, slots=True)
class RecordFile:
    """A file in ``conda-meta``, read once: whoever vouches for its bytes vouches for what it says.

    Attributes:
        sha256: of its bytes; empty where the disk does not give them.
        said: the record, or why there is none.
    """

    sha256: str
    said: CondaRecord | MlviewsError

    @property
    def record(self) -> CondaRecord:
        """The record."""
        if isinstance(self.said, MlviewsError):
            raise self.said
        return self.said


@dataclass(frozen=True, slots=True)
class Tree:
    """What lay in a prefix when somebody looked.

    Attributes:
        found: each file, link and folder by its path in the prefix, with what ``lstat`` says; not the prefix itself.
        records: the files in ``conda-meta`` among them, by their paths, sorted.
    """

    prefix: Path
    found: Mapping[str, os.stat_result]
    records: Mapping[str, RecordFile]


def read_tree(prefix: Path) -> Tree:
    """Look at a prefix."""
    found = dict(walk(prefix))
    names = sorted(filter(is_conda_record, found))
    return Tree(prefix, found, {name: _record_file(prefix / name, found[name]) for name in names})


def _record_file(file: Path, status: os.stat_result) -> RecordFile:
    sha256 = ""
    try:
        if not stat.S_ISREG(status.st_mode):  # of a pipe, the first byte may never come
            raise CondaRecordError(file)
        text = content(file) or b""
        sha256 = hashlib.sha256(text).hexdigest()
        return RecordFile(sha256, parse_conda_record(file, text))
    except MlviewsError as error:
        return RecordFile(sha256, error)


class Inventory(StoreFile):
    """``files.json``.

    Attributes:
        files: sha256 of each file that no conda record holds: the records, and what the build wrote.
        links: the same of links, sha256 of their text.
        modes: permissions in octal -> the files and folders that have them, except files with 644 and folders with 755;
            without what they give to a group that shares the site's root.
    """

    files: dict[str, str]
    links: dict[str, str]
    modes: dict[str, tuple[str, ...]]

    @property
    def mode_of(self) -> dict[str, str]:
        """The permissions of each path that has others than are usual."""
        return {path: mode for mode, paths in self.modes.items() for path in paths}


def take(tree: Tree) -> Inventory:
    """Return what ``files.json`` holds for a prefix as it is; the same prefix always gives the same."""
    owned = {path.path for file in tree.records.values() for path in file.record.paths}
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    modes: dict[str, list[str]] = defaultdict(list)
    for path, status in sorted(tree.found.items()):
        if path in {FILES, RELEASE_FILE}:
            continue
        mode = private(status.st_mode)
        if not stat.S_ISLNK(status.st_mode) and mode != _usual(status):
            modes[f"{mode:o}"].append(path)
        if path in owned:
            continue
        if stat.S_ISLNK(status.st_mode):
            links[path] = hashlib.sha256(
                str((tree.prefix / path).readlink()).encode(errors="surrogateescape")
            ).hexdigest()
        elif stat.S_ISREG(status.st_mode):  # nothing vouches for a pipe: `verify` calls it extra
            files[path] = tree.records[path].sha256 if path in tree.records else file_sha256(tree.prefix / path)
    return Inventory(files=files, links=links, modes={mode: tuple(paths) for mode, paths in sorted(modes.items())})


def write(prefix: Path, inventory: Inventory) -> str:
    """Write ``files.json`` for a prefix that is complete; return its sha256, for ``release.json``."""
    text = inventory.text(indent=1)
    write_atomically(prefix / FILES, text)
    return hashlib.sha256(text.encode()).hexdigest()


def expected_mode(modes: Mapping[str, str], path: str, status: os.stat_result) -> int:
    """Return the permissions that a path should have, besides those of a group that shares the site's root.

    What the list says decides whether a file may be executed, and no more: it may be damaged.

    Args:
        modes: path -> octal, where they are not the usual ones.
    """
    try:
        mode = int(modes[path], 8) if path in modes else _usual(status)
    except ValueError:
        mode = _usual(status)
    return decided(stat.S_IFMT(status.st_mode) | mode)


def own_files(inventory: Inventory) -> dict[str, RecordedPath]:
    """Return what no conda record holds."""
    files = {path: RecordedPath("", path, sha256) for path, sha256 in inventory.files.items()}
    return files | {path: RecordedPath("", path, sha256, "link") for path, sha256 in inventory.links.items()}


def _usual(status: os.stat_result) -> int:
    return _FOLDER_MODE if is_folder(status) else _FILE_MODE
