"""The start-up report: what is counted is what there is, from each place, and the page tells all of it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlviews.errors import FailedError
from mlviews.pack import startup
from mlviews.pack.startup import _published, _Start


@pytest.fixture
def heavy(builder: Any, shelf: Any) -> Any:
    """A view with a package of twenty modules, which opens one file more, reads it and says much."""
    modules = {f"heavy/m{number}": f"x = {number}\n" * 50 for number in range(19)}
    first = "".join(f"from . import m{number}\n" for number in range(19))
    data = "import sys\nwith open(sys.prefix + '/share/weights', 'rb') as file:\n    file.read()\n"
    data += "print('a banner')\nsys.stderr.write('a warning\\n' * 20_000)\n"
    shelf.add("heavy", modules={"heavy/__init__": first + data, **modules}, files={"share/weights": bytes(1 << 20)})
    builder.recipes.recipe("demo", "python", "heavy")
    assert builder("build", "demo").code == 0
    return builder


def test_what_an_import_needs_is_counted_from_each_place(heavy, tmp_path, require, monkeypatch):
    require("mksquashfs")
    forgotten = []
    monkeypatch.setattr("os.posix_fadvise", lambda file, *_: forgotten.append(Path(f"/proc/self/fd/{file}").readlink()))
    page = tmp_path / "a page.html"
    done = heavy("startup", "demo", "--module", "heavy", "--runs", "1", "-o", page, "--json")
    assert done.code == 0, done.out

    lines = done.data["lines"]
    assert [(line["place"], line["bytecode"], line["cold"]) for line in lines] == [
        (place, bytecode, cold)
        for place in ("prefix", "squashfs")
        for bytecode in (True, False)
        for cold in (True, False)
    ]
    assert done.data["left-out"] == {}
    for line in lines:
        assert (line["opens"] > 21) is not line["bytecode"], line
        assert line["read-bytes"] > 1 << 20
        assert 0 < line["importing"] < line["seconds"]
    assert [line["filesystem"] for line in lines][4:] == ["kernel"] * 4

    names = [path.name for path in forgotten]
    assert (names.count("weights"), names.count("image.sqfs")) == (2, 2)  # before each cold start

    text = page.read_text()
    assert len(re.findall(r"<tr><th scope=\"row\">", text)) == 8
    assert "import heavy" in text
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")


def test_an_image_of_another_lock_is_refused(heavy, tmp_path, monkeypatch):
    """That an image is measured: tests/install/test_container.py."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apptainer").write_text("#!/bin/sh\necho another\n")
    (tmp_path / "bin/apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "demo.sif").touch()
    refused = heavy("startup", "demo", "--module", "heavy", "--sif", tmp_path / "demo.sif", "--json")
    assert refused.codes == ["startup-image"]


def test_what_is_published_is_a_place_where_it_is_mounted(tmp_path, monkeypatch):
    release = SimpleNamespace(prefix="/cvmfs/views.example.org/envs/demo/1/linux-64")
    assert _published(tmp_path, release) == []
    monkeypatch.setattr(Path, "exists", lambda path, **_: str(path) == f"{release.prefix}/launch")
    (start,) = _published(tmp_path, release)
    assert (start.place, start.words, start.cached) == ("cvmfs", (f"{release.prefix}/launch",), Path(release.prefix))
    assert _published(Path(release.prefix), release) == []


def test_what_cannot_be_measured_is_said(heavy, monkeypatch):
    assert heavy("startup", "demo", "--json").codes == ["startup-module"]
    find = shutil.which
    monkeypatch.setattr("shutil.which", lambda name: None if name == "mksquashfs" else find(name))
    done = heavy("startup", "demo", "--module", "heavy", "--runs", "1")
    assert done.code == 0
    assert "left out squashfs: there is no mksquashfs" in done.out
    assert heavy("startup", "demo", "--module", "no_such", "--json").codes == ["startup-module"]


def test_a_program_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "_SECONDS", 0.05)
    with pytest.raises(FailedError, match=r"from prefix it does not start: no end after 0\.05 s"):
        _Start("prefix", ("sleep",), tmp_path).run("60")
