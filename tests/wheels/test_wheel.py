"""Wheels as an index may serve them: what is wrong with one is said once, and nothing of it is used."""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from mlviews.errors import FailedError
from mlviews.wheels.convert import plan_wheel, write_wheel
from mlviews.wheels.target import host_target
from mlviews.wheels.wheel import open_wheel


def convert(path: Path, channel: Path) -> Path:
    with open_wheel(path, hashlib.sha256(path.read_bytes()).hexdigest()) as wheel:
        return write_wheel(channel, plan_wheel(wheel, host_target()), wheel, host_target())


def refusal(path: Path, channel: Path) -> str:
    """Convert a wheel that must be refused; return why. Nothing may be left in the channel."""
    with pytest.raises(FailedError) as caught:
        convert(path, channel)
    assert caught.value.code == "bad-wheel"
    assert path.name in caught.value.message
    assert not [file for file in channel.rglob("*") if file.is_file()]
    return caught.value.message


def with_file(path: str, content: bytes = b"x", mode: int = 0o100644) -> Any:
    """Return a change that adds a file, in RECORD too."""
    import base64

    def change(draft: Any) -> None:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        draft.files[path] = content
        draft.modes[path] = mode
        draft.record[path] = f"sha256={digest},{len(content)}"

    return change


@pytest.mark.parametrize(
    "path",
    [
        "../evil.py",
        "pkg/../../evil.py",
        "/etc/evil.py",
        "pkg//evil.py",
        "./evil.py",
        "pkg\\evil.py",
        "pkg/ev\nil.py",
        "pkg/" + "x" * 256 + ".py",
        "pkg-1.0.data/data/../../../evil",
        "pkg-1.0.data/data/conda-meta/history",
        "pkg-1.0.data/data/site-packages/evil.py",
        "pkg-1.0.data/data/bin/python3",
        "pkg-1.0.data/scripts/python",
        "pkg-1.0.data/scripts/sub/dir",
        "pkg-1.0.data/scripts/-rf",
        "pkg-1.0.data/unknown/file",
        "pkg-1.0.data/data",
        "pkg/__init__.py/evil.py",
    ],
)
def test_paths_that_leave_their_place_are_refused(make_wheel: Any, tmp_path: Path, path: str) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg", change=with_file(path))
    refusal(wheel, tmp_path / "channel")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_special_files_are_refused(make_wheel: Any, tmp_path: Path, kind: int) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg", change=with_file("pkg/link", b"/etc/passwd", kind | 0o777))
    assert "is a link or a special file" in refusal(wheel, tmp_path / "channel")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(make_wheel: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg", change=lambda draft: draft.twice.append("pkg/__init__.py"))
    assert "twice" in refusal(wheel, tmp_path / "channel")


def test_two_files_that_would_be_installed_as_one_are_refused(make_wheel: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg", change=with_file("pkg-1.0.data/purelib/pkg/__init__.py"))
    assert "twice" in refusal(wheel, tmp_path / "channel")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda draft: draft.record.update({"pkg/__init__.py": "sha256=AAAA,3"}), "does not match its hash"),
        (lambda draft: draft.record.update({"pkg/__init__.py": "md5=AAAA,3"}), "no sha256 or better"),
        (lambda draft: draft.record.update({"pkg/__init__.py": ","}), "no sha256 or better"),
        (lambda draft: draft.record.update({"pkg/__init__.py": "sha256=%%%,3"}), "does not match|no sha256"),
        (lambda draft: draft.record.pop("pkg/__init__.py"), "no sha256 or better"),
        (lambda draft: draft.record.update({"pkg/gone.py": "sha256=AAAA,3"}), "lists pkg/gone.py, which is missing"),
        (lambda draft: draft.files.update({f"{draft.dist_info}/RECORD": b'"a'}), "RECORD does not parse"),
        (lambda draft: draft.files.update({f"{draft.dist_info}/RECORD": b"\xff\xfe"}), "RECORD is not UTF-8"),
        (lambda draft: draft.files.update({f"{draft.dist_info}/RECORD": b"alone\n"}), "RECORD does not parse"),
    ],
)
def test_record_must_tell_the_truth(make_wheel: Any, tmp_path: Path, change: Any, why: str) -> None:
    message = refusal(make_wheel(tmp_path / "w", "pkg", change=change), tmp_path / "channel")
    assert any(part in message for part in why.split("|"))


