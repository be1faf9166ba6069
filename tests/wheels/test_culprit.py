"""A wheel that breaks a view: a night that takes the newest finds it, and a bisection names it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from shelf import Shelf

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
BREAKS = "raise RuntimeError('planted')\n"


@pytest.fixture
def locks(builder: Any, shelf: Shelf, make_wheel: Any, wheelhouse: Path) -> Any:
    """The command line, and the locks of a view before and after a wheel broke it: conda calls that one otherwise."""
    shelf.add("python_abi", MINOR, build=f"8_cp{MINOR.replace('.', '')}")
    shelf.add("numbers", "2.3", modules={"numbers_of": "version = '2.3'\n"})
    builder.recipes.recipe("demo", "python", "numbers", pypi=["reader", "plotter"], smoke=["imports"])

    def lock(name: str) -> None:
        done = builder("lock", "demo", "--upgrade")
        assert done.code == 0, done.err
        Path(f"{name}.yml").write_bytes(builder.lock("demo").read_bytes())

    reads = {"reader.py": "import tables\n"}
    make_wheel(wheelhouse, "reader", "1.0", files=reads, requires=["tables <2", "numbers"])
    make_wheel(wheelhouse, "tables", "1.0")
    make_wheel(wheelhouse, "plotter", "1.0")
    lock("good")
    shelf.add("numbers", "2.4", modules={"numbers_of": "version = '2.4'\n"})
    make_wheel(wheelhouse, "reader", "2.0", files=reads, requires=["tables >=2", "numbers"])
    make_wheel(wheelhouse, "tables", "2.0", files={"tables.py": BREAKS}, requires=["late"])
    make_wheel(wheelhouse, "late", "1.0")
    make_wheel(wheelhouse, "plotter", "2.0")
    return lock, builder


def test_a_bisection_names_the_wheel(locks: Any) -> None:
    lock, cli = locks
    lock("bad")
    found = cli("bisect", "demo", "--good=good.yml", "--bad=bad.yml", "--check=imports", "--retries=0", "--json")
    assert found.code == 0, found.out
    data = found.data
    assert data["checks"] == {"imports": "reader: RuntimeError: planted"}
    assert data["differ"] == len(("late", "numbers", "plotter", "reader", "tables"))
    # Neither reader bears the other's tables, and the new tables need what is new with them.
    change = {one["name"]: (one["before"], one["after"]) for one in data["change"]}
    assert change == {"late": (None, "1.0"), "reader": ("1.0", "2.0"), "tables": ("1.0", "2.0")}
    assert [one["name"] for one in data["step"]] == ["reader", "tables"]
    assert "reader 1.0 asks for pytables <2" in " ".join(data["because"])


def test_a_night_takes_the_newest_wheels(locks: Any) -> None:
    _, cli = locks
    night = cli("nightly", "demo", "--json")
    (cell,) = night.data["nights"][-1]["cells"]
    assert (night.code, cell["state"]) == (1, "check-failed")
    assert "reader: RuntimeError: planted" in cell["reason"]
    changes = {one["name"]: (one["before"], one["after"]) for one in cell["changes"]}
    assert changes["tables"] == ("1.0", "2.0")
    assert changes.keys() == {"late", "numbers", "plotter", "reader", "tables"}
