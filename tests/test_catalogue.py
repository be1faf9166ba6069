"""A folder of recipes: what they must not share, and that one faulty file does not hide the others."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING

import pytest

from mlviews.errors import BadInputError, FailedError, MlviewsError
from mlviews.files.writing import folder
from mlviews.recipe.catalogue import open_catalogue
from mlviews.recipe.compose import compose
from mlviews.recipe.model import Recipe, parse
from mlviews.recipe.view import OwnCheck, view_spec
from mlviews.smoke.programs import PROGRAMS

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Cli, Recipes

LIMIT = {"constraints": ["numpy <3"]}


def clash(recipes: Recipes, name: str) -> str:
    with pytest.raises(BadInputError) as caught:
        open_catalogue(recipes.folder).view(name)
    assert caught.value.code == "recipe-clash"
    return str(caught.value)


def test_views_by_name(recipes: Recipes) -> None:
    recipes.recipe("one")
    recipes.recipe("two")
    recipes.layer("base")
    recipes.text(".hidden.yaml", "not: a recipe")
    recipes.text("notes.txt", "not a recipe")
    catalogue = open_catalogue(recipes.folder)
    assert catalogue.names == ("one", "two")
    assert catalogue.view("one").name == "one"
    assert [spec.name for spec in catalogue.views()] == ["one", "two"]


def test_each_variant_is_a_view_beside_its_recipes_own(recipes: Recipes, tmp_path: Path) -> None:
    recipes.recipe("one-gpu", module="atlasml/one", variants={"cuda13": LIMIT, "arm": {"constraints": ["numpy <2"]}})
    recipes.recipe("two")
    catalogue = open_catalogue(recipes.folder)
    assert catalogue.names == ("one-gpu", "one-gpu-arm", "one-gpu-cuda13", "two")
    assert [spec.name for spec in catalogue.views()] == [*catalogue.names]
    assert [spec.name for spec in catalogue.family("one-gpu")] == ["one-gpu", "one-gpu-cuda13", "one-gpu-arm"]
    for alone in ("one-gpu-arm", "two"):
        assert [spec.name for spec in catalogue.family(alone)] == [alone]
    assert catalogue.file("one-gpu-arm") == recipes.folder / "one-gpu.yaml"

    mine = type(recipes)(tmp_path / "mine")
    mine.recipe("three", module="atlasml/one-gpu")
    behind = open_catalogue(mine.folder, behind=recipes.folder)
    assert behind.names == ("three", *catalogue.names)
    assert [spec.name for spec in behind.family("one-gpu")] == ["one-gpu", "one-gpu-cuda13", "one-gpu-arm"]
    mine.recipe("one-gpu", module="atlasml/mine")
    behind = open_catalogue(mine.folder, behind=recipes.folder)
    assert behind.names == ("one-gpu", "three", "two")
    assert behind.hidden == behind.altered == dict.fromkeys(("one-gpu", "one-gpu-arm", "one-gpu-cuda13"), "one-gpu")
    recipes.recipe("three", module="atlasml/three")
    mine.recipe("two")
    behind = open_catalogue(mine.folder, behind=recipes.folder)
    assert ("two" in behind.hidden, "two" in behind.altered) == (True, False), "the same recipe is no other view"


def test_a_variant_has_its_name_and_its_module_for_itself(recipes: Recipes) -> None:
    recipes.recipe("one-gpu", module="atlasml/one", variants={"cuda13": LIMIT})
    recipes.recipe("one-gpu-cuda13", module="atlasml/other")
    assert "makes a view 'one-gpu-cuda13', which is the name in" in clash(recipes, "one-gpu")
    recipes.recipe("one-gpu-cuda13", module="atlasml/one-cuda13")
    assert "makes a module 'atlasml/one-cuda13', beside that in" in clash(recipes, "one-gpu")


def test_an_unknown_view_is_answered_with_the_nearest(recipes: Recipes) -> None:
    recipes.recipe("tagging-gpu")
    with pytest.raises(BadInputError) as caught:
        open_catalogue(recipes.folder).view("taging-gpu")
    assert caught.value.code == "view-unknown"
    assert "did you mean 'tagging-gpu'?" in caught.value.message


@pytest.mark.parametrize("name", ["../../etc/passwd", "", ".", "a\x00b", "x" * 300])
def test_a_name_that_is_no_name_finds_nothing(recipes: Recipes, name: str) -> None:
    recipes.recipe("one")
    with pytest.raises(BadInputError, match="there is no view"):
        open_catalogue(recipes.folder).view(name)


def test_one_faulty_file_does_not_stop_the_others(recipes: Recipes) -> None:
    recipes.recipe("good")
    recipes.recipe("bad", "python 3.11")
    recipes.text("worse.yaml", b"\xff")
    recipes.recipe("layerless", layers=["gone"])
    catalogue = open_catalogue(recipes.folder)
    assert catalogue.names == ("bad", "good", "layerless", "worse")
    assert catalogue.view("good").name == "good"
    with pytest.raises(BadInputError) as caught:
        catalogue.views()
    assert caught.value.code == "catalogue-invalid"
    text = str(caught.value)
    for words in ("bad.yaml:", "python 3.11.*", "worse.yaml:1", "no layer 'gone'"):
        assert words in text


def test_a_file_that_cannot_be_read_does_not_stop_the_others(recipes: Recipes) -> None:
    recipes.recipe("good")
    (recipes.folder / "loop.yaml").symlink_to("loop.yaml")
    (recipes.folder / "folder.yaml").mkdir()
    catalogue = open_catalogue(recipes.folder)
    assert catalogue.view("good").name == "good"
    for name in ("loop", "folder"):
        with pytest.raises(MlviewsError) as caught:
            catalogue.view(name)
        assert caught.value.code == "file-unreadable"
    with pytest.raises(MlviewsError) as caught:
        catalogue.views()
    assert "loop.yaml" in str(caught.value)
    assert "folder.yaml" in str(caught.value)


def test_two_recipes_of_one_name(recipes: Recipes) -> None:
    recipes.recipe("one")
    path = recipes.recipe("two", module="atlasml/two")
    path.write_text(path.read_text().replace("name: two", "name: one"))
    assert "'one' is also the name in" in clash(recipes, "two")
    assert "two.yaml:2: name" in clash(recipes, "one")


def test_a_name_must_be_the_files(recipes: Recipes) -> None:
    recipes.recipe("one").rename(recipes.folder / "other.yaml")
    assert "is 'one', but the file is other.yaml" in clash(recipes, "other")


def test_two_recipes_of_one_module(recipes: Recipes) -> None:
    one = recipes.recipe("one", module="atlasml/tracking")
    two = recipes.recipe("two", module="atlasml/tracking")
    recipes.recipe("three")
    assert f"{two}:4: module: 'atlasml/tracking' is also the module in {one}:4: module" in clash(recipes, "two")
    assert str(two) in clash(recipes, "one")
    assert open_catalogue(recipes.folder).view("three").name == "three"


def test_a_module_inside_another(recipes: Recipes) -> None:
    recipes.recipe("one", module="atlasml/tracking")
    recipes.recipe("two", module="atlasml/tracking/cuda")
    recipes.recipe("three", module="atlasml/tracking-cpu")
    for name in ("one", "two"):
        assert "'atlasml/tracking' would be the folder that holds 'atlasml/tracking/cuda'" in clash(recipes, name)
    assert open_catalogue(recipes.folder).view("three").module == "atlasml/tracking-cpu"


def test_a_folder_that_is_not_there(recipes: Recipes) -> None:
    with pytest.raises(FailedError) as caught:
        open_catalogue(recipes.folder)
    assert caught.value.code == "recipes-unreadable"
    assert "--recipes" in caught.value.hint


def test_a_folder_that_is_a_file(recipes: Recipes) -> None:
    path = recipes.recipe("one")
    with pytest.raises(FailedError, match="Not a directory"):
        open_catalogue(path)


def test_a_copy_of_the_catalogue_hides_nothing(cli, recipes):
    """As in a clone of mlviews' repository."""
    shutil.copytree(folder("recipes"), recipes.folder, dirs_exist_ok=True)
    assert cli("list", "--json").data["hidden"] == {}
    path = recipes.folder / "plotting.yaml"
    path.write_text(path.read_text().replace("module: atlasml/plotting", "module: atlasml/plots"))
    assert cli("list", "--json").data["hidden"] == {"plotting": "plotting"}


