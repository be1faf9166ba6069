"""Archives: what rattler reads back, the same bytes every time, whole or not at all."""

from __future__ import annotations

import io
import json
import posixpath
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rattler.package import IndexJson, PathsJson
from rattler.package_streaming import extract

from mlviews.wheels.archive import File, Link, is_safe_path, read_index, write_conda

INDEX = {
    "name": "pkg",
    "version": "1.0",
    "build": "h0_0",
    "build_number": 0,
    "subdir": "linux-64",
    "depends": ["a >=1"],
}


def test_rattler_reads_back_what_was_written(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"from disk")
    members = [
        Link(path="bin/link", target="tool"),
        File(path="share/file", source=source),
        File(path="bin/tool", source=b"#!/p/bin/sh\n", executable=True, placeholder="/p"),
        File(path="share/opened", source=lambda: io.BytesIO(b"opened"), size=6),
        File(path="share/.hidden", source=b""),
        File(path="share/" + "long/" * 60 + "name", source=b"deep"),
    ]
    archive = write_conda(tmp_path / "c", index=INDEX, members=members, about={"summary": "A package"})
    assert archive == tmp_path / "c/linux-64/pkg-1.0-h0_0.conda"
    assert [str(IndexJson.from_package_archive(archive).version), read_index(archive)] == ["1.0", INDEX]
    out = tmp_path / "out"
    extract(archive, out)
    assert json.loads((out / "info/about.json").read_text()) == {"summary": "A package"}
    assert (out / "share/file").read_bytes() == b"from disk"
    assert (out / "share/opened").read_bytes() == b"opened"
    assert (out / "bin/link").readlink().name == "tool"
    assert [(out / path).stat().st_mode & 0o777 for path in ("bin/tool", "share/file")] == [0o755, 0o644]
    paths = {str(entry.relative_path): entry for entry in PathsJson.from_package_archive(archive).paths}
    assert set(paths) == {member.path for member in members}
    assert paths["bin/tool"].prefix_placeholder.placeholder == "/p"
    assert paths["share/.hidden"].sha256


def test_noarch_python_carries_its_entry_points(tmp_path: Path) -> None:
    index = INDEX | {"noarch": "python", "subdir": "noarch"}
    archive = write_conda(tmp_path, index=index, entry_points=["run = pkg:main"])
    extract(archive, tmp_path / "out")
    link = json.loads((tmp_path / "out/info/link.json").read_text())
    assert link["noarch"] == {"type": "python", "entry_points": ["run = pkg:main"]}


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [File(path=f"share/{number}", source=bytes([number]) * 1000) for number in range(50)]
    first = write_conda(tmp_path / "a", index=INDEX, members=members).read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = write_conda(tmp_path / "b", index=dict(reversed(INDEX.items())), members=reversed(members)).read_bytes()
    assert first == second


def _broken() -> Any:
    raise OSError(28, "No space left on device")


def test_a_failure_leaves_the_old_archive_whole(tmp_path: Path) -> None:
    old = write_conda(tmp_path, index=INDEX, members=[File(path="a", source=b"old")])
    before = old.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        write_conda(tmp_path, index=INDEX, members=[File(path="b", source=_broken, size=3)])
    assert [path.name for path in old.parent.iterdir()] == [old.name]
    assert old.read_bytes() == before


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "", ".", "a//b", "a\nb", "a\0b", "info/x", "conda-meta/x"])
def test_paths_outside_the_package_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="must not hold"):
        write_conda(tmp_path, index=INDEX, members=[File(path=path, source=b"")])
    assert not list(tmp_path.rglob("*.conda"))


def test_one_path_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="twice"):
        write_conda(tmp_path, index=INDEX, members=[File(path="a", source=b""), Link(path="a", target="b")])


@given(st.one_of(st.text(), st.lists(st.sampled_from(["..", ".", "a", "", "~", "\\"])).map("/".join)))
def test_a_safe_path_stays_where_it_is_put(path: str) -> None:
    if is_safe_path(path):
        joined = posixpath.normpath(posixpath.join("/prefix", path))
        assert joined == f"/prefix/{path}"
        assert path.isprintable()


def test_a_package_beyond_the_limit_of_plain_zip_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlviews.wheels.archive._ZIP64_FROM", 10_000)
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 20_000)
    content = Random(0).randbytes(30_000)
    extract(write_conda(tmp_path, index=INDEX, members=[File(path="a", source=content)]), tmp_path / "out")
    assert (tmp_path / "out/a").read_bytes() == content
