"""A wheel that breaks a view: a night that takes the newest finds it, and a bisection names it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from packaging.version import Version

from mlviews.bisect.between import Step, _Shelf
from mlviews.errors import FailedError

if TYPE_CHECKING:
    from shelf import Shelf

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
BREAKS = "raise RuntimeError('planted')\n"


def lock(cli: Any, name: str) -> None:
    """Lock the view anew and keep a copy of its lock."""
    done = cli("lock", "demo", "--upgrade")
    assert done.code == 0, done.err
    Path(f"{name}.yml").write_bytes(cli.lock("demo").read_bytes())


def moves(changes: Any) -> dict[str, tuple[str | None, str | None]]:
    return {one["name"]: (one["before"], one["after"]) for one in changes}


def test_a_night_finds_it_and_a_bisection_names_the_wheel_and_its_version(
    builder: Any, shelf: Shelf, make_wheel: Any, wheelhouse: Path
) -> None:
    reads = {"reader.py": "import tables\n"}

    def tables(version: str, needs: str = "", file: str = "tables.py") -> None:
        requires = [needs] if needs else []
        make_wheel(wheelhouse, "tables", version, files={file: BREAKS if needs else ""}, requires=requires)

    shelf.add("python_abi", MINOR, build=f"8_cp{MINOR.replace('.', '')}")
    shelf.add("numbers", "2.3", modules={"numbers_of": "version = '2.3'\n"})
    builder.recipes.recipe("demo", "python", "numbers", pypi=["reader", "plotter"], smoke=["imports"])
    make_wheel(wheelhouse, "reader", "1.0", files=reads, requires=["tables <2", "numbers"])
    make_wheel(wheelhouse, "plotter", "1.0")
    tables("1.0")
    lock(builder, "good")

    shelf.add("numbers", "2.4", modules={"numbers_of": "version = '2.4'\n"})
    make_wheel(wheelhouse, "reader", "2.0", files=reads, requires=["tables >=2", "numbers"])  # conda calls it pytables
    make_wheel(wheelhouse, "plotter", "2.0")
    make_wheel(wheelhouse, "late", "1.0")
    tables("2.0")
    tables("2.1", "late >=5")
    tables("2.2", "late", "../tables.py")
    tables("2.3", "late")
    tables("2.4rc1", "late")
    tables("2.4", "late")
    night = builder("nightly", "demo", "--json")
    (cell,) = night.data["nights"][-1]["cells"]
    assert (night.code, cell["state"]) == (1, "check-failed")
    assert "reader: RuntimeError: planted" in cell["reason"]
    changes = moves(cell["changes"])
    assert changes["tables"] == ("1.0", "2.4")
    assert changes.keys() == {"late", "numbers", "plotter", "reader", "tables"}

    lock(builder, "bad")
    options = ("--good=good.yml", "--bad=bad.yml", "--check=imports", "--retries=0", "--json")
    found = builder("bisect", "demo", *options)
    assert found.code == 0, found.out
    data = found.data
    assert data["checks"] == {"imports": "reader: RuntimeError: planted"}
    assert data["differ"] == len(changes)
    # Neither reader bears the other's tables, and what broke those lies between: what a version of them asks for, no
    # mixture has, and another one is no package.
    assert moves(data["change"]) == {"late": (None, "1.0"), "reader": ("1.0", "2.0"), "tables": ("1.0", "2.3")}
    assert moves(data["step"]) == {"late": (None, "1.0"), "tables": ("2.0", "2.3")}
    assert data["skipped"] == ["pytables 2.1"]
    assert "reader 1.0 asks for pytables <2" in " ".join(data["because"])


def test_versions_go_from_the_good_one_to_the_bad_one_with_the_extras_that_the_recipe_asks_for() -> None:
    asked: list[str] = []

    codes = ["index-unreachable", "bad-wheel"]

    async def look_up(lines: list[Any]) -> None:
        asked.extend(map(str, lines))
        raise FailedError(codes.pop(0), "no answer")

    def package(version: str) -> Any:
        return SimpleNamespace(name="plotter", version=version)

    there = [Version(text) for text in ("0.9", "1.0", "1.5", "1.10", "2.0", "3.0")]
    index = SimpleNamespace(versions=lambda *_, **__: there)
    offers: Any = SimpleNamespace(
        index=index, target=SimpleNamespace(minor=MINOR), sdists=frozenset(), look_up=look_up,
        records=list, taken=list,
    )  # fmt: skip
    spec = SimpleNamespace(pypi=[SimpleNamespace(text="Plotter[fast]>=1")])
    mixtures: Any = SimpleNamespace(good={"plotter": package("1.0")}, site_spec=SimpleNamespace(spec=spec))
    shelf = _Shelf(mixtures, offers, set())

    assert shelf.between([package("1.0"), package("2.0")]) == ("1.5", "1.10")
    assert shelf.between([package("2.0"), package("1.0")]) == ("1.10", "1.5")
    with pytest.raises(FailedError, match="no answer"):
        shelf.records([Step("plotter", "1.5", None)])
    assert shelf.records([Step("plotter", "1.10", None)]) == []  # only what is no package is left out
    assert asked == ["plotter[fast]==1.5", "plotter[fast]==1.10"]
