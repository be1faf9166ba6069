"""From a file to the device code in it: shared libraries, and cubins and fat binaries that stand alone."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from mlviews.gpus.fatbin import (
    CUDA_MACHINE,
    HEADER,
    MAGIC,
    BrokenCodeError,
    Code,
    FatbinEntry,
    Read,
    cubin_code,
    is_hollow,
    modules,
    scattered_modules,
)
from mlviews.gpus.nvidia import first_cuda, newest, ptx_cuda

# Code that is linked, and code that awaits linking (nvcc -rdc=true).
_LINKED, _LOOSE = ".nv_fatbin", "__nv_relfatbin"
# Where libraries that load their kernels themselves, such as cuFFT, keep them.
_DATA = (".rodata", ".lrodata", ".data", ".ldata")
_MOST_SECTIONS = 10_000
_LARGEST_CUBIN = 1 << 28
_MOST_HEADERS = 1 << 26
_BUFFER = 1 << 13  # what is read again from a larger one, as Python 3.14 takes, would not be counted

# Libraries whose soname is CUDA's major version: the toolkit that a binary was linked against.
_TOOLKIT = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc|nvJitLink)\.so\.(\d{2})(?:\.[\d.]+)?")

# What pyelftools raises where a hostile file has it read nonsense.
_ELF_FAULTS = (ELFError, ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError, AssertionError)

Module = frozenset[Code]
"""What one module was made for: of a module the driver loads the one piece that fits its GPU best."""


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """The device code of one file; pieces without a function in them are left out.

    Attributes:
        linked: the modules that a driver can load as they are.
        loose: the modules that the driver would have to link first.
        cuda: the oldest CUDA that can have built it, as its code and the libraries that it needs tell; or empty.
        fault: why its fat binaries could not be read to their end, else empty.
    """

    linked: tuple[Module, ...] = ()
    loose: tuple[Module, ...] = ()
    cuda: str = ""
    fault: str = ""


def read_code(path: Path) -> DeviceCode | None:
    """Read the headers of the device code in a file.

    Nothing is mapped into memory: a file that shrinks, or a network that fails, is then an error and not a crash.

    Returns:
        The code; None where there is none, which the first bytes of most files tell.

    Raises:
        BrokenCodeError: it is a damaged ELF file.
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        start = file.read(HEADER.size)
        if len(start) < HEADER.size:
            return None
        size = os.fstat(file.fileno()).st_size

        def read(offset: int, count: int) -> bytes:
            return os.pread(file.fileno(), count, offset) if offset < size else b""

        if start[:4] == struct.pack("<I", MAGIC):
            return _gather({_LINKED: (0, size)}, read, ())
        if start[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian: as every host of CUDA is
            return None
        if HEADER.unpack(start)[2] == CUDA_MACHINE:
            return _cubin(read(0, min(size, _LARGEST_CUBIN)))
        return _library(read, path.name, size)


def _cubin(image: bytes) -> DeviceCode:
    module = frozenset({cubin_code(image)})
    return DeviceCode(linked=(module,), cuda=_cuda([module], ()))


def _library(read: Read, name: str, size: int) -> DeviceCode | None:
    try:
        elf = ELFFile(io.BufferedReader(_Frugal(read, size), _BUFFER))
        if elf["e_type"] not in {"ET_DYN", "ET_EXEC"}:  # an object file, which nothing loads
            return None
        if elf.num_sections() > _MOST_SECTIONS:
            raise BrokenCodeError(f"more than {_MOST_SECTIONS} sections")
        spans = {
            section.name: (section["sh_offset"], section["sh_offset"] + section["sh_size"])
            for section in elf.iter_sections()
            if section["sh_type"] != "SHT_NOBITS"
        }
        if any(end > size for _, end in spans.values()):
            raise BrokenCodeError("cut off")
        sections = {name: span for name, span in spans.items() if name in {_LINKED, _LOOSE, *_DATA}}
        if not sections.keys() & {_LINKED, _LOOSE}:
            return None
        needed = (name, *_needed(elf))
    except _ELF_FAULTS as error:
        raise BrokenCodeError(f"no whole ELF file ({error})") from error
    return _gather(sections, read, needed)


class _Frugal(io.RawIOBase):
    """A file's bytes as a stream that ends the work once much more was read than a library's headers take.

    pyelftools follows what a file says: strings without an end, thousands of times.
    """

    def __init__(self, read: Read, size: int) -> None:
        self._read, self._size = read, size
        self._at, self._left = 0, _MOST_HEADERS

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._read(self._at, len(buffer))
        self._at += len(content)
        self._left -= len(content)
        if self._left < 0:
            raise BrokenCodeError("headers without an end")
        buffer[: len(content)] = content
        return len(content)


def _needed(elf: ELFFile) -> list[str]:
    section = elf.get_section_by_name(".dynamic")
    if not isinstance(section, DynamicSection):
        return []
    return [str(tag.needed) for tag in section.iter_tags("DT_NEEDED")]  # type: ignore[attr-defined]


def _gather(sections: dict[str, tuple[int, int]], read: Read, needed: Iterable[str]) -> DeviceCode | None:
    fault = ""
    found: dict[str, tuple[Module, ...]] = {}
    for name in (_LINKED, _LOOSE):
        whole: list[Module] = []
        try:
            for module in _full(modules(read, *sections.get(name, (0, 0))), read):
                whole.append(module)  # noqa: PERF402  (what came before a fault counts)
        except BrokenCodeError as error:
            fault = fault or str(error)
        found[name] = tuple(whole)
    if not any(found.values()) and not fault:
        found[_LINKED] = _scattered([sections[name] for name in _DATA if name in sections], read)
    if not any(found.values()) and not fault:
        return None
    return DeviceCode(found[_LINKED], found[_LOOSE], _cuda(chain(*found.values()), needed), fault)


def _scattered(spans: Iterable[tuple[int, int]], read: Read) -> tuple[Module, ...]:
    with suppress(BrokenCodeError):  # so much that it cannot be what it seems
        return tuple(module for span in spans for module in _full(scattered_modules(read, *span), read))
    return ()


def _full(found: Iterable[tuple[FatbinEntry, ...]], read: Read) -> Iterator[Module]:
    """Yield the modules without their empty pieces, where anything is left."""
    for entries in found:
        if module := frozenset(entry.code for entry in entries if not is_hollow(entry, read)):
            yield module


def _cuda(found: Iterable[Module], needed: Iterable[str]) -> str:
    """Return the oldest CUDA that can have built some modules and asks for some libraries."""
    linked = [f"{match[1]}.0" for name in needed if (match := _TOOLKIT.fullmatch(name))]
    return newest([*linked, *(_built_by(code) for code in frozenset().union(*found))])


def _built_by(code: Code) -> str:
    if code.isa:
        return newest([ptx_cuda(code.isa), first_cuda(code.compute)])
    # CUDA 13 gave the older architectures the ABI that CUDA 12 had given the newer ones alone.
    thirteen = "13.0" if code.version >= (1, 8) and code.compute < 100 else None  # noqa: PLR2004  (sm_100)
    return newest([thirteen, first_cuda(code.compute)])
