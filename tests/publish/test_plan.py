"""publish --plan: what CVMFS would get, each rule that forbids it, and the tar that another host publishes."""

from __future__ import annotations

import errno
import grp
import os
import re
import socket
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlviews.files.permissions import settle
from mlviews.prefix.inventory import read_tree, take
from mlviews.prefix.inventory import write as write_inventory
from mlviews.release import sealed
from mlviews.store.disk import Store

PREFIX = "/cvmfs/atlasml.example.org/views"


@pytest.fixture
def site(builder: Any, same_place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line at a site that builds for CVMFS, with one release; its python leads nowhere outside."""
    monkeypatch.delenv("MLVIEWS_ROOT")
    monkeypatch.setenv("MLVIEWS_SITE", "publisher")
    builder.site("publisher", root=str(tmp_path / "staging"), prefix=PREFIX, promote="manual")

    def build() -> None:
        builder.recipes.recipe("demo", "greet", "native", "plain")
        built = builder("build", "demo")
        assert built.code == 0, built.err

    same_place.once(build)
    return builder


@pytest.fixture
def prefix(site: Any, tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "staging/envs/demo").glob("2*/linux-64")
    for path in (folder / "bin").glob("python3.*"):  # the tests' own python, which is nobody else's
        path.unlink()
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return folder


@pytest.fixture
def renew(tmp_path: Path, prefix: Path) -> Callable[[], None]:
    """A function that makes what the release holds now what it was built with."""

    def seal() -> None:
        for record in (prefix / "conda-meta").glob("python-*.json"):
            record.unlink(missing_ok=True)
        store = Store(tmp_path / "staging", Path(PREFIX))
        release = store.releases("demo")[0].platforms["linux-64"]
        text = sealed(release.model_copy(update={"files": write_inventory(prefix, take(read_tree(prefix)))}))
        (prefix / "release.json").write_text(text)

    seal()
    return seal


def remarks(result: Any) -> list[Any]:
    """Return what is said of the release; that `mlviews` itself is left out goes without saying here."""
    return [remark for remark in result.data["remarks"] if remark["rule"] != "command"]


def rules(result: Any) -> set[tuple[str, str]]:
    return {(remark["rule"], remark["path"].rpartition("linux-64/")[2]) for remark in remarks(result)}


# As libarrow's: links for gdb, by the path that the prefix has where the script runs.
FOR_GDB = """
place="$CONDA_PREFIX/share/gdb/auto-load/$CONDA_PREFIX/lib"
mkdir -p "$place"
for source in "$CONDA_PREFIX"/share/arrow/*.py; do ln -sf "$source" "$place/${source##*/}"; done
"""


def test_a_script_that_links_to_the_host_of_the_build_forbids_nothing(site, shelf, tmp_path):
    shelf.add("arrow", files={"share/arrow/gdb.py": "pass\n", "etc/conda/activate.d/arrow.sh": FOR_GDB})
    site.recipes.recipe("columns", "arrow")
    built = site("build", "columns", "--json").data
    folder = tmp_path / "staging/envs/columns" / built["release"] / "linux-64"

    planned = site("publish", "columns", "--plan", "--json")

    assert planned.code == 0, planned.data["remarks"]
    assert not any(remark["forbids"] for remark in planned.data["remarks"])
    assert not list(folder.glob("share/gdb/**/*"))
    assert any(note.startswith("arrow.sh tried to change share/gdb/auto-load/") for note in built["notes"])
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    assert not [link for link in links if str(tmp_path) in str(link.readlink())]


def test_a_plan_tells_what_would_be_published_and_how(site, prefix, renew):
    planned = site("publish", "demo", "--plan", "--json")

    assert remarks(planned) == []
    assert planned.code == 0
    data = planned.data
    assert (data["repository"], data["base"], data["replaced"], data["tar"]) == (
        "atlasml.example.org", "views", None, None,
    )  # fmt: skip
    own = f"envs/demo/{data['release']}"
    assert [line["folder"] for line in data["catalogs"]] == [f"{own}/linux-64"]
    assert data["changes"] == ["release"]
    there = [path for path in prefix.rglob("*") if path.is_file() and not path.is_symlink()]
    # Two modulefiles, version, the bill of materials, the kernel with its logo, and the record of the build; the note
    # that it was never promoted, and the three files by which its module says so.
    assert data["files"] == len(there) + 11
    assert data["catalogs"][0]["entries"] == sum(1 for _ in prefix.rglob("*"))
    assert data["commands"] == [
        "cvmfs_server ingest --tar_file FILE --base_dir views atlasml.example.org",
        f"cvmfs_server tag -a demo-{data['release']} atlasml.example.org",
    ]


def test_a_tar_holds_it_all_with_catalogs_and_nothing_else(site, prefix, renew, tmp_path):
    name = prefix.parent.name
    packed = site("publish", f"demo/{name}", "--plan", "--tar", tmp_path / "x.tar", "--json")

    assert (packed.code, packed.data["tar"]) == (0, str(tmp_path / "x.tar"))
    with tarfile.open(tmp_path / "x.tar") as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert all((member.uid, member.gid) == (0, 0) for member in members.values())
        assert not any(member.islnk() for member in members.values())
    assert f"envs/demo/{name}/linux-64/.cvmfscatalog" in members
    assert f"modulefiles/atlasml/demo/{name}.lua" in members
    assert f"kernels/demo-{name}/kernel.json" in members
    assert not [path for path in members if "/cache/" in path or path.endswith((".usage.json", ".lock"))]
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xpf", tmp_path / "x.tar", "-C", out], check=True)
    there = out / f"envs/demo/{name}/linux-64"
    for path in prefix.rglob("*"):
        copy = there / path.relative_to(prefix)
        assert stat.S_IMODE(copy.lstat().st_mode) == stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            assert copy.readlink() == path.readlink()
        elif path.is_file():
            assert copy.read_bytes() == path.read_bytes()
    first = (tmp_path / "x.tar").read_bytes()
    site("publish", "demo", "--plan", "--tar", tmp_path / "x.tar")
    assert (tmp_path / "x.tar").read_bytes() == first


def test_a_group_that_shares_the_root_is_no_business_of_the_repositorys(site, prefix, renew, tmp_path):
    site.site(
        "publisher", root=str(tmp_path / "staging"), prefix=PREFIX, promote="manual", group=grp.getgrgid(1).gr_name
    )
    settle(tmp_path / "staging/envs", 1)
    assert stat.S_IMODE((prefix / "share/plain/data").stat().st_mode) == 0o664

    assert site("verify", "demo").code == 0
    assert site("publish", "demo", "--plan", "--tar", tmp_path / "x.tar").code == 0

    with tarfile.open(tmp_path / "x.tar") as tar:
        assert {member.mode for member in tar.getmembers() if not member.issym()} == {0o644, 0o755}
    site.site("publisher", root=str(tmp_path / "staging"), prefix=PREFIX, promote="manual")
    assert site("verify", "demo").code == 1


def special(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)
        made.bind(path.name)


@pytest.mark.parametrize(
    ("rule", "do"),
    [
        ("readable", lambda prefix: (prefix / "share/plain/data").chmod(0o600)),
        ("readable", lambda prefix: (prefix / "bin/native").chmod(0o744)),
        ("writable", lambda prefix: (prefix / "share/plain/data").chmod(0o666)),
        ("setuid", lambda prefix: (prefix / "bin/native").chmod(0o4755)),
        ("setuid", lambda prefix: (prefix / "bin/native").chmod(0o2755)),
        ("special", lambda prefix: os.mkfifo(prefix / "share/pipe")),
        ("link", lambda prefix: (prefix / "share/link").symlink_to("/etc/passwd")),
    ],
)
def test_each_rule_forbids_and_then_nothing_is_packed(site, prefix, renew, tmp_path, rule, do):
    do(prefix)
    if rule != "special":
        renew()

    refused = site("publish", "demo", "--plan", "--tar", tmp_path / "x.tar", "--json")

    assert refused.code == 1
    assert rule in {name for name, _ in rules(refused)}
    assert rules(refused) <= {(rule, path) for _, path in rules(refused)} | {("intact", "linux-64")} | {
        ("intact", f"envs/demo/{refused.data['release']}/linux-64")
    }
    assert not (tmp_path / "x.tar").exists()
    assert f"forbidden {rule}: " in site("publish", "demo", "--plan").out


@pytest.mark.parametrize("target", ["../../../../../../../etc", "/cvmfs/other.example.org/x", PREFIX + "/../x"])
def test_links_that_lead_out_are_forbidden_however_they_are_written(site, prefix, renew, target):
    (prefix / "share/link").symlink_to(target)
    renew()

    assert ("link", "share/link") in rules(site("publish", "demo", "--plan", "--json"))


@pytest.mark.parametrize("target", ["plain/data", "../bin/native", PREFIX + "/envs/x", "nowhere"])
def test_links_that_stay_inside_are_not(site, prefix, renew, target):
    (prefix / "share/link").symlink_to(target)
    renew()

    assert remarks(site("publish", "demo", "--plan", "--json")) == []


def test_a_link_to_where_it_was_built_is_forbidden(site, prefix, renew, tmp_path):
    (prefix / "share/link").symlink_to(tmp_path / "staging/envs")
    renew()

    assert ("link", "share/link") in rules(site("publish", "demo", "--plan", "--json"))


def test_files_that_are_one_are_told_and_published_as_two(site, prefix, renew, tmp_path):
    (prefix / "share/second").hardlink_to(prefix / "share/plain/data")
    renew()

    noted = site("publish", "demo", "--plan", "--tar", tmp_path / "x.tar", "--json")

    assert noted.code == 0
    assert rules(noted) == {("hard-link", "share/second")}
    with tarfile.open(tmp_path / "x.tar") as tar:
        assert len([member for member in tar if member.name.endswith(("plain/data", "share/second"))]) == 2


def test_what_is_damaged_is_not_published(site, prefix, renew):
    with (prefix / "share/plain/data").open("ab") as file:
        file.write(b"x")

    refused = site("publish", "demo", "--plan", "--json")

    assert [(remark["rule"], remark["forbids"]) for remark in remarks(refused)] == [("intact", True)]


def test_byte_code_that_nobody_vouches_for_is_not_published(site, prefix, renew):
    module = next(prefix.rglob("site-packages/greet.py"))
    (module.parent / "__pycache__/greet.cpython-399.pyc").write_bytes(b"x")

    refused = site("publish", "demo", "--plan", "--json")

    assert [(remark["rule"], remark["forbids"]) for remark in remarks(refused)] == [("intact", True)]


def test_a_release_that_was_built_for_another_place_is_not_published(site, prefix, renew):
    site.site("elsewhere", root=str(prefix.parents[3]), prefix="/cvmfs/other.example.org", promote="manual")

    refused = site("publish", "demo", "--plan", "--site", "elsewhere", "--json")

    assert "prefix" in {rule for rule, _ in rules(refused)}


def test_what_is_no_cvmfs_is_said(site, prefix):
    refused = site("publish", "demo", "--plan", "--prefix", prefix.parents[3], "--json")

    assert (refused.code, refused.codes) == (2, ["not-cvmfs"])
    assert site("publish", "demo", "--json").codes == ["repository-unnamed"]
    assert site("publish", "demo", "--tar", "x.tar", "--json").codes == ["usage"]
    assert site("publish", "demo/2020.01.01", "--plan", "--json").codes == ["release-missing"]


def test_what_cannot_be_read_is_not_published(site, prefix, renew, monkeypatch):
    def fail(path: str, *_: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    renew()
    monkeypatch.setattr("mlviews.prefix.verify.file_sha256", fail)

    refused = site("publish", "demo", "--plan", "--json")

    (why,) = (remark["why"] for remark in refused.data["remarks"] if remark["rule"] == "intact")
    assert "files cannot be read" in why


def test_what_a_build_for_elsewhere_says_next_works_here(site):
    said = site("build", "demo", "--rebuild").out

    lines = [line.strip() for line in said[said.index("Next") :].splitlines()[1:]]
    verbs = [re.search(r" (promote|publish) .*", line) for line in lines]
    assert [verb and verb[1] for verb in verbs] == ["promote", "publish"]
    for verb in filter(None, verbs):
        assert site(*verb[0].replace("FILE", "x.tar").split()).code in {0, 1}, verb[0]


def test_a_licence_that_the_site_denies_forbids_it_and_a_waiver_is_told(site, renew, tmp_path):
    def licences(**keys: Any) -> list[tuple[str, str, bool]]:
        place = {"root": str(tmp_path / "staging"), "prefix": PREFIX, "promote": "manual"}
        site.site("publisher", licences={"deny": ["MIT"], **keys}, **place)
        told = site("publish", "demo", "--plan", "--json").data["remarks"]
        return [(one["path"], one["why"], one["forbids"]) for one in told if one["rule"] == "licence"]

    assert ("greet", "MIT: MIT is denied", True) in licences()
    waived = licences(waive={"greet": {"why": "ours", "until": "2999-12-31"}})
    assert ("greet", "MIT: until 2999-12-31: ours", False) in waived
    assert not any(forbids for _, _, forbids in waived)
