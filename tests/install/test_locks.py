"""Locks: they keep others out, tell who holds them, die with their process, and are found out where they fail."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from mlviews.doctor import only_here
from mlviews.errors import FailedError
from mlviews.files.filelock import HeldError, announce, held_by, hold
from mlviews.progress import Advance, silent

ME = f"process {os.getpid()} on {socket.gethostname()}"
HOLD = """
import sys, pathlib
from mlviews.files.filelock import hold
with hold(pathlib.Path(sys.argv[1]), waiting=None, shared=len(sys.argv) > 2):
    print("held", flush=True)
    sys.stdin.read()
"""


def other(path: Path, *shared: str) -> subprocess.Popen[str]:
    """Hold a lock in another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *shared], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_who_does_not_wait_is_told_who_holds_it(tmp_path):
    process = other(tmp_path / ".lock")

    with pytest.raises(HeldError, match=f"process {process.pid} on") as caught, hold(tmp_path / ".lock", waiting=None):
        pass
    assert caught.value.exit_code == 1
    assert held_by(tmp_path / ".lock") == caught.value.holder
    process.communicate()
    assert held_by(tmp_path / ".lock") is None


def test_who_only_looks_is_not_in_the_way(tmp_path):
    path = tmp_path / ".lock"
    path.touch()
    looks = "import pathlib, sys\nfrom mlviews.files.filelock import held_by\nprint(flush=True)\n"
    looks += "while True: held_by(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", looks, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"\n"
            for _ in range(500):
                with hold(path, waiting=None):
                    pass
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_process(tmp_path, number):
    process = other(tmp_path / ".lock")
    process.send_signal(number)
    process.communicate()

    with hold(tmp_path / ".lock", waiting=pytest.fail):
        pass


def test_those_who_share_it_let_each_other_in_and_are_all_named(tmp_path):
    path = tmp_path / ".lock"
    others = [other(path, "shared"), other(path, "shared")]
    told: list[str] = []
    waits, alone = threading.Event(), threading.Event()

    def tell(holder: str) -> nullcontext[None]:
        told.append(holder)
        waits.set()
        return nullcontext()

    def wait() -> None:
        with hold(path, waiting=tell):
            alone.set()

    with hold(path, waiting=pytest.fail, shared=True):
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert waits.wait(60)
        assert not alone.is_set()
    for process in others:
        assert not alone.is_set()
        process.communicate()
    waiter.join(60)

    assert alone.is_set()
    assert [line.split()[1] for line in told[0].split(" and ")] == [*(str(p.pid) for p in others), str(os.getpid())]
    with hold(path, waiting=pytest.fail):
        assert path.read_text() == f"{ME}\n"  # those before are forgotten


def test_a_lock_whose_folder_was_deleted_is_no_lock(tmp_path):
    path = tmp_path / "cache" / ".lock"
    told: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with hold(path, waiting=lambda holder: nullcontext(told.append(holder))):
            entered.set()

    with hold(path, waiting=pytest.fail):
        waiter = threading.Thread(target=second)
        waiter.start()
        while not told:
            time.sleep(0.001)
        path.unlink()
        path.parent.rmdir()
    waiter.join(5)

    assert entered.is_set()
    assert path.read_text() == f"{ME}\n"


