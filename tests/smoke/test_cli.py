"""``mlviews smoke``: what it runs, what it says, and what it leaves behind."""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from mlviews.hardware import host_platform
from mlviews.smoke import runner
from mlviews.smoke.report import CheckLine


@pytest.fixture
def view(recipes, demo):
    """A release named demo whose Python is a bare virtual environment."""
    recipes.recipe("demo", "python", smoke=["environment-leaks", "no-such-check", "torch-matmul"])
    return Path(demo.prefix)


def test_a_view_is_tested_by_its_recipe_and_leaves_a_record(cli, view):
    tested = cli("smoke", "demo", "--json")

    assert tested.code == 1  # no-such-check
    data = tested.data
    assert (data["view"], data["release"], data["lock"]) == ("demo", "2026.01.01", "ab" * 32)
    assert {line["name"]: line["status"] for line in data["checks"]} == {
        "imports": "skip",
        "pip-check": "fail",
        "environment-leaks": "pass",
        "torch-matmul": "skip",
        "no-such-check": "error",
    }
    records = list((cli.root / "records/demo" / ("ab" * 32)).glob("*.json"))
    assert [str(path) for path in records] == [data["record"]]
    record = json.loads(records[0].read_text())
    assert (record["view"], record["lock"], record["checks"]) == ("demo", "ab" * 32, data["checks"])


def test_a_run_that_proves_nothing_says_so_and_leaves_no_record(cli, view):
    tested = cli("smoke", "demo/2026.01.01", "--check", "torch-matmul")

    assert tested.code == 0
    assert "nothing was proved" in tested.out
    assert not (cli.root / "records").exists()


def test_a_gpu_that_is_required_and_not_there_is_an_error(cli, view):
    tested = cli("smoke", "demo", "--check", "torch-matmul", "--require-gpu", "--json")

    assert tested.code == 1
    assert tested.data["checks"][0]["reason"] == "a GPU is required, and none did the work (torch is not installed)"


def test_a_gpu_that_nothing_asks_for_is_told(cli, view):
    told = "none of these checks has work for a GPU"
    assert told in cli("smoke", "demo", "--check", "pip-check", "--require-gpu").err
    assert told not in cli("smoke", "demo", "--check", "torch-matmul", "--require-gpu").err


def test_a_store_that_cannot_be_written_can_be_tested(cli, view):
    (cli.root / "records").touch()

    tested = cli("smoke", "demo", "--check", "environment-leaks", "--json")

    assert tested.code == 0
    assert (tested.data["record"], tested.codes) == (None, ["write-failed"])
    told = cli("smoke", "demo", "--check", "environment-leaks")
    assert told.code == 0
    assert "note: not recorded: " in told.err
    assert "error" not in told.err


def test_without_a_view_all_are_tested(cli, recipes, view, tmp_path):
    """One that cannot be tested stops no other; of one without a default, the newest is."""
    nothing = cli("smoke", "--junit", tmp_path / "none.xml", "--root", tmp_path / "empty")
    assert (nothing.code, nothing.out) == (0, "no release is here: `mlviews build VIEW` makes one\n")
    envs = view.parents[2]
    shutil.copytree(envs / "demo", envs / "other", symlinks=True)
    (release,) = (envs / "other").glob("2*/*/release.json")
    release.write_text(release.read_text().replace('"demo"', '"other"'))
    recipes.recipe("other", "python", smoke=["environment-leaks"])
    (envs / "other/default").unlink()
    (envs / "debris").mkdir()
    (envs / "damaged/2026.01.01" / host_platform()).mkdir(parents=True)
    (envs / "damaged/2026.01.01" / host_platform() / "release.json").write_text("{")

    tested = cli("smoke", "--check", "environment-leaks", "--json", "--junit", tmp_path / "all.xml")

    assert [(one["view"], one["release"], one["proved"]) for one in tested.data["views"]] == [
        ("demo", "2026.01.01", True), ("other", "2026.01.01", True)
    ]  # fmt: skip
    assert all(Path(one["record"]).is_relative_to(cli.root / "records" / one["view"]) for one in tested.data["views"])
    assert (tested.data["view"], tested.data["checks"], tested.data["proved"]) == (None, [], True)
    assert (tested.code, tested.codes) == (3, ["unreadable"])
    suites = [suite.get("name") for suite in ET.parse(tmp_path / "all.xml").getroot()]
    assert suites == ["demo", "other"]
    said = cli("smoke", "--check", "environment-leaks").out
    assert said.index("demo/2026.01.01") < said.index("other/2026.01.01")


def test_any_python_is_tested_and_junit_written(cli, tmp_path):
    report = tmp_path / "report.xml"

    tested = cli("smoke", "--python", sys.executable, "--check", "pip-check", "--junit", report)

    assert tested.code == 0
    assert 'testcase classname="python" name="pip-check"' in report.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--via", "all"),
        ("demo", "--python", sys.executable),
        ("--python", sys.executable, "--check", "torch-matmal"),
    ],
)
def test_wrong_usage(arguments, cli):
    assert cli("smoke", *arguments).code == 2


def test_a_gpu_that_became_slow_is_told_and_is_no_failure(cli, view, monkeypatch):
    def measured(rate):
        found = CheckLine(
            name="torch-matmul", status="pass", reason="", seconds=1, device="Tesla T4 (sm_75)",
            figures={"cuda large float16 product: TFLOP/s": rate},
        )  # fmt: skip
        monkeypatch.setattr(runner, "run_checks", lambda *a, **k: (found,))

    measured(60.0)
    first = cli("smoke", "demo", "--json")
    measured(20.0)
    told, again = cli("smoke", "demo"), cli("smoke", "demo", "--json")

    assert (first.code, first.data["slower"]) == (0, [])
    assert told.code == 0
    assert "slow: torch-matmul, cuda large float16 product: TFLOP/s: 20; it was 60 in 1 earlier record(s)" in told.out
    assert [(drop["now"], drop["before"], drop["records"]) for drop in again.data["slower"]] == [(20.0, 40.0, 2)]
