"""The containers in which CUDA libraries carry device code: bytes in, entries out, and what each entry holds.

NVIDIA describes of the format only where it lies (``fatbinary_section.h`` of the toolkit). The rest was read off
binaries of CUDA 11, 12 and 13 and is tested against NVIDIA's ``cuobjdump``. All figures are little-endian. Bytes are
hostile: every size is checked against the room that there is, and each step goes forward.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

import lz4.block

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Read = Callable[[int, int], bytes]
"""Gives ``(offset, size)`` of a file; fewer bytes where it ends."""

MAGIC = 0xBA55ED50
_CONTAINER = struct.Struct("<IHHQ")  # magic, version, size of this header, bytes of all entries

# Kind, version, bytes of this header, padded bytes of the payload, its bytes where it is packed, an offset, minor and
# major version (of the PTX ISA, or of the machine code's ABI), architecture, two figures of the name, flags, bytes of
# the payload once unpacked.
_ENTRY = struct.Struct("<HHIQIIHHIIIQ8xQ")
_PTX, _MACHINE_CODE = 1, 2  # others hold intermediate code, which no driver takes by itself (8: link-time optimisation)
_LZ4, _ZSTD = 0x2000, 0x8000
_ARCHITECTURE_SPECIFIC, _FAMILY_SPECIFIC = 0x10_0000, 0x20_0000

_MOST_STEPS = 1_000_000  # cuFFT, the largest seen, takes 37,000
_BLOCK = 1 << 20
_START = struct.pack("<IHH", MAGIC, 1, _CONTAINER.size)


class BrokenCodeError(ValueError):
    """Bytes that should be device code and cannot be; the text says why."""


class _TooMuchError(BrokenCodeError):
    """More pieces than any library has: bytes that were made to keep a reader busy."""


@dataclass(frozen=True, slots=True, order=True)
class Code:
    """What a piece of device code was made for.

    Attributes:
        kind: machine code, or PTX, which the driver compiles.
        compute: compute capability: 90 for ``sm_90a``.
        suffix: ``a`` for one architecture alone, ``f`` for its family, else empty.
        version: of the PTX ISA, or of the machine code's ABI.
    """

    kind: Literal["machine", "ptx"]
    compute: int
    suffix: Literal["", "a", "f"]
    version: tuple[int, int]

    @property
    def isa(self) -> str:
        """The version of the PTX ISA, such as ``8.8``; empty for machine code."""
        return "{}.{}".format(*self.version) if self.kind == "ptx" else ""

    def __str__(self) -> str:
        return f"{'sm' if self.kind == 'machine' else 'compute'}_{self.compute}{self.suffix}"


@dataclass(frozen=True, slots=True)
class FatbinEntry:
    """One piece of code in a container.

    Attributes:
        offset: where its bytes lie in the file.
        size: how many they are there.
        unpacked: how many bytes they say they are once unpacked.
    """

    code: Code
    offset: int
    size: int
    packing: Literal["", "lz4", "zstd"]
    unpacked: int


def modules(read: Read, start: int, end: int) -> Iterator[tuple[FatbinEntry, ...]]:
    """Yield what each container between two offsets holds; of these containers the driver takes one entry each.

    Args:
        start: where the first container, or the padding before it, begins.
        end: where the section ends.

    Raises:
        BrokenCodeError: the bytes are no containers; what was whole before has been yielded.
    """
    steps = repeat(None, _MOST_STEPS)
    while (start := _past_padding(read, start, end)) < end:
        entries, start = _module(read, start, end, steps)
        yield entries


def scattered_modules(read: Read, start: int, end: int) -> Iterator[tuple[FatbinEntry, ...]]:
    """Yield what each container that lies somewhere among other data holds; reads all of that data.

    cuFFT keeps its kernels so. What looks like a container and is none is passed over.

    Raises:
        BrokenCodeError: there are more of them than any library has.
    """
    steps = repeat(None, _MOST_STEPS)
    while (start := _next_container(read, start, end)) < end:
        try:
            entries, start = _module(read, start, end, steps)
        except _TooMuchError:
            raise
        except BrokenCodeError:
            start += len(_START)
        else:
            yield entries


def _module(read: Read, start: int, end: int, steps: Iterator[None]) -> tuple[tuple[FatbinEntry, ...], int]:
    """Return what the container at an offset holds, and where it ends; ``steps`` bounds the work on a whole file."""
    _take(steps)
    magic, version, header, size = _unpack(_CONTAINER, read, start, end)
    if magic != MAGIC or version != 1 or header < _CONTAINER.size:
        raise BrokenCodeError(f"no fat binary of a known kind at {start:#x}")
    stop = start + header + size
    if stop > end:
        raise BrokenCodeError(f"the fat binary at {start:#x} is cut off")
    entries = []
    offset = start + header
    while offset < stop:
        _take(steps)
        entry, offset = _entry(read, offset, stop)
        if entry:
            entries.append(entry)
    return tuple(entries), stop


def _entry(read: Read, offset: int, stop: int) -> tuple[FatbinEntry | None, int]:
    """Return the entry at an offset, None where it is of a kind that no GPU runs, and where the next one begins."""
    kind, _, header, padded, packed, _, minor, major, compute, _, _, flags, unpacked = _unpack(
        _ENTRY, read, offset, stop
    )
    after = offset + header + padded
    if header < _ENTRY.size or after > stop or packed > padded:
        raise BrokenCodeError(f"the entry at {offset:#x} leaves its fat binary")
    if kind not in {_PTX, _MACHINE_CODE}:
        return None, after
    packing: Literal["", "lz4", "zstd"] = "lz4" if flags & _LZ4 else "zstd" if flags & _ZSTD else ""
    code = Code(
        kind="ptx" if kind == _PTX else "machine",
        compute=compute,
        suffix="a" if flags & _ARCHITECTURE_SPECIFIC else "f" if flags & _FAMILY_SPECIFIC else "",
        version=(major, minor),
    )
    size, whole = (packed, unpacked) if packing else (padded, padded)
    return FatbinEntry(code, offset + header, size, packing, whole), after


def _take(steps: Iterator[None]) -> None:
    if next(steps, _TooMuchError) is _TooMuchError:
        raise _TooMuchError(f"more than {_MOST_STEPS} pieces of code")


def _unpack(layout: struct.Struct, read: Read, offset: int, end: int) -> tuple[int, ...]:
    content = read(offset, min(layout.size, end - offset))
    if len(content) < layout.size:
        raise BrokenCodeError(f"cut off at {offset:#x}")
    return layout.unpack(content)


def _past_padding(read: Read, start: int, end: int) -> int:
    """Return the offset of the next byte that is not zero; linkers align what they join."""
    size = _CONTAINER.size
    while start < end:
        block = read(start, min(size, end - start))
        if not block:
            raise BrokenCodeError(f"cut off at {start:#x}")
        if rest := block.lstrip(b"\0"):
            return start + len(block) - len(rest)
        start += len(block)
        size = _BLOCK
    return end


def _next_container(read: Read, start: int, end: int) -> int:
    """Return the offset of the next bytes that look like a container's first ones, or the end."""
    while start < end:
        block = read(start, min(_BLOCK, end - start))
        if (found := block.find(_START)) >= 0:
            return start + found
        if len(block) < len(_START):
            break
        start += len(block) - len(_START) + 1
    return end