def test_who_waits_is_told_so_until_the_wait_is_over(tmp_path):
    path = tmp_path / ".lock"
    waits, entered = threading.Event(), threading.Event()
    open_bars: list[str] = []

    @contextmanager
    def bar(label: str, *, total: int | None = None, unit: str = "items") -> Iterator[Advance]:
        with silent(label, total=total, unit=unit) as advance:
            open_bars.append(label)
            waits.set()
            yield advance
            open_bars.remove(label)

    def second() -> None:
        with hold(path, waiting=announce(bar, "the cache")):
            assert open_bars == []
            entered.set()

    with hold(path, waiting=pytest.fail):
        waiter = threading.Thread(target=second)
        waiter.start()
        assert waits.wait(5)
        assert not entered.wait(0.05)
        assert open_bars == [f"Waiting: the cache is in use by {ME}"]
    waiter.join(5)

    assert entered.is_set()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, number):
    def refuses(file: object, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(FailedError, match=os.strerror(number)) as caught, hold(tmp_path / ".lock", waiting=None):
        pass

    assert (caught.value.code, "--root" in caught.value.hint) == ("locks-missing", True)


@pytest.mark.parametrize("shared", [True, False])
def test_a_file_system_that_grants_every_lock_is_found_out(tmp_path, monkeypatch, shared):
    monkeypatch.setattr(fcntl, "flock", lambda file, kind: None)

    with (
        pytest.raises(FailedError, match="granted twice") as caught,
        hold(tmp_path / ".lock", waiting=None, shared=shared),
    ):
        pass

    assert caught.value.code == "locks-missing"


def test_a_file_system_where_a_file_is_never_the_same_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "samestat", lambda one, other: False)

    with (
        pytest.raises(FailedError, match="a different one each") as caught,
        hold(tmp_path / ".lock", waiting=None),
    ):
        pass

    assert caught.value.code == "locks-missing"


def test_a_folder_that_is_deleted_while_the_lock_is_opened_is_made_again(tmp_path, monkeypatch):
    path, opened = tmp_path / "scratch" / ".lock", Path.open
    lost = [True]

    def deleted(self, *arguments, **options):
        if self == path and lost:
            lost.clear()
            shutil.rmtree(path.parent)
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", deleted)
    with hold(path, waiting=None):
        assert path.read_text() == f"{ME}\n"


@pytest.mark.parametrize("shared", [True, False])
def test_a_lock_is_one_where_the_disk_has_no_room_for_a_name(tmp_path, shared):
    """Or `gc` could not make any."""
    (tmp_path / ".lock").symlink_to("/dev/full")

    with (
        hold(tmp_path / ".lock", waiting=None, shared=shared),
        (tmp_path / ".lock").open() as second,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("content", ["", "\n", "process 0 on \n", "process 4194305 on HOST\n", "process x\n", "\0"])
def test_what_a_dead_holder_left_names_nobody(tmp_path, content):
    path = tmp_path / ".lock"
    path.write_text(content.replace("HOST", socket.gethostname()))
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert held_by(path) in {"another process", "process 0 on "}


def test_a_lock_file_is_not_read_to_its_end(tmp_path):
    """In a root that people share, it may be of any size, or without an end."""
    path = tmp_path / ".lock"
    path.write_text(f"process 1 on other\n{'x' * (1 << 20)}\nprocess 2 on other\n")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert held_by(path) == "process 1 on other"


@pytest.mark.parametrize(
    ("mount", "option"),
    [
        ("server:/x /data nfs4 rw,vers=4.2,local_lock=none 0 0", None),
        ("server:/x /data nfs rw,vers=3,local_lock=flock 0 0", "local_lock=flock"),
        ("server:/x /data nfs rw,nolock 0 0", "nolock"),
        ("mgs:/x /data lustre rw,flock 0 0", None),
        ("mgs:/x /data lustre rw,localflock 0 0", "localflock"),
        ("/dev/sda1 /data ext4 rw,nolock 0 0", None),  # of another file system it would mean something else
        ("server:/x /data/other nfs rw,nolock 0 0", None),
        ("server:/x /data\\040dir nfs rw,nolock 0 0", None),
        ("broken", None),
    ],
)
def test_mounts_whose_locks_end_at_this_host_are_known(mount, option):
    mounts = f"/dev/sda1 / ext4 rw 0 0\n{mount}\nproc /proc proc rw 0 0\n"

    assert only_here(Path("/data/views"), mounts) == option


def test_a_mount_below_decides_and_names_are_unescaped():
    mounts = "s:/x / nfs rw,nolock 0 0\n/dev/sda1 /a\\040b ext4 rw 0 0\n"

    assert only_here(Path("/a b/root"), mounts) is None
    assert only_here(Path("/a/root"), mounts) == "nolock"
