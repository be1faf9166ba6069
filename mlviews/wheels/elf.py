"""Reads from ELF files which C library and which other libraries they need."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["glibc_key", "glibc_needed", "is_elf", "libraries_needed", "tag_glibc"]


# PEP 600 gives the older names their glibc.
_LEGACY = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}


def glibc_key(version: str) -> tuple[int, ...]:
    """Return what glibc versions such as ``2.36`` are ordered by; ``""`` comes first."""
    return tuple(int(part) for part in version.split(".")) if version else ()


def tag_glibc(platform: str) -> str:
    """Return the glibc that a wheel's platform tag promises to do with (PEP 600), or ``""``."""
    if match := re.match(r"manylinux_(\d+)_(\d+)_", platform):
        return f"{match[1]}.{match[2]}"
    return _LEGACY.get(platform.partition("_")[0], "")


def glibc_needed(files: Iterable[BinaryIO]) -> str:
    """Return the newest glibc whose symbols any of the ELF files asks for, or ``""``; other files do not count."""
    return max((found for file in files for found in _glibc_symbols(file)), key=glibc_key, default="")


def is_elf(path: Path) -> bool:
    """Tell whether a regular file is an ELF object."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def libraries_needed(path: Path) -> tuple[str, ...]:
    """Return the sonames that an ELF file asks the loader for (``DT_NEEDED``)."""
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".dynamic")
        if not isinstance(section, DynamicSection):
            return ()
        return tuple(str(tag.needed) for tag in section.iter_tags("DT_NEEDED"))  # type: ignore[attr-defined]


def _glibc_symbols(file: BinaryIO) -> list[str]:
    try:
        section = ELFFile(file).get_section_by_name(".gnu.version_r")
    except ELFError:
        return []
    if not isinstance(section, GNUVerNeedSection):
        return []
    names = [auxiliary.name for _, auxiliaries in section.iter_versions() for auxiliary in auxiliaries]
    return [name.removeprefix("GLIBC_") for name in names if re.fullmatch(r"GLIBC_\d+(\.\d+)+", name)]
