"""``mlviews smoke --via``: the same Python through every route, and a route that leads elsewhere is named."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlviews import jupyter
from mlviews.render import modulefile
from mlviews.smoke import routes
from mlviews.smoke.report import CheckLine, RouteLine

if TYPE_CHECKING:
    from mlviews.release import Release


@pytest.fixture
def release(cli: Any, demo: Release) -> Release:
    """A release named demo that has its module and its kernel; its Python knows the tests' own packages."""
    cli.recipes.recipe("demo", "python", smoke=["environment-leaks"])
    (cli.recipes.folder / "checks").mkdir()
    (cli.recipes.folder / "checks/of_the_group.py").write_text(OF_THE_GROUP)
    folder = next(Path(demo.prefix).glob("lib/python3*/site-packages"))
    (folder / "tests.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    for path, text in {
        "modulefiles/a/demo/2026.01.01.lua": modulefile.render_lua([demo]),
        "modulefiles/a/demo/2026.01.01": modulefile.render_tcl([demo]),
        "kernels/demo-2026.01.01/kernel.json": jupyter.render_kernel(demo),
    }.items():
        (cli.root / path).parent.mkdir(parents=True, exist_ok=True)
        (cli.root / path).write_text(text)
    return demo


@pytest.fixture
def module_system() -> None:
    """Skip where there is none, as tests of other tools do."""
    if not any(Path(script).is_file() for script in routes._INIT_SCRIPTS):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no module system: run .ci/system-packages")


OF_THE_GROUP = "from _protocol import run\nrun(lambda check: check.need('json').__name__)\n"
ROUTES = ("--via", "kernel", "--via", "prefix", "--via", "module", "--check", "environment-leaks")


@pytest.mark.usefixtures("release", "module_system")
def test_the_same_through_three_routes(cli):
    tested = cli("smoke", "demo", *ROUTES, "--check", "of-the-group", "--json")
    assert tested.code == 0, tested.out
    data = tested.data
    assert [(route["route"], *(line["status"] for line in route["checks"])) for route in data["routes"]] == [
        ("prefix", "pass", "pass"),
        ("module", "pass", "pass"),
        ("kernel", "pass", "pass"),
    ]
    assert (data["differences"], data["checks"]) == ([], data["routes"][0]["checks"])
    shown = cli("smoke", "demo", *ROUTES)
    assert "the same through prefix, module, kernel" in shown.out


@pytest.mark.usefixtures("module_system")
@pytest.mark.parametrize("route", ["module", "kernel"])
def test_a_door_that_leads_elsewhere_is_a_failure_with_its_name(cli, release, route):
    if route == "module":
        for file in (cli.root / "modulefiles/a/demo").iterdir():
            file.write_text(file.read_text().replace(f"{release.prefix}/bin", str(Path(sys.executable).parent)))
    else:
        file = cli.root / "kernels/demo-2026.01.01/kernel.json"
        elsewhere = f'"/usr/bin/env", "-u", "PYTHONHOME", "-u", "PYTHONPATH", "{sys.executable}"'
        file.write_text(file.read_text().replace(f'"{release.prefix}/launch",\n  "python"', elsewhere))
    tested = cli("smoke", "demo", *ROUTES, "--json")
    assert (tested.code, tested.codes) == (1, ["routes-differ"]), tested.out
    assert tested.data["differences"][0].startswith(
        f"{route}: environment-leaks is skip, not pass as through the prefix"
    )


def test_a_door_that_is_not_there_is_said_before_anything_runs(cli, release, monkeypatch):
    monkeypatch.setattr(routes, "_INIT_SCRIPTS", ())
    for name in ("LMOD_PKG", "MODULESHOME"):
        monkeypatch.delenv(name, raising=False)
    missing = cli("smoke", "demo", "--via", "prefix", "--via", "module", "--json")
    assert (missing.code, missing.codes) == (3, ["tool-missing"])
    (cli.root / "kernels/demo-2026.01.01/kernel.json").unlink()
    missing = cli("smoke", "demo", "--via", "kernel", "--json")
    assert (missing.code, missing.codes) == (1, ["kernel-missing"])
    monkeypatch.setenv("PATH", "/nowhere")
    missing = cli("smoke", "demo", "--via", "container", "--json")
    assert (missing.code, missing.codes) == (3, ["tool-missing"])
    assert cli("smoke", "--python", sys.executable, "--via", "prefix").code == 2


def line(**changes: Any) -> CheckLine:
    return CheckLine(**{"name": "a", "status": "pass", "reason": "", "seconds": 1.0, "device": "cpu", **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"seconds": 9.0, "figures": {"x": 1}}, []),
        ({"status": "fail", "reason": "wrong"}, ["kernel: a is fail, not pass as through the prefix (wrong)"]),
        ({"device": "T4"}, ["kernel: a ran on T4, not on cpu as through the prefix"]),
        ({"versions": {"numpy": "2"}}, ["kernel: a has numpy 2, not 1 as through the prefix"]),
        ({"versions": {}}, ["kernel: a has numpy absent, not 1 as through the prefix"]),
    ],
)
def test_what_differs_is_named_with_its_route(changes, said):
    first, other = line(versions={"numpy": "1"}), line(**{"versions": {"numpy": "1"}, **changes})
    found = [RouteLine(route="prefix", checks=[first]), RouteLine(route="kernel", checks=[other])]
    assert list(routes.differences(found)) == said
