"""Reads the texts in a wheel's ``.dist-info``, and trusts nothing in them.

Sources: PEP 427 (WHEEL, RECORD), core metadata (METADATA), the entry points specification.
"""

from __future__ import annotations

import csv
import io
import re
from configparser import ConfigParser
from configparser import Error as ConfigError
from typing import TYPE_CHECKING

from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from packaging.metadata import RawMetadata
    from packaging.utils import NormalizedName

__all__ = [
    "BadWheelError",
    "check_format",
    "check_script_name",
    "read_metadata",
    "read_record",
    "read_requirements",
    "read_requires_python",
    "read_scripts",
]

_SCRIPT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")
_INTERPRETER = re.compile(r"python[0-9.]*\Z")
_REFERENCE = re.compile(r"([\w.]+)\s*:\s*([\w.]+)\s*(?:\[[\w\s,.-]*\])?\Z")


class BadWheelError(ValueError):
    """Why a wheel cannot be used; `open_wheel` adds the file's name and makes a `FailedError` of it."""


def check_format(text: str) -> None:
    """Refuse a wheel of another major version of the format."""
    version = next(
        (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Wheel-Version:")), ""
    )
    if version.split(".")[0] != "1":
        raise BadWheelError(f"Wheel-Version is {version!r}, not 1.x")


def read_metadata(text: str, name: NormalizedName, version: Version) -> RawMetadata:
    """Read METADATA, which must be of the package that the file name tells."""
    raw, _ = parse_email(text)
    try:
        right = canonicalize_name(raw["name"], validate=True) == name and Version(raw["version"]) == version
    except (KeyError, InvalidName, InvalidVersion) as error:
        raise BadWheelError(f"METADATA gives no valid Name and Version ({error})") from error
    if not right:
        raise BadWheelError(f"METADATA is of {raw['name']} {raw['version']}")
    return raw


def read_requirements(metadata: RawMetadata) -> tuple[Requirement, ...]:
    """Return what the package requires, markers and all."""
    try:
        return tuple(Requirement(line) for line in metadata.get("requires_dist", []))
    except InvalidRequirement as error:
        raise BadWheelError(
            f"METADATA holds a Requires-Dist that does not parse: {str(error).splitlines()[0]}"
        ) from error


def read_requires_python(metadata: RawMetadata) -> SpecifierSet:
    """Return the Pythons that the package is for."""
    try:
        return SpecifierSet(metadata.get("requires_python", ""))
    except InvalidSpecifier as error:
        raise BadWheelError(f"METADATA holds a Requires-Python that does not parse: {error}") from error


def read_record(text: str) -> dict[str, str]:
    """Return RECORD's hashes by path."""
    try:
        return {row[0]: row[1] for row in csv.reader(io.StringIO(text), strict=True) if row}
    except (csv.Error, IndexError) as error:
        raise BadWheelError(f"RECORD does not parse ({error})") from error


def read_scripts(text: str) -> dict[str, str]:
    """Return the console and GUI scripts of entry_points.txt: name to ``module:attribute``."""
    parser = ConfigParser(delimiters=("=",), interpolation=None, strict=True, default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names are case-sensitive
    try:
        parser.read_string(text)
        lines = [
            item
            for group in ("console_scripts", "gui_scripts")
            if parser.has_section(group)
            for item in parser.items(group)
        ]
    except ConfigError as error:
        raise BadWheelError(f"entry_points.txt does not parse: {str(error).splitlines()[0]}") from error
    return {check_script_name(name): _reference(name, value) for name, value in lines}


def check_script_name(name: str) -> str:
    """Return ``name`` if a file of that name may go into ``bin``."""
    if not _SCRIPT_NAME.match(name) or _INTERPRETER.match(name):
        raise BadWheelError(f"it would install a program called {name!r}")
    return name


def _reference(name: str, value: str) -> str:
    # The two halves are pasted into a generated script: anything but dotted identifiers would be code.
    match = _REFERENCE.match(value)
    if not match or not all(part.isidentifier() for half in match.groups() for part in half.split(".")):
        raise BadWheelError(f"the entry point {name!r} is not module:attribute but {value!r}")
    return f"{match[1]}:{match[2]}"
