"""What pieces of code hold: empty ones serve nobody, and a cubin's header says what it was made for."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.gpus.fatbin import BrokenCodeError, cubin_code, is_hollow, modules, zstd


def entry_of(content: bytes):
    def read(offset: int, size: int) -> bytes:
        return content[offset : offset + size]

    ((entry,),) = modules(read, 0, len(content))
    return entry, read


@pytest.mark.parametrize("packing", ["", "lz4", "zstd"])
@pytest.mark.parametrize(("target", "abi"), [("sm_70", 7), ("sm_75", 8), ("sm_120a", 8), ("compute_90", 7)])
def test_code_without_a_function_is_hollow(binaries: Any, target: str, abi: int, packing: str) -> None:
    for hollow in (True, False):
        piece = binaries.Piece(target, abi=abi, hollow=hollow, packing=packing)
        assert is_hollow(*entry_of(binaries.container(piece))) == hollow


@pytest.mark.parametrize("packing", ["", "lz4", "zstd"])
@given(noise=st.binary(min_size=1, max_size=8), at=st.integers(0, 400))
def test_of_altered_pieces_there_is_an_answer(binaries: Any, packing: str, noise: bytes, at: int) -> None:
    content = bytearray(binaries.container(binaries.Piece("sm_70", packing=packing)))
    start = 16 + 64 + at % (len(content) - 80)
    content[start : start + len(noise)] = noise[: len(content) - start]
    assert is_hollow(*entry_of(bytes(content))) in {False, True}


@pytest.mark.parametrize("packing", ["lz4", "zstd"])
def test_what_cannot_be_unpacked_is_not_called_hollow(binaries: Any, packing: str) -> None:
    content = bytearray(binaries.container(binaries.Piece("sm_70", hollow=True, packing=packing)))
    assert is_hollow(*entry_of(bytes(content)))
    content[80:] = b"\xff" * (len(content) - 80)
    assert not is_hollow(*entry_of(bytes(content)))


def test_a_bomb_is_not_unpacked(binaries: Any) -> None:
    content = bytearray(binaries.container(binaries.Piece("sm_70", packing="zstd")))
    bomb = zstd.compress(bytes(1 << 26), 19)[: len(content) - 80]
    content[80 : 80 + len(bomb)] = bomb
    tracemalloc.start()
    assert not is_hollow(*entry_of(bytes(content)))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("target", "abi", "by"),
    [
        ("sm_70", 7, "flags"),
        ("sm_90a", 7, "flags"),
        ("sm_75", 8, "flags"),
        ("sm_100", 8, "flags"),
        ("sm_100a", 8, "flags"),
        ("sm_90a", 8, "compat"),
        ("sm_103a", 8, "compat"),
    ],
)
def test_a_cubin_says_what_it_was_made_for(binaries: Any, target: str, abi: int, by: str) -> None:
    code = cubin_code(binaries.cubin(target, abi=abi, specific_by=by))
    assert (str(code), code.version) == (target, (1, abi))


# The first 64 bytes of cubins of an empty kernel, as NVIDIA's ptxas 12.9.86 wrote them.
HEADERS = {"sm_70": (0x33, 7, 0x460546), "sm_90a": (0x33, 7, 0x5A0D5A), "sm_100a": (0x41, 8, 0x600640A)}


@pytest.mark.parametrize("target", HEADERS)
def test_headers_as_nvidias_assembler_writes_them(binaries: Any, target: str) -> None:
    osabi, abi, flags = HEADERS[target]
    image = bytearray(binaries.cubin(target, abi=abi, hollow=True))
    image[7:9] = bytes((osabi, abi))
    image[48:52] = flags.to_bytes(4, "little")
    assert str(cubin_code(bytes(image))) == target


@given(at=st.integers(0, 200), noise=st.binary(min_size=1, max_size=16), abi=st.sampled_from([7, 8]))
def test_altered_cubins_are_code_or_broken(binaries: Any, at: int, noise: bytes, abi: int) -> None:
    image = bytearray(binaries.cubin("sm_90a", abi=abi))
    image[at : at + len(noise)] = noise
    with suppress(BrokenCodeError):
        cubin_code(bytes(image))
