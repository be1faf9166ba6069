"""The catalogue on real metadata: every view locks, and the committed locks are what a fresh start gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from rattler import LockFile

from mlviews.cli import cli
from mlviews.lock.parse import read_lock
from mlviews.recipe.catalogue import open_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlviews.lock.lockfile import Lock
    from mlviews.recipe.view import ViewSpec

REPOSITORY = Path(__file__).resolve().parent.parent
CATALOGUE = open_catalogue(REPOSITORY / "recipes")
COMMITTED = REPOSITORY / "lockfiles"
# A variant has no lock as long as the metadata give none.
UNLOCKED = [name for name in CATALOGUE.variants if not (COMMITTED / f"{name}.conda-lock.yml").exists()]
# A lock that names an index's wheels is made where its view is built; see tests/wheels/test_real.py.
NAMES = [spec.name for spec in CATALOGUE.views() if not spec.pypi and spec.name not in UNLOCKED]


@pytest.fixture(scope="session")
def locks(slice_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lock every view of a channel alone from nothing, in a process of its own, and return the folder of locks."""
    folder = tmp_path_factory.mktemp("slice")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLVIEWS_")}
    command = [sys.executable, "-m", "mlviews", "lock", *NAMES, "--mirror", f"conda-forge={slice_folder}"]
    options = ["--recipes", CATALOGUE.folder, "--lockfiles", folder, "--root", folder / "root", "--json"]
    done = subprocess.run([*command, *options], check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, [error["message"] for error in json.loads(done.stdout)["errors"]]
    return folder


@pytest.fixture(params=NAMES)
def spec(request: pytest.FixtureRequest) -> ViewSpec:
    return CATALOGUE.view(request.param)


@pytest.fixture
def path(spec: ViewSpec, locks: Path) -> Path:
    return locks / f"{spec.name}.conda-lock.yml"


@pytest.fixture
def lock(path: Path) -> Lock:
    return read_lock(path)


@pytest.fixture(scope="session")
def records(slice_folder: Path) -> dict[str, dict[str, Any]]:
    """The slice's records by sha256."""
    return {
        record["sha256"]: record
        for subdir in ("linux-64", "linux-aarch64", "noarch")
        for repodata in [json.loads((slice_folder / subdir / "repodata.json").read_text())]
        for record in (*repodata["packages"].values(), *repodata["packages.conda"].values())
    }


def is_cuda(record: dict[str, Any]) -> bool:
    """Tell a CUDA build by other means than mlviews does: by its name, or what it needs."""
    names = {spec.split()[0] for spec in record["depends"]} | {record["name"]}
    return "cuda" in record["build"] or any(name.startswith(("__cuda", "cuda-", "cudatoolkit")) for name in names)


@pytest.mark.parametrize("name", UNLOCKED)
def test_a_variant_without_a_lock_cannot_have_one(name: str, slice_folder: Path, tmp_path: Path) -> None:
    options = [
        "--recipes",
        str(CATALOGUE.folder),
        "--lockfiles",
        str(tmp_path),
        "--root",
        str(tmp_path / "root"),
        "--json",
    ]

    found = CliRunner().invoke(cli, ["lock", name, "--mirror", f"conda-forge={slice_folder}", *options])

    assert [error["code"] for error in json.loads(found.stdout)["errors"]] == ["unsolvable"], found.output


def test_the_lock_is_that_of_the_view(spec: ViewSpec, lock: Lock) -> None:
    assert lock.view == spec.name
    assert set(lock.platforms) == set(spec.platforms)
    for platform in spec.platforms:
        names = {package.name for package in lock.on(platform)}
        assert {request.name for request in spec.dependencies} <= names
        assert "ipykernel" in names
    assert all(package.url.startswith("https://conda.anaconda.org/conda-forge/") for package in lock.packages)


def test_cuda_stays_where_it_belongs(spec: ViewSpec, lock: Lock, records: dict[str, dict[str, Any]]) -> None:
    built = {package.name for package in lock.packages if is_cuda(records[package.sha256])}
    if spec.hardware.cuda is None:
        assert not built, "a CPU view holds no CUDA build"
        return
    assert "cuda-version" in built
    has_cuda = {record["name"] for record in records.values() if record["subdir"] in spec.platforms and is_cuda(record)}
    exempt = {package for reason in spec.cpu_only for package in has_cuda if fnmatchcase(package, reason.package)}
    assert {package.name for package in lock.packages} & has_cuda - exempt <= built
    assert all(reason.why for reason in spec.cpu_only)


def test_conda_lock_renders_it(lock: Lock, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from conda_lock import main

    monkeypatch.chdir(tmp_path)
    platforms = [option for platform in lock.platforms for option in ("-p", platform)]
    done = CliRunner().invoke(main, ["render", "-k", "explicit", *platforms, str(path)])
    assert done.exit_code == 0, done.output
    for platform in lock.platforms:
        lines = (tmp_path / f"conda-{platform}.lock").read_text().splitlines()
        expected = {f"{package.url}#{package.md5}" for package in lock.on(platform)}
        assert {line for line in lines if line.startswith("https")} == expected


def test_the_bytes_are_conda_locks_own(path: Path, conda_locks_text: Callable[[Path], str]) -> None:
    assert path.read_text() == conda_locks_text(path)


def test_rattler_reads_it(lock: Lock, path: Path) -> None:
    environment = LockFile.from_path(path).default_environment()
    assert environment is not None
    for platform in environment.platforms():
        packages = environment.packages(platform)
        assert packages is not None
        assert {str(item.location) for item in packages} == {item.url for item in lock.on(str(platform))}


def test_the_committed_lock_is_what_a_fresh_start_gives(spec: ViewSpec, path: Path) -> None:
    assert (COMMITTED / path.name).read_text() == path.read_text()


def test_no_lock_is_left_of_a_view_that_has_gone() -> None:
    assert {path.name for path in COMMITTED.iterdir()} <= {f"{name}.conda-lock.yml" for name in NAMES}
