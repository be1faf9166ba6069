"""Where CVMFS's nested catalogs go: a listing should be neither too large to fetch nor too small to be worth it.

See https://cvmfs.readthedocs.io/en/stable/cpt-repo.html#managing-nested-catalogs.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LARGEST", "SMALLEST", "place_catalogs"]

LARGEST = 200_000
SMALLEST = 1_000


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
