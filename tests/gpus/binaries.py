"""Writes CUDA's binaries byte by byte, with nothing of mlviews' own: cubins, fat binaries, libraries with them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import lz4.block

from mlviews.gpus.fatbin import zstd

PTX, MACHINE, LTO = 1, 2, 8
SUFFIXES = {"": 0, "a": 0x10_0000, "f": 0x20_0000}


@dataclass(frozen=True)
class Piece:
    """A piece of code to be written: ``Piece("sm_90a")``, ``Piece("compute_90", isa=(8, 0))``.

    ``hollow`` leaves it without a function; ``packing`` packs it, ``"lz4"`` or ``"zstd"``.
    """

    target: str
    isa: tuple[int, int] = (8, 0)
    abi: int = 7
    hollow: bool = False
    packing: str = ""
    kind: int = 0

    @property
    def suffix(self) -> str:
        return self.target[-1] if self.target[-1] in "af" else ""

    @property
    def compute(self) -> int:
        return int(self.target.partition("_")[2].rstrip("af"))

    @property
    def is_ptx(self) -> bool:
        return self.target.startswith("compute_")


def cubin(target: str, *, abi: int = 7, hollow: bool = False, specific_by: str = "flags") -> bytes:
    """Return a cubin; ``specific_by`` says how a new one tells that it is ``a``: in its flags or in ``.nv.compat``."""
    piece = Piece(target)
    specific = piece.suffix == "a"
    if abi < 8:
        flags, osabi = piece.compute | piece.compute << 16 | 0x500 | (0x800 if specific else 0), 0x33
    else:
        flags, osabi = piece.compute << 8 | 0x6000002 | (0x8 if specific and specific_by == "flags" else 0), 0x41
    compat = bytes((2, 9, 1 if specific and specific_by == "compat" else 0, 0, 2, 2, 1, 0))
    sections = [(0x7000_0086, 0, compat)] if abi >= 8 else []
    sections += [] if hollow else [(1, 6, b"\x90" * 64)]
    content, headers = b"", bytes(64)
    for kind, section_flags, data in sections:
        headers += struct.pack("<IIQQQQIIQQ", 0, kind, section_flags, 0, 64 + len(content), len(data), 0, 0, 4, 0)
        content += data
    identity = b"\x7fELF\x02\x01\x01" + bytes((osabi, abi)) + bytes(7)
    fields = (identity, 2, 190, 1, 0, 0, 64 + len(content), flags, 64, 56, 0, 64, len(sections) + 1, 0)
    return struct.pack("<16sHHIQQQIHHHHHH", *fields) + content + headers


def ptx(target: str, isa: tuple[int, int], *, hollow: bool = False) -> bytes:
    text = f".version {isa[0]}.{isa[1]}\n.target {target.replace('compute', 'sm')}\n.address_size 64\n"
    return (text + ("" if hollow else ".visible .entry k()\n{\n\tret;\n}\n")).encode() + b"\0"


def container(*pieces: Piece) -> bytes:
    """Return one fat binary: the code of one module."""
    body = b"".join(map(_entry, pieces))
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def _entry(piece: Piece) -> bytes:
    plain = ptx(piece.target, piece.isa, hollow=piece.hollow) if piece.is_ptx else b""
    plain = plain or cubin(piece.target, abi=piece.abi, hollow=piece.hollow)
    packed = plain
    if piece.packing == "lz4":
        packed = lz4.block.compress(plain, store_size=False)
    elif piece.packing == "zstd":
        packed = zstd.compress(plain)
    payload = packed + bytes(-len(packed) % 8)
    kind = piece.kind or (PTX if piece.is_ptx else MACHINE)
    major, minor = piece.isa if piece.is_ptx else (1, piece.abi)
    flags = 0x11 | SUFFIXES[piece.suffix] | {"": 0, "lz4": 0x2000, "zstd": 0x8000}[piece.packing]
    sizes = (len(packed), len(plain)) if piece.packing else (0, 0)
    header = struct.pack(
        "<HHIQIIHHIIIQQQ",
        *(kind, 0x101, 64, len(payload), sizes[0], 0, minor, major, piece.compute, 0, 0, flags, 0, sizes[1]),
    )
    return header + payload


def library(
    *containers: bytes,
    loose: bytes = b"",
    data: bytes = b"",
    needed: tuple[str, ...] = (),
    kind: int = 3,
    section: str = ".nv_fatbin",
) -> bytes:
    """Return a shared library (``kind`` 3) with fat binaries in it."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    offsets = [strings.index(b"\0" + name.encode() + b"\0") + 1 for name in needed]
    dynamic = b"".join(struct.pack("<QQ", 1, offset) for offset in offsets) + struct.pack("<QQ", 5, 0) + bytes(16)
    sections = [
        ("", 0, b"", 0),
        (section, 1, b"".join(containers), 0),
        ("__nv_relfatbin", 1, loose, 0),
        (".rodata", 1, data, 0),
        (".dynstr", 3, strings, 0),
        (".dynamic", 6, dynamic, 4),
    ]
    sections = [entry for entry in sections if entry[2] or not entry[0] or entry[1] > 1]
    link = next(number for number, entry in enumerate(sections) if entry[0] == ".dynstr")
    names = b"\0" + b"".join(entry[0].encode() + b"\0" for entry in sections[1:]) + b".shstrtab\0"
    sections.append((".shstrtab", 3, names, 0))
    content, headers, start = b"", b"", 1024
    for name, section_kind, bits, linked in sections:
        at = names.index(b"\0" + name.encode() + b"\0") + 1 if name else 0
        headers += struct.pack(
            "<IIQQQQIIQQ",
            *(at, section_kind, 2, 0, start + len(content), len(bits), link if linked else 0, 0, 8),
            16 if section_kind == 6 else 0,
        )
        content += bits + bytes(-len(bits) % 8)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    fields = (identity, kind, 62, 1, 0, 0, start + len(content), 0, 64, 56, 0, 64, len(sections), len(sections) - 1)
    return struct.pack("<16sHHIQQQIHHHHHH", *fields).ljust(start, b"\0") + content + headers
