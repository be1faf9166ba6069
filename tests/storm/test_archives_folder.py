"""Installed archives against another reading of them: what is right is the same, what is not is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import archives
from shelf import PLACEHOLDER, SITE_PACKAGES, Shelf

LIBRARY = b"\x7fELF\0" + f"{PLACEHOLDER}/a:{PLACEHOLDER}/b\0after".encode()


@pytest.fixture(scope="module", params=[".conda", ".tar.bz2"])
def made(request, tmp_path_factory):
    """A channel with one package of each kind, in one format."""
    shelf = Shelf(tmp_path_factory.mktemp("made") / "channel")
    shelf.add_python()
    shelf.add(
        "native", subdir="linux-64", ending=request.param,
        files={"bin/tool": f"#!{PLACEHOLDER}/bin/sh\necho {PLACEHOLDER}\n", "lib/libtool.so": LIBRARY, "share/a": "a"},
        modes={"bin/tool": 0o6775, "lib/libtool.so": 0o777, "share/a": 0o666}, links={"lib/libtool.so.1": "libtool.so"},
    )  # fmt: skip
    shelf.add(
        "greet", modules={"greet": "class A:\n    def b(): pass\n"}, entry_points=("greet = greet:A.b",),
        files={"python-scripts/other": f"#!{PLACEHOLDER}/bin/python\n"}, modes={"python-scripts/other": 0o775},
        ending=request.param,
    )  # fmt: skip
    shelf.add("bare", files={"share/bare": f"in {PLACEHOLDER}"}, unlisted=True, ending=request.param)
    shelf.add("copied", files={"lib/real": "r"}, links={"lib/alias": "real"}, no_link=("lib/alias",))
    return shelf


def test_what_is_installed_is_what_somebody_else_reads_in_the_archives(made):
    umask = 0o000 if list(made.folder.rglob("native*.conda")) else 0o077
    command = [sys.executable, archives.__file__, "--json", "--archives", made.folder]
    done = subprocess.run(command, preexec_fn=lambda: os.umask(umask), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {Path(one["archive"]).name.split("-")[0]: one for one in json.loads(done.stdout)}
    assert {name: (one["files"], one["verdict"], one["differences"]) for name, one in found.items()} == {
        "native": (4, "same", []), "greet": (4, "same", []), "bare": (1, "same", []),
        "copied": (2, "same", []), "python": (3, "same", []),
    }  # fmt: skip


def write(path, content):
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(0o755 if path.parent.name == "bin" or path.name == "libtool.so" else 0o644)


PLANTED = {
    ("share/a", "bytes"): lambda path: write(path, b"b"),
    ("share/bare", "bytes"): lambda path: write(path, path.read_bytes() + b"/"),
    ("lib/libtool.so", "bytes"): lambda path: write(path, path.read_bytes().replace(b"after", b"\0after")[:-1]),
    ("bin/tool", "mode"): lambda path: path.chmod(0o775),
    ("share", "mode"): lambda path: path.chmod(0o2755),
    ("lib/libtool.so.1", "link"): lambda path: (path.unlink(), path.symlink_to("/lib/libtool.so")),
    (f"{SITE_PACKAGES}/greet.py", "missing"): lambda path: path.unlink(),
    ("share/more", "extra"): lambda path: write(path, b""),
    ("bin/greet", "program"): lambda path: write(path, path.read_bytes().replace(b"A.b()", b"A()")),
    ("bin/other", "bytes"): lambda path: write(path, b"#!/usr/bin/env python\n"),
    ("conda-meta/bare-1.0-h0_0.json", "record"): lambda path: write(path, b'{"files": []}'),
    ("conda-meta/more.json", "extra"): lambda path: write(path, b"{}"),
}


def test_every_planted_difference_is_found(made, tmp_path):
    found = archives.archives_in(made.folder)
    stems = {path.name.removesuffix(".conda").removesuffix(".tar.bz2"): path for path in found}
    prefix = archives.put(stems, tmp_path)
    stated = {stem: archives.placed(path, archives.information(path), str(prefix)) for stem, path in stems.items()}
    expected = {path: one for paths in stated.values() for path, one in paths.items()}

    def seen():
        return {
            (one.path, one.kind) for one in (*archives.differences(expected, prefix), *archives.records(prefix, stated))
        }

    assert seen() == set()
    for (path, _), plant in PLANTED.items():
        plant(prefix / path)
    assert seen() == set(PLANTED)


@pytest.mark.parametrize(
    ("content", "verdict"), [(b"<html>", "unreadable"), (None, "refused")], ids=["a login page", "a wrong list"]
)
def test_what_cannot_be_installed_is_told(tmp_path, content, verdict):
    archive = Shelf(tmp_path / "channel").add("wrong", files={"share/a": "a"}, claims={"share/a": "0" * 64})
    if content:
        archive.write_bytes(content)
    (tried,) = archives.try_all(tmp_path / "channel", tmp_path)
    assert (tried.verdict, tried.differences) == (verdict, ())
    assert tried.reason
