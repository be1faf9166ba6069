"""CVMFS's nested catalogs of a release: which folders get one, and the markers that say so.

A client fetches a catalog whole before it sees anything in it. See
https://cvmfs.readthedocs.io/en/stable/cpt-repo.html#managing-nested-catalogs.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from mlviews.files.writing import is_folder, walk

MARKER = ".cvmfscatalog"
"""The empty file by which a folder gets a catalog of its own."""
MOUNT = PurePosixPath("/cvmfs")
"""Where repositories are mounted."""
LARGEST = 200_000
"""Entries that a catalog should have at most."""
SMALLEST = 1_000
"""Entries below which a folder is worth no catalog."""


def catalogs_of(prefix: Path, baked: Path) -> tuple[str, ...]:
    """Return the folders of a prefix that get a catalog, by their path in it, itself as ``.``; none outside of CVMFS.

    Args:
        baked: the same as its files name it.
    """
    if not PurePosixPath(baked).is_relative_to(MOUNT):
        return ()
    return tuple(folder.removeprefix("./") for folder in place_catalogs(_entries(walk(prefix)), "."))


def _entries(found: Iterable[tuple[str, os.stat_result]]) -> Counter[str]:
    """Return how many names each folder holds itself; a path is in ``.``, or in ``./lib``."""
    entries: Counter[str] = Counter({".": 0})
    for path, status in found:
        entries[f"./{path}".rpartition("/")[0]] += 1
        if is_folder(status):
            entries[f"./{path}"] += 0
    return entries


def place_catalogs(
    entries: Mapping[str, int], top: str, *, largest: int = LARGEST, smallest: int = SMALLEST
) -> dict[str, int]:
    """Return the folders that get a catalog of their own, with how many entries each lists.

    ``top`` always gets one. Where one would list more than ``largest``, the largest folders below it get their own, as
    long as those would list at least ``smallest``. What is larger still cannot be split.

    Args:
        entries: folder -> how many names it holds itself; with every folder, those above it up to ``top``.
        top: the folder that all others are below.
        largest: how many entries a catalog should have at most.
        smallest: how many at least.
    """
    below: dict[str, list[str]] = defaultdict(list)
    for folder in entries:
        if folder != top:
            below[folder.rpartition("/")[0]].append(folder)
    sizes: dict[str, int] = {}
    found: dict[str, int] = {}
    for folder in sorted(entries, key=lambda name: (-name.count("/"), name)):  # the deepest first
        size = entries[folder] + sum(sizes[child] for child in below[folder])
        for child in sorted(below[folder], key=lambda name: (-sizes[name], name)):
            if size <= largest or sizes[child] < smallest:
                break
            found[child] = sizes[child]
            size -= sizes[child]
        sizes[folder] = size
    found[top] = sizes[top]
    return dict(sorted(found.items()))


def listed(paths: Iterable[str]) -> dict[str, int]:
    """Return how many entries each catalog lists among paths that hold markers, by its folder.

    What no marker is above is in none of them.
    """
    paths = tuple(paths)
    counts = {path.rpartition("/")[0]: 0 for path in paths if path.rpartition("/")[2] == MARKER}
    nearest: dict[str, str] = {}

    def catalog(folder: str) -> str:
        if folder not in nearest:
            nearest[folder] = folder if folder in counts or not folder else catalog(folder.rpartition("/")[0])
        return nearest[folder]

    for path in paths:
        if found := catalog(path.rpartition("/")[0]):
            counts[found] += 1
    return dict(sorted(counts.items()))
