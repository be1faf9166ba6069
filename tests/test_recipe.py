"""Recipes and layers: every fault of a file at once, each with file, line and key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.errors import BadInputError, nearest
from mlviews.recipe.model import Layer, Recipe, parse

if TYPE_CHECKING:
    from conftest import Recipes

LONG = "a" * 200

BAD_NAMES = [
    "",
    "default",
    "a/../b",
    "/etc/passwd",
    "..",
    "two words",
    "quo'te",
    'quo"te',
    "a$b",
    "a`b`",
    "Upper",
    "-a",
    "a-",
    "a--b",
    "a_b",
    "a.b",
    "é",
    "a\x00b",
    "a\nb",
    "a\x1b[31m",
    "a\u2028b",
    LONG,
]
BAD_MODULES = [
    *(name for name in BAD_NAMES if name not in {"a_b", "a.b"}),
    "a//b",
    "/a",
    "a/",
    "a/..",
    "a/./b",
    "atlasml/default",
    "default/x",
    "a/.hidden",
    "a/b c",
    "a/" + "b" * 200,
]


def faults(recipes: Recipes, text: str | None = None, kind: type[Layer] = Recipe, **keys: Any) -> tuple[str, ...]:
    path = recipes.text("x.yaml", text) if text is not None else recipes.recipe("x", **keys)
    with pytest.raises(BadInputError) as caught:
        parse(path, kind)
    assert caught.value.code == "file-invalid"
    assert caught.value.exit_code == 2
    assert str(path) in caught.value.message
    assert all(fault.startswith(f"{path}:") for fault in caught.value.faults)
    return tuple(fault.removeprefix(f"{path}:") for fault in caught.value.faults)


def test_a_whole_recipe(recipes: Recipes) -> None:
    path = recipes.recipe(
        "x",
        "python >=3.11",
        layers=["base"],
        hardware={"glibc": "2.34", "cuda": "12.9", "archspec": "x86_64_v3", "gpus": ["T4", "A100"]},
        constraints=["numpy <3"],
        pypi=["wheel==1.0"],
        gaps=[{"package": "fastjet", "why": "not there"}],
        cpu_only=[{"package": "onnx*", "why": "no build"}],
        smoke=["torch-train"],
    )
    model = parse(path, Recipe).model
    assert model.hardware.gpus == ["T4", "A100"]
    assert model.cpu_only[0].package == "onnx*"
    assert model.schema_version == 1


def test_an_empty_recipe_lacks_every_required_key(recipes: Recipes) -> None:
    found = faults(recipes, "{}")
    assert {fault.split("'")[1] for fault in found} == {"schema", "name", "summary", "module", "platforms"}
    assert all("is missing" in fault for fault in found)


def test_all_faults_at_once_with_line_and_key(recipes: Recipes) -> None:
    text = """\
schema: 1
name: x
summary: [not, text]
module: a/../b
platforms: [linux-32, osx-arm64]
hardware:
  glibc: 2.34
  cuda: 13
  gpu: [A100]
  gpus: [A1000]
dependancies: [python]
dependencies:
  - python 3.11
  - 7
gaps:
  - {package: fastjet, reason: none}
