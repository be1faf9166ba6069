"""What a prefix should hold: its conda records, and ``files.json`` for all that none of them knows."""

from __future__ import annotations

import hashlib
import stat
from collections import defaultdict
from typing import TYPE_CHECKING

from mlviews.conda.records import RecordedPath
from mlviews.files.permissions import decided, private
from mlviews.files.reading import RELEASE_FILE
from mlviews.files.storefile import StoreFile
from mlviews.files.writing import file_sha256, is_folder, write_atomically

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from mlviews.prefix.tree import Tree

FILES = "files.json"
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


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
