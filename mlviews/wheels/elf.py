"""Reads from ELF files which C library and which other libraries they need, and tells them where those are.

Source of the layout: System V ABI, "Object Files" and "Dynamic Linking"; glibc's ``elf/dl-load.c``.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection, DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

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


_DT_RUNPATH = 29
_PAGE = 0x1000  # the smallest on Linux: what follows a segment in its last page is mapped with it


class NoRoomError(ValueError):
    """Nothing can be added to an ELF file without moving what is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """How a 64-bit shared library finds what it needs, and where there is room to tell it more.

    Attributes:
        needed: sonames of the libraries that it asks the loader for.
        has_path: whether it says where to look for them (``DT_RPATH`` or ``DT_RUNPATH``).
        free: offset in the file of the first unused entry of its dynamic table; 0 where there is none to spare.
        size: offset in the file of the entry that tells the size of its strings.
        strings: offset in the file of its strings.
        section: offset in the file of the section header of the strings, for tools; 0 where there is none.
        header: offset in the file of the program header of the segment that holds them.
        end: offset in the file where that segment ends.
        room: bytes after that end which are zero and mapped with the segment.
    """

    needed: tuple[str, ...]
    has_path: bool
    free: int
    size: int
    strings: int
    section: int
    header: int
    end: int
    room: int

    def add_runpath(self, file: BinaryIO, folders: str) -> None:
        """Let the library look in ``folders`` (``$ORIGIN`` is its own), joined by colons.

        Nothing is moved, so that a library of any size is changed in two places: the string goes into the padding after
        the segment that the other strings lie in. patchelf reads such a file whole, twice.

        Raises:
            NoRoomError: there is no room for it.
        """
        text = folders.encode() + b"\0"
        if not self.free or len(text) > self.room:
            raise NoRoomError(f"there is no room for a RUNPATH of {len(text)} bytes")
        _write(file, self.end, text)
        end = self.end + len(text)
        for offset in (32, 40):  # p_filesz, p_memsz
            (before,) = struct.unpack("<Q", _read(file, self.header + offset, 8))
            _write(file, self.header + offset, struct.pack("<Q", before + len(text)))
        if self.section:
            _write(file, self.section + 32, struct.pack("<Q", end - self.strings))  # sh_size
        _write(file, self.size + 8, struct.pack("<Q", end - self.strings))
        _write(file, self.free, struct.pack("<QQ", _DT_RUNPATH, self.end - self.strings))


def read_links(file: BinaryIO) -> Links | None:
    """Return how a library finds others; None for what is no 64-bit, little-endian ELF file with a dynamic table."""
    try:
        elf = ELFFile(file)
        table = next((segment for segment in elf.iter_segments() if isinstance(segment, DynamicSegment)), None)
        if table is None or elf.elfclass != 64 or not elf.little_endian:  # noqa: PLR2004  (bits)
            return None
        tags = list(table.iter_tags())
        return _links(elf, file, table, tags)
    except (ELFError, UnicodeDecodeError, struct.error, StopIteration):
        return None


def _links(elf: ELFFile, file: BinaryIO, table: Any, tags: list[Any]) -> Links:
    values = {tag.entry.d_tag: tag.entry.d_val for tag in tags}
    start, entries = table["p_offset"], table["p_filesz"] // 16
    used = len(tags)  # with the DT_NULL that ends the table
    number, segment = next(
        (number, segment)
        for number, segment in enumerate(elf.iter_segments())
        if segment["p_type"] == "PT_LOAD"
        and segment["p_vaddr"] <= values["DT_STRTAB"] < segment["p_vaddr"] + segment["p_filesz"]
    )
    end = segment["p_offset"] + segment["p_filesz"]
    spare = used < entries and not any(_read(file, start + 16 * used, 16))
    page_end = -(-end // _PAGE) * _PAGE
    padding = _read(file, end, page_end - end) if segment["p_filesz"] == segment["p_memsz"] else b""
    strings = values["DT_STRTAB"] - segment["p_vaddr"] + segment["p_offset"]
    sections = (index for index, section in enumerate(elf.iter_sections()) if section["sh_offset"] == strings)
    section = next(sections, None)
    return Links(
        needed=tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
        has_path=bool(values.keys() & {"DT_RPATH", "DT_RUNPATH"}),
        free=start + 16 * (used - 1) if spare else 0,
        size=start + 16 * next(index for index, tag in enumerate(tags) if tag.entry.d_tag == "DT_STRSZ"),
        strings=strings,
        section=0 if section is None else elf["e_shoff"] + section * elf["e_shentsize"],
        header=elf["e_phoff"] + number * elf["e_phentsize"],
        end=end,
        room=len(padding) - len(padding.lstrip(b"\0")),
    )


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _write(file: BinaryIO, offset: int, content: bytes) -> None:
    file.seek(offset)
    file.write(content)


def _glibc_symbols(file: BinaryIO) -> list[str]:
    try:
        section = ELFFile(file).get_section_by_name(".gnu.version_r")
    except ELFError:
        return []
    if not isinstance(section, GNUVerNeedSection):
        return []
    names = [auxiliary.name for _, auxiliaries in section.iter_versions() for auxiliary in auxiliaries]
    return [name.removeprefix("GLIBC_") for name in names if re.fullmatch(r"GLIBC_\d+(\.\d+)+", name)]
