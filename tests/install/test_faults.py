"""One fault at each step of a build and of what people do with releases: nothing is lost, and one message says it."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mlviews.hardware import host_platform

SEED = int(os.environ.get("MLVIEWS_SEED") or time.time_ns() % 1_000_000)


@pytest.fixture
def store(builder: Any, shelf: Any, same_place: Any) -> Any:
    """A store with one release, and the lock of another one."""
    shelf.add("fresh", files={"share/fresh/data": random.Random(1).randbytes(20_000)})

    def build() -> None:
        builder.recipes.recipe("demo", "python", "greet", "native")
        assert builder("build", "demo").code == 0
        builder.recipes.recipe("demo", "python", "greet", "native", "fresh")
        assert builder("lock", "demo").code == 0

    same_place.once(build)
    return builder


def default(store: Any) -> str:
    return (store.root / "envs/demo/default").readlink().name


@pytest.fixture
def whole(store: Any) -> Callable[[], None]:
    """A function that sees that the store is: the default runs, releases are intact, a build works, no debris stays."""

    def see() -> None:
        assert store.process("run", "demo", "--", "greet").out.startswith(f"hello from {store.root}/envs/demo/")
        assert store("verify", "demo").code == 0
        built = store("build", "demo", "--json")
        assert (built.code, built.data["default"]) == (0, True), built.out
        assert store.process("run", "demo", "--", "greet").code == 0
        assert store("gc", "--json").code == 0
        assert store("gc", "--dry-run", "--json").data["debris"] == []
        assert store("verify", "demo").code == 0
        left = {path.name for path in store.root.rglob(".*")}
        assert left <= {".lock", ".cache.lock", ".unpacked", ".history.json", ".version"}

    return see


class Failing:
    """Stands for a system call that fails the n-th time."""

    def __init__(self, at: int, number: int) -> None:
        self.calls, self._at, self._number = 0, at, number
        self._fsync = os.fsync

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        if self.calls > self._at:  # and ever after, as a disk does
            raise OSError(self._number, os.strerror(self._number))
        self._fsync(descriptor)


@pytest.mark.parametrize(("number", "code"), [(errno.EIO, "write-failed"), (errno.ENOSPC, "disk-full")])
def test_a_disk_that_fails_at_any_write_of_a_build(store, whole, monkeypatch, number, code):
    first, steps = default(store), 0
    for at in range(0, 100, 3):
        failing = Failing(at, number)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            built = store("build", "demo", "--json")
        if built.code == 0:
            break
        steps += 1
        assert (built.code, built.codes) == (3, [code]), at
        assert os.strerror(number) in built.json["errors"][0]["message"]
        assert default(store) in {first, f"{first}.2"}
        assert store.process("run", "demo", "--", "greet").code == 0
        assert store("verify", "demo").code == 0, at
    assert steps >= 5
    whole()


@pytest.mark.parametrize(
    "verb", [("promote", "demo/{first}"), ("rollback", "demo"), ("pin", "demo/{first}"), ("remove", "demo/{first}")]
)
def test_a_disk_that_fails_at_any_write_of_another_verb(store, whole, monkeypatch, verb):
    first = default(store)
    assert store("build", "demo").code == 0
    arguments = [part.format(first=first) for part in verb]
    for at in range(100):
        failing = Failing(at, errno.EIO)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            done = store(*arguments, "--json")
        if done.code != 3:
            break
        assert done.codes == ["write-failed"]
        assert store.process("run", "demo", "--", "greet").code == 0
        assert store("verify", "demo").code == 0
    assert at > 0
    store("promote", f"demo/{first}.2")
    whole()


@pytest.mark.parametrize("after", [0, 50, 1000])
def test_a_download_that_is_cut(store, whole, server, faults, after):
    server.faults["fresh"] = faults["cuts"](after)

    cut = store("build", "demo", "--mirror", f"conda-forge={server.url}", "--json")

    assert (cut.code, cut.codes) == (3, ["download-failed"])
    assert "fresh-1.0-h0_0" in cut.json["errors"][0]["message"]
    whole()


def test_an_archive_with_other_bytes(store, whole, shelf):
    archive = shelf.archive("fresh")
    right = archive.read_bytes()
    archive.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))

    refused = store("build", "demo", "--json")

    assert (refused.code, refused.codes) == (3, ["hash-mismatch"])
    archive.write_bytes(right)
    whole()


def test_a_bit_that_flips_in_the_cache_is_in_no_new_release(store, whole):
    draw = random.Random(SEED)
    folder = store.root / "cache/pkgs"
    for path in sorted(path for path in folder.glob("*/[!i]*/**/*") if path.is_file() and not path.is_symlink()):
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)  # in place: the release that shares it has it too
    first = default(store)
    damaged = store("verify", f"demo/{first}", "--json")
    assert damaged.code == 1, SEED

    built = store("build", "demo", "--json")

    assert built.code == 0, (SEED, built.out)
    assert store("verify", f"demo/{built.data['release']}").code == 0, SEED
    assert store("verify", "demo", "--repair").code == 0, SEED
    whole()


def test_a_clock_that_is_set_back(store, whole, monkeypatch):
    first = default(store)

    class Earlier(datetime):
        @classmethod
        def now(cls, zone: Any = None) -> datetime:
            return datetime(2020, 1, 1, tzinfo=timezone.utc)

    for module in ("build", "store.disk", "store.releases", "store.collect"):
        monkeypatch.setattr(f"mlviews.{module}.datetime", Earlier)

    built = store("build", "demo", "--json").data

    assert (built["release"], built["default"]) == (f"{first}.2", True)
    assert store("gc", "--keep", "1", "--keep-days", "1", "--json").data["removed"] == []
    assert store("rollback", "demo", "--json").data["release"] == first
    assert store("promote", f"demo/{first}.2").code == 0
    whole()


def test_a_clock_that_was_far_ahead(store, whole, monkeypatch):
    class Later(datetime):
        @classmethod
        def now(cls, zone: Any = None) -> datetime:
            return datetime.now(timezone.utc) + timedelta(days=10_000)

    with monkeypatch.context() as patched:
        patched.setattr("mlviews.build.datetime", Later)
        ahead = store("build", "demo", "--json").data["release"]
    store.recipes.recipe("demo", "python", "greet")
    store("lock", "demo")

    built = store("build", "demo", "--json").data

    assert (built["release"], built["default"]) == (f"{ahead}.2", True)
    whole()


def test_what_is_written_by_somebody_else_is_no_release(store, whole):
    """Files where folders are expected, and the other way round."""
    envs = store.root / "envs"
    (envs / "file").write_text("")
    (envs / "demo/2026.01.01").write_text("")
    (envs / "demo/link").symlink_to("/")
    (envs / "demo" / default(store) / "linux-fantasy").write_text("")

    for verb in (("releases", "demo"), ("verify", "demo"), ("gc", "--dry-run")):
        assert store(*verb).code == 0
    assert Path("/").is_dir()
    whole()


def test_a_platform_of_another_host_stays(store, whole):
    """What was built elsewhere from the same lock is no debris here."""
    folder = store.root / "envs/demo" / default(store)
    other = "linux-aarch64" if host_platform() == "linux-64" else "linux-64"
    record = (folder / host_platform() / "release.json").read_text()
    (folder / other).mkdir()
    (folder / other / "release.json").write_text(record.replace(host_platform(), other))
    assert store("gc", "--json").data["debris"] == []

    assert (folder / other / "release.json").is_file()
    refused = store("build", "demo", "--json")
    assert refused.codes == ["platform-missing"]
