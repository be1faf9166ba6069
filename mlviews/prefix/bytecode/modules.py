"""Which modules of a prefix are compiled, and where it is noted that they were: conda's own records."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Modules", "module_of", "note", "read_modules"]

_MODULE = re.compile(r"lib/python3\.[0-9]+t?/(?P<inside>.*/)?[^/\0]+\.py")
# The name is as short as can be: what follows the tag is no part of it.
_CACHED = re.compile(r"(?P<folder>(?:.*/)?)__pycache__/(?P<name>[^/]+?)\.[a-z]+-[0-9]+t?(?:\.opt-[0-9a-z]+)?\.pyc")
# Nobody imports tests to work, and in a view of PyTorch they were a quarter of all byte code.
_LEFT_OUT = frozenset({"..", "test", "tests"})


@dataclass(frozen=True, slots=True)
class Modules:
    """What of one installed package is compiled.

    Attributes:
        name: the package's.
        package: its name, version and build, as its record is named.
        record: the file of the record.
        sources: modules by their path in the prefix, sorted.
        made_of: sha256 of all that their byte code depends on: the archives of Python and of the package, and which
            of its modules they are.
    """

    name: str
    package: str
    record: Path
    sources: tuple[str, ...]
    made_of: str


def read_modules(prefix: Path) -> tuple[Modules, ...]:
    """Return the modules of each package that no byte code lies beside yet.

    Only files that are as the package brought them: byte code of others could not be shared between prefixes. Where two
    packages bring the same one, rattler's records give it to one of them.
    """
    records = {path: from_json(path.read_bytes()) for path in sorted((prefix / "conda-meta").glob("*.json"))}
    python = next((record["sha256"] for record in records.values() if record["name"] == "python"), "")
    paths = {entry["_path"] for record in records.values() for entry in record["paths_data"]["paths"]}
    compiled = {module_of(path) for path in paths}
    found = []
    for path, record in records.items():
        own = [entry["_path"] for entry in record["paths_data"]["paths"] if _is_its_own(entry)]
        # A package may bring a link where the folder of byte code would lie, which leads anywhere.
        sources = tuple(sorted(name for name in own if name not in compiled and _folder_of_code(name) not in paths))
        made_of = hashlib.sha256("\0".join([python, record["sha256"], *sources]).encode(errors="surrogateescape"))
        found.append(Modules(record["name"], path.stem, path, sources, made_of.hexdigest()))
    return tuple(found)


def module_of(path: str) -> str | None:
    """Return the module that a file of byte code was made of, by its name (PEP 3147); None for any other file."""
    match = _CACHED.fullmatch(path) if path.endswith(".pyc") else None
    return f"{match['folder']}{match['name']}.py" if match else None


def note(modules: Modules, files: Mapping[str, str], folder: Path) -> None:
    """Add byte code to the record of the package that it was made of.

    Args:
        modules: of the package.
        files: path in the prefix -> sha256.
        folder: where they lie by those paths.
    """
    record = from_json(modules.record.read_bytes())
    record["files"] += files
    record["paths_data"]["paths"] += [
        {
            "_path": path,
            "path_type": "pyc_file",
            "sha256": sha256,
            "sha256_in_prefix": sha256,
            "size_in_bytes": (folder / path).stat().st_size,
        }
        for path, sha256 in files.items()
    ]
    modules.record.write_bytes(to_json(record, indent=2) + b"\n")


def _folder_of_code(module: str) -> str:
    return f"{module.rpartition('/')[0]}/__pycache__"


def _is_its_own(entry: Mapping[str, Any]) -> bool:
    """Tell whether a file is a module, and as the package brought it."""
    if entry["path_type"] != "hardlink" or entry.get("prefix_placeholder"):
        return False
    match = _MODULE.fullmatch(entry["_path"])
    return match is not None and _LEFT_OUT.isdisjoint((match["inside"] or "").split("/"))
