"""The shipped JSON Schemas: current, valid, and of one mind with the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mlviews.errors import BadInputError
from mlviews.recipe.model import Recipe, parse
from mlviews.schema import SCHEMAS, schemas

if TYPE_CHECKING:
    from conftest import Recipes


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


def test_the_shipped_files_are_current() -> None:
    shipped = {path.name: path.read_text() for path in SCHEMAS.iterdir()}
    stale = {name for name, text in schemas().items() if shipped.pop(name, None) != text} | {*shipped}
    assert stale == set(), "run `python -m mlviews.schema`"


def test_the_tables_of_the_reference_are_current(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(repository / "docs")
    from generated import PAGES, PARTS, put_in

    pages = {path: path.read_text() for path in PAGES}
    assert pages.keys() >= {repository / "README.md", repository / "docs" / "catalogue.md"}
    assert [path for path, text in pages.items() if put_in(text) != text] == [], "run `python docs/generated.py`"
    assert [name for name in PARTS if f"<!-- generated: {name} -->" not in "".join(pages.values())] == []
    keys = PARTS["site-keys"]()
    assert "| `batch.NAME.queues.NAME.limit` | text |" in keys
    assert "| `pins` | map of names to text |" in keys
    added = PARTS["commands"]().partition("## mlviews kernel add")[2].partition("\n## ")[0]
    assert "| `--prefix DIR` | Where Jupyter is installed. |" in added, "it is not the option of every verb"


@pytest.mark.parametrize("name", [path.name.removesuffix(".schema.json") for path in SCHEMAS.iterdir()])
def test_each_is_a_schema_that_describes_its_keys(name: str) -> None:
    schema = validator(name).schema
    Draft202012Validator.check_schema(schema)
    assert schema["description"]
    if not name.startswith("result-"):
        assert schema["additionalProperties"] is False
        for key, value in schema["properties"].items():
            assert value.keys() & {"description", "$ref", "items"}, f"{name}.{key} has no description"


@pytest.mark.parametrize(
    ("kind", "files"),
    [("recipe", "recipes/*.yaml"), ("layer", "recipes/layers/*.yaml"), ("site", "mlviews/site/profiles/*.yaml")],
)
def test_what_is_shipped_fits_its_schema(repository: Path, kind: str, files: str) -> None:
    paths = sorted(repository.glob(files))
    assert paths
    for path in paths:
        faults = [
            f"{error.json_path}: {error.message}"
            for error in validator(kind).iter_errors(yaml.safe_load(path.read_text()))
        ]
        assert not faults, path


def accepted(recipes: Recipes, keys: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether the model accepts a recipe with these keys, and whether the schema does."""
    path = recipes.recipe("x", **keys)
    try:
        parse(path, Recipe)
    except BadInputError:
        by_model = False
    else:
        by_model = True
    return by_model, validator("recipe").is_valid(yaml.safe_load(path.read_text()))


NAMES = st.text(alphabet="ab1-._/ A\u00e9", max_size=8) | st.sampled_from(
    ["default", "a/default", "default/a", "defaults/a", "a" * 65, "a" * 200]
)


@given(name=NAMES)
@pytest.mark.parametrize("key", ["name", "module"])
def test_names_and_modules_are_judged_alike(recipes: Recipes, key: str, name: str) -> None:
    by_model, by_schema = accepted(recipes, {key: name})
    assert by_model == by_schema


@pytest.mark.parametrize(
    ("keys", "fits"),
    [
        ({}, True),
        ({"hardware": {"glibc": "2.34", "cuda": "12.9", "archspec": "x86_64_v3", "gpus": ["T4"]}}, True),
        ({"cpu_only": [{"package": "a*", "why": "b"}]}, True),
        ({"dependencies": ["python >=3.11,<3.15", "onnxruntime * *cuda*", "gxx 14.*"]}, True),
        ({"pypi": ["wheel==1.0"]}, True),
        ({"pypi": ["wheel >=1.0; python_version < '4'"]}, True),
        ({"pypi": ["wheel @ https://x/y.whl"]}, False),
        ({"pypi": ["-e ."]}, False),
        ({"on": "../etc"}, False),
        ({"overrides": [{"package": "a", "of": "b c", "spec": "", "why": "d"}]}, False),
        ({"dependencies": ["NumPy"]}, False),
        ({"dependencies": [7]}, False),
        ({"platforms": ["osx-64"]}, False),
        ({"platforms": []}, False),
        ({"hardware": {"glibc": 2.34}}, False),
        ({"hardware": {"glibc": "2"}}, False),
        ({"hardware": {"gpus": ["A1000"]}}, False),
        ({"hardware": {"archspec": "x86_64_v9"}}, False),
        ({"summary": "a\nb"}, False),
        ({"summary": "a\x85b"}, False),
        ({"summary": " "}, False),
        ({"summary": "x" * 2001}, False),
        ({"gaps": [{"package": "a"}]}, False),
        ({"schema": 2}, False),
        ({"unknown": 1}, False),
        ({"module": None}, False),
    ],
)
def test_the_schema_knows_what_the_model_knows(recipes: Recipes, keys: dict[str, Any], fits: bool) -> None:
    assert accepted(recipes, keys) == (fits, fits)


def test_each_key_of_a_recipe_is_in_the_guide() -> None:
    docs = Path(__file__).parents[1] / "docs"
    text = (docs / "recipes.md").read_text() + (docs / "extend.md").read_text()
    keys = {field.alias or name for name, field in Recipe.model_fields.items()}
    assert {key for key in keys if f"\n{key}: " not in text and f"`{key}`" not in text} == set()
