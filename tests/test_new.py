"""``mlviews new``: a recipe with comments, which locks as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from mlviews.lock.lockfile import read_lock

if TYPE_CHECKING:
    from conftest import Cli


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("layered", [False, True])
def test_it_locks_as_it_is(cli: Cli, *, gpu: bool, layered: bool) -> None:
    if layered:
        cli.recipes.layer("notebook", "ipykernel")
    done = cli("new", "mine", *(["--gpu"] if gpu else []), "--json")
    assert done.code == 0
    assert done.data == {"view": "mine", "path": str(cli.recipes.folder / "mine.yaml")}
    assert cli("lock", "mine").code == 0
    names = {package.name: package.build for package in read_lock(cli.lock("mine")).packages}
    assert {"python", "ipykernel"} <= set(names)
    assert ("cuda" in names.get("pytorch", "")) is gpu
    assert cli("list", "--json").data["views"][0]["lock"] == "current"


def test_it_has_comments_and_says_what_comes_next(cli: Cli) -> None:
    done = cli("new", "mine")
    text = (cli.recipes.folder / "mine.yaml").read_text()
    assert text.count("#") > 4
    assert "mlviews lock mine" in done.out
    assert yaml.safe_load(text)["module"] == "atlasml/mine"


def test_what_is_there_is_not_overwritten(cli: Cli) -> None:
    path = cli.recipes.recipe("mine", "clock")
    before = path.read_bytes()
    done = cli("new", "mine", "--json")
    assert (done.code, done.codes) == (2, ["recipe-exists"])
    assert path.read_bytes() == before


def test_a_module_that_another_view_has(cli: Cli) -> None:
    cli.recipes.recipe("tagging-gpu", "clock", module="atlasml/tagging")
    done = cli("new", "tagging", "--json")
    assert (done.code, done.codes) == (2, ["recipe-clash"])
    assert "'atlasml/tagging'" in done.json["errors"][0]["message"]
    assert not (cli.recipes.folder / "tagging.yaml").exists()
    assert cli("show", "tagging-gpu").code == 0, "the other view is as it was"


@pytest.mark.parametrize(
    "name", ["", "default", "../x", "/tmp/x", "two words", "quo'te", "a\nb", "a\x1b[31m", "-x", "X", "é", "a" * 200]
)
def test_names_that_are_refused(cli: Cli, name: str) -> None:
    before = sorted(Path().rglob("*"))
    done = cli("new", "--json", "--", name)
    assert (done.code, done.codes) == (2, ["name-invalid"])
    assert sorted(Path().rglob("*")) == before


def test_the_shipped_recipes_are_not_the_users_to_add_to(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLVIEWS_RECIPES")
    cli.recipes.folder.rmdir()
    done = cli("new", "mine", "--json")
    assert done.data["path"] == str(Path("recipes/mine.yaml").absolute())
    assert cli("lock", "mine").code == 0


def test_a_folder_that_cannot_be_made(cli: Cli) -> None:
    done = cli("new", "mine", "--recipes", "/proc/recipes", "--json")
    assert (done.code, done.codes) == (3, ["write-failed"])
