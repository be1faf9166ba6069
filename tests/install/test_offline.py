"""A lock's archives as a channel: a host without a network builds the view from it, and solves the same lock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlviews.errors import FailedError
from mlviews.pack.offline import _record

VIEW = ("greet", "native", "oldstyle", "python")
NO_NETWORK = ("unshare", "--net", *(("--user", "--map-root-user") if os.geteuid() else ()), "--")


@pytest.fixture
def packed(builder: Any, server: Any, shelf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The channel, made from a server with more than the lock names; the server is then no mirror any more."""
    shelf.add("stranger", files={"share/stranger": "not asked for\n"})
    shelf.patch("native", depends=["plain >=1.0,<2", "__glibc >=2.17,<3.0.a0"])  # as conda-forge corrects packages
    builder.recipes.recipe("demo", *VIEW, platforms=["linux-64"])
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={server.url}")
    assert builder("lock", "demo").code == 0
    done = builder("pack", "demo", "--offline", tmp_path / "channel to carry", "--json")
    assert done.code == 0, done.out
    monkeypatch.delenv("MLVIEWS_MIRROR")
    return done.data["channel"]


def archives(folder: str | Path) -> set[str]:
    return {path.name for ending in ("conda", "tar.bz2") for path in Path(folder).rglob(f"*.{ending}")}


def test_a_host_without_a_network_builds_from_it(builder, packed, tmp_path):
    folder = Path(packed["folder"])
    assert len(archives(folder)) == packed["archives"] == packed["fetched"] == 5
    assert not any("stranger" in name for name in archives(folder))

    carried = tmp_path / "elsewhere"
    folder.rename(carried)
    options = ("--lockfiles", carried / "lockfiles", "--mirror", f"conda-forge={carried}")
    command = [*NO_NETWORK, *builder.command("build", "demo", *options, "--json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr

    built = json.loads(done.stdout)["data"]
    assert built["lock"] == packed["lock"]
    said = subprocess.run([f"{built['folder']}/launch", "greet"], capture_output=True, text=True, check=True)
    assert said.stdout == f"hello from {built['folder']}\n"


def test_a_solve_on_it_gives_the_same_lock(builder, packed, tmp_path):
    """So it is a channel: its repodata say what the lock says, corrections of the channel it came from too."""
    options = ("--lockfiles", tmp_path / "anew", "--mirror", f"conda-forge={packed['folder']}")
    assert builder("lock", "demo", *options).code == 0
    assert (tmp_path / "anew/demo.conda-lock.yml").read_bytes() == builder.lock("demo").read_bytes()


def test_another_call_fetches_what_is_lost_and_takes_out_what_the_lock_names_no_more(builder, packed, shelf):
    folder = Path(packed["folder"])
    lost = next(folder.rglob("plain-*"))
    lost.write_bytes(lost.read_bytes()[:-1])
    builder.recipes.recipe("demo", "greet", "plain", "python")
    mirror = ("--mirror", f"conda-forge={shelf.folder}")
    stale = builder("pack", "demo", "--offline", folder, *mirror, "--json")
    assert (stale.code, {*stale.codes}) == (1, {"lock-stale"})
    assert builder("lock", "demo", *mirror).code == 0

    again = builder("pack", "demo", "--offline", folder, *mirror, "--json").data["channel"]

    assert (again["archives"], again["fetched"]) == (3, 1)
    assert [Path(path).name.partition("-")[0] for path in again["removed"]] == ["native", "oldstyle"]
    assert archives(folder) == {
        path.name for name in ("greet", "plain", "python") for path in folder.rglob(f"{name}-*")
    }
    listed = json.loads((folder / "noarch/repodata.json").read_text())
    assert {*listed["packages"], *listed["packages.conda"]} == archives(folder / "noarch")


def test_what_is_none_of_it_is_left_alone_and_told(builder, packed, shelf):
    folder = Path(packed["folder"])
    shutil.copy(shelf.archive("stranger"), folder / "noarch")
    before = sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file())

    refused = builder("pack", "demo", "--offline", folder, "--mirror", f"conda-forge={shelf.folder}", "--json")

    assert (refused.code, refused.codes) == (1, ["offline-folder"])
    assert sorted((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file()) == before


def test_a_folder_of_something_else_is_left_alone(builder, packed, shelf, tmp_path):
    """It may be somebody's home."""
    for content in ((".ssh", "key"), ("noarch/.git", "config")):
        home = tmp_path / f"home of {content[1]}"
        (home / content[0]).mkdir(parents=True)
        (home / content[0] / content[1]).write_text("mine\n")
        builder("pack", "demo", "--offline", home, "--mirror", f"conda-forge={shelf.folder}", "--json")
        assert (home / content[0] / content[1]).read_text() == "mine\n"
    assert not (tmp_path / "home of key/noarch").exists()
    assert builder("pack", "demo", "--offline", tmp_path, "--json").codes == ["offline-folder"]


def test_what_a_killed_call_left_is_taken_away(builder, packed, shelf):
    folder = Path(packed["folder"])
    name = next(folder.glob("noarch/plain-*")).name
    for left in (folder / f"noarch/.{name}.x7", folder / ".mlviews-index-x7"):
        left.mkdir()
        (left / name).write_bytes(b"half")
    assert builder("pack", "demo", "--offline", folder, "--mirror", f"conda-forge={shelf.folder}").code == 0
    assert [path for path in folder.rglob(".*") if path.name != ".lock"] == []


def test_other_bytes_than_the_locks_are_not_packed(builder, packed, shelf, tmp_path, server):
    shelf.archive("plain").write_bytes(b"other bytes")
    for place in (shelf.folder, server.url):
        folder = tmp_path / f"new-{Path(place).name}"
        refused = builder("pack", "demo", "--offline", folder, "--mirror", f"conda-forge={place}", "--json")
        assert (refused.code, refused.codes) == (3, ["hash-mismatch"])
        assert not (folder / "lockfiles").exists()
        assert not list(folder.rglob("*plain-1*"))


def test_one_way_at_a_time(builder):
    builder.recipes.recipe("demo", "plain")
    assert builder("pack", "demo").code == 2
    assert builder("pack", "demo", "-o", "x", "--offline", "y").code == 2
    assert builder("pack", "demo/2026.11.23", "--offline", "y").code == 2


def test_an_archive_whose_index_is_no_index_is_told(tmp_path):
    for index in (b"", b"[]", b"{}", b"[" * 100_000):
        with pytest.raises(FailedError, match="is not a conda package"):
            _record(tmp_path / "a-1-0.conda", None, index)
