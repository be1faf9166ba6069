"""A view in other tools' formats, each read by its own tool's reader."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from conda_lock.src_parser.environment_yaml import parse_environment_file
from packaging.pylock import PackageWheel, Pylock
from packaging.tags import Tag
from rattler import LockFile

from mlviews.lock.parse import read_lock

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

    from shelf import Shelf


@pytest.fixture
def demo(builder: Any, shelf: Shelf, make_wheel: Any, wheelhouse: Path) -> Any:
    """The command line, with a view of packages of a channel and a wheel."""
    shelf.add("numbers", "2.3", modules={"numbers_of": ""})
    make_wheel(wheelhouse, "tagger", "1.2+local", requires=["numbers>=2"])
    make_wheel(wheelhouse, "numbers", "3.0")
    make_wheel(wheelhouse, "more", requires=["numbers"])
    make_wheel(wheelhouse, "newer", requires=["numbers>=3"])
    builder.recipes.recipe("demo", "python", "native", pypi=["tagger"])
    assert builder("lock", "demo").code == 0
    return builder


def said(demo: Any, form: str, file: Path) -> Path:
    done = demo("render", "demo", form, "-o", file)
    assert done.code == 0, done.err
    return file


def test_pixi(demo: Any, tmp_path: Path) -> None:
    read = LockFile.from_path(said(demo, "pixi", tmp_path / "pixi.lock"))
    ((_, environment),) = read.environments()
    (platform,) = environment.platforms()
    lock = read_lock(demo.lock("demo"))
    found = {one.name: one.location.removeprefix("file://") for one in environment.packages(platform)}
    assert found == {package.name: unquote(package.url).removeprefix("file://") for package in lock.packages}
    wheel = next(package for package in lock.packages if package.manager == "pip")
    assert wheel.sha256 in (tmp_path / "pixi.lock").read_text()


def test_environment(demo: Any, tmp_path: Path) -> None:
    file = said(demo, "environment", tmp_path / "environment.yml")
    names = tmp_path / "names.yaml"
    names.write_text("tagger: {conda_name: tagger, pypi_name: tagger, import_name: tagger, mapping_source: us}")
    read = parse_environment_file(file, ["linux-64"], mapping_url=names.as_uri())
    asked = {one.name: one for one in read.dependencies["linux-64"]}
    assert (asked["native"].manager, asked["native"].version, asked["native"].build) == ("conda", "1.0", "h123_4")
    assert (asked["tagger"].manager, asked["tagger"].version) == ("pip", "==1.2+local")
    assert read.channels[0].url == "conda-forge"


def test_pylock(demo: Any, tmp_path: Path) -> None:
    text = said(demo, "pylock", tmp_path / "pylock.toml").read_text()
    read = Pylock.from_dict(tomllib.loads(text))
    ((package, wheel),) = read.select(tags=[Tag("py3", "none", "any")])  # for the Python that runs this
    locked = next(one for one in read_lock(demo.lock("demo")).packages if one.manager == "pip")
    assert (package.name, str(package.version)) == ("tagger", "1.2+local")
    assert isinstance(wheel, PackageWheel)
    assert (wheel.url, wheel.name, wheel.hashes) == (
        locked.url,
        "tagger-1.2+local-py3-none-any.whl",
        {"sha256": locked.sha256},
    )
    demo.recipes.recipe("none", "native")
    assert demo("lock", "none").code == 0
    done = demo("render", "none", "pylock", "--json")
    assert done.codes == ["pylock-no-wheels"]
    assert "`mlviews render none constraints`" in done.json["errors"][0]["hint"]


def test_pip_leaves_what_the_constraints_name(demo: Any, tmp_path: Path) -> None:
    assert demo("build", "demo").code == 0
    file = said(demo, "constraints", tmp_path / "constraints.txt")
    assert {"numbers==2.3", "tagger==1.2"} <= {*file.read_text().splitlines()}
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "-c", str(file)]
    assert subprocess.run([*pip, "more"], capture_output=True, check=False).returncode == 0
    done = subprocess.run([*pip, "numbers>=3"], capture_output=True, text=True, check=False)
    assert (done.returncode, "conflict" in done.stderr) == (1, True)
