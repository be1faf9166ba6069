"""Roots that cannot be written to, or not far enough: real file systems in a mount namespace of their own."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mlviews.errors import FailedError
from mlviews.files.writing import forget_parts, swap_link, write_atomically


@pytest.fixture
def place(builder: Any) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """A function that runs a command where the root is a small tmpfs that nobody else sees."""
    builder.root.mkdir()
    mount = f"mount -t tmpfs -o size=600k tmpfs '{builder.root}'"
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("unshare or nsenter is missing: no file system of one's own")
    held = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"{mount} && echo ready && exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        if held.stdout.readline() != "ready\n":
            pytest.skip("mounting needs root and CAP_SYS_ADMIN")

        def run(*command: str) -> subprocess.CompletedProcess[str]:
            enter = ["nsenter", "--mount", f"--target={held.pid}", f"--wd={builder.recipes.folder.parent}"]
            return subprocess.run([*enter, *command], capture_output=True, text=True, check=False, timeout=120)

        yield run
    finally:
        with suppress(BrokenPipeError):
            held.communicate()


@pytest.fixture
def mlviews(place: Any) -> Callable[..., dict[str, Any]]:
    def run(*arguments: str) -> dict[str, Any]:
        done = place(sys.executable, "-m", "mlviews", *arguments, "--json")
        assert "Traceback" not in done.stderr
        return {"code": done.returncode, **json.loads(done.stdout)}

    return run


def test_a_full_disk_leaves_the_store_as_it_was_and_the_next_build_works(builder, shelf, place, mlviews):
    noise = random.Random(1).randbytes(600_000)
    shelf.add("bulk", files={f"share/bulk/{n}": noise[n * 1000 : (n + 1) * 1000] for n in range(600)})
    builder.recipes.recipe("demo", "python", "greet")
    builder("lock", "demo")
    first = mlviews("build", "demo")
    assert first["code"] == 0, first["errors"]
    builder.recipes.recipe("demo", "python", "greet", "bulk")
    builder("lock", "demo")

    # Full at one moment after another: while unpacking, while linking, while the release's own files are written.
    full = 0
    for kilobytes in range(600, 12_000, 1500):
        assert place("mount", "-o", f"remount,size={kilobytes}k", str(builder.root)).returncode == 0
        built = mlviews("build", "demo")
        if built["code"] == 0:
            break
        full += 1
        assert (built["code"], [error["code"] for error in built["errors"]]) == (3, ["disk-full"]), built
        listed = mlviews("releases", "demo")["data"]["releases"]
        assert [(line["release"], line["default"]) for line in listed] == [(first["data"]["release"], True)]

    assert full >= 2
    assert (built["data"]["status"], built["data"]["default"]) == ("new", True)


def test_a_disk_without_any_room_is_one_that_gc_makes_room_on(builder, shelf, place, mlviews):
    shelf.add("bulk", files={f"share/bulk/{n}": random.Random(n).randbytes(1000) for n in range(100)})
    assert place("mount", "-o", "remount,size=3m", str(builder.root)).returncode == 0
    releases = []
    for packages in (("greet", "bulk"), ("greet",), ("greet", "plain")):
        builder.recipes.recipe("demo", "python", *packages)
        builder("lock", "demo")
        releases.append(mlviews("build", "demo")["data"]["release"])
    fill = f"cat /dev/zero > {builder.root}/ballast 2>/dev/null; sync; echo x > {builder.root}/more 2>/dev/null"
    assert place("sh", "-c", fill).returncode != 0

    refused = mlviews("promote", f"demo/{releases[0]}")
    freed = mlviews("gc", "--keep", "0", "--keep-days", "0")

    assert (refused["code"], [error["code"] for error in refused["errors"]]) == (3, ["disk-full"])
    assert (freed["code"], freed["errors"]) == (0, [])
    assert [line["release"] for line in freed["data"]["removed"]] == releases[:2]
    assert freed["data"]["cache"] == ["pkgs/bulk-1.0-h0_0"]
    assert freed["data"]["bytes"] > 100_000
    assert int(place("sh", "-c", f"df --output=avail -B1 {builder.root} | tail -1").stdout) > 100_000
    assert mlviews("verify", "demo")["code"] == 0
    assert "was removed" in place("cat", f"{builder.root}/envs/demo/{releases[0]}/linux-64/launch").stdout
    ran = place(sys.executable, "-m", "mlviews", "run", "demo", "--", "greet")
    assert ran.stdout.startswith("hello from")


@pytest.mark.parametrize(
    ("number", "code"), [("ENOSPC", "disk-full"), ("EDQUOT", "disk-full"), ("EIO", "write-failed")]
)
def test_a_file_that_cannot_be_written_whole_is_not_written(tmp_path, monkeypatch, number, code):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fails(descriptor: int) -> None:
        raise OSError(getattr(errno, number), "said by the system")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(FailedError, match="said by the system") as caught:
        write_atomically(path, "new")

    assert caught.value.code == code
    assert [(item.name, item.read_text()) for item in tmp_path.iterdir()] == [("file", "old")]


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is flushed to the disk, in order: its name, and its inode."""
    found: list[tuple[str, int]] = []

    def flush(descriptor: int) -> None:
        found.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, os.fstat(descriptor).st_ino))

    monkeypatch.setattr(os, "fsync", flush)
    return found


