"""Folders: every library once, by whom it belongs to; links, loops and damage."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlviews.errors import BadInputError
from mlviews.gpus import scan as scanning
from mlviews.gpus.scan import scan


@pytest.fixture
def tree(tmp_path: Path, binaries: Any) -> Path:
    """A folder with a library that no package owns."""
    folder = tmp_path / "tree"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib/liba.so.1.2").write_bytes(binaries.library(binaries.container(binaries.Piece("sm_70"))))
    (folder / "lib/notes.txt").write_text("sm_70\n" * 1000)
    return folder


def found(folder: Path) -> dict[str, str]:
    return {library.path: library.package for library in scan(folder).libraries}


def test_links_to_a_library_count_once_under_its_own_name(tree):
    for name in ("liba.so.1", "liba.so", "zz.so"):
        (tree / "lib" / name).symlink_to("liba.so.1.2")
    (tree / "aa").symlink_to("lib")
    os.link(tree / "lib/liba.so.1.2", tree / "lib/liba.so.9")
    assert len(found(tree)) == 1
    assert next(iter(found(tree))) in {"lib/liba.so.1.2", "lib/liba.so.9"}


def test_sources_and_data_are_not_opened(tree, binaries):
    for name in ("a.py", "a.hpp", "a.JSON", "a.a"):
        (tree / name).write_bytes((tree / "lib/liba.so.1.2").read_bytes())
    for name in ("tool", "k.cubin"):
        (tree / name).write_bytes(binaries.library(binaries.container(binaries.Piece("sm_70"))))
    assert set(found(tree)) == {"lib/liba.so.1.2", "tool", "k.cubin"}
    assert scan(tree).files == 3


def test_loops_end(tree):
    (tree / "lib/up").symlink_to("..")
    (tree / "self").symlink_to("self")
    (tree / "top").symlink_to(".")
    assert list(found(tree)) == ["lib/liba.so.1.2"]
    assert set(scan(tree).unread) == {"self"}


def test_a_tree_of_links_is_followed(tree, tmp_path):
    view = tmp_path / "view"
    (view / "lib").mkdir(parents=True)
    (view / "lib/liba.so").symlink_to(tree / "lib/liba.so.1.2")
    (view / "more").symlink_to(tree / "lib")
    assert set(found(view)) <= {"lib/liba.so", "more/liba.so.1.2"}
    assert len(found(view)) == 1
    assert set(found(view).values()) == {str(tree / "lib")}


def test_links_into_the_kernels_folders_are_not_followed(tree):
    for name in ("proc", "sys", "dev"):
        (tree / name).symlink_to(f"/{name}")
    assert scan(tree).files < 10


def test_a_folder_whose_name_begins_as_one_of_the_kernels_is_followed(tree, tmp_path, monkeypatch):
    """As /system and /projects do."""
    monkeypatch.setattr(scanning, "_NO_FOLDERS", tuple(type(path)(tmp_path / "tr") for path in scanning._NO_FOLDERS))
    (tmp_path / "view").mkdir()
    (tmp_path / "view/lib").symlink_to(tree / "lib")

    assert set(found(tmp_path / "view")) == {"lib/liba.so.1.2"}


def test_one_library_will_do(tree):
    assert found(tree / "lib/liba.so.1.2") == {"liba.so.1.2": str(tree / "lib")}


def test_a_conda_package_goes_before_the_wheel_that_it_was_made_from(tree):
    record = {"name": "liba", "version": "1.2", "files": ["lib/liba.so.1.2", "lib/liba.so"]}
    (tree / "conda-meta").mkdir()
    (tree / "conda-meta/liba-1.2-0.json").write_text(json.dumps(record))
    wheel = tree / "lib/site-packages/wheel_a-1.2.dist-info"
    wheel.mkdir(parents=True)
    (wheel / "RECORD").write_text("../liba.so.1.2,sha256=x,1\n")
    assert found(tree) == {"lib/liba.so.1.2": "liba 1.2"}
    (tree / "conda-meta/liba-1.2-0.json").unlink()
    assert found(tree) == {"lib/liba.so.1.2": "wheel_a 1.2"}
    (wheel / "RECORD").unlink()
    assert found(tree) == {"lib/liba.so.1.2": "lib"}


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"name": "a"}', '{"name": 1, "version": 2, "files": 3}'])
def test_a_record_of_nonsense_names_nobody(tree, text):
    (tree / "conda-meta").mkdir()
    (tree / "conda-meta/a.json").write_text(text)
    wheel = tree / "x-1.dist-info"
    wheel.mkdir()
    (wheel / "RECORD").write_bytes(b'\xff\xfe"' + text.encode())
    assert found(tree) == {"lib/liba.so.1.2": "lib"}


def test_what_is_damaged_is_said(tree):
    whole = (tree / "lib/liba.so.1.2").read_bytes()
    (tree / "lib/libcut.so").write_bytes(whole[:1200])
    (tree / "lib/gone.so").symlink_to("nowhere.so")
    result = scan(tree)
    assert list(result.unread) == ["lib/libcut.so"]
    assert [library.path for library in result.libraries] == ["lib/liba.so.1.2"]


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path):
    with pytest.raises(BadInputError, match="there is no"):
        scan(tmp_path / "nowhere")
