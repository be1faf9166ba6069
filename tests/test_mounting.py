"""A program finds a folder at the path that it was built for; on the host nothing changes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mlviews.errors import FailedError
from mlviews.pack.mounting import APPTAINER, _entering, entering

LOOK = 'cat "$1/file"; pwd; touch "$1/new" 2>/dev/null && echo written; exit 7'


@pytest.fixture(params=["root", "user", "user without bwrap"])
def user(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, require: Callable[[str], str]) -> str:
    """Who asks. That it is no root is what mlviews is told: the tests may be root's, who has each of these ways."""
    if request.param == "root" and os.geteuid():
        pytest.skip("only root mounts as root")
    if request.param != "root" and os.geteuid() == 0:
        monkeypatch.setattr("os.geteuid", lambda: 1234)
        monkeypatch.setattr("os.getegid", lambda: 1234)
    require("bwrap")
    if request.param == "user without bwrap":
        find = __import__("shutil").which
        monkeypatch.setattr("shutil.which", lambda name: None if name == "bwrap" else find(name))
    return request.param


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "a $(touch pwned) 'folder'"
    folder.mkdir()
    (folder / "file").write_text("found\n")
    return folder


@pytest.mark.parametrize("where", ["there", "missing", "deep/and missing/b", "/mlviews-test-top/of/all"])
def test_a_program_finds_it_and_the_host_does_not(user, source, tmp_path, where):
    place = tmp_path / "place" / where
    (tmp_path / "place/there").mkdir(parents=True)
    (tmp_path / "place/beside").write_text("stays\n")
    (tmp_path / "place/link").symlink_to("beside")
    before = sorted(path.name for path in (tmp_path / "place").rglob("*"))

    way = entering(source, place)
    command = [*way, "sh", "-c", LOOK, "sh", str(place)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    beside = subprocess.run(
        [*way, "cat", tmp_path / "place/link"], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout.splitlines()[:2]) == (7, ["found", str(tmp_path)]), done.stderr
    assert beside.stdout == "stays\n"
    if user != "user without bwrap":
        assert "written" not in done.stdout
    assert sorted(path.name for path in (tmp_path / "place").rglob("*")) == before
    assert not Path("/mlviews-test-top").exists()
    assert not (tmp_path / "pwned").exists()


def test_a_command_whose_path_knows_no_mount_finds_it_and_keeps_its_path(user, source):
    """chroot lies in /usr/sbin, which a check's PATH does not hold."""
    way = entering(source, Path("/mlviews-test-top/of/all"))
    command = [*way, "sh", "-c", "echo $PATH"]
    environment = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "/usr/bin:/bin\n"), done.stderr


def test_a_program_may_make_user_namespaces_where_it_found_it(user, source):
    """The kernel forbids that in a chroot; Apptainer, bwrap and browsers do it."""
    way = entering(source, Path("/mlviews-test-top/of/all"))
    done = subprocess.run([*way, "unshare", "--user", "true"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_where_no_way_works_each_is_told(source, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)

    with pytest.raises(FailedError) as raised:
        entering(source, tmp_path / "place")

    assert raised.value.code == "mount-missing"
    assert all("there is no " in fault for fault in raised.value.faults)


@pytest.fixture
def image(source: Path, require: Callable[[str], str]) -> Path:
    packed = source.with_name("an image.sqfs")
    subprocess.run([require("mksquashfs"), source, packed, "-quiet", "-no-progress"], check=True, capture_output=True)
    return packed


@pytest.mark.parametrize("where", ["there", "deep/and missing"])
def test_an_image_is_found_too_by_whoever_may_mount_it(user, image, tmp_path, require, where):
    """By the kernel as root, by squashfuse in a user namespace otherwise."""
    require("squashfuse")
    (tmp_path / "there").mkdir()
    if user != "root" and not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("only who may read and write /dev/fuse mounts with squashfuse")

    way = entering(image, tmp_path / where)
    done = subprocess.run(
        [*way, "sh", "-c", LOOK, "sh", str(tmp_path / where)],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert (done.returncode, done.stdout.splitlines()) == (7, ["found", str(tmp_path)]), done.stderr
    assert not (tmp_path / "deep").exists()
    assert "an image" not in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize("where", ["there", "/mlviews-test-top/of/all"])
def test_apptainer_mounts_an_image_and_shows_the_rest_of_the_host(
    image, as_user, tmp_path, require, where, monkeypatch
):
    require("apptainer")
    (tmp_path / "there").mkdir()
    _entering.cache_clear()
    monkeypatch.setattr("mlviews.pack.mounting._fault", lambda way: None if APPTAINER in way else "not here")
    way = entering(image, tmp_path / where)
    _entering.cache_clear()
    command = [*as_user(), *way, "sh", "-c", f"ls -A /; {LOOK}"]
    done = subprocess.run(
        [*command, "sh", tmp_path / where], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )

    *shown, found, folder = done.stdout.splitlines()
    assert (done.returncode, found, folder) == (7, "found", str(tmp_path)), done.stderr
    assert {path.name for path in Path("/").iterdir() if not path.name.startswith(".")} <= {*shown}
    assert not Path("/mlviews-test-top").exists()


def test_apptainer_is_given_no_path_that_it_reads_otherwise(image, tmp_path):
    command = ["sh", "-c", APPTAINER, "mlviews", image, f"{tmp_path}/a:b", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no path with a comma" in done.stderr