def test_what_is_written_is_on_the_disk_before_its_name_is_and_then_its_folder(tmp_path, flushed, monkeypatch):
    path, link, replaced = tmp_path / "file", tmp_path / "link", []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda one, other: (replaced.append(len(flushed)), replace(one, other)))

    write_atomically(path, "text")
    swap_link(link, "file")

    folder = (tmp_path.name, tmp_path.stat().st_ino)
    assert [inode for _, inode in flushed] == [path.stat().st_ino, folder[1], folder[1]]
    assert (flushed[1:], replaced) == ([folder, folder], [1, 2])


def test_what_a_dead_writer_has_left_goes_when_nobody_can_be_at_work_on_it(tmp_path):
    old, new, other = (tmp_path / f".a [1].tar.{name}" for name in ("old", "new", "other"))
    for folder, name in ((old, "a [1].tar"), (new, "a [1].tar"), (other, "mine")):
        folder.mkdir()
        (folder / name).write_text("")
    for folder in (old, other):
        os.utime(folder, (time.time() - 90_000,) * 2)

    forget_parts(tmp_path / "a [1].tar", than=timedelta(days=1))

    assert sorted(tmp_path.iterdir()) == sorted([new, other])


def test_a_read_only_root_is_refused_but_what_is_there_runs(builder, place, mlviews):
    builder.recipes.recipe("demo", "python", "greet")
    builder("lock", "demo")
    place("mount", "-o", "remount,size=50m", str(builder.root))
    assert mlviews("build", "demo")["code"] == 0
    place("mount", "-o", "remount,ro", str(builder.root))
    builder.recipes.recipe("demo", "python", "plain")
    builder("lock", "demo")

    refused = mlviews("build", "demo")

    assert (refused["code"], [error["code"] for error in refused["errors"]]) == (3, ["write-failed"])
    assert "Read-only file system" in refused["errors"][0]["message"]
    assert "--root" in refused["errors"][0]["hint"]
    (line,) = mlviews("releases", "demo")["data"]["releases"]
    name = f"demo/{line['release']}"
    for arguments in (("promote", name), ("rollback", "demo"), ("pin", name), ("remove", name), ("gc",)):
        denied = mlviews(*arguments)
        assert (denied["code"], [error["code"] for error in denied["errors"]]) == (3, ["write-failed"]), arguments
    assert mlviews("verify", "demo")["code"] == 0
    assert mlviews("gc", "--dry-run")["code"] == 0
    ran = place(sys.executable, "-m", "mlviews", "run", "demo", "--", "greet")
    assert ran.stdout.startswith("hello from")
    space = next(finding for finding in mlviews("doctor")["data"]["findings"] if finding["name"] == "space")
    assert space["status"] == "note"  # who only reads has no problem


