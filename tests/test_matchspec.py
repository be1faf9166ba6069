"""Match specs: what a recipe may ask for, and that conda-lock's reader agrees with rattler about it."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from rattler import MatchSpec

from mlviews.recipe.model import _PLAIN, _judged, check_match_spec, check_requirement
from mlviews.recipe.view import spec_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("numpy", "numpy"),
        ("numpy >=2,<3", "numpy"),
        ("numpy>=2", "numpy"),
        ("numpy >=1.23|<1", "numpy"),
        ("numpy !=2.0", "numpy"),
        ("numpy ~=2.0", "numpy"),
        ("python 3.11.*", "python"),
        ("python=3.11", "python"),
        ("python ==3.11.4", "python"),
        ("tzdata ==2025.01|== 2026A", "tzdata"),
        ("onnxruntime * *cuda*", "onnxruntime"),
        ("onnxruntime >=1.20, <2 *cuda*", "onnxruntime"),
        ("pytorch ==2.6.0 cuda*_mkl*", "pytorch"),
        ("_openmp_mutex * *_llvm", "_openmp_mutex"),
        ("ruamel.yaml", "ruamel.yaml"),
    ],
)
def test_specs_that_are_taken_as_they_are(text: str, name: str) -> None:
    assert check_match_spec(text) == text
    assert spec_name(text) == name


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("python 3.11", "write 'python 3.11.*' for any 3.11 release, or 'python ==3.11' for that one"),
        ("python  3.11 *_cpython", "write 'python 3.11.* *_cpython' for any 3.11 release"),
        ("python 3", "'python 3.*'"),
        ("python=3.11=*_cpython", "'python 3.11.* *_cpython'"),
        ("python = 3.11 *_cpython", "'python 3.11.* *_cpython'"),
        ("python 3.11|3.12", "write '3.11.*' for any 3.11 release, or '==3.11' for that one"),
        ("python >=3.9,3.11", "'3.11.*'"),
        ("python ==3.12|3.1", "'3.1.*'"),
        ("python a1", "'python a1.*'"),
        ("python ==3.*|4", "'4.*'"),
    ],
)
def test_a_bare_version_is_refused_with_what_to_write(text: str, instead: str) -> None:
    with pytest.raises(ValueError, match="means exactly") as caught:
        check_match_spec(text)
    assert instead in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("numpy >>2", "is not a match spec"),
        ("numpy >=2 <3 x y", "at most a version and a build"),
        ("numpy >=2.*", "compares with"),
        ("numpy ~=2.*=*", "compares with"),
        ("numpy <1,> 2.* py*", "compares with"),
        ("numpy >=1, =2.1 *", "has a space inside its version"),
        ("=2", "is not a match spec"),
        ("NumPy", "lower case"),
        ("numpy * a b", "at most a version and a build"),
        ("numpy\u00a0>=2", "at most a version and a build"),
        ("numpy[version='>=2']", "no brackets"),
        ("numpy[build='x', license=MIT]", "no brackets"),
        ("numpy[when='python >=3']", "no brackets"),
        ("numpy[md5=0123456789abcdef0123456789abcdef]", "no brackets"),
        ("__cuda >=12", "hardware"),
        ("conda-forge::numpy", "names a channel or a file"),
        ("conda-forge/linux-64::numpy", "names a channel or a file"),
        ("https://conda.anaconda.org/conda-forge/linux-64/numpy-2.1.0-py312_0.conda", "names a channel or a file"),
        ("numpy[url=https://example.org/numpy-1-0.conda]", "names a channel or a file"),
        ("../numpy-1-0.conda", "is not a match spec"),
        ("-n", "at most a version and a build"),
    ],
)
def test_specs_that_are_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_match_spec(text)


NAMES = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,5}", fullmatch=True)
VERSIONS = st.from_regex(r"(==|=|>=|<=|<|>|!=|~=|)( ?)[0-9]{1,2}(\.[0-9]{1,2}){0,2}(\.\*)?", fullmatch=True)
RANGES = st.lists(VERSIONS, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([",".join(parts), "|".join(parts)])
)
BUILDS = st.from_regex(r"\*?[a-z0-9_]{1,6}\*?", fullmatch=True)
LIKELY = st.builds(
    lambda name, between, versions, build: f"{name}{between}{versions}{build}",
    NAMES,
    st.sampled_from(["", " ", "  "]),
    RANGES,
    BUILDS.map(" {}".format) | st.just(""),
)


@given(text=LIKELY | st.text(max_size=20) | st.text(alphabet="ab2.*=<>!~[]|, ;:@/^$", max_size=16))
@example(text="a=2=b")
def test_any_text_is_taken_or_refused_and_means_what_it_says(text: str) -> None:
    try:
        check_match_spec(text)
    except ValueError:
        return
    spec = MatchSpec(text)
    assert spec.name is not None
    assert spec.name.normalized == spec_name(text)
    if "==" in str(spec.version):
        assert "==" in text


@given(text=st.from_regex(_PLAIN, fullmatch=True, alphabet=st.characters(codec="ascii")))
def test_specs_that_rattler_is_not_asked_about_mean_what_they_say(text: str) -> None:
    assert _judged(text) == text
    assert MatchSpec(text).name.normalized == spec_name(text)


@given(text=LIKELY)
def test_conda_lock_reads_what_is_taken(text: str) -> None:
    from conda_lock.src_parser.conda_common import conda_spec_to_versioned_dep

    try:
        check_match_spec(text)
    except ValueError:
        assume(False)
    assert conda_spec_to_versioned_dep(text, "main").name == spec_name(text)


@given(version=st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}", fullmatch=True))
def test_what_is_offered_instead_is_taken(version: str) -> None:
    with pytest.raises(ValueError, match="means exactly") as caught:
        check_match_spec(f"python {version}")
    _, any_release, _, that_one, _ = str(caught.value).split("'")
    check_match_spec(any_release)
    check_match_spec(that_one)
    understood = MatchSpec(any_release).version
    assert str(understood).endswith(".*")


@pytest.mark.parametrize(
    "text",
    ["wheel", "wheel >=1,<2", "Wheel[extra] ==1.0.post1", "wheel ~=1.4; python_version < '4'", "wheel==1!2.*"],
)
def test_requirements(text: str) -> None:
    assert check_requirement(text) == text


@pytest.mark.parametrize(
    "text",
    ["wheel >>1", "wheel @ https://x/y.whl", "wheel; extra == 'fast'", "-r /etc/passwd", "--index-url=https://x", ""],
)
def test_what_is_no_requirement(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a requirement|names a URL|about extras"):
        check_requirement(text)
