"""Lock files as other tools see them: conda-lock, rattler, and the bytes themselves."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rattler import LockFile

from mlviews.lock.lockfile import read_lock
from mlviews.recipe.compose import compose
from mlviews.recipe.model import Recipe, parse

if TYPE_CHECKING:
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


def test_the_text_is_conda_locks_own(cli: Cli, view: str, tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file

    other = tmp_path / "other.yml"
    write_conda_lock_file(parse_conda_lock_file(cli.lock(view)), other, metadata_choices=None)
    assert body(cli.lock(view)) == body(other), "conda-lock drops, reorders and adds nothing"
    assert text_without_folds(cli.lock(view)) == text_without_folds(other)


def body(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def text_without_folds(path: Path) -> str:
    """Return the text but for comments and where long lines are broken."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return " ".join(" ".join(lines).replace("\\", "").split())


def test_conda_lock_computes_the_same_content_hash(cli: Cli, view: str, tmp_path: Path) -> None:
    """Its own command line finds nothing to solve, so that a conda which only tells its version will do."""
    conda = tmp_path / "conda"
    conda.write_text('#!/bin/sh\n[ "$1" = --version ] && echo conda 26.9.0\n')
    conda.chmod(0o755)
    spec = compose(parse(cli.recipes.folder / f"{view}.yaml", Recipe), cli.recipes.folder / "layers")
    virtual = {
        platform: {
            "packages": {
                package.name: f"{package.version} {package.build}" if package.build != "0" else package.version
                for package in spec.hardware.virtual_packages(platform)
            }
        }
        for platform in spec.platforms
    }
    (tmp_path / "virtual.yml").write_text(yaml.safe_dump({"subdirs": virtual}))
    source = {"channels": ["conda-forge"], "dependencies": VIEWS[view]["dependencies"], "platforms": spec.platforms}
    (tmp_path / "environment.yml").write_text(yaml.safe_dump({**source, "platforms": list(spec.platforms)}))
    before = cli.lock(view).read_bytes()
    done = conda_lock(
        "lock", "--conda", conda, "--check-input-hash", "--no-mamba", "--lockfile", cli.lock(view),
        "-f", "environment.yml", "--virtual-package-spec", "virtual.yml", "-k", "lock",
        folder=tmp_path,
    )  # fmt: skip
    assert f"Spec hash already locked for {sorted(spec.platforms)}. Skipping solve." in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    assert cli.lock(view).read_bytes() == before


def test_a_full_folder_for_temporary_files(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """conda-lock computes its hash by way of a temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    cli.recipes.recipe("x", "python")
    done = cli("lock", "x", "--json")
    assert (done.code, done.codes) == (3, ["write-failed"])
    assert "TMPDIR" in done.json["errors"][0]["hint"]
    assert not cli.lock("x").exists()
