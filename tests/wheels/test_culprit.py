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
def site(builder: Any, shelf: Shelf) -> Any:
    """The command line, and a channel."""
    shelf.add("python_abi", MINOR, build=f"8_cp{MINOR.replace('.', '')}")
    return builder


def make_lock(cli: Any, view: str, name: str) -> None:
    """Lock a view anew and keep a copy of its lock."""
    done = cli("lock", view, "--upgrade")
    assert done.code == 0, done.err
    Path(f"{name}.yml").write_bytes(cli.lock(view).read_bytes())


def bisection(cli: Any, view: str, *options: str) -> Any:
    """Bisect between two locks with the one check that the wheels are made for."""
    found = cli(
        "bisect", view, "--good=good.yml", "--bad=bad.yml", "--check=imports", "--retries=0", "--json", *options
    )
    assert found.code == 0, found.out
    return found.data


def moves(changes: Any) -> dict[str, tuple[str | None, str | None]]:
    return {one["name"]: (one["before"], one["after"]) for one in changes}


@pytest.fixture
def locks(site: Any, shelf: Shelf, make_wheel: Any, wheelhouse: Path) -> Any:
    """The command line, and the good lock of a view that a wheel breaks next: conda calls that one otherwise."""
    shelf.add("numbers", "2.3", modules={"numbers_of": "version = '2.3'\n"})
    site.recipes.recipe("demo", "python", "numbers", pypi=["reader", "plotter"], smoke=["imports"])
    reads = {"reader.py": "import tables\n"}
    make_wheel(wheelhouse, "reader", "1.0", files=reads, requires=["tables <2", "numbers"])
    make_wheel(wheelhouse, "tables", "1.0")
    make_wheel(wheelhouse, "plotter", "1.0")
    make_lock(site, "demo", "good")
    shelf.add("numbers", "2.4", modules={"numbers_of": "version = '2.4'\n"})
    make_wheel(wheelhouse, "reader", "2.0", files=reads, requires=["tables >=2", "numbers"])
    make_wheel(wheelhouse, "tables", "2.0")
    for version, needs in (("2.1", "late >=5"), ("2.2", "late"), ("2.3rc1", ""), ("2.3", "late")):
        make_wheel(wheelhouse, "tables", version, files={"tables.py": BREAKS}, requires=[needs] if needs else [])
    make_wheel(wheelhouse, "late", "1.0")
    make_wheel(wheelhouse, "plotter", "2.0")
    return site


def test_a_bisection_names_the_wheel_and_its_version(locks: Any) -> None:
    make_lock(locks, "demo", "bad")
    data = bisection(locks, "demo")
    assert data["checks"] == {"imports": "reader: RuntimeError: planted"}
    assert data["differ"] == len(("late", "numbers", "plotter", "reader", "tables"))
    # Neither reader bears the other's tables, and what broke them lies between: what a third version asks for, no
    # mixture has.
    assert moves(data["change"]) == {"late": (None, "1.0"), "reader": ("1.0", "2.0"), "tables": ("1.0", "2.2")}
    assert moves(data["step"]) == {"late": (None, "1.0"), "tables": ("2.0", "2.2")}
    assert data["skipped"] == ["pytables 2.1"]
    assert "reader 1.0 asks for pytables <2" in " ".join(data["because"])


def test_a_night_takes_the_newest_wheels(locks: Any) -> None:
    night = locks("nightly", "demo", "--json")
    (cell,) = night.data["nights"][-1]["cells"]
    assert (night.code, cell["state"]) == (1, "check-failed")
    assert "reader: RuntimeError: planted" in cell["reason"]
    changes = {one["name"]: (one["before"], one["after"]) for one in cell["changes"]}
    assert changes["tables"] == ("1.0", "2.3")
    assert changes.keys() == {"late", "numbers", "plotter", "reader", "tables"}