def test_an_empty_file_must_match_its_hash_too(make_wheel: Any, tmp_path: Path) -> None:
    files = {"pkg/__init__.py": b""}
    change = lambda draft: draft.record.update({"pkg/__init__.py": "sha256=AAAA,0"})  # noqa: E731
    wheel = make_wheel(tmp_path / "w", "pkg", files=files, change=change)
    assert "does not match its hash" in refusal(wheel, tmp_path / "channel")


def _metadata(text: str) -> Any:
    return lambda draft: with_file(f"{draft.dist_info}/METADATA", text.encode())(draft)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'name' is a required field"),
        ("Name: pkg\n", "'version' is a required field"),
        ("Name: pkg\nVersion: not a version\n", "'not a version' is invalid for 'version'"),
        ("Name: ../pkg\nVersion: 1.0\n", "'../pkg' is invalid for 'name'"),
        ("Name: other\nVersion: 1.0\n", "METADATA is of other 1.0"),
        ("Name: pkg\nVersion: 2.0\n", "METADATA is of pkg 2.0"),
        ("Name: pkg\nVersion: 1.0\nRequires-Dist: $(id) >>>\n", "'$(id) >>>' is invalid for 'requires-dist'"),
        ("Name: pkg\nVersion: 1.0\nRequires-Dist: a; no_such_variable == '1'\n", "is invalid for 'requires-dist'"),
        ("Name: pkg\nVersion: 1.0\nRequires-Python: three\n", "'three' is invalid for 'requires-python'"),
    ],
)
def test_metadata_must_be_valid_and_of_this_package(make_wheel: Any, tmp_path: Path, text: str, why: str) -> None:
    assert why in refusal(make_wheel(tmp_path / "w", "pkg", change=_metadata(text)), tmp_path / "channel")


@pytest.mark.parametrize(
    "line",
    [
        'run = pkg:main() or __import__("os").system("id")',
        "run = pkg; import os:main",
        "run = pkg:main\n  import os",
        "run = pkg",
        "run = :main",
        "run = pkg..sub:main",
        "run = 1pkg:main",
        "../run = pkg:main",
        "sub/run = pkg:main",
        "-run = pkg:main",
        "python = pkg:main",
        "python3.11 = pkg:main",
        "run = pkg:main\nrun = pkg:other",
        "no equals sign",
    ],
)
def test_entry_points_are_names_and_nothing_else(make_wheel: Any, tmp_path: Path, line: str) -> None:
    text = f"[console_scripts]\n{line}\n".encode()
    change = lambda draft: with_file(f"{draft.dist_info}/entry_points.txt", text)(draft)  # noqa: E731
    refusal(make_wheel(tmp_path / "w", "pkg", change=change), tmp_path / "channel")


@pytest.mark.parametrize("file", ["METADATA", "WHEEL", "RECORD"])
def test_what_every_wheel_holds_must_be_there(make_wheel: Any, tmp_path: Path, file: str) -> None:
    def change(draft: Any) -> None:
        draft.files[f"{draft.dist_info}/RECORD"] = b""
        del draft.files[f"{draft.dist_info}/{file}"]

    wheel = make_wheel(tmp_path / "w", "pkg", change=change)
    if file == "RECORD":  # the fixture writes it again
        with zipfile.ZipFile(wheel) as full, zipfile.ZipFile(tmp_path / wheel.name, "w") as bare:
            for info in full.infolist():
                if not info.filename.endswith("RECORD"):
                    bare.writestr(info, full.read(info))
        wheel = tmp_path / wheel.name
    assert f"{file} is missing" in refusal(wheel, tmp_path / "channel")


