"""Recipe and layers -> spec: order, provenance, and contradictions that name both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlviews.errors import BadInputError
from mlviews.recipe.compose import compose
from mlviews.recipe.model import Recipe, parse
from mlviews.recipe.view import VariantOf, ViewSpec

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Recipes


def spec(path: Path) -> ViewSpec:
    return compose(parse(path, Recipe), path.parent / "layers")


def faults(path: Path) -> tuple[str, ...]:
    with pytest.raises(BadInputError) as caught:
        spec(path)
    assert caught.value.code == "recipe-invalid"
    assert str(path) in caught.value.message
    return caught.value.faults


def test_layers_come_in_order_each_after_what_it_builds_on(recipes: Recipes) -> None:
    recipes.layer("base", "python")
    recipes.layer("io", "uproot", layers=["base"])
    recipes.layer("plot", "mplhep", layers=["base"], smoke=["plot-png"])
    found = spec(recipes.recipe("x", "numpy", layers=["io", "plot", "base"], smoke=["plot-png", "torch-train"]))
    assert found.layers == ("base", "io", "plot")
    assert [request.text for request in found.dependencies] == ["python", "uproot", "mplhep", "numpy"]
    assert found.smoke == ("plot-png", "torch-train")


def test_everybody_who_asked_is_remembered_when_requests_are_joined(recipes: Recipes) -> None:
    one = recipes.layer("one", "python", "numpy >=2")
    two = recipes.layer("two", "numpy >=2")
    path = recipes.recipe("x", "numpy >=2", "numpy <3", layers=["one", "two"], platforms=["linux-64"] * 2)
    found = spec(path)
    numpy = next(request for request in found.dependencies if request.text == "numpy >=2")
    assert [origin.source for origin in numpy.origins] == ["layer one", "layer two", "recipe x"]
    assert [origin.where for origin in numpy.origins] == [
        f"{one}:4: dependencies[1]",
        f"{two}:3: dependencies[0]",
        f"{path}:11: dependencies[0]",
    ]
    assert numpy.name == "numpy"
    assert [request.text for request in found.dependencies] == ["python", "numpy >=2", "numpy <3"]
    assert found.platforms == ("linux-64",), "a platform that is named twice is solved once"


def test_a_variant_goes_over_what_the_layers_and_the_recipe_say(recipes: Recipes) -> None:
    cuda13 = {"hardware": {"cuda": "13.0", "gpus": ["B200"]}, "constraints": ["cuda-version 13.0.*", "libcudnn"]}
    hardware = {"glibc": "2.34", "cuda": "12.9", "gpus": ["V100", "T4"]}
    limits = ["cuda-version <=12.9", "libcudnn <9.11"]
    layer = recipes.layer("cuda", "python", hardware=hardware, constraints=limits, variants={"cuda13": cuda13})
    mine = {"dependencies": ["numpy >=2.3"], "constraints": ["numpy <2.5"]}
    path = recipes.recipe("x-gpu", "numpy <2.4", layers=["cuda"], module="atlasml/x", variants={"cuda13": mine})
    own, variant = spec(path), compose(parse(path, Recipe), path.parent / "layers", variant="cuda13")

    assert (own.variant, own.hardware.cuda, own.hardware.gpus) == (None, "12.9", ("V100", "T4"))
    assert [request.text for request in own.constraints] == limits
    assert variant.variant == VariantOf("cuda13", "x-gpu", "atlasml/x")
    assert (variant.name, variant.module) == ("x-gpu-cuda13", "atlasml/x-cuda13")
    assert (variant.hardware.glibc, variant.hardware.cuda, variant.hardware.gpus) == ("2.34", "13.0", ("B200",))
    assert [request.text for request in variant.dependencies] == ["python", "numpy >=2.3"]
    assert [request.text for request in variant.constraints] == ["cuda-version 13.0.*", "libcudnn", "numpy <2.5"]
    where = next(request.origins[0].where for request in variant.constraints if request.name == "libcudnn")
    assert where.startswith(f"{layer}:")
    assert where.endswith("variants.cuda13.constraints[1]")


@pytest.mark.parametrize(
    ("variants", "told"),
    [
        ({"own": {}}, "'own' is reserved"),
        ({"cuda-13": {}}, "must be at most 16 lower-case letters and digits"),
        ({"cuda13": {"hardware": {"cudda": "13.0"}}}, "unknown key; did you mean 'cuda'?"),
        ({"cuda13": {"smoke": []}}, "unknown key; known are constraints, dependencies, hardware"),
        ({"cuda13": {"constraints": ["cuda-version 13.0"]}}, "means exactly 13.0"),
    ],
)
def test_a_faulty_variant_is_told(recipes: Recipes, variants: dict[str, object], told: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse(recipes.recipe("x-gpu", variants=variants), Recipe)
    assert told in str(caught.value)


def test_a_variant_that_nobody_describes_is_refused(recipes: Recipes) -> None:
    """It would be the same packages under another name, such as CUDA 12.9 under ``cuda13``."""
    recipes.layer("cuda", variants={"cuda13": {"hardware": {"cuda": "13.0"}}})
    recipes.layer("other")
    path = recipes.recipe("x-gpu", hardware={"glibc": "2.34", "cuda": "12.9"}, variants={"cuda13": {}})
    with pytest.raises(BadInputError) as caught:
        compose(parse(path, Recipe), path.parent / "layers", variant="cuda13")
    (fault,) = caught.value.faults
    assert "variants.cuda13: neither the recipe nor its layers say what it changes" in fault
    assert "add a layer that does (cuda)," in fault


def test_a_view_on_another_has_no_variants(recipes: Recipes) -> None:
    path = recipes.recipe("mine", hardware=None, on="theirs", variants={"cuda13": {}})
    with pytest.raises(BadInputError) as caught:
        compose(parse(path, Recipe), path.parent / "layers", variant="cuda13")
    assert "and has no variants" in str(caught.value)


def test_scalars_that_agree_are_joined(recipes: Recipes) -> None:
    recipes.layer("one", hardware={"glibc": "2.34", "gpus": ["A100", "T4"]})
    recipes.layer("two", hardware={"cuda": "12.9", "gpus": ["T4", "H100"]})
    found = spec(recipes.recipe("x", layers=["one", "two"], hardware={"glibc": "2.34"})).hardware
    assert (found.glibc, found.cuda, found.archspec) == ("2.34", "12.9", None)
    assert found.gpus == ("A100", "T4", "H100")


def test_layers_that_contradict_each_other_are_both_named(recipes: Recipes) -> None:
    one = recipes.layer("one", hardware={"cuda": "12.9", "glibc": "2.34"})
    two = recipes.layer("two", hardware={"cuda": "13.0", "glibc": "2.28"})
    found = faults(recipes.recipe("x", layers=["one", "two"], hardware=None))
    assert found == (
        (
            f"hardware.glibc is '2.34' in layer one ({one}:5: hardware.glibc) "
            f"but '2.28' in layer two ({two}:5: hardware.glibc)"
        ),
        (
            f"hardware.cuda is '12.9' in layer one ({one}:4: hardware.cuda) "
            f"but '13.0' in layer two ({two}:4: hardware.cuda)"
        ),
    )


def test_a_recipe_does_not_overrule_its_layer(recipes: Recipes) -> None:
    recipes.layer("one", hardware={"archspec": "x86_64_v3"})
    (fault,) = faults(recipes.recipe("x", layers=["one"], hardware={"glibc": "2.34", "archspec": "x86_64_v4"}))
    assert "layer one" in fault
    assert "recipe x" in fault


def test_a_missing_layer(recipes: Recipes) -> None:
    recipes.layer("pytorch")
    path = recipes.recipe("x", layers=["pytorhc", "other"])
    first, second = faults(path)
    assert f"{path}:11: layers[0]: there is no layer 'pytorhc'" in first
    assert "did you mean 'pytorch'?" in first
    assert "there is no layer 'other'" in second


def test_a_circle_of_layers(recipes: Recipes) -> None:
    recipes.layer("one", layers=["two"])
    two = recipes.layer("two", layers=["three"])
    recipes.layer("three", layers=["two"])
    (fault,) = faults(recipes.recipe("x", layers=["one"]))
    assert "two -> three -> two" in fault
    assert str(two.parent / "three.yaml") in fault
    recipes.layer("self", layers=["self"])
    (fault,) = faults(recipes.recipe("y", layers=["self"]))
    assert "self -> self" in fault


def test_the_faults_of_all_files_at_once(recipes: Recipes) -> None:
    recipes.layer("one", "python 3.11", layers=["gone"], hardware={"cuda": "12.9"})
    recipes.layer("two", hardware={"cuda": "12.6", "gpus": ["T400"]})
    recipes.layer("three", layers=["missing"], hardware={"cuda": "13.0"})
    found = faults(recipes.recipe("x", layers=["one", "two", "three"], hardware={"cuda": "12.9"}))
    text = "\n".join(found)
    for words in ("python 3.11.*", "T400", "there is no layer 'missing'", "13.0", "says hardware.glibc"):
        assert words in text


def test_hardware_that_is_not_said(recipes: Recipes) -> None:
    path = recipes.recipe("x", hardware=None)
    (fault,) = faults(path)
    assert "hardware.glibc" in fault
    assert str(path) in fault
    path = recipes.recipe("x", hardware={"glibc": "2.34", "gpus": ["A100"]})
    (fault,) = faults(path)
    assert "nothing says hardware.cuda" in fault
    assert f"{path}:9: hardware.gpus" in fault


def test_reasons_are_joined(recipes: Recipes) -> None:
    recipes.layer("one", gaps=[{"package": "a", "why": "b"}], cpu_only=[{"package": "c", "why": "d"}])
    found = spec(recipes.recipe("x", layers=["one"], gaps=[{"package": "a", "why": "b"}, {"package": "a", "why": "z"}]))
    assert [(gap.package, gap.why) for gap in found.gaps] == [("a", "b"), ("a", "z")]
    assert [item.package for item in found.cpu_only] == ["c"]


def test_the_inputs_of_a_lock_are_what_the_solve_reads(recipes: Recipes) -> None:
    def inputs(**keys: object) -> dict[str, object]:
        return spec(recipes.recipe("x", "numpy", "python", **keys)).inputs(["conda-forge"])

    plain = inputs()
    assert inputs(summary="Another", module="atlasml/other", smoke=["torch-train"]) == plain, "prose and checks"
    assert inputs(dependencies=["python", "numpy"]) == plain, "order"
    assert inputs(cpu_only=[{"package": "a", "why": "b"}]) == inputs(cpu_only=[{"package": "a", "why": "c"}])
    changed = [
        inputs(constraints=["numpy <3"]),
        inputs(platforms=["linux-aarch64"]),
        inputs(hardware={"glibc": "2.28"}),
        inputs(hardware={"glibc": "2.34", "cuda": "12.9"}),
        inputs(hardware={"glibc": "2.34", "cuda": "12.9", "gpus": ["A100"]}),
        inputs(hardware={"glibc": "2.34", "archspec": "x86_64_v3"}),
        inputs(cpu_only=[{"package": "a", "why": "b"}]),
        inputs(pypi=["wheel==1.0"]),
    ]
    assert len({str(one) for one in (plain, *changed)}) == len(changed) + 1
