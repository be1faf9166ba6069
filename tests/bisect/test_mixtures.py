"""What records say of mixtures is what the solver says of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rattler import BuildString, PackageRecord, RepoDataRecord

from mlviews.bisect.mixtures import Mixtures, mixtures_of
from mlviews.conda.channels import open_sources
from mlviews.errors import RefusedError
from mlviews.lock.lockfile import Lock
from mlviews.lock.packages import locked_package
from mlviews.recipe.view import ViewHardware, ViewSpec
from mlviews.site.spec import SiteSpec
from mlviews.store.locksource import NamedLock

CHANNEL = "https://conda.anaconda.org/conda-forge"
VIEW = ViewSpec(
    name="x", summary="x", module="x", layers=(), platforms=("linux-64",),
    hardware=ViewHardware(glibc="2.34", cuda=None, archspec=None, gpus=()),
    dependencies=(), constraints=(), pypi=(), gaps=(), cpu_only=(), some_gpus_only=(), smoke=(),
    link_scripts=(), pip_check_waivers=(),
)  # fmt: skip


def record(name: str, version: str, depends: Iterable[str] = (), constrains: Iterable[str] = ()) -> RepoDataRecord:
    made = PackageRecord(
        name, version, BuildString("h_0"), 0, "noarch", depends=list(depends), constrains=list(constrains),
        md5=b"0" * 16, sha256=b"0" * 32,
    )  # fmt: skip
    file = f"{name}-{version}-h_0.conda"
    return RepoDataRecord(made, file, f"{CHANNEL}/noarch/{file}", CHANNEL)


def mixtures(before: list[RepoDataRecord], after: list[RepoDataRecord], cache: Path) -> Mixtures:
    def lock(label: str, records: list[RepoDataRecord]) -> NamedLock:
        packages = tuple(locked_package(item, "linux-64") for item in records)
        return NamedLock(label, Lock("x", {"platforms": ["linux-64"]}, "solver", packages), "")

    sources = open_sources([], ["linux-64"], mirrors={}, cache=cache).only(
        {r.url: r for r in (*before, *after)}.values()
    )
    return mixtures_of(SiteSpec(VIEW, {}, {}), "linux-64", lock("good", before), lock("bad", after), sources)


@st.composite
def states(draw: st.DrawFn, version: int) -> list[RepoDataRecord]:
    """Packages that go together, with what they ask of each other: the version that is there, any, or none at all."""
    there = draw(st.lists(st.sampled_from("abcd"), unique=True, min_size=1))
    limit = "<2" if version == 1 else ">=2"
    asked = st.sets(st.sampled_from([f"{name}{text}" for name in there for text in ("", f" {limit}")]), max_size=2)
    limits = st.sets(st.sampled_from([f"{name} {limit}" for name in "abcd"]), max_size=1)
    return [record(name, f"{version}.0", draw(asked), draw(limits)) for name in there]


@settings(max_examples=15)
@given(before=states(1), after=states(2))
def test_a_mixture_exists_where_the_solver_says_so(
    before: list[RepoDataRecord], after: list[RepoDataRecord], tmp_path: Path
) -> None:
    found = mixtures(before, after, tmp_path)
    names = sorted({*found.good, *found.bad})
    assert sorted(chain.from_iterable(unit.names for unit in found.units)) == names
    for chosen in chain.from_iterable(combinations(names, size) for size in range(len(names) + 1)):
        packages = {name: p for name, p in found.good.items() if name not in chosen}
        packages |= {name: p for name, p in found.bad.items() if name in chosen}
        applied = [unit for unit in found.units if not {*chosen}.isdisjoint(unit.names)]
        whole = all(found.names(unit.needs) <= {*chosen} for unit in applied)
        assert solvable(found, packages) == whole, (chosen, found.units)


def solvable(found: Mixtures, packages: dict) -> bool:
    try:
        assert found.solve(packages) == packages
    except RefusedError:
        return False
    return True


def test_why_two_changes_cannot_be_had_apart(tmp_path: Path) -> None:
    before = [record("a", "1.0", ["b <2"]), record("b", "1.0"), record("c", "1.0", (), ["b <2"]), record("same", "1.0")]
    after = [record("a", "2.0", ["b >=2", "d"]), record("b", "2.0"), record("c", "2.0"), record("d", "2.0"), before[-1]]
    found = mixtures(before, after, tmp_path)
    assert {unit.names: found.names(unit.needs) for unit in found.units} == {
        ("a", "b"): {"a", "b", "c", "d"},
        ("c",): {"c"},
        ("d",): {"d"},
    }
    assert found.why(found.good, found.bad) == (
        "a 1.0 asks for b <2, which b 2.0 h_0 is not",
        "c 1.0 bears only b <2, which b 2.0 h_0 is not",
        "a 2.0 asks for b >=2, which b 1.0 h_0 is not",
        "a 2.0 asks for d, and there is no d",
    )


def test_the_solver_says_what_does_not_go_together(tmp_path: Path) -> None:
    before, after = [record("a", "1.0"), record("b", "1.0")], [record("a", "2.0", ["b >=2"]), record("b", "2.0")]
    found = mixtures(before, after, tmp_path)
    with pytest.raises(RefusedError, match=r"a ==2\.0 h_0(.|\n)*b >=2"):
        found.solve({"a": found.bad["a"], "b": found.good["b"]})
