"""What a wheel becomes: which kind of package, for which Python, platform and glibc."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import TYPE_CHECKING, Any

import pytest
from packaging.tags import Tag

from mlviews.wheels.convert import PackagePlan, plan_wheel
from mlviews.wheels.elf import glibc_key, glibc_needed
from mlviews.wheels.target import Target, host_target, tag_glibc
from mlviews.wheels.wheel import open_wheel

if TYPE_CHECKING:
    from pathlib import Path


_TAGS = [
    *("cp311-cp311", "cp311-abi3", "cp38-abi3", "cp311-none", "py311-none", "py3-none", "py2-none"),
]
_PLATFORMS = [
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
    "any",
]


@pytest.fixture
def target() -> Target:
    tags = frozenset(Tag(*pair.split("-"), platform) for pair in _TAGS for platform in _PLATFORMS)
    markers = {**host_target().markers, "python_version": "3.11", "python_full_version": "3.11.7"}
    return Target(subdir="linux-64", python="3.11.7", abi="cp311", markers=markers, tags=tags)


def plan(wheel: Path, target: Target) -> PackagePlan:
    with open_wheel(wheel, hashlib.sha256(wheel.read_bytes()).hexdigest()) as opened:
        return plan_wheel(opened, target)


ONE_PYTHON = {"python", "python 3.11.*", "python_abi 3.11.* *_cp311"}


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("py3-none-any", ("noarch", True, "", {"python"})),
        ("py2.py3-none-any", ("noarch", True, "", {"python"})),
        ("py311-none-any", ("noarch", True, "", {"python"})),
        ("cp311-none-any", ("linux-64", False, "", ONE_PYTHON)),
        ("py3-none-manylinux_2_28_x86_64", ("linux-64", True, "2.28", {"python"})),
        ("py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64", ("linux-64", True, "2.17", {"python"})),
        ("cp38-abi3-manylinux1_x86_64.manylinux_2_28_x86_64", ("linux-64", True, "2.5", {"python", "python >=3.8"})),
        ("cp311-cp311-manylinux_2_28_x86_64", ("linux-64", False, "2.28", ONE_PYTHON)),
        ("cp310.cp311-cp310.cp311-manylinux2014_x86_64", ("linux-64", False, "2.17", ONE_PYTHON)),
    ],
)
def test_tags_decide_the_kind(make_wheel: Any, tmp_path: Path, target: Target, tag: str, expected: Any) -> None:
    subdir, any_python, glibc, depends = expected
    found = plan(make_wheel(tmp_path, "pkg", tag=tag), target)
    assert (found.index["subdir"], found.is_any_python, found.glibc) == (subdir, any_python, glibc)
    assert set(found.index["depends"]) == depends | ({f"__glibc >={glibc}"} if glibc else set())


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        ("a", ("noarch", {"a", "python"})),
        ('a; python_version >= "3.8"', ("noarch", {"a", "python", "python 3.11.*"})),
        ('a; python_version < "3.8"', ("noarch", {"python", "python 3.11.*"})),
        ('a; sys_platform == "linux"', ("noarch", {"a", "python", "__linux"})),
        ('a; os_name == "nt"', ("noarch", {"python", "__linux"})),
        ('a; platform_machine != "riscv64"', ("linux-64", {"a", "python"})),
        ('a; extra == "sys_platform"', ("noarch", {"python"})),
        ('a; python_version >= "3.8" and extra == "x"', ("noarch", {"python"})),
    ],
)
def test_markers_are_evaluated_and_what_they_depend_on_is_stated(
    make_wheel: Any, tmp_path: Path, target: Target, requires: str, expected: Any
) -> None:
    found = plan(make_wheel(tmp_path, "pkg", requires=[requires]), target)
    assert (found.index["subdir"], set(found.index["depends"])) == expected


def test_the_build_tells_apart_whatever_differs(make_wheel: Any, tmp_path: Path, target: Target) -> None:
    one = make_wheel(tmp_path / "1", "pkg", requires=['a; python_full_version < "3.11.8"'])
    two = make_wheel(tmp_path / "2", "pkg", requires=['a; python_full_version < "3.11.8"'], files={"pkg.py": "other"})
    later = dataclasses.replace(target, markers={**target.markers, "python_full_version": "3.11.9"})
    builds = [plan(one, target), plan(two, target), plan(one, dataclasses.replace(target)), plan(one, later)]
    assert [builds.index(item) for item in builds] == [0, 1, 0, 3]


@pytest.mark.parametrize(("local", "build"), [("cpu", "cpu_py"), ("cu126.x86-64", "cu126_x86_64_py")])
def test_a_local_version_goes_into_the_build(
    make_wheel: Any, tmp_path: Path, target: Target, local: str, build: str
) -> None:
    found = plan(make_wheel(tmp_path, "pkg", f"1.0+{local.replace('-', '.')}"), target)
    assert found.index["version"] == "1.0"
    assert found.index["build"].startswith(build)
    assert found.spec == f"pkg ==1.0 {found.index['build']}"


def test_a_wheel_that_promises_no_glibc_is_looked_into(make_wheel: Any, tmp_path: Path, target: Target) -> None:
    import _ctypes
    from pathlib import Path as _Path

    library = _Path(_ctypes.__file__).read_bytes()
    files = {"pkg/_native.so": library, "pkg/data.so.txt": b"no ELF", "pkg/__init__.py": b""}
    found = plan(make_wheel(tmp_path, "pkg", tag="cp311-cp311-linux_x86_64", files=files), target)
    assert glibc_key(found.glibc) >= (2, 2, 5)
    assert f"__glibc >={found.glibc}" in found.index["depends"]


@pytest.mark.parametrize(
    ("platform", "glibc"),
    [
        ("manylinux_2_28_x86_64", "2.28"),
        ("manylinux_2_5_i686", "2.5"),
        ("manylinux1_x86_64", "2.5"),
        ("manylinux2010_x86_64", "2.12"),
        ("manylinux2014_aarch64", "2.17"),
        ("linux_x86_64", ""),
        ("musllinux_1_1_x86_64", ""),
    ],
)
def test_tags_promise_a_glibc(platform: str, glibc: str) -> None:
    assert tag_glibc(platform) == glibc


def test_headers_lie_where_one_python_looks(make_wheel: Any, tmp_path: Path, target: Target) -> None:
    found = plan(make_wheel(tmp_path, "pkg", files={"pkg-1.0.data/headers/pkg.h": "", "pkg/headers/x.h": ""}), target)
    assert found.index["depends"] == ["python", "python 3.11.*"]


def test_the_newest_symbol_of_all_files_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = {b"a": ["2.2.5", "2.14"], b"b": ["2.4"], b"c": []}
    monkeypatch.setattr("mlviews.wheels.elf._glibc_symbols", lambda file: symbols[file.read()])
    assert glibc_needed(map(io.BytesIO, symbols)) == "2.14"
    assert glibc_needed([]) == ""


def test_glibc_versions_are_ordered_as_numbers() -> None:
    assert sorted(["2.28", "2.5", "", "2.17", "2.2.5"], key=glibc_key) == ["", "2.2.5", "2.5", "2.17", "2.28"]