def test_a_root_that_is_a_file_is_refused(builder):
    builder.recipes.recipe("demo", "plain")
    builder("lock", "demo")
    builder.root.write_text("")

    refused = builder("build", "demo", "--json")

    assert (refused.code, refused.codes) == (3, ["write-failed"])


@pytest.mark.parametrize("name", ["mes vues", "thèse 物理", "a(b)&c"])
def test_a_root_with_spaces_and_letters_of_any_language_works_to_the_end(builder, tmp_path: Path, name):
    builder.recipes.recipe("demo", "python", "greet")
    root = tmp_path / name

    built = builder("build", "demo", "--root", root)

    assert built.code == 0, built.err
    lines = [line.strip() for line in built.out[built.out.index("Next") :].splitlines()[1:]]
    assert len(lines) == 4
    for line in (f"{lines[0]} && greet", f"{sys.executable} -m mlviews run demo --root '{root}' -- greet"):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.stdout.startswith(f"hello from {root}/envs/demo/"), done.stderr


@pytest.mark.parametrize("name", ['"', "'", "$HOME", "\\", "a\nb", "a:b", "x" * 250])
def test_a_root_that_packages_cannot_bear_is_refused_before_any_work(builder, tmp_path: Path, name):
    builder.recipes.recipe("demo", "python", "greet")
    root = tmp_path / name

    refused = builder("build", "demo", "--root", root, "--json")

    assert refused.code == 3
    assert refused.codes[0] in {"prefix-unsafe", "prefix-too-long"}
    assert "--root" in refused.json["errors"][0]["hint"]
    assert not root.exists()
    assert not builder.lock("demo").exists()


@pytest.fixture
def windows_disk(tmp_path: Path, require: Callable[[str], str]) -> Path:
    image = tmp_path / "ntfs.img"
    with image.open("wb") as file:
        file.truncate(1 << 23)
    subprocess.run([require("mkntfs"), "-Q", "-q", "-F", image], check=True, capture_output=True)
    return image


def test_a_root_that_runs_no_programs_is_refused_before_any_work(builder, shelf, mounted):
    builder.recipes.recipe("tools", "native")

    with mounted(builder.root, "-t", "tmpfs", "-o", "size=1m,noexec", "tmpfs"):
        refused, looked = builder("build", "tools", "--json"), builder("doctor", "--json")
        assert [*builder.root.iterdir()] == []

    assert (refused.code, refused.codes) == (3, ["disk-unfit"])
    assert "noexec" in refused.json["errors"][0]["message"]
    (space,) = (finding for finding in looked.data["findings"] if finding["name"] == "space")
    assert (space["status"], "noexec" in space["found"]) == ("problem", True)


def test_a_disk_of_windows_is_refused_before_any_work(builder, shelf, mounted, windows_disk):
    builder.recipes.recipe("tools", "native")

    with mounted(builder.root, "-t", "ntfs-3g", "-o", "loop", str(windows_disk)):
        refused = builder("build", "tools", "--json")
        assert [*builder.root.iterdir()] == []

    assert (refused.code, refused.codes) == (3, ["disk-unfit"])
    assert "permissions" in refused.json["errors"][0]["message"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
def test_a_root_without_symbolic_links_is_refused_before_any_work(builder, shelf, monkeypatch, number):
    def refuses(path: Path, target: str) -> None:
        raise OSError(number, os.strerror(number))

    builder.recipes.recipe("tools", "native")
    monkeypatch.setattr(Path, "symlink_to", refuses)

    refused = builder("build", "tools", "--json")

    assert (refused.code, refused.codes) == (3, ["disk-unfit"])
    assert os.strerror(number) in refused.json["errors"][0]["message"]
