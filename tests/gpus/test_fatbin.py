"""Fat binaries: what is written is read, and bytes of any kind neither break the reader nor keep it."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.gpus import fatbin
from mlviews.gpus.fatbin import BrokenCodeError, Code, modules, scattered_modules

TARGETS = st.builds(
    "{}_{}{}".format,
    st.sampled_from(["sm", "compute"]),
    st.sampled_from([35, 50, 70, 75, 87, 90, 100, 103, 120]),
    st.sampled_from(["", "a", "f"]),
)
PACKINGS = st.sampled_from(["", "lz4", "zstd"])
WISHES = st.lists(st.tuples(TARGETS, PACKINGS, st.booleans()), max_size=6)


def reader(content: bytes):
    return lambda offset, size: content[offset : offset + size]


def read(content: bytes, *, scattered: bool = False) -> list[list[str]]:
    find = scattered_modules if scattered else modules
    return [[str(entry.code) for entry in module] for module in find(reader(content), 0, len(content))]


@given(wishes=st.lists(WISHES, max_size=4), padding=st.integers(0, 40))
def test_what_is_written_is_read(binaries: Any, wishes: list[Any], padding: int) -> None:
    containers = [
        binaries.container(
            *(binaries.Piece(target, packing=packing, hollow=hollow) for target, packing, hollow in wish)
        )
        for wish in wishes
    ]
    content = bytes(padding) + bytes(padding * 8).join(containers)
    assert read(content) == [[target for target, *_ in wish] for wish in wishes]
    noise = b"\x50\xed\x55\xba\x01\x00\x10\x00 sm_70 "
    assert read(noise + noise.join(containers), scattered=True) == [[target for target, *_ in wish] for wish in wishes]


def test_the_header_says_what_the_code_is(binaries: Any) -> None:
    pieces = (binaries.Piece("sm_90a", abi=8), binaries.Piece("compute_100f", isa=(9, 1)))
    content = binaries.container(*pieces)
    (module,) = modules(reader(content), 0, len(content))
    assert [entry.code for entry in module] == [Code("machine", 90, "a", (1, 8)), Code("ptx", 100, "f", (9, 1))]


def test_code_that_no_driver_takes_by_itself_is_passed_over(binaries: Any) -> None:
    content = binaries.container(binaries.Piece("sm_80", kind=binaries.LTO), binaries.Piece("sm_90"))
    assert read(content) == [["sm_90"]]


@pytest.mark.parametrize("start", [b"\x01\x5a\xe5\x1e\x01\x00", b"\x50\xed\x55\xba\x02\x00"], ids=["magic", "version"])
def test_a_container_of_another_kind_is_not_guessed_at(binaries: Any, start: bytes) -> None:
    content = start + binaries.container(binaries.Piece("sm_70"))[len(start) :]
    with pytest.raises(BrokenCodeError, match="known kind"):
        read(content)


def test_what_came_before_the_damage_is_given(binaries: Any) -> None:
    content = binaries.container(binaries.Piece("sm_70")) + b"\x01" * 200
    found = modules(reader(content), 0, len(content))
    assert [str(entry.code) for entry in next(found)] == ["sm_70"]
    with pytest.raises(BrokenCodeError, match="no fat binary of a known kind"):
        next(found)


def test_cut_off_anywhere_it_is_broken(binaries: Any) -> None:
    content = binaries.container(binaries.Piece("sm_70"), binaries.Piece("compute_70", packing="lz4"))
    for length in range(1, len(content)):
        with pytest.raises(BrokenCodeError):
            read(content[:length])


ALTERATIONS = st.lists(st.tuples(st.integers(0, 1 << 16), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])), max_size=12)


@given(alterations=ALTERATIONS, scattered=st.booleans())
def test_altered_bytes_are_code_or_broken(binaries: Any, alterations: list[Any], scattered: bool) -> None:
    content = bytearray(binaries.container(binaries.Piece("sm_70"), binaries.Piece("compute_90")) * 3)
    for offset, value in alterations:
        content[offset % len(content)] = value
    with suppress(BrokenCodeError):
        read(bytes(content), scattered=scattered)


@given(content=st.binary(max_size=600), scattered=st.booleans())
def test_any_bytes_are_code_or_broken(content: bytes, scattered: bool) -> None:
    with suppress(BrokenCodeError):
        read(b"\x50\xed\x55\xba\x01\x00\x10\x00" + content, scattered=scattered)


@pytest.mark.parametrize("size", [1 << 20, (1 << 63) - 1, (1 << 64) - 1])
def test_sizes_beyond_the_section_are_refused(size: int) -> None:
    with pytest.raises(BrokenCodeError, match="cut off"):
        read(struct.pack("<IHHQ", fatbin.MAGIC, 1, 16, size) + bytes(64))
    entry = struct.pack("<HHIQIIHHIIIQQQ", 2, 0x101, 64, size, 0, 0, 7, 1, 70, 0, 0, 0x11, 0, 0)
    with pytest.raises(BrokenCodeError, match="leaves its fat binary"):
        read(struct.pack("<IHHQ", fatbin.MAGIC, 1, 16, len(entry)) + entry)


@pytest.mark.parametrize("header", [0, 1, 63])
def test_an_entry_that_leads_nowhere_is_refused(header: int) -> None:
    entry = struct.pack("<HHIQIIHHIIIQQQ", 2, 0x101, header, 0, 0, 0, 7, 1, 70, 0, 0, 0x11, 0, 0)
    with pytest.raises(BrokenCodeError):
        read(struct.pack("<IHHQ", fatbin.MAGIC, 1, 16, len(entry)) + entry)


def test_more_pieces_than_any_library_has_are_not_counted_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fatbin, "_MOST_STEPS", 1000)
    entry = struct.pack("<HHIQIIHHIIIQQQ", 2, 0x101, 64, 0, 0, 0, 7, 1, 70, 0, 0, 0x11, 0, 0)
    with pytest.raises(BrokenCodeError, match="more than"):
        read(struct.pack("<IHHQ", fatbin.MAGIC, 1, 16, 2000 * len(entry)) + 2000 * entry)
    # Each piece ends as a container that holds all that follow, and the last is broken: 2000 * 2000 steps to try all.
    entries = (entry[:48] + struct.pack("<IHHQ", fatbin.MAGIC, 1, 16, 64 * left) for left in range(2000, 0, -1))
    with pytest.raises(BrokenCodeError, match="more than"):
        read(b"".join(entries) + 64 * b"\xff", scattered=True)


def test_a_desert_of_zeros_is_crossed_in_strides() -> None:
    strides = 0

    def desert(offset: int, size: int) -> bytes:
        nonlocal strides
        strides += 1
        return bytes(size)

    assert list(modules(desert, 0, 1 << 26)) == []
    assert strides < 100
