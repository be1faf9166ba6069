"""The same lock and another recipe: what it says reaches users, its new checks run, and no release changes."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlviews.smoke.report import CheckLine

PACKAGES = ("python", "greet", "native")


@pytest.fixture
def demo(builder: Any, same_place: Any) -> Any:
    def build() -> None:
        builder.recipes.recipe("demo", *PACKAGES)
        assert builder("build", "demo").code == 0

    same_place.once(build)
    return builder


@pytest.fixture
def load(demo: Any):
    """Return a function that loads a module with the real Lmod, and gives the release, or what Lmod says."""
    init = Path("/usr/share/lmod/lmod/init/bash")
    if not init.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Lmod is missing: run .ci/system-packages")

    def load(module: str) -> str:
        line = f". {init}; module use {shlex.quote(str(demo.root / 'modulefiles'))}; module load {module}"
        command = [
            "env",
            "-i",
            "PATH=/usr/bin:/bin",
            f"HOME={demo.root}",
            "bash",
            "-c",
            f"{line}; echo $MLVIEWS_RELEASE",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or done.stderr

    return load


def build(builder: Any, *options: str) -> Any:
    done = builder("build", "demo", *options, "--json")
    assert done.code == 0, done.out
    return done.data


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"summary": "Another one"}, "Another one"),
        ({"gaps": [{"package": "root", "why": "not yet built"}]}, "not yet built"),
    ],
)
def test_what_a_recipe_says_anew_is_another_release_of_the_same_lock(demo, keys, told):
    (first,) = demo("releases", "demo", "--json").data["releases"]
    before = everything(demo.root / "envs/demo" / first["release"])
    demo.recipes.recipe("demo", *PACKAGES, **keys)

    built = build(demo)

    assert (built["status"], built["lock"], built["default"]) == ("new", first["lock"], True)
    assert built["release"] == f"{first['release']}.2"
    modules = demo.root / "modulefiles/atlasml/demo"
    for ending in ("", ".lua"):
        assert told in (modules / f"{built['release']}{ending}").read_text()
        assert told not in (modules / f"{first['release']}{ending}").read_text()
    assert everything(demo.root / "envs/demo" / first["release"]) == before
    assert build(demo)["status"] == "unchanged"
    # Its files are the cache's: what is new is what the build writes.
    assert demo("verify", "demo").code == 0
    line = demo("releases", "demo", "--json").data["releases"][1]
    assert (line["passed"], line["shared"] > 0) == (["imports", "pip-check"], True)


def test_a_module_that_was_renamed_names_no_release_that_it_does_not_hold(demo, load):
    first = build(demo)["release"]
    demo.recipes.recipe("demo", *PACKAGES, module="atlasml/other")

    second = build(demo)["release"]

    assert load("atlasml/other") == second
    assert load("atlasml/demo") == first  # the newest that it holds
    assert load(f"atlasml/demo/{first}") == first
    assert not (demo.root / "modulefiles/atlasml/demo/.version").is_symlink()
    assert demo("rollback", "demo").code == 0
    assert load("atlasml/demo") == first
    assert not (demo.root / "modulefiles/atlasml/other/.version").is_symlink()
    assert load("atlasml/other") == second
    assert demo("promote", f"demo/{second}").code == 0
    assert demo("remove", f"demo/{first}").code == 0
    assert f"atlasml/other loads the default, {second} by then" in " ".join(load(f"atlasml/demo/{first}").split())


def test_a_module_that_another_view_has_taken_over_keeps_its_default(demo):
    demo.recipes.recipe("demo", *PACKAGES, module="atlasml/other")
    build(demo)
    demo.recipes.recipe("twin", "python", "greet", module="atlasml/demo")
    assert demo("build", "twin").code == 0

    build(demo, "--rebuild")

    link = demo.root / "modulefiles/atlasml/demo/.version"
    assert link.readlink().parts[-3:] == ("twin", "default", "version")


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch):
    """Return a function that lets every check find the same; no real one computes anything in a view without numpy."""

    def finds(status: str) -> list[str]:
        ran: list[str] = []

        def run(_: Any, plan: Any, **__: Any) -> tuple[CheckLine, ...]:
            ran.extend(program.name for program in plan.programs)
            return tuple(
                CheckLine(name=program.name, status=status, reason="it says so", seconds=1, device="cpu")
                for program in plan.programs
            )

        monkeypatch.setattr("mlviews.smoke.release.run_checks", run)
        return ran

    return finds


def test_a_check_that_the_recipe_asks_for_since_runs_once_on_the_release_that_is_there(demo, finds):
    first = build(demo)["release"]
    demo.recipes.recipe("demo", *PACKAGES, smoke=["sklearn-train"])
    ran = finds("pass")

    built = build(demo)

    assert (built["release"], built["status"]) == (first, "unchanged")
    assert [(check["name"], check["status"]) for check in built["checks"]] == [("sklearn-train", "pass")]
    assert build(demo)["checks"] == []
    assert ran == ["sklearn-train"]
    assert "checks of its recipe ran" not in demo("build", "demo").out
    passed = demo("releases", "demo", "--json").data["releases"][0]["passed"]
    assert passed == ["imports", "pip-check", "sklearn-train"]


def test_a_new_check_that_fails_is_told_until_it_passes(demo, finds):
    demo.recipes.recipe("demo", *PACKAGES, smoke=["sklearn-train"])
    finds("fail")
    for _ in range(2):
        refused = demo("build", "demo", "--json")
        assert (refused.code, refused.codes) == (1, ["check-failed"])
        assert "sklearn-train: it says so" in refused.json["errors"][0]["message"]
    assert demo("releases", "demo", "--json").data["releases"][0]["failed"] == ["sklearn-train"]

    finds("pass")
    assert "checks of its recipe ran" in demo("build", "demo").out
    assert build(demo)["checks"] == []


def test_a_rebuild_is_a_new_release_of_the_same_lock(demo):
    first = build(demo)

    again = build(demo, "--rebuild")

    assert (again["status"], again["lock"], again["default"]) == ("new", first["lock"], True)
    assert again["release"] == f"{first['release']}.2"
    assert build(demo)["release"] == again["release"]
