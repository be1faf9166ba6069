"""What a release takes on the disk, and what of that it shares with the cache and other releases by hard links.

Measured once, when a release is built: a hundred releases hold millions of files. A package's files were linked
together and share their fate, so that looking at one of them is enough.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

from mlviews.conda.records import CondaRecord
from mlviews.files.reading import DamagedError, content, status
from mlviews.files.storefile import StoreFile, StorePart, parse
from mlviews.files.writing import is_folder, write_atomically
from mlviews.prefix.inventory import Tree, read_tree


class Linked(StorePart):
    """The hard-linked files of one package.

    Attributes:
        file: one of them, as a path in the prefix.
        bytes: what all of them take.
    """

    file: str
    bytes: int


class Usage(StoreFile):
    """What the files of one platform of a release take.

    Attributes:
        own: bytes of files that nothing else shared when they were written.
        linked: by package, what it shared.
    """

    own: int
    linked: dict[str, Linked]

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.own + sum(package.bytes for package in self.linked.values())


def measure(tree: Tree) -> Usage:
    """Sum up the files of a prefix, and what lies beside it under its name."""
    records = [file.said for file in tree.records.values() if isinstance(file.said, CondaRecord)]
    owner: dict[str, str] = {}
    for record in records:
        owner |= dict.fromkeys(record.files, record.stem)
    own = sum(path.lstat().st_size for path in tree.prefix.parent.glob(f"{tree.prefix.name}.*"))
    linked: dict[str, str] = {}
    sizes: Counter[str] = Counter()
    for path, seen in tree.found.items():
        if is_folder(seen):
            continue
        package = owner.get(path)
        if seen.st_nlink == 1 or package is None:
            own += seen.st_size
            continue
        linked[package] = path
        sizes[package] += seen.st_size
    return Usage(own=own, linked={name: Linked(file=path, bytes=sizes[name]) for name, path in linked.items()})


def read(prefix: Path) -> Usage:
    """Return what was measured; where nothing was, measure now. Who only asks writes nothing."""
    if text := content(_file(prefix)):
        with suppress(DamagedError):
            return parse(Usage, text, _file(prefix))
    return measure(read_tree(prefix))


def shared_bytes(prefix: Path, usage: Usage) -> int:
    """Return the bytes that have another name now, in the cache or in another release."""
    found = ((package.bytes, status(prefix / package.file)) for package in usage.linked.values())
    return sum(size for size, there in found if there and there.st_nlink > 1)


def write(prefix: Path, usage: Usage) -> None:
    """Keep what was measured, beside the prefix."""
    write_atomically(_file(prefix), usage.text())


def forget(prefix: Path) -> None:
    """Measure again next time: files were replaced."""
    with suppress(OSError):
        _file(prefix).unlink()


def _file(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.usage.json")
