"""The index: whole for every reader, whatever else goes on."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from mlviews.errors import FailedError
from mlviews.wheels.archive import File, write_conda
from mlviews.wheels.channel import update_index


def package(channel: Path, name: str, subdir: str = "noarch") -> str:
    index = {"name": name, "version": "1", "build": "h0_0", "build_number": 0, "subdir": subdir, "depends": []}
    archive = write_conda(channel, index=index, members=[File(path=f"share/{name}", source=os.urandom(1000))])
    return str(archive.relative_to(channel))


def listed(channel: Path, subdir: str = "noarch") -> set[str]:
    return set(json.loads((channel / subdir / "repodata.json").read_text())["packages.conda"])


def test_new_archives_are_added_and_missing_ones_dropped(tmp_path: Path) -> None:
    first, second = package(tmp_path, "first"), package(tmp_path, "second", "linux-64")
    update_index(tmp_path, [first, second])
    assert (listed(tmp_path), listed(tmp_path, "linux-64")) == ({"first-1-h0_0.conda"}, {"second-1-h0_0.conda"})
    (tmp_path / first).unlink()
    update_index(tmp_path, [package(tmp_path, "third")])
    assert listed(tmp_path) == {"third-1-h0_0.conda"}


def test_an_empty_channel_has_an_index(tmp_path: Path) -> None:
    update_index(tmp_path / "new", [])
    assert listed(tmp_path / "new") == set()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"packages.conda": 3}', '{"other": {}}'])
def test_a_cut_index_is_made_again(tmp_path: Path, content: str) -> None:
    update_index(tmp_path, [package(tmp_path, "first"), package(tmp_path, "second")])
    (tmp_path / "noarch/repodata.json").write_text(content)
    update_index(tmp_path, [package(tmp_path, "third")])
    assert listed(tmp_path) == {f"{name}-1-h0_0.conda" for name in ("first", "second", "third")}


def test_what_a_killed_writer_left_is_no_package(tmp_path: Path) -> None:
    archive = package(tmp_path, "first")
    (tmp_path / "noarch/.second-1-h0_0.conda.x7").write_bytes(b"half")
    (tmp_path / "noarch/.third-1-h0_0.conda").write_bytes(b"half")
    update_index(tmp_path, [archive])
    assert listed(tmp_path) == {"first-1-h0_0.conda"}


def _add(channel: Path, name: str) -> None:
    for number in range(5):
        update_index(channel, [package(channel, f"{name}{number}")])


def test_four_processes_add_to_one_index(tmp_path: Path) -> None:
    context = get_context("spawn")
    processes = [context.Process(target=_add, args=(tmp_path, name)) for name in "abcd"]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        if (tmp_path / "noarch/repodata.json").exists():
            listed(tmp_path)  # a reader never meets half a file
    assert [process.exitcode for process in processes] == [0] * 4
    assert listed(tmp_path) == {f"{name}{number}-1-h0_0.conda" for name in "abcd" for number in range(5)}


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    archive = package(tmp_path, "first")
    code = f"""
import fcntl, time
file = open({str(tmp_path / ".lock")!r}, "wb")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    began = time.monotonic()
    update_index(tmp_path, [archive])
    assert time.monotonic() - began < 5
    assert listed(tmp_path) == {"first-1-h0_0.conda"}


def test_it_is_the_lock_of_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update_index(tmp_path, [])
    assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    monkeypatch.setattr(fcntl, "flock", lambda file, kind: None)
    with pytest.raises(FailedError) as caught:
        update_index(tmp_path, [])
    assert caught.value.code == "locks-missing"


def test_a_disk_that_cannot_be_written_is_said_as_such(tmp_path: Path) -> None:
    (tmp_path / "channel").write_text("a file where the folder should be")
    with pytest.raises(FailedError) as caught:
        update_index(tmp_path / "channel", [])
    assert caught.value.code == "write-failed"
