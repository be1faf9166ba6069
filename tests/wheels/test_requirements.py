"""Between conda's words and pip's: names and versions."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec
from rattler import Version as CondaVersion
from rattler.version import VersionSpec

from mlviews.errors import BadInputError, RefusedError
from mlviews.wheels.requirements import (
    conda_depends,
    conda_name,
    conda_python,
    conda_version,
    extra_name,
    limits_of,
    project_of,
    provider_of,
    requests_of,
)


@pytest.mark.parametrize(
    ("spec", "requirement"),
    [
        ("numpy", "numpy"),
        ("numpy >=2.6", "numpy>=2.6"),
        ("numpy 2.6.*", "numpy==2.6.*"),
        ("numpy >=1,<2", "numpy<2,>=1"),
        ("numpy =1.2", "numpy==1.2.*"),
        ("numpy 1.2", "numpy==1.2"),
        ("numpy ~=1.2.3", "numpy~=1.2.3"),
        ("numpy !=1.5.*,>1", "numpy!=1.5.*,>1"),
        ("numpy <2.0a0", "numpy<2.0"),  # written out, it would make pip take pre-releases
        ("numpy 1.8|1.9", "numpy"),  # the solve on the channel sees to the rest
        ("numpy >=9e", "numpy"),
        ("numpy * cpu_*", "numpy"),
        ("numpy >=1 cpu_*", "numpy>=1"),
        ("conda-forge::numpy >=1", "numpy>=1"),
        ("pytorch >=2.6", "torch>=2.6"),
        ("pytorch-cpu 2.13.*", "torch==2.13.*"),
        ("py-xgboost", "xgboost-cpu"),
        ("xgboost >=2", "xgboost-cpu>=2"),
        ("matplotlib-base", "matplotlib"),
        ("matplotlib", "matplotlib"),
        ("pytables", "tables"),
        ("msgpack-python", "msgpack"),
        ("typing_extensions", "typing-extensions"),
        ("typing-extensions", "typing-extensions"),
        ("ruamel.yaml", "ruamel-yaml"),
        ("uvicorn-standard >=1", "uvicorn[standard]>=1"),
    ],
)
def test_match_specs_become_requirements(spec: str, requirement: str) -> None:
    (request,) = requests_of([spec])
    assert str(request.requirement) == str(Requirement(requirement))
    assert request.spec == spec


def test_the_host_decides_about_python() -> None:
    assert requests_of(["python >=3.11", "__glibc >=2.17", "python_abi 3.11.*"]) == ()
    assert limits_of(["python <3.12", "__cuda"]) == ()


def test_limits_may_name_what_no_wheel_provides() -> None:
    assert list(map(str, limits_of(["libblas <4", "pytorch <3"]))) == ["libblas<4", "torch<3"]


@pytest.mark.parametrize("spec", ["", "numpy >=", "py*", "numpy >>1", "$(id)", "-rreq.txt", "a.", "-e"])
def test_what_is_no_match_spec_is_refused(spec: str) -> None:
    with pytest.raises(BadInputError) as caught:
        requests_of([spec])
    assert caught.value.code == "bad-spec"


@pytest.mark.parametrize(
    "name", ["gxx", "root", "libblas", "cuda-version", "pytorch-gpu", "graphviz", "tzdata", "gcc_linux-64"]
)
def test_what_is_no_python_package_is_not_looked_up(name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        provider_of(name)
    assert caught.value.code == "no-wheel"
    assert name in caught.value.message


@pytest.mark.parametrize(
    "project", ["torch", "matplotlib", "xgboost-cpu", "tzdata", "Jupyter_Core", "librt", "ruamel.yaml"]
)
def test_a_name_goes_there_and_back(project: str) -> None:
    assert project_of(conda_name(project)) == (project.lower().replace("_", "-").replace(".", "-"), "")


def test_extras_are_packages_of_their_own() -> None:
    assert extra_name("dask", "Array_API") == "dask-core.extra.array-api"
    depends = conda_depends(Requirement("dask[array,complete]>=2"))
    assert depends == ["dask-core >=2", "dask-core.extra.array >=2", "dask-core.extra.complete >=2"]


@pytest.mark.parametrize(
    ("specifiers", "spec"),
    [
        (">=3.9", "python >=3.9"),
        ("", "python"),
        ("~=3.9", "python 3.*,>=3.9"),
        (">=3.9,!=3.9.1,<4", "python !=3.9.1,<4,>=3.9"),
        ("==3.*", "python 3.*"),
    ],
)
def test_requires_python(specifiers: str, spec: str) -> None:
    assert conda_python(SpecifierSet(specifiers)) == spec
    assert MatchSpec(spec)


_release = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
_suffix = st.sampled_from(["", "", "", "a1", "b2", "rc1", ".post1", ".dev3", "rc1.dev2"])
_version = st.builds(
    lambda epoch, release, suffix: epoch + release + suffix, st.sampled_from(["", "", "1!"]), _release, _suffix
)
_clause = st.one_of(
    st.builds(
        lambda operator, version: operator + version, st.sampled_from([">=", "<=", ">", "<", "==", "!="]), _version
    ),
    st.builds(lambda operator, release: f"{operator}{release}.*", st.sampled_from(["==", "!="]), _release),
    st.builds(lambda release, last: f"~={release}.{last}", _release, st.integers(0, 30)),
)


@settings(max_examples=500)
@example("1.0a1", ["<=1a1"])
@example("1.0.post1", ["==1.post1"])
@example("1.0.dev3", ["<1.dev4"])
@example("2.0", ["!=2.0+cpu"])
@example("2.0+cpu", ["==2.0+cpu"])
@example("2.0+cpu", ["===2.0+cpu"])
@given(_version, st.lists(_clause, min_size=1, max_size=3))
def test_conda_takes_every_version_that_a_wheel_takes(version: str, clauses: list[str]) -> None:
    requirement = Requirement(f"a {','.join(clauses)}")
    if requirement.specifier.contains(version, prereleases=True):
        (spec,) = conda_depends(requirement)
        assert VersionSpec(spec.removeprefix("a").strip() or "*").matches(
            CondaVersion(conda_version(Version(version)))
        ), spec


@pytest.mark.parametrize(
    ("project", "name"),
    [("cf-xarray", "cf_xarray"), ("wget", "python-wget"), ("h3", "h3-py"), ("torch", "pytorch"), ("six", "six")],
)
def test_names_that_differ(project: str, name: str) -> None:
    """Taken for the package of the same name, `wget` would be GNU's program."""
    assert conda_name(project) == name
    assert project_of(name) == (project, "")


def test_each_name_leads_to_a_project_of_that_name() -> None:
    table = json.loads(files("mlviews.wheels").joinpath("conda_names.json").read_text())["names"]
    assert len(table) > 900
    for project, name in table.items():
        assert project == canonicalize_name(project)
        assert conda_name(project_of(conda_name(project))[0]) == conda_name(project), (project, name)