"""
    found = faults(recipes, text)
    for line, *words in (
        (3, "summary", "string"),
        (4, "module", "'a/../b'"),
        (5, "platforms[0]", "none of linux-64, linux-aarch64"),
        (5, "platforms[1]", "is no Linux", "take a Linux container"),
        (7, "hardware.glibc", "2.34", "write it in quotes"),
        (8, "hardware.cuda", "13", "write it in quotes"),
        (9, "hardware.gpu", "unknown key", "did you mean 'gpus'?"),
        (10, "hardware.gpus[0]", "'A1000'", "did you mean 'A100'?"),
        (11, "dependancies", "unknown key", "did you mean 'dependencies'?"),
        (13, "dependencies[0]", "python 3.11.*"),
        (14, "dependencies[1]", "7", "write it in quotes"),
        (16, "gaps[0].why", "missing"),
        (16, "gaps[0].reason", "unknown key", "package, why"),
    ):
        assert any(fault.startswith(f"{line}") and all(word in fault for word in words) for fault in found), (
            line,
            words,
            found,
        )
    assert len(found) == 13


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_refused(recipes: Recipes, name: str) -> None:
    assert any("name" in fault for fault in faults(recipes, name=name))


@pytest.mark.parametrize("module", BAD_MODULES)
def test_modules_that_are_refused(recipes: Recipes, module: str) -> None:
    assert any("module" in fault for fault in faults(recipes, module=module))


def test_a_fault_quotes_only_so_much_and_no_control_characters(recipes: Recipes) -> None:
    (fault,) = faults(recipes, name="\x1b]0;owned\x07" + "x" * 5000)
    assert fault.isprintable()
    assert len(fault) < 500


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schema", 2, "1"),
        ("schema", "1", "1"),
        ("platforms", [], "at least 1"),
        ("platforms", "linux-64", "list"),
        ("platforms", ["linux64"], "did you mean 'linux-64'?"),
        ("layers", "base", "list"),
        ("layers", ["../base"], "lower-case"),
        ("hardware", [], "keys stand below it"),
        ("glibc", "2.34", "unknown key; it belongs below 'hardware', indented"),
        ("channels", ["conda-forge"], "a site names its channels"),
        ("pip", ["salt-ml"], "packages of PyPI stand under `pypi`"),
        ("dependencies", [{"pip": ["salt-ml"]}], "packages of PyPI stand under `pypi`"),
        ("dependencies", ["numpy - scipy"], "two items in one"),
        ("hardware", {"glibc": "2"}, "MAJOR.MINOR"),
        ("hardware", {"glibc": "2.34.1"}, "MAJOR.MINOR"),
        ("hardware", {"cuda": ">=12"}, "MAJOR.MINOR"),
        ("hardware", {"archspec": "x86_64_v9"}, "did you mean 'x86_64_v"),
        ("hardware", {"gpus": ["a100"]}, "none of"),
        ("dependencies", {"python": "3.11"}, "list"),
        ("dependencies", [""], "is empty"),
        ("dependencies", ["numpy >>2"], "is not a match spec"),
        ("constraints", ["numpy ="], "is not a match spec"),
        ("dependencies", [True], "write it in quotes"),
        ("dependencies", [None], "string"),
        ("pypi", ["requests @ https://x.org/requests.whl"], "names a URL"),
        ("pypi", ["-e ."], "is not a requirement"),
        ("overrides", [{"package": "a", "of": "b", "spec": "1", "why": "c"}], "is not a range of versions"),
        ("on", "a/b/c", "must be VIEW, VIEW/RELEASE"),
        ("on", "../../etc", "must be VIEW, VIEW/RELEASE"),
        ("gaps", ["fastjet"], "gaps[0]"),
        ("cpu-only", [{"package": "x"}], "'cpu-only[0].why' is missing"),
        ("smoke", ["../../bin/sh"], "lower-case"),
        ("summary", "a\nb", "control character U+000A"),
        ("summary", "a\x1bb", "control character U+001B"),
        ("summary", "a\x85b", "control character U+0085"),
        ("summary", "a\u2028b", "control character U+2028"),
        ("summary", "   ", "is empty"),
        ("summary", "x" * 2001, "2000"),
        ("[odd]", 1, "unknown key"),
        ("[key]", 1, "unknown key"),
        ("\x1b[31mred", 1, "unknown key"),
    ],
)
def test_wrong_types_and_values(recipes: Recipes, key: str, value: Any, words: str) -> None:
    (fault,) = faults(recipes, **{key: value})
    assert words in fault


def test_text_that_means_something_elsewhere_is_carried_as_it_is(recipes: Recipes) -> None:
    text = "[red]x[/] :smile: $(id) `id` ${HOME} ]] {{ x }} \\n \"'"
    assert parse(recipes.recipe("x", summary=text), Recipe).model.summary == text


def test_a_layer_has_no_name_module_or_platforms(recipes: Recipes) -> None:
    found = faults(recipes, "schema: 1\nname: x\nmodule: x\nplatforms: [linux-64]\n", kind=Layer)
    assert [fault.split(":")[1].strip() for fault in found] == ["name", "module", "platforms"]
    assert parse(recipes.layer("base"), Layer).model.dependencies == []


def test_the_nearest_word() -> None:
    assert nearest("dependancies", ["dependencies", "constraints"]) == "; did you mean 'dependencies'?"
    assert nearest("pipy", ["local", "pypi"]) == "; did you mean 'pypi'?"
    assert nearest("a100", (name for name in ("T4", "A100"))) == "; did you mean 'A100'?"
    assert nearest("zzz", ["dependencies"]) == ""


@given(name=st.text(max_size=30) | st.from_regex(r"[a-z0-9-]{1,70}", fullmatch=True))
def test_an_accepted_name_is_a_safe_file_name(recipes: Recipes, name: str) -> None:
    try:
        model = parse(recipes.recipe("x", name=name, module=name), Recipe).model
    except BadInputError:
        return
    assert model.name == name
    assert name.isascii()
    assert name.replace("-", "").isalnum()
    assert name == name.lower() != "default"
    assert len(name) <= 64
