"""What a piece of device code holds: whether there is a function in it, and what a cubin was made for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import lz4.block
import zstandard

from mlviews.gpus.fatbin import BrokenCodeError, Code

if TYPE_CHECKING:
    from mlviews.gpus.fatbin import Entry, Read

__all__ = ["CUDA_MACHINE", "HEADER", "cubin_code", "is_hollow"]

CUDA_MACHINE = 190  # EM_CUDA
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
_PROGRAM_BITS, _EXECUTABLE = 1, 4  # SHT_PROGBITS, SHF_EXECINSTR
_COMPATIBILITY = 0x7000_0086  # SHT of .nv.compat

# Compilers put an empty piece wherever a source file has nothing for an architecture; the largest seen has 11 kB.
_HOLLOW_AT_MOST = 1 << 14


def is_hollow(entry: Entry, read: Read) -> bool:
    """Tell whether a piece of code holds no function: then it serves no GPU, whatever it was made for.

    Only small pieces are looked at, and a piece that cannot be unpacked counts as full.
    """
    if max(entry.size, entry.unpacked) > _HOLLOW_AT_MOST:
        return False
    packed = read(entry.offset, entry.size)
    try:
        content = _unpack(packed, entry)
        if entry.code.kind == "ptx":
            return b".entry" not in content and b".func" not in content
        return not any(kind == _PROGRAM_BITS and flags & _EXECUTABLE for kind, flags, _ in _sections(content))
    except (ValueError, zstandard.ZstdError, lz4.block.LZ4BlockError):
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


def _unpack(packed: bytes, entry: Entry) -> bytes:
    if entry.packing == "lz4":
        content: bytes = lz4.block.decompress(packed, uncompressed_size=entry.unpacked)
        return content
    if entry.packing == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(packed) as stream:  # no more of it than it may be
            return stream.read(_HOLLOW_AT_MOST)
    return packed


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
