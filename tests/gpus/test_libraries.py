"""Files: which hold device code, what it is, and what of them is passed over or called damaged."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.gpus import libraries
from mlviews.gpus.fatbin import BrokenCodeError
from mlviews.gpus.libraries import DeviceCode, read_code

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def code(tmp_path: Path) -> Callable[..., DeviceCode | None]:
    """Return a function that writes a file and reads its code."""

    def read(content: bytes, name: str = "libx.so") -> DeviceCode | None:
        (tmp_path / name).write_bytes(content)
        return read_code(tmp_path / name)

    return read


def targets(modules: Any) -> list[list[str]]:
    return [sorted(map(str, module)) for module in modules]


def test_a_librarys_modules(code, binaries):
    first = binaries.container(binaries.Piece("sm_70"), binaries.Piece("compute_70"))
    found = code(binaries.library(first, binaries.container(binaries.Piece("sm_90a"))))
    assert targets(found.linked) == [["compute_70", "sm_70"], ["sm_90a"]]
    assert (found.loose, found.fault) == ((), "")


def test_what_awaits_linking_is_kept_apart(code, binaries):
    loose = binaries.container(binaries.Piece("compute_70"))
    found = code(binaries.library(binaries.container(binaries.Piece("sm_80")), loose=loose))
    assert (targets(found.linked), targets(found.loose)) == ([["sm_80"]], [["compute_70"]])


@pytest.mark.parametrize("packing", ["", "lz4", "zstd"])
def test_hollow_code_is_no_code(code, binaries, packing):
    hollow = binaries.Piece("sm_52", hollow=True, packing=packing)
    assert code(binaries.library(binaries.container(hollow))) is None
    found = code(binaries.library(binaries.container(hollow, binaries.Piece("sm_80"))))
    assert targets(found.linked) == [["sm_80"]]


def test_kernels_kept_as_data_are_found_where_the_usual_place_is_hollow(code, binaries):
    hollow = binaries.container(binaries.Piece("sm_52", hollow=True))
    data = b"some data " + binaries.container(binaries.Piece("sm_70")) + b"sm_60 more"
    assert targets(code(binaries.library(hollow, data=data)).linked) == [["sm_70"]]


def test_names_are_no_evidence(code, binaries):
    assert code(binaries.library(data=b"sm_70 compute_70 .nv_fatbin .target sm_70\0" * 100)) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\x7fELF", b"#!/bin/sh\n" * 100, b"\x7fELF\x01\x01\x01" + bytes(100), b"!<arch>\n" + bytes(100)],
    ids=["empty", "short", "script", "32-bit", "archive"],
)
def test_other_files_hold_none(code, content):
    assert code(content) is None


def test_an_object_file_is_nothing_that_loads(code, binaries):
    assert code(binaries.library(binaries.container(binaries.Piece("sm_70")), kind=1)) is None


def test_cubins_and_fat_binaries_stand_alone_too(code, binaries):
    assert targets(code(binaries.cubin("sm_90a"), "k.cubin").linked) == [["sm_90a"]]
    both = binaries.container(binaries.Piece("sm_70"), binaries.Piece("compute_90"))
    assert targets(code(both, "k.fatbin").linked) == [["compute_90", "sm_70"]]


def test_damage_is_said_and_what_came_before_it_counts(code, binaries):
    found = code(binaries.library(binaries.container(binaries.Piece("sm_70")), b"\x01" * 400))
    assert targets(found.linked) == [["sm_70"]]
    assert "no fat binary of a known kind" in found.fault


def test_a_library_cut_off_is_damaged(code, binaries):
    content = binaries.library(binaries.container(binaries.Piece("sm_70")))
    for length in range(100, len(content) - 1, 97):
        with pytest.raises(BrokenCodeError):
            code(content[:length])


def test_a_library_whose_headers_come_first_is_damaged_too_where_it_is_cut_off(code, binaries):
    content = bytearray(binaries.library(binaries.container(binaries.Piece("sm_70"))))
    headers = content[int.from_bytes(content[40:48], "little") :]
    content[64 : 64 + len(headers)] = headers
    content[40:48] = (64).to_bytes(8, "little")
    assert targets(code(bytes(content)).linked) == [["sm_70"]]
    with pytest.raises(BrokenCodeError, match="cut off"):
        code(bytes(content[:1200]))


@pytest.mark.parametrize(
    ("pieces", "needed", "cuda"),
    [
        ([("sm_70", {})], (), "9.0"),
        ([("sm_70", {}), ("sm_90", {})], (), "11.8"),
        ([("sm_70", {})], ("libc.so.6", "libcudart.so.12"), "12.0"),
        ([("sm_70", {})], ("libcudart.so.11.0",), "11.0"),
        ([("sm_90", {})], ("libcublas.so.11",), "11.8"),
        ([("sm_70", {})], ("libcusolver.so.11", "mycudart.so.13"), "9.0"),
        ([("compute_70", {"isa": (8, 8)})], (), "12.9"),
        ([("sm_75", {"abi": 8})], (), "13.0"),
        ([("sm_100", {"abi": 8})], (), "12.8"),
        ([("sm_999", {})], (), ""),
    ],
)
def test_the_cuda_that_built_it_is_told_by_code_and_needs(code, binaries, pieces, needed, cuda):
    content = binaries.container(*(binaries.Piece(target, **keys) for target, keys in pieces))
    assert code(binaries.library(content, needed=needed)).cuda == cuda


def test_a_librarys_own_name_tells_too(code, binaries):
    content = binaries.library(binaries.container(binaries.Piece("sm_70")))
    assert code(content, "libcublasLt.so.12").cuda == "12.0"


@given(alterations=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=10))
def test_altered_libraries_are_code_or_damaged(code, binaries, alterations):
    content = bytearray(binaries.library(binaries.container(binaries.Piece("sm_70")), needed=("libcudart.so.12",)))
    places = [*range(64), *range(1024, len(content))]  # the header, and all but the gap behind it
    for at, value in alterations:
        content[places[at % len(places)]] = value
    with suppress(BrokenCodeError):
        code(bytes(content))


def test_more_sections_than_any_library_has_are_not_counted_to_their_end(code, binaries):
    content = bytearray(binaries.library(binaries.container(binaries.Piece("sm_70"))))
    content[60:62] = b"\xff\xff"
    with pytest.raises(BrokenCodeError, match="more than"):
        code(bytes(content))


def test_strings_without_an_end_are_not_read_again_and_again(code, binaries, monkeypatch):
    monkeypatch.setattr(libraries, "_MOST_HEADERS", 1 << 20)
    content = binaries.library(binaries.container(binaries.Piece("sm_70")), needed=("libcudart.so.12",) * 1000)
    strings = content.replace(b"libcudart.so.12\0", b"libcudart.so.12_")
    with pytest.raises(BrokenCodeError, match="without an end"):
        code(strings)
