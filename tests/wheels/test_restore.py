"""Lost archives come back byte for byte, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlviews.errors import FailedError
from mlviews.wheels.channel import make_channel
from mlviews.wheels.restore import restore_archives
from mlviews.wheels.target import host_target


@pytest.fixture(scope="module")
def filled(make_wheel: Any, module_wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    extra = {"requires": ['low; extra == "complete"'], "metadata": "Provides-Extra: complete\n"}
    make_wheel(module_wheelhouse, "dask", "1.0", **extra)
    make_wheel(module_wheelhouse, "low", "2.0+local")
    folder = tmp_path_factory.mktemp("filled")
    make_channel(["dask"], pins={}, cache=folder)
    return folder


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    """A cache that was filled for one view."""
    return shutil.copytree(filled, tmp_path / "cache")


def locked(cache: Path) -> dict[str, str]:
    """Return what a lock of everything in the channel would hold."""
    return {
        f"{file.parent.name}/{name}": record["sha256"]
        for file in (cache / "channel").glob("*/repodata.json")
        for name, record in json.loads(file.read_text())["packages.conda"].items()
    }


def contents(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def test_all_come_back_from_where_the_wheels_came_from(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, lock = contents(cache), locked(cache)
    assert {path.partition("/")[2].rsplit("-", 2)[0] for path in lock} == {
        *("dask", "dask-core", "dask-core.extra.complete", "low", "python", "python_abi"),
    }
    for path in lock:
        (cache / "channel" / path).unlink()
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    restore_archives(lock, cache=cache)
    assert contents(cache) == before


def test_all_come_back_from_the_index_when_the_cache_is_gone(cache: Path) -> None:
    lock, before = locked(cache), contents(cache)
    shutil.rmtree(cache)
    restore_archives(lock, cache=cache)
    assert contents(cache) == before


def test_damaged_archives_and_what_is_kept_of_their_wheels_are_replaced(cache: Path) -> None:
    lock, before = locked(cache), contents(cache)
    (archive,) = cache.glob("channel/*/low-*.conda")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    (kept,) = (path for path in cache.glob("wheels/*.json") if json.loads(path.read_text())["index"]["name"] == "low")
    kept.write_bytes(kept.read_bytes()[:100])
    restore_archives(lock, cache=cache)
    assert contents(cache) == before


def test_what_need_only_be_there_is_not_read(cache: Path) -> None:
    lock, before = locked(cache), contents(cache)
    lost, kept, *_ = sorted(cache.glob("channel/noarch/*.conda"))
    lost.unlink()
    kept.write_bytes(b"other")
    restore_archives(lock, cache=cache, unread={f"noarch/{lost.name}", f"noarch/{kept.name}"})
    assert contents(cache) == {**before, str(kept.relative_to(cache)): b"other"}


def test_nothing_is_done_where_nothing_is_lost(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlviews.wheels.restore.obtain", None)
    restore_archives(locked(cache), cache=cache)


@pytest.mark.parametrize("gone", ["low", "dask-core", "python"])
def test_what_cannot_come_back_changes_nothing(cache: Path, gone: str) -> None:
    lock = locked(cache)
    path = next(path for path in lock if path.partition("/")[2].rsplit("-", 2)[0] == gone)
    stem, version, build = path.removesuffix(".conda").rsplit("-", 2)
    lost = lock | {f"{stem}-{version}-{build.replace('h', 'h0')}.conda": "0" * 64}
    another = next(path for path in lock if "/low-" in path)
    (cache / "channel" / another).unlink()
    before = contents(cache)
    with pytest.raises(FailedError) as caught:
        restore_archives(lost, cache=cache)
    assert caught.value.code == "archive-lost"
    assert build.replace("h", "h0") in caught.value.message
    assert contents(cache) == before


def test_other_bytes_than_the_lock_has_are_never_passed_off(cache: Path) -> None:
    lock = locked(cache)
    path = next(path for path in lock if "/low-" in path)
    with pytest.raises(FailedError) as caught:
        restore_archives(lock | {path: "0" * 64}, cache=cache)
    assert (caught.value.code, "other bytes" in caught.value.message) == ("archive-lost", True)
    restore_archives(lock, cache=cache)


def test_a_wheel_that_was_replaced_on_the_index_is_noticed(
    make_wheel: Any, wheelhouse: Path, module_wheelhouse: Path, cache: Path
) -> None:
    lock = locked(cache)
    shutil.rmtree(cache)
    shutil.copytree(module_wheelhouse, wheelhouse, dirs_exist_ok=True)
    make_wheel(wheelhouse, "low", "2.0+local", files={"low/__init__.py": "print('other')\n"})
    with pytest.raises(FailedError) as caught:
        restore_archives(lock, cache=cache)
    assert caught.value.code == "archive-lost"
    assert "low-2.0" in caught.value.message
    assert not list((cache / "channel").rglob("*.conda"))


def test_the_index_follows_what_was_restored(cache: Path) -> None:
    """An archive of older bytes, that an older lock names, replaces the newer one in the index too."""
    lock = locked(cache)
    file = cache / "channel" / host_target().subdir / "repodata.json"
    data = json.loads(file.read_text())
    name = next(name for name in data["packages.conda"] if name.startswith("python-"))
    data["packages.conda"][name]["sha256"] = "0" * 64
    file.write_text(json.dumps(data))
    (cache / "channel" / host_target().subdir / name).unlink()
    restore_archives(lock, cache=cache)
    assert locked(cache) == lock
