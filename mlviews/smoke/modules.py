"""Which modules the packages of a prefix bring, by the files that conda's records list."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["InstalledPackage", "installed", "modules_of"]

_MODULE = re.compile(
    r"lib/python3\.\d+t?/site-packages/(?P<name>[A-Za-z]\w*)"
    r"(/__init__\.py|\.py|(\.cpython-[\w-]+|\.abi3)?\.so)"
)
# Top-level folders that packages leave beside their modules; nobody imports them.
_NOT_MODULES = frozenset({"benchmarks", "conftest", "docs", "examples", "setup", "test", "testing", "tests"})


@dataclass(frozen=True, slots=True)
class InstalledPackage:
    """What a record in ``conda-meta`` says of a package: its files, and the names of what it depends on."""

    files: tuple[str, ...]
    depends: tuple[str, ...]


def installed(prefix: Path) -> dict[str, InstalledPackage]:
    """Read the records of a prefix."""
    packages = {}
    for path in (prefix / "conda-meta").glob("*.json"):
        record = json.loads(path.read_bytes())
        depends = tuple(text.split()[0] for text in record.get("depends", ()) if text.split())
        packages[record["name"]] = InstalledPackage(tuple(record.get("files", ())), depends)
    return packages


def modules_of(requested: Iterable[str], packages: Mapping[str, InstalledPackage]) -> tuple[str, ...]:
    """Return the top-level modules that the requested packages bring, by their installed files.

    A package without any module, such as ``matplotlib`` on conda-forge, stands for the packages that it depends on.
    """
    modules: dict[str, None] = {}
    for name in requested:
        if package := packages.get(name):
            found = _modules(package) or [m for d in package.depends if d in packages for m in _modules(packages[d])]
            modules |= dict.fromkeys(found)
    return tuple(modules)


def _modules(package: InstalledPackage) -> list[str]:
    found = dict.fromkeys(match["name"] for file in package.files if (match := _MODULE.fullmatch(file)))
    return [name for name in found if name not in _NOT_MODULES]
