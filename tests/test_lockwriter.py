"""Lock files as other tools see them: conda-lock, rattler, and the bytes themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rattler import LockFile

from mlviews.lock.lockfile import Lock
from mlviews.lock.parse import parse_lock, read_lock
from mlviews.lock.writer import lock_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Cli

PLATFORMS = ["linux-64", "linux-aarch64"]
VIEWS: dict[str, dict[str, Any]] = {
    "cpu": {"dependencies": ["python", "uproot >=5", "numpy >=2,<3"], "platforms": PLATFORMS},
    "gpu": {
        "dependencies": ["pytorch-gpu", "onnxruntime * *cuda*", "python 3.12.*"],
        "hardware": {"glibc": "2.34", "cuda": "12.9", "archspec": "x86_64_v3", "gpus": ["A100"]},
        "constraints": ["cuda-version <13"],
    },
}


@pytest.fixture(params=VIEWS)
def view(request: pytest.FixtureRequest, cli: Cli) -> str:
    cli.recipes.recipe(request.param, **VIEWS[request.param])
    assert cli("lock", request.param).code == 0
    return str(request.param)


def conda_lock(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run conda-lock itself; it needs no conda for what is asked of it here."""
    code = "import sys; from conda_lock import main; sys.argv[0] = 'conda-lock'; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=60)


def test_what_was_written_is_read_back(cli: Cli, view: str) -> None:
    lock = read_lock(cli.lock(view))
    platforms = VIEWS[view].get("platforms", ["linux-64"])
    assert lock.platforms == tuple(sorted(platforms))
    assert {package.platform for package in lock.packages} == set(platforms)
    assert [(package.name, package.platform) for package in lock.packages] == sorted(
        (package.name, package.platform) for package in lock.packages
    )


def test_the_same_lock_is_the_same_bytes(cli: Cli, view: str) -> None:
    before = cli.lock(view).read_bytes()
    cli.lock(view).unlink()
    assert cli("lock", view).code == 0
    assert cli.lock(view).read_bytes() == before
    cli.lock(view).unlink()
    again = cli.process("lock", view)
    assert again.code == 0, again.err
    assert cli.lock(view).read_bytes() == before, "in another process too"


def test_conda_lock_renders_it(cli: Cli, view: str, tmp_path: Path) -> None:
    done = conda_lock("render", "-k", "explicit", "-p", "linux-64", cli.lock(view), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "conda-linux-64.lock").read_text().splitlines()
    assert "@EXPLICIT" in lines
    expected = {f"{package.url}#{package.md5}" for package in read_lock(cli.lock(view)).on("linux-64")}
    assert {line for line in lines if line.startswith("https")} == expected


def test_rattler_reads_it(cli: Cli, view: str) -> None:
    environment = LockFile.from_path(cli.lock(view)).default_environment()
    assert environment is not None
    assert {str(platform) for platform in environment.platforms()} >= {"linux-64"}
    for platform in environment.platforms():
        packages = environment.packages(platform)
        assert packages is not None
        found = {str(package.location) for package in packages}
        assert found == {package.url for package in read_lock(cli.lock(view)).on(str(platform))}


def test_the_bytes_are_conda_locks_own(cli: Cli, view: str, conda_locks_text: Callable[[Path], str]) -> None:
    assert cli.lock(view).read_text() == conda_locks_text(cli.lock(view))


def test_conda_lock_gives_it_back_as_it_was(cli: Cli, view: str, tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file

    other = tmp_path / "other.yml"
    write_conda_lock_file(parse_conda_lock_file(cli.lock(view)), other, metadata_choices=None)
    assert yaml.safe_load(other.read_text()) == yaml.safe_load(cli.lock(view).read_text())
    assert parse_lock(other.read_bytes(), "other.yml") == read_lock(cli.lock(view))


@pytest.mark.parametrize("name", ["conda-forge", "https://conda.example.org/ours", "file:///a%20b", "nvidia/label/x"])
def test_channels_are_written_as_conda_lock_does(name: str) -> None:
    from conda_lock.models.channel import Channel

    ours = yaml.safe_load(lock_text(Lock("x", {"channels": [name], "platforms": []}, "", ())))["metadata"]["channels"]
    assert ours == [json.loads(Channel.from_string(name).model_dump_json())]


def test_the_content_hash_is_the_recipes_digest(cli: Cli, view: str) -> None:
    lock = read_lock(cli.lock(view))
    stated = yaml.safe_load(cli.lock(view).read_text())["metadata"]["content_hash"]
    assert stated == dict.fromkeys(lock.platforms, lock.recipe_digest)


def test_it_takes_no_temporary_folder(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    cli.recipes.recipe("x", "python")
    assert cli("lock", "x").code == 0
