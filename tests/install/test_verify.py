"""verify finds every change, and repair takes each back without touching what shares the bytes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import pytest

from mlviews.hardware import host_platform
from mlviews.prefix.inventory import expected_mode, read_tree, take
from mlviews.prefix.verify import Fault, _is_compared, verify, verify_new

SEED = int(os.environ.get("MLVIEWS_SEED") or time.time_ns() % 1_000_000)
MODULE = "lib/python{minor}/site-packages/greet.py"
BYTECODE = cache_from_source(MODULE.format(minor=f"{sys.version_info.major}.{sys.version_info.minor}"))
KINDS = (
    ("share/plain/data", "share/oldstyle/data", "share/native/data", "pyvenv.cfg"),  # shared with the cache
    ("bin/native",),  # the prefix written into text
    ("lib/libnative.so",),  # and into a binary
    ("bin/greet",),  # made when it was installed
    (MODULE,),
    ("lib/python*/site-packages/__pycache__/*.pyc",),
    ("conda-meta/*.json",),
    ("conda-meta/frozen",),
    ("files.json",),
    ("release.json",),
    ("setup.sh", "launch", "conda-lock.yml"),
)


@pytest.fixture
def demo(builder: Any, same_place: Any) -> Any:
    def build() -> None:
        builder.recipes.recipe("demo", "python", "greet", "native", "plain", "oldstyle")
        assert builder("build", "demo").code == 0

    same_place.once(build)
    return builder


@pytest.fixture
def prefix(demo: Any) -> Path:
    return (demo.root / "envs/demo/default" / host_platform()).resolve()


def flip(path: Path, draw: random.Random) -> str:
    """Flip one bit where it lies; the same call with the same state flips it back."""
    bit = draw.randrange(path.stat().st_size * 8)
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))
    return f"{path}, bit {bit}, MLVIEWS_SEED={SEED}"


def test_what_was_built_is_intact_and_stays_so_when_it_is_used(demo, prefix):
    demo.process("run", "demo", "--", "python", "-B", "-c", "import greet; greet.main()")
    demo("smoke", "demo")

    verified = demo("verify", "demo", "--json")

    (release,) = verified.data["releases"]
    assert (verified.code, release["faults"], release["whole"]) == (0, [], True)
    assert release["files"] == sum(1 for path in prefix.rglob("*") if path.is_symlink() or path.is_file()) - 2
    assert "intact" in demo("verify", f"demo/{prefix.parent.name}").out


def test_byte_code_that_python_writes_is_counted_and_no_fault(demo, prefix, site_packages, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    demo.process("run", "demo", "--", "sh", "-c", "umask 007; python -O -c 'import greet'")
    (written,) = (prefix / site_packages / "__pycache__").glob("*.opt-1.pyc")

    verified = demo("verify", "demo", "--json")

    (release,) = verified.data["releases"]
    assert (verified.code, release["faults"], release["bytecode"]) == (0, [], 1)
    assert "intact; byte code that Python wrote since: 1 file\n" in demo("verify", "demo").out
    written.rename(written.with_name("other.cpython-311.pyc"))  # of no module that is there
    assert demo("verify", "demo").code == 1


def test_fifty_random_flipped_bits_in_every_kind_of_file_are_found(prefix, site_packages):
    draw = random.Random(SEED)
    for number in range(50):
        patterns = KINDS[number % len(KINDS)]
        pattern = draw.choice(patterns).replace(MODULE, f"{site_packages}/greet.py")
        path = draw.choice(sorted(prefix.glob(pattern)))
        state = draw.getstate()
        where = flip(path, draw)

        found = verify(prefix)

        assert [(fault.path, fault.kind) for fault in found.faults] == [(str(path.relative_to(prefix)), "changed")], (
            where
        )
        draw.setstate(state)
        flip(path, draw)
    assert verify(prefix).faults == ()


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def to_file(path: Path) -> None:
    path.unlink()
    path.write_text("")


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def add(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("")


@pytest.mark.parametrize(
    ("path", "do", "kind", "package"),
    [
        ("share/native/data", change, "changed", "native-1.0-h123_4"),
        ("share/native/data", Path.unlink, "missing", "native-1.0-h123_4"),
        ("share/native/data", to_folder, "changed", "native-1.0-h123_4"),
        ("share/native/data", relink, "link", "native-1.0-h123_4"),
        ("lib/libnative.so.1", relink, "link", "native-1.0-h123_4"),
        ("lib/libnative.so.1", to_file, "link", "native-1.0-h123_4"),
        ("lib/libnative.so.1", Path.unlink, "missing", "native-1.0-h123_4"),
        ("bin/native", lambda path: path.chmod(0o644), "mode", "native-1.0-h123_4"),
        ("share/plain/data", lambda path: path.chmod(0o666), "mode", "plain-1.0-h0_0"),
        ("share/native", lambda path: path.chmod(0o700), "mode", ""),
        ("bin/greet", change, "changed", "greet-1.0-h0_0"),
        ("bin/greet", Path.unlink, "missing", "greet-1.0-h0_0"),
        (BYTECODE, change, "changed", "greet-1.0-h0_0"),
        (BYTECODE, Path.unlink, "missing", "greet-1.0-h0_0"),
        (BYTECODE, lambda path: path.chmod(0o666), "mode", "greet-1.0-h0_0"),
        ("setup.sh", change, "changed", ""),
        ("launch", Path.unlink, "missing", ""),
        ("launch", lambda path: path.chmod(0o644), "mode", ""),
        ("conda-lock.yml", change, "changed", ""),
        ("conda-meta/frozen", Path.unlink, "missing", ""),
        ("conda-meta/history", change, "changed", ""),
        ("files.json", change, "changed", ""),
        ("files.json", Path.unlink, "missing", ""),
        ("conda-meta/greet-1.0-h0_0.json", change, "changed", ""),
        ("conda-meta/native-1.0-h123_4.json", Path.unlink, "missing", ""),
        ("conda-meta/evil.json", add, "extra", ""),
        ("share/new/file", add, "extra", ""),
        ("share/new/link", lambda path: (path.parent.mkdir(), path.symlink_to("/")), "extra", ""),
    ],
)
def test_each_fault_is_named_and_repaired(demo, prefix, path, do, kind, package):
    do(prefix / path)

    found = demo("verify", "demo", "--json")

    assert found.code == 1
    assert found.data["releases"][0]["faults"] == [{"path": path, "kind": kind, "package": package}]
    listed = demo("verify", "demo").out
    assert path in listed
    assert "--repair" in listed
    repaired = demo("verify", "demo", "--repair", "--json")
    assert (repaired.code, repaired.data["releases"][0]["faults"]) == (0, []), repaired.out
    assert {"path": path, "kind": kind, "package": package} in repaired.data["releases"][0]["repaired"]
    assert verify(prefix).faults == ()
    assert [item.name for item in prefix.parents[1].glob(".repair*")] == []


def test_a_folder_that_became_a_link_elsewhere_is_found_and_not_followed(demo, prefix, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(prefix / "share", elsewhere)
    (prefix / "share").symlink_to(elsewhere)

    found = verify(prefix)

    assert Fault("share", "extra") in found.faults
    assert Fault("share/plain/data", "missing", "plain-1.0-h0_0") in found.faults
    assert demo("verify", "demo", "--repair").code == 0
    assert not (prefix / "share").is_symlink()
    assert (elsewhere / "plain/data").read_text() == "plain\n"


def test_a_file_that_became_a_link_to_a_folder_is_one_again_and_the_folder_stays(demo, prefix, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine").write_text("mine")
    (prefix / "share/plain/data").unlink()
    (prefix / "share/plain/data").symlink_to(tmp_path / "elsewhere")

    assert demo("verify", "demo", "--repair").code == 0

    assert (prefix / "share/plain/data").read_text() == "plain\n"
    assert (tmp_path / "elsewhere/mine").read_text() == "mine"


def test_everything_at_once_is_repaired(demo, prefix):
    draw = random.Random(SEED)
    for path in sorted(prefix.rglob("*")):
        if path.is_symlink():
            relink(path)
        elif path.is_file() and path.name != "release.json" and path.stat().st_size:
            flip(path, draw)

    repaired = demo("verify", "demo", "--repair", "--json")

    assert repaired.code == 0, (SEED, repaired.out)
    assert demo.process("run", "demo", "--", "greet").out.startswith("hello from")


def test_a_lock_that_changed_only_in_words_is_repaired_even_when_the_list_of_files_is_lost(demo, prefix):
    lock = prefix / "conda-lock.yml"
    before = lock.read_bytes()
    lock.write_bytes(before + b"# which changes no package\n")
    (prefix / "files.json").unlink()

    assert demo("verify", "demo", "--repair").code == 0

    assert lock.read_bytes() == before


def test_repair_writes_new_files_and_leaves_those_that_share_the_bytes(demo, prefix):
    demo.recipes.recipe("other", "python", "greet", "plain")
    assert demo("build", "other").code == 0
    path = prefix / "share/plain/data"
    shared = path.lstat().st_ino
    flip(path, random.Random(SEED))  # in place, as a bad disk would: the cache and the other view have it too
    assert [line["faults"] != [] for line in demo("verify", "other", "--json").data["releases"]] == [True]

    assert demo("verify", "demo", "--repair").code == 0

    assert path.read_text() == "plain\n"
    assert path.lstat().st_ino != shared
    assert path.lstat().st_nlink == 1
    assert (demo.root / "cache/pkgs/plain-1.0-h0_0/share/plain/data").lstat().st_ino == shared
    assert demo("verify", "other").code == 1
    assert demo("verify", "other", "--repair").code == 0


def test_repair_fetches_from_a_server_what_is_needed_and_no_more(demo, prefix, server):
    (prefix / "share/native/data").unlink()

    assert demo("verify", "demo", "--repair", "--mirror", f"conda-forge={server.url}").code == 0

    assert server.archives() == ["native-1.0-h123_4.conda"]


def test_an_archive_with_other_bytes_repairs_nothing(demo, prefix, shelf):
    (prefix / "share/plain/data").unlink()
    before = {path: path.lstat().st_ino for path in prefix.rglob("*")}
    change(shelf.archive("plain"))

    refused = demo("verify", "demo", "--repair", "--json")

    assert (refused.code, refused.codes) == (3, ["hash-mismatch"])
    assert {path: path.lstat().st_ino for path in prefix.rglob("*")} == before


def test_without_its_lock_a_release_is_not_repaired(demo, prefix):
    (prefix / "conda-lock.yml").unlink()
    demo.recipes.recipe("demo", "python")
    demo("lock", "demo")

    refused = demo("verify", "demo", "--repair", "--json")

    assert (refused.code, refused.codes) == (1, ["lock-lost"])
    assert "--lockfiles" in refused.json["errors"][0]["hint"]


def test_a_damaged_release_json_is_said_and_the_next_build_makes_a_release_beside_it(demo, prefix):
    (prefix / "release.json").write_text("{")
    name = prefix.parent.name

    found = demo("verify", f"demo/{name}", "--repair")

    assert found.code == 1
    assert "`mlviews build demo`" in found.out
    built = demo("build", "demo", "--json").data
    assert (built["status"], built["release"], built["default"]) == ("new", f"{name}.2", True)
    assert (prefix / "share/plain/data").is_file()


def test_without_a_seal_and_an_inventory_it_is_damaged_and_checked_as_far_as_its_packages_say(demo, prefix):
    record = json.loads((prefix / "release.json").read_text())
    del record["files"], record["seal"]
    (prefix / "release.json").write_text(json.dumps(record))
    (prefix / "files.json").unlink()
    change(prefix / "share/native/data")

    found = demo("verify", "demo", "--json")

    (release,) = found.data["releases"]
    assert (found.code, release["whole"]) == (1, False)
    assert [(fault["path"], fault["kind"]) for fault in release["faults"]] == [
        ("files.json", "missing"), ("release.json", "changed"), ("share/native/data", "changed"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"paths_data": null}', '{"paths_data": {"paths": [{"_path": 1}]}}', "\0"]
)
def test_records_that_are_none_are_faults(prefix, content):
    path = prefix / "conda-meta/greet-1.0-h0_0.json"
    path.write_text(content)

    found = verify(prefix)

    assert (found.faults, found.whole) == ((Fault("conda-meta/greet-1.0-h0_0.json", "changed"),), False)


def test_nobody_waits_for_a_pipe_in_a_files_place(prefix):
    pipes = [prefix / path for path in ("conda-meta/plain-1.0-h0_0.json", "launch", "share/native/data", "share/more")]
    for pipe in pipes:
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
    waits: list[bool] = []

    def end() -> None:
        """Let go whoever waits for a first byte: this test is to fail, not to hang."""
        waits.append(True)
        for pipe in pipes:
            os.close(os.open(pipe, os.O_RDWR))

    timer = threading.Timer(20, end)
    timer.start()
    found = verify(prefix)
    timer.cancel()

    assert not waits
    assert {(fault.path, fault.kind) for fault in found.faults} == {
        ("conda-meta/plain-1.0-h0_0.json", "changed"),
        ("launch", "changed"),
        ("share/native/data", "changed"),
    }


def test_a_default_that_has_lost_its_release_json_is_no_release_and_told(demo, prefix):
    (prefix / "release.json").unlink()

    found = demo("verify", "demo", "--json")

    assert found.code == 1
    assert found.data["releases"][0]["faults"][0] == {"path": "release.json", "kind": "missing", "package": ""}


def test_permissions_of_a_list_from_before_they_were_decided_are_those_that_are(prefix):
    status = (prefix / "share/plain/data").stat()

    assert expected_mode({"share/plain/data": "666"}, "share/plain/data", status) == 0o644
    assert expected_mode({"share/plain/data": "775"}, "share/plain/data", status) == 0o755


def test_what_changed_in_the_very_tick_of_the_comparison_is_read_again(prefix):
    status = (prefix / "share/native/data").stat()

    assert _is_compared(status, status.st_ctime_ns + 1)
    assert not _is_compared(status, status.st_ctime_ns)


def test_a_pipe_in_what_is_about_to_be_a_release_is_a_fault(prefix):
    os.mkfifo(prefix / "share/pipe")
    tree = read_tree(prefix)

    assert verify_new(tree, take(tree), compared=time.time_ns()) == (Fault("share/pipe", "extra"),)


def test_every_byte_is_told_once_and_large_files_part_by_part(prefix, monkeypatch):
    monkeypatch.setattr("mlviews.prefix.verify._LARGE", 4096)
    monkeypatch.setattr("mlviews.prefix.verify._SAID", 1)
    monkeypatch.setattr("mlviews.files.writing._CHUNK", 4096)
    said: list[int] = []

    @contextlib.contextmanager
    def progress(label: str, *, total: int, unit: str) -> Iterator[Any]:
        said.append(-total)
        yield said.append

    found = verify(prefix, progress=progress)

    links = sum(path.lstat().st_size for path in prefix.rglob("*") if path.is_symlink())
    assert sum(said[1:]) == found.bytes - links
    assert -said[0] >= found.bytes
    assert (found.faults, max(said[1:]) <= max(4096, _records(prefix))) == ((), True)


def _records(prefix: Path) -> int:
    return sum(path.stat().st_size for path in prefix.glob("conda-meta/*.json"))


def test_packages_that_write_the_same_file_are_no_fault(builder, shelf):
    shelf.add("first", files={"share/same": "first\n"})
    shelf.add("second", files={"share/same": "second\n"})
    builder.recipes.recipe("demo", "python", "greet", "first", "second")
    assert builder("build", "demo").code == 0

    verified = builder("verify", "demo", "--json")

    assert (verified.code, verified.data["releases"][0]["faults"]) == (0, [])


@pytest.mark.parametrize("name", ["no", "demo/2020.01.01", "demo/..", "demo/default"])
def test_what_is_not_there_is_not_verified(demo, name):
    refused = demo("verify", name, "--json")

    assert (refused.code, refused.codes) == (1, ["view-unknown" if name == "no" else "release-missing"])


def test_of_a_root_that_was_moved_it_says_where_its_releases_run(demo, tmp_path):
    assert demo("verify", "--json").data["moved"] == {}
    moved = demo.root.rename(tmp_path / "moved")
    told = demo("verify", "demo", "--root", moved)
    assert (told.code, "intact" in told.out, f"runs only in {demo.root}/envs/demo" in told.out) == (0, True, True)


def test_interrupted_it_changes_nothing(demo, prefix, monkeypatch: pytest.MonkeyPatch):
    change(prefix / "share/native/data")
    before = {path: path.lstat().st_ino for path in prefix.rglob("*")}

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlviews.store.repair._replace", interrupt)

    assert demo("verify", "demo", "--repair").code == 130
    assert {path: path.lstat().st_ino for path in prefix.rglob("*")} == before
    assert list(prefix.parents[1].glob(".repair*")) == []