def test_behind_ones_own_recipes_the_catalogue_stays(cli, recipes):
    """Views and layers that travel with mlviews are there; one's own go before them, and that is told."""
    shipped = open_catalogue(folder("recipes"))
    recipes.layer("plot", "mine-alone", summary="My own")
    recipes.recipe("mine", layers=["base", "plot"], hardware=None)
    recipes.recipe("shallow", "numpy", module="atlasml/own-shallow")
    recipes.recipe("tags", "numpy", module=shipped.view("tagging-gpu").module)

    done = cli("list", "--json").data
    assert {line["name"]: line["own"] for line in done["views"]} == {
        **dict.fromkeys(("mine", "shallow", "tags"), True),
        **dict.fromkeys({*shipped.names} - {"shallow", "tagging-gpu", "tagging-gpu-cuda13"}, False),
    }
    assert done["hidden"] == {"shallow": "shallow", "tagging-gpu": "tags", "tagging-gpu-cuda13": "tags"}
    told = cli("list").out
    assert f"views of the same names as recipes in {recipes.folder} are hidden: shallow\n" in told
    assert "The catalogue's tagging-gpu is hidden: tags in" in told

    mine = cli("show", "mine", "--json").data["recipe"]
    asked = {request["spec"]: request["by"] for request in mine["dependencies"]}
    assert asked["mine-alone"] == ["layer plot"], "one's own layer"
    assert asked["ipykernel"] == ["layer base"], "the catalogue's"
    plotting = {request["spec"] for request in cli("show", "plotting", "--json").data["recipe"]["dependencies"]}
    assert "mplhep" in plotting, "its own layer, not one of mine of that name"
    assert "mine-alone" not in plotting
    assert cli("show", "tagging-gpu", "--json").codes == ["recipe-clash"]
    listed = {line["name"]: line for line in cli("layers", "--json").data["layers"]}
    assert listed["plot"]["dependencies"] == ["mine-alone"]
    assert listed["base"]["smoke"] == [*shipped.view("plotting").smoke[:4]]
    # What is done to all views is done to one's own.
    assert [spec.name for spec in open_catalogue(recipes.folder, behind=folder("recipes")).views()] == [
        *("mine", "shallow", "tags"),
    ]


