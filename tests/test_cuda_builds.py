"""Which packages have CUDA builds: kept for each state of a channel's metadata, and never believed when damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.conda.cuda import SeenBuilds
from mlviews.lock.parse import read_lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Cli

GPU = {"glibc": "2.34", "cuda": "12.9"}


@pytest.fixture
def build(cli: Cli) -> Callable[[], str]:
    """Return a function that locks a GPU view anew, and returns the build of a package that has CPU builds too."""
    cli.recipes.recipe("x", "onnxruntime", hardware=GPU)

    def lock() -> str:
        cli.lock("x").unlink(missing_ok=True)
        done = cli("lock", "x")
        assert done.code == 0, done.err
        return next(package.build for package in read_lock(cli.lock("x")).packages if package.name == "onnxruntime")

    return lock


@pytest.fixture
def table(cli: Cli, build: Callable[[], str]) -> Path:
    """What one lock has left in the cache."""
    assert "cuda" in build()
    (path,) = (cli.root.parent / "home/.cache/mlviews/cuda-builds").iterdir()
    return path


def rewrite(table: Path, **changes: Any) -> None:
    """Change what is kept, with the checksum that it then has."""
    kept = {**json.loads(table.read_text()), **changes}
    builds = json.dumps(kept["summary"]["builds"], sort_keys=True)
    kept["summary"]["sum"] = hashlib.sha256(builds.encode()).hexdigest()
    table.write_text(json.dumps(kept))


def nothing(table: Path) -> dict[str, dict[str, dict[str, int]]]:
    return {"builds": {name: {} for name in json.loads(table.read_text())["summary"]["builds"]}}


def test_what_is_kept_is_what_is_asked(table: Path, build: Callable[[], str]) -> None:
    rewrite(table, summary=nothing(table))
    assert "cuda" not in build(), "so that a lock costs no second look at each record"


def test_of_other_metadata_nothing_is_believed(table: Path, build: Callable[[], str]) -> None:
    rewrite(table, summary=nothing(table), state="0" * 64)
    assert "cuda" in build()
    assert json.loads(table.read_text())["state"] != "0" * 64, "it is made again"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"state": 1}', "\x00" * 99, "changed", "folder", "gone"])
def test_what_is_damaged_is_made_anew(table: Path, build: Callable[[], str], damage: str) -> None:
    sound = table.read_text()
    if damage == "changed":  # one letter, without its checksum
        table.write_text(sound.replace('"onnxruntime": {"', '"onnxruntime": {"x', 1))
        assert table.read_text() != sound
    elif damage == "folder":
        table.unlink()
        table.mkdir()
    elif damage == "gone":
        shutil.rmtree(table.parent)
    else:
        table.write_text(damage)
    assert "cuda" in build()
    if damage != "folder":
        assert table.read_text() == sound


def test_metadata_that_is_replaced_while_it_is_read_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    files = {subdir: tmp_path / f"{subdir}.json" for subdir in ("linux-64", "noarch")}
    for path in files.values():
        path.write_text("{}")
    opened = {subdir: [(path, path.stat())] for subdir, path in files.items()}
    files["noarch"].unlink()
    files["noarch"].write_text("{ }")
    seen = SeenBuilds({"conda-forge": "x"}, opened)
    assert seen.recall("linux-64") is None
    seen.keep("linux-64", {"a": {"cuda_0": 0}})
    assert not (tmp_path / "kept").exists()


def test_many_at_once_leave_one_whole_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    path = tmp_path / "repodata.json"
    path.write_text("{}")
    metadata = {subdir: [(path, path.stat())] for subdir in ("linux-64", "noarch")}

    def work(number: int) -> None:
        seen = SeenBuilds({"conda-forge": "x"}, metadata)
        for step in range(20):
            seen.recall("linux-64")
            seen.keep("linux-64", {f"package{number}": {f"cuda_{step}": step}})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    (kept,) = (tmp_path / "kept/mlviews/cuda-builds").iterdir()
    found = SeenBuilds({"conda-forge": "x"}, metadata).recall("linux-64")
    assert found
    assert [*found.values()] == [{"cuda_19": 19}]
    assert kept.suffix == ".json"