def test_another_format_is_refused(make_wheel: Any, tmp_path: Path) -> None:
    change = lambda draft: with_file(f"{draft.dist_info}/WHEEL", b"Wheel-Version: 2.0\n")(draft)  # noqa: E731
    assert "Wheel-Version" in refusal(make_wheel(tmp_path / "w", "pkg", change=change), tmp_path / "channel")


def test_two_packages_in_one_wheel_are_refused(make_wheel: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg", change=with_file("other-1.0.dist-info/METADATA"))
    assert "2 .dist-info folders" in refusal(wheel, tmp_path / "channel")


def test_a_file_name_of_another_package_is_refused(make_wheel: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg")
    renamed = wheel.rename(wheel.with_name("other-1.0-py3-none-any.whl"))
    assert "is another package's" in refusal(renamed, tmp_path / "channel")


@pytest.mark.parametrize("name", ["nonsense.whl", "pkg-1.0.whl", "pkg-one-py3-none-any.whl"])
def test_a_file_name_that_is_no_wheels_is_refused(make_wheel: Any, tmp_path: Path, name: str) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg")
    assert "not a wheel's" in refusal(wheel.rename(wheel.with_name(name)), tmp_path / "channel")


def test_a_wheel_for_another_python_is_refused(make_wheel: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg", tag="cp27-cp27m-win32")
    assert "is not for CPython" in refusal(wheel, tmp_path / "channel")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    wheel = tmp_path / "pkg-1.0-py3-none-any.whl"
    wheel.write_bytes(content)
    refusal(wheel, tmp_path / "channel")


def test_every_flipped_byte_of_a_file_is_noticed(make_wheel: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg", files={"pkg/__init__.py": b"answer = 42\n" * 50})
    with zipfile.ZipFile(wheel) as archive:
        info = archive.getinfo("pkg/__init__.py")
        start = info.header_offset + 30 + len(info.filename)
    whole = wheel.read_bytes()
    noticed = 0
    for position in range(start, start + info.compress_size):
        damaged = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
        wheel.write_bytes(damaged)
        if _inflated(damaged[start : start + info.compress_size])[: info.file_size] != b"answer = 42\n" * 50:
            refusal(wheel, tmp_path / "channel")
            noticed += 1
    assert noticed >= info.compress_size - 5  # some bits mean nothing


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(-15).decompress(data)
    except zlib.error:
        return b""


def _declare(wheel: Path, member: str, size: int) -> None:
    """Make the archive's directory claim another unpacked size."""
    data = bytearray(wheel.read_bytes())
    entry = data.index(b"PK\x01\x02")
    while data[entry + 46 : entry + 46 + len(member)] != member.encode():
        entry = data.index(b"PK\x01\x02", entry + 1)
    data[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    wheel.write_bytes(data)


@pytest.mark.parametrize("size", [0, 3, 200])
def test_a_size_that_lies_is_refused(make_wheel: Any, tmp_path: Path, size: int) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg", files={"pkg/__init__.py": b"x = 1\n" * 20})
    _declare(wheel, "pkg/__init__.py", size)
    refusal(wheel, tmp_path / "channel")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(make_wheel: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg", files={"pkg/zeros": b"\0" * 1000})
    _declare(wheel, "pkg/zeros", 3_000_000_000)
    assert "would unpack to 3000" in refusal(wheel, tmp_path / "channel")


def test_metadata_too_large_to_read_is_refused(make_wheel: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg")
    _declare(wheel, "pkg-1.0.dist-info/METADATA", 100_000_000)
    assert "METADATA is too large" in refusal(wheel, tmp_path / "channel")


def test_an_encrypted_file_is_refused(make_wheel: Any, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "pkg")
    data = bytearray(wheel.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    wheel.write_bytes(data)
    assert "is encrypted" in refusal(wheel, tmp_path / "channel")