def test_the_catalogue_is_not_behind_itself():
    catalogue = open_catalogue(folder("recipes"), behind=folder("recipes"))
    assert catalogue.behind is None
    assert catalogue.names == catalogue.own


def test_every_check_says_what_it_proves(cli):
    lines = cli("checks", "--json").data["checks"]
    assert {line["name"] for line in lines} == {*PROGRAMS}
    assert all(10 < len(line["proves"]) < 200 and not line["proves"].endswith(".") for line in lines)
    assert "torch-matmul" in cli("checks").out
    assert "pytorch-cuda" in cli("layers").out


# What is kept of a folder


@pytest.fixture
def kept(recipes: Recipes, cli: Cli) -> Path:
    """Where the folder's views are kept: the summary there is a lie, by which one sees whether it was read."""
    recipes.layer("base", "python", "numpy")
    recipes.recipe("one", "clock", layers=["base"], variants={"arm": LIMIT})
    assert len(open_catalogue(recipes.folder).names) == 2
    (file,) = (cli.root.parent / "home/.cache/mlviews/recipes").iterdir()
    file.write_text(file.read_text().replace('"summary": "About one"', '"summary": "Kept"'))
    return file


def test_views_are_kept_for_the_very_files(recipes: Recipes, kept: Path) -> None:
    def told() -> set[str]:
        return {spec.summary for spec in open_catalogue(recipes.folder).views()}

    assert told() == {"Kept"}
    recipes.layer("base", "python")
    assert told() != {"Kept"}, "a layer says something else"
    recipes.layer("base", "python", "numpy")
    kept.write_text("{")
    assert told() != {"Kept"}, "what is no summary is made anew"
    recipes.recipe("two")
    assert open_catalogue(recipes.folder).names == ("one", "one-arm", "two")


def test_nothing_is_kept_where_a_recipe_has_a_fault(recipes: Recipes, kept: Path) -> None:
    before = kept.read_text()
    recipes.recipe("two", layers=["nowhere"])
    assert open_catalogue(recipes.folder).own == ("one", "one-arm", "two")
    assert kept.read_text() == before
    with pytest.raises(BadInputError, match="there is no layer 'nowhere'"):
        open_catalogue(recipes.folder).view("two")


def test_every_shipped_view_is_the_same_when_it_is_read_again() -> None:
    catalogue = open_catalogue(folder("recipes"))
    for spec in catalogue.views():
        again = view_spec(json.loads(json.dumps(asdict(spec))))
        assert (again, repr(again)) == (spec, repr(spec)), "origins do not count where two are compared"


def test_a_view_with_all_that_a_recipe_can_say_is_the_same_when_it_is_read_again(recipes: Recipes) -> None:
    keys = ("gaps", "cpu-only", "pip-check-waivers")
    path = recipes.recipe(
        "full", "python", on="other", hardware=None, replace=["x"], editable=["/a"], pypi=["y"], sdists=["y"],
        overrides=[{"package": "x", "of": "y", "spec": ">=1", "why": "so"}], smoke=["import"],
        **{key: [{"package": "x", "why": "so"}] for key in keys}, **{"link-scripts": ["x"]},
    )  # fmt: skip
    spec = compose(parse(path, Recipe), recipes.folder / "layers")
    spec = replace(spec, own_checks=(OwnCheck("own", "text", "own.py"),))
    again = view_spec(json.loads(json.dumps(asdict(spec))))
    assert (again, repr(again)) == (spec, repr(spec))
    assert all(
        getattr(spec, field.name)
        for field in fields(spec)
        if field.name not in {"layers", "platforms", "constraints", "some_gpus_only", "variant"}
    ), "none of these was tried"