CUDA_MACHINE = 190  # EM_CUDA
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_PROGRAM_BITS, _EXECUTABLE = 1, 4  # SHT_PROGBITS, SHF_EXECINSTR
_COMPATIBILITY = 0x7000_0086  # SHT of .nv.compat

# Compilers put an empty piece wherever a source file has nothing for an architecture; the largest seen has 11 kB.
_HOLLOW_AT_MOST = 1 << 14


def is_hollow(entry: FatbinEntry, read: Read) -> bool:
    """Tell whether a piece of code holds no function: then it serves no GPU, whatever it was made for.

    Only small pieces are looked at, and a piece that cannot be unpacked counts as full.
    """
    if max(entry.size, entry.unpacked) > _HOLLOW_AT_MOST:
        return False
    packed = read(entry.offset, entry.size)
    try:
        content = _inflate(packed, entry)
        if entry.code.kind == "ptx":
            return b".entry" not in content and b".func" not in content
        return not any(kind == _PROGRAM_BITS and flags & _EXECUTABLE for kind, flags, _ in _sections(content))
    except (ValueError, zstd.ZstdError, lz4.block.LZ4BlockError):
        return False


def cubin_code(image: bytes) -> Code:
    """Return what a cubin was made for, by its ELF header.

    Up to CUDA 12 the architecture is the lowest byte of ``e_flags`` and bit 11 says ``a``; with ABI version 8 it is the
    second byte, and ``a`` is bit 3 or, by CUDA 13's compiler, attribute 9 of the section ``.nv.compat``. Source: LLVM,
    ``llvm/BinaryFormat/ELF.h`` (``EF_CUDA_*``); the section was read off cubins of CUDA 13.0.

    Raises:
        BrokenCodeError: it is cut off.
    """
    identity, *_, flags, _, _, _, _, _, _ = _header(image)
    abi = identity[8]
    if abi < 8:  # noqa: PLR2004  (said above)
        return Code("machine", flags & 0xFF, "a" if flags & 0x800 else "", (1, abi))
    specific = flags & 0x8 or any(
        content[at : at + 4] == b"\x02\x09\x01\x00"
        for kind, _, content in _sections(image)
        if kind == _COMPATIBILITY
        for at in range(0, len(content), 4)
    )
    return Code("machine", flags >> 8 & 0xFF, "a" if specific else "", (1, abi))


def _inflate(packed: bytes, entry: FatbinEntry) -> bytes:
    content = packed
    if entry.packing == "lz4":
        content = lz4.block.decompress(packed, uncompressed_size=entry.unpacked)
    if entry.packing == "zstd":
        content = zstd.ZstdDecompressor().decompress(packed, max_length=_HOLLOW_AT_MOST)  # no more of it than it may be
    return content


def _header(image: bytes) -> tuple[Any, ...]:
    if len(image) < HEADER.size or image[:4] != b"\x7fELF":
        raise BrokenCodeError("no whole cubin")
    return HEADER.unpack_from(image)


def _sections(image: bytes) -> list[tuple[int, int, bytes]]:
    """Return type, flags and content of each section of a cubin."""
    *_, offset, _, _, _, _, size, count, _ = _header(image)
    if size != _SECTION.size or offset + size * count > len(image):
        raise BrokenCodeError("the cubin is cut off")
    found = []
    for number in range(count):
        _, kind, flags, _, start, length, *_ = _SECTION.unpack_from(image, offset + number * size)
        found.append((kind, flags, image[start : start + length]))
    return found
