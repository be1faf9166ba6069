"""A release as one file: the same every time, and a program runs from it where the release was built to lie."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def packed(builder: Any, require: Callable[[str], str], tmp_path: Path) -> Any:
    """An image of a release; where the release lay, there is nothing any more."""
    for program in ("mksquashfs", "unsquashfs"):
        require(program)
    builder.recipes.recipe("demo", "python", "greet", "plain")
    assert builder("build", "demo").code == 0
    done = builder("pack", "demo", "-o", tmp_path / "images/demo.sqfs", "--json")
    assert done.code == 0, done.out
    again = builder("pack", "demo", "-o", tmp_path / "again.sqfs")
    assert again.code == 0
    assert (tmp_path / "again.sqfs").read_bytes() == (tmp_path / "images/demo.sqfs").read_bytes()
    shutil.rmtree(builder.root / "envs")
    return done.data["image"]


def run(cli: Any, image: str | Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        cli.command("run", "--image", image, *command), capture_output=True, text=True, check=False, timeout=60
    )


def test_a_program_runs_from_it_where_the_release_was_and_is_not(builder, packed):
    place = Path(packed["place"])

    done = run(builder, packed["path"], "greet")
    status = run(
        builder, packed["path"], "--", "sh", "-c", f"cat {place}/release.json | wc -c; touch {place}/x; exit 5"
    )

    assert (done.returncode, done.stdout) == (0, f"hello from {place}\n"), done.stderr
    assert status.returncode == 5
    assert int(status.stdout) > 100
    assert "Read-only" in status.stderr
    assert not place.exists()
    assert "demo.sqfs" not in Path("/proc/self/mounts").read_text()


def test_the_program_beside_it_runs_others_without_mlviews(builder, packed, tmp_path):
    place, launch = Path(packed["place"]), Path(packed["launch"])
    hostile = ["it's", "$(touch pwned)", "a\nb", ""]
    lines = "import sys, os; print(sys.prefix, sys.argv[1:], 'MLVIEWS_SCRATCH' in os.environ)"
    scratch = tmp_path / "a node's $own disk"
    scratch.mkdir()

    def call(*command: str, **variables: str) -> Any:
        environment = {"PATH": os.environ["PATH"], **variables}
        return subprocess.run(
            [launch, *command], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    plain = call("python", "-c", lines, *hostile)
    assert (plain.returncode, plain.stdout) == (0, f"{place} {hostile} False\n"), plain.stderr
    assert call("sh", "-c", "exit 5").returncode == 5

    with ThreadPoolExecutor() as pool:
        many = list(pool.map(lambda _: call("python", "-c", lines, MLVIEWS_SCRATCH=str(scratch)), range(3)))
    assert {done.stdout for done in many} == {f"{place} [] False\n"}, many
    (copy,) = scratch.rglob("*.*")
    assert copy == scratch / f"mlviews-{os.geteuid()}/{packed['sha256']}.sqfs"
    assert copy.read_bytes() == Path(packed["path"]).read_bytes()
    from_copy = call("sh", "-c", "cat /proc/self/mountinfo", MLVIEWS_SCRATCH=str(scratch))
    assert str(place) in from_copy.stdout
    nowhere = call("python", "-c", lines, MLVIEWS_SCRATCH="/dev/null/x")
    assert (nowhere.returncode, nowhere.stdout) == (0, f"{place} [] False\n")
    assert "takes no copy" in nowhere.stderr

    Path(packed["path"]).write_bytes(Path(packed["path"]).read_bytes()[:-1])
    cut = call("python", "-c", lines)
    assert cut.returncode == 127
    assert "is not the image that" in cut.stderr
    assert not place.exists()
    assert "demo.sqfs" not in Path("/proc/self/mounts").read_text()


@pytest.fixture
def node(packed: Any, tmp_path: Path) -> Iterator[Any]:
    """A node's own disk: ``start`` starts a program from the copy there, which runs until its input ends."""

    environment = {"PATH": os.environ["PATH"], "MLVIEWS_SCRATCH": str(tmp_path / "node")}

    class Node:
        copies = tmp_path / f"node/mlviews-{os.geteuid()}"
        copy = copies / f"{packed['sha256']}.sqfs"

        def start(self) -> subprocess.Popen[str]:
            running = subprocess.Popen(
                [packed["launch"], "sh", "-c", "echo runs; cat"], env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            ends.callback(running.communicate, timeout=60)
            assert running.stdout
            assert running.stdout.readline() == "runs\n"
            return running

        def call(self, *command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [packed["launch"], *command],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )

    (tmp_path / "node").mkdir()
    with ExitStack() as ends:  # also of what a test that fails has not ended
        yield Node()


def test_two_jobs_on_a_node_share_a_copy_which_goes_with_the_last(node):
    first, second = node.start(), node.start()
    inode = node.copy.stat().st_ino
    first.communicate(timeout=60)
    node.call("--forget")
    assert node.copy.stat().st_ino == inode
    second.communicate(timeout=60)
    assert node.call("greet").stderr == ""
    assert node.copy.stat().st_ino == inode
    node.call("--forget")
    assert [*node.copies.iterdir()] == []
    node.call("--forget")


def test_what_a_killed_job_left_is_removed_by_age_and_harms_nobody(node, packed):
    running = node.start()
    os.killpg(running.pid, signal.SIGKILL)
    running.wait(timeout=60)
    assert node.copy.is_file()
    others = [node.copies / f"{name}.sqfs" for name in ("used", "young", "old")]
    for path in (*others, node.copies / f"{packed['sha256']}.sqfs.part"):
        path.write_bytes(b"x")
    for path in (node.copy, others[0], others[2]):
        os.utime(path, (0, 0))
    node.copy.write_bytes(b"cut")

    with others[0].open() as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        assert node.call("greet").stderr == ""

    assert node.copy.read_bytes() == Path(packed["path"]).read_bytes()
    assert {*node.copies.iterdir()} == {node.copy, others[0], others[1]}


def test_a_copy_is_the_packed_image_and_lies_in_a_folder_of_ones_own(node, packed, tmp_path):
    image = Path(packed["path"])
    whole = image.read_bytes()
    image.write_bytes(whole[:-1] + b"?")  # of the same size
    assert "takes no copy" in node.call("greet").stderr
    assert [*node.copies.iterdir()] == []
    image.write_bytes(whole)
    node.copies.rmdir()
    (tmp_path / "elsewhere").mkdir()
    node.copies.symlink_to(tmp_path / "elsewhere")
    assert "takes no copy" in node.call("greet").stderr
    node.call("--forget")
    assert [*(tmp_path / "elsewhere").iterdir()] == []


@pytest.mark.parametrize("way", ["squashfuse", "apptainer"])
def test_a_user_who_is_no_root_runs_it_and_is_told_where_that_cannot_be(
    builder, packed, tmp_path, require, as_user, way
):
    require(way)
    if way == "apptainer":  # as on hosts that have it and no squashfuse
        find, programs = shutil.which, tmp_path / "programs"
        programs.mkdir()
        for name in ("apptainer", "cat", "cp", "id", "mkdir", "mv", "readlink", "rm", "sh", "stat", "true"):
            (programs / name).symlink_to(find(name))
        Path(packed["place"]).mkdir(parents=True)  # else all of /tmp is shown, where others make and remove folders
    path = str(programs) if way == "apptainer" else os.environ["PATH"]

    def call(*command: str, fuse: bool = True) -> Any:
        line = [*as_user(fuse=fuse), "env", f"PATH={path}", packed["launch"], *command]
        return subprocess.run(line, cwd="/", capture_output=True, text=True, timeout=60, check=False)

    data = f"{packed['place']}/share/plain/data"
    lines = f'id -u; pwd; cat {data}; echo "$MLVIEWS_VIEW $HOME ${{PATH##*:}}"; echo x >> {data}'
    done = call("sh", "-c", lines)
    said = f"65534\n/\nplain\ndemo {tmp_path}/nobody {path.rpartition(':')[2]}\n"
    assert (done.returncode, done.stdout) == (2, said), done.stderr
    assert "Read-only" in done.stderr
    refused = call("greet", fuse=False)
    assert refused.returncode == 127
    assert "cannot be mounted" in refused.stderr
    assert re.search(rf"by_{way}: .*/dev/fuse", refused.stderr), refused.stderr


def test_what_is_damaged_is_not_packed(builder, tmp_path, require):
    require("mksquashfs")
    builder.recipes.recipe("demo", "plain")
    folder = Path(builder("build", "demo", "--json").data["folder"])
    (folder / "share/plain/data").unlink()

    refused = builder("pack", "demo", "-o", tmp_path / "x.sqfs", "--json")

    assert (refused.code, refused.codes) == (1, ["not-intact"])
    assert not (tmp_path / "x.sqfs").exists()


def test_what_is_no_image_is_said(builder, tmp_path):
    (tmp_path / "x.sqfs").write_text("hsqs, nearly")

    assert (run(builder, tmp_path / "missing.sqfs", "true").returncode) == 1
    told = run(builder, tmp_path / "x.sqfs", "true")

    assert told.returncode == 2
    assert "is not an image of a release" in " ".join(told.stderr.split())


def test_a_kill_while_it_is_written_leaves_none_or_a_whole_one(builder, tmp_path, require):
    require("mksquashfs")
    builder.recipes.recipe("demo", "python", "greet", "plain")
    assert builder("build", "demo").code == 0
    image = tmp_path / "demo.sqfs"
    assert builder("pack", "demo", "-o", image).code == 0
    whole = image.read_bytes()
    for pause in (0.4, 0.8, 1.2, 1.6):
        process = builder.start("pack", "demo", "-o", image)
        time.sleep(pause)
        process.kill()
        process.communicate()
        assert image.read_bytes() == whole
