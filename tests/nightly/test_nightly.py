"""``mlviews nightly`` on the project's small channel: solving, and what it leaves alone."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from mlviews.nightly.history import open_history


@pytest.fixture
def night(cli: Any) -> Any:
    """Return a function that runs a night of solving alone, and gives its cells by view and platform."""

    def run(*arguments: str, code: int | None = None) -> dict[tuple[str, str], dict[str, Any]]:
        result = cli("nightly", "--solve-only", "--json", *arguments)
        assert code is None or result.code == code, result.err or result.out
        return {(c["view"], c["platform"]): c for c in result.data["nights"][-1]["cells"]}

    return run


def today() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def locks(cli: Any) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cli.lockfiles.iterdir()}


def test_each_view_on_each_platform_is_a_cell_beside_its_committed_lock(cli, night):
    cli.recipes.recipe("same", "bystander", platforms=["linux-64", "linux-aarch64"])
    cli.recipes.recipe("older", "tick", "bystander")
    cli.recipes.recipe("new", "plain")
    assert cli("lock", "same").code == 0
    assert cli("lock", "older", "--as-of", "2025-06-01").code == 0
    before = locks(cli)

    cells = night(code=0)

    assert {key: cell["state"] for key, cell in cells.items()} == {
        ("same", "linux-64"): "ok",
        ("same", "linux-aarch64"): "ok",
        ("older", "linux-64"): "updated",
        ("new", "linux-64"): "updated",
    }
    older = cells["older", "linux-64"]
    assert [(c["name"], c["kind"], c["before"], c["after"]) for c in older["changes"]] == [
        ("bystander", "up", "1.0", "2.0"), ("clock", "up", "2.0", "3.0"), ("tick", "up", "1.0", "2.0"),
    ]  # fmt: skip
    assert (older["lock"], cells["new", "linux-64"]["lock"]) == ("current", "none")
    assert not any(cell["tested"] for cell in cells.values())
    assert cells["same", "linux-64"]["digest"] == cells["same", "linux-64"]["committed"]
    assert older["figures"]["packages"] == 3
    assert older["figures"]["age"] > 200
    assert locks(cli) == before
    assert not (cli.root / "envs").exists()


def test_a_view_that_cannot_be_solved_is_blamed_and_stops_no_other(cli, night):
    cli.recipes.layer("parts", "right")
    cli.recipes.recipe("broken", "outer", layers=["parts"])
    cli.recipes.recipe("fine", "plain")

    cells = night(code=1)

    broken = cells["broken", "linux-64"]
    assert (broken["state"], cells["fine", "linux-64"]["state"]) == ("unsolvable", "updated")
    assert broken["problem"]["code"] == "unsolvable"
    assert "right  <-  layer parts (recipes/layers/parts.yaml" in broken["reason"]
    assert "These 2 requests cannot stand together" in broken["reason"]
    assert str(cli.recipes.folder) not in json.dumps(broken)
    assert broken["digest"] is None
    assert broken["earlier"]["since"] == today()


def test_a_recipe_with_a_fault_stops_no_other_and_is_told(cli, night):
    cli.recipes.recipe("good", "bystander")
    (cli.recipes.folder / "half-written.yaml").write_text("schema: 1\nname: half-written\n")

    result = cli("nightly", "--solve-only", "--json")

    assert (result.code, [cell["view"] for cell in result.data["nights"][-1]["cells"]]) == (3, ["good"])
    assert "half-written.yaml:1: the key 'summary' is missing" in " ".join(map(str, result.json["errors"]))
    assert "the key 'summary' is missing" in cli("nightly", "--solve-only").err
    assert cli("nightly", "--solve-only", "good").code == 0
    assert cli("nightly", "--solve-only", "half-written").code == 2
    (cli.recipes.folder / "good.yaml").unlink()
    assert cli("nightly", "--solve-only").code == 2


def test_people_are_shown_what_is_known(cli):
    cli.recipes.recipe("broken", "outer", "right")
    cli.recipes.recipe("new", "plain")

    shown = cli("nightly", "--solve-only")

    assert shown.code == 1
    assert "1 unsolvable, 1 updated" in shown.out
    assert "solved, nothing installed" in shown.out
    assert "there is no lock" in shown.out
    assert "<-" not in shown.out.partition("\n\n")[0], "the table names requests, the message who asks for them"
    assert "  <-  recipe broken" in shown.out
    assert "view broken cannot be solved for linux-64" in shown.out
    assert f"report: {cli.root}/nightly/{today()}/index.html" in shown.out
    assert "error" not in shown.err


def test_any_exception_of_one_view_is_its_own(cli, night, monkeypatch):
    cli.recipes.recipe("cursed", "plain")
    cli.recipes.recipe("fine", "plain")
    from mlviews.nightly import cell

    solve = cell.solve

    async def sometimes(spec: Any, *arguments: Any, **keys: Any) -> Any:
        if spec.name == "cursed":
            raise ZeroDivisionError("of our own making")
        return await solve(spec, *arguments, **keys)

    monkeypatch.setattr(cell, "solve", sometimes)

    cells = night(code=3)

    assert cells["fine", "linux-64"]["state"] == "updated"
    cursed = cells["cursed", "linux-64"]
    assert (cursed["state"], cursed["problem"]["code"]) == ("not-run", "internal-error")
    assert "ZeroDivisionError" in cursed["reason"]


def test_a_channel_that_cannot_be_reached_is_no_fault_of_the_views(cli, monkeypatch):
    monkeypatch.delenv("MLVIEWS_MIRROR")
    cli.site("offline", channels=["http://127.0.0.1:9/none"], lockfiles="{root}/lockfiles")
    cli.recipes.recipe("one", "plain")
    cli.recipes.recipe("two", "plain")

    result = cli("nightly", "--solve-only", "--json", "--site", "offline")

    assert result.code == 3
    assert {cell["state"] for cell in result.data["nights"][0]["cells"]} == {"not-run"}
    assert len(set(result.codes)) == 1
    assert result.codes[0] in {"channel-unreachable", "repodata-invalid"}


def test_a_look_back_sees_the_packages_of_its_day_and_becomes_that_night(cli, night):
    cli.recipes.recipe("older", "tick")
    cli("lock", "older")

    cells = night("--as-of", "2025-06-01", code=0)

    assert cells["older", "linux-64"]["state"] == "updated"
    assert {c["name"]: c["after"] for c in cells["older", "linux-64"]["changes"]} == {"clock": "2.0", "tick": "1.0"}
    assert (cli.root / "nightly/2025-06-01/index.html").is_file()


def test_a_look_back_never_replaces_what_the_night_itself_saw(cli, night, monkeypatch):
    cli.recipes.recipe("older", "tick")
    assert night(code=0)["older", "linux-64"]["looked-back"] is False

    again = night("--as-of", today(), code=0)

    assert again["older", "linux-64"]["looked-back"] is False


def test_months_are_filled_in_one_after_another_and_know_each_other(cli):
    cli.recipes.recipe("later", "tick >=2")

    result = cli("nightly", "--backfill", "2025-11..2026-02", "--json")

    assert result.code == 0, result.out
    nights = result.data["nights"]
    assert [run["night"] for run in nights] == ["2025-11-30", "2025-12-31", "2026-01-31", "2026-02-28"]
    assert [run["cells"][0]["state"] for run in nights] == ["unsolvable", "unsolvable", "updated", "updated"]
    assert [run["cells"][0]["earlier"]["since"] for run in nights] == ["2025-11-30", "2025-11-30", None, None]
    assert nights[2]["cells"][0]["earlier"] == {
        "last": "2025-12-31", "last-state": "unsolvable", "since": None, "good": None,
    }  # fmt: skip
    assert all(run["solve-only"] for run in nights)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--backfill", "2026-02"], "is not FROM..TO"),
        (["--backfill", "2026-02..2026-01"], "ends before it begins"),
        (["--backfill", "2026-01..2026-02", "--as-of", "2026-01-01"], "--backfill and --as-of cannot be used together"),
        (["--as-of", "2999-01-01"], "is in the future"),
        (["--cuda", "../13"], "is not a version of CUDA"),
        (["--jobs", "0"], "0 is not in the range"),
        (["nosuch"], "there is no view 'nosuch'"),
    ],
)
def test_what_cannot_be_meant_is_refused(cli, arguments, says):
    cli.recipes.recipe("fine", "plain")
    result = cli("nightly", *arguments)
    assert result.code == 2
    assert says in result.err
    assert not (cli.root / "nightly" / "latest").exists()


def test_another_cuda_is_supposed_and_never_locked(cli, night):
    gpu = {"hardware": {"glibc": "2.34", "cuda": "12.9"}}
    cli.recipes.recipe("gpu", "cuda-version <=12.9", **gpu)
    cli.recipes.recipe("cpu", "plain")
    assert cli("lock", "gpu").code == 0
    before = locks(cli)

    cells = night("--cuda", "13.0", code=0)

    assert list(cells) == [("gpu", "linux-64")]
    assert [(c["before"], c["after"]) for c in cells["gpu", "linux-64"]["changes"]] == [("12.9", "13.0")]
    assert locks(cli) == before
    assert (cli.root / f"nightly/{today()}-cuda-13.0/index.html").is_file()
    assert night(code=0)["gpu", "linux-64"]["earlier"]["last"] is None  # what was supposed is no night before
    assert cli("nightly", "--cuda", "13.0", "cpu").code == 2


def test_resume_leaves_out_what_is_known(cli, night, channel, monkeypatch):
    cli.recipes.recipe("one", "plain")
    first = night(code=0)
    cli.recipes.recipe("two", "plain")
    solved: list[str] = []
    from mlviews.nightly import cell

    solve = cell.solve

    async def counted(spec: Any, *arguments: Any, **keys: Any) -> Any:
        solved.append(spec.name)
        return await solve(spec, *arguments, **keys)

    monkeypatch.setattr(cell, "solve", counted)

    cells = night("--resume", code=0)

    assert solved == ["two"]
    assert cells["one", "linux-64"] == first["one", "linux-64"]
    assert set(cells) == {("one", "linux-64"), ("two", "linux-64")}


def test_an_interrupted_night_keeps_what_it_found(cli, monkeypatch):
    for number in range(3):
        cli.recipes.recipe(f"view-{number}", "plain")
    from mlviews.nightly import run

    keep = run.cell_of

    def interrupted(cell: Any, *arguments: Any) -> Any:
        if cell.key[0] == "view-2":
            raise KeyboardInterrupt
        return keep(cell, *arguments)

    monkeypatch.setattr(run, "cell_of", interrupted)
    assert cli("nightly", "--solve-only").code == 130
    monkeypatch.setattr(run, "cell_of", keep)

    from mlviews.nightly.night import Night

    with open_history(cli.root) as history:
        known = history.cells(Night(day=datetime.now(timezone.utc).date()))
    assert set(known) == {("view-0", "linux-64"), ("view-1", "linux-64")}


def test_a_view_that_the_site_cannot_have_is_not_run(cli, night):
    cli.recipes.recipe("mine", on="nothing", pypi=["six"], hardware=None, dependencies=None)
    cell = night(code=0)["mine", "linux-64"]
    assert (cell["state"], cell["problem"]) == ("not-run", None)
    assert "no release of nothing" in cell["reason"]


def test_a_site_of_wheels_cannot_look_back(cli):
    cli.recipes.recipe("plotting", "plain")
    result = cli("nightly", "--as-of", "2026-01-01", "--site", "pypi", "--root", str(cli.root), "--json")
    assert (result.code, result.codes) == (1, ["as-of-wheels"])


def test_programs_read_the_night_as_json_and_junit(cli, night):
    cli.recipes.recipe("broken", "outer", "right")
    cli.recipes.recipe("fine", "plain")
    cells = night(code=1)
    folder: Path = cli.root / "nightly" / "latest"

    written = json.loads((folder / "night.json").read_text())
    suites = ET.parse(folder / "junit.xml").getroot()

    assert written["cells"] == list(cells.values())
    assert written["night"] == today()
    found = {suite.get("name"): suite for suite in suites}
    assert set(found) == {"broken linux-64", "fine linux-64"}
    assert [case.get("name") for case in found["fine linux-64"]] == ["solve"]
    assert "cannot be solved" in found["broken linux-64"].find("testcase/failure").get("message")


def test_naming_one_view_leaves_the_rest_of_the_nights_report(cli, night):
    cli.recipes.recipe("one", "plain")
    cli.recipes.recipe("two", "plain")
    night(code=0)

    assert list(night("one", code=0)) == [("one", "linux-64")]

    index = (cli.root / "nightly" / "latest" / "index.html").read_text()
    assert "view-two.html" in index
