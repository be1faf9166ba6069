"""``mlviews nightly`` with archives that really install: checks, failures, and what changed since they passed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from mlviews.lock.parse import read_lock

GOOD, BAD = "def main():\n    pass\n", "raise OSError('no such driver')\n"


def milliseconds(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=timezone.utc).timestamp() * 1000)


@pytest.fixture
def night(builder: Any) -> Callable[..., dict[str, Any]]:
    """Return a function that runs a night, and gives its cells by view."""

    def run(*arguments: str, code: int | None = None) -> dict[str, Any]:
        result = builder("nightly", "--json", *arguments)
        assert code is None or result.code == code, result.err or result.out
        return {cell["view"]: cell for cell in result.data["nights"][-1]["cells"]}

    return run


@pytest.fixture
def versions(shelf: Any) -> Any:
    """A package that works until its version of March, beside one that changes too."""
    shelf.add("tool", "1.0", modules={"tool": GOOD}, timestamp=milliseconds("2026-01-01"))
    shelf.add("tool", "2.0", modules={"tool": BAD}, timestamp=milliseconds("2026-03-01"))
    shelf.add("mild", modules={"mild": GOOD})
    shelf.add("other", "1.0", timestamp=milliseconds("2026-01-01"))
    shelf.add("other", "1.1", timestamp=milliseconds("2026-03-01"))
    return shelf


def test_what_broke_since_when_and_what_changed(builder, versions, night, monkeypatch):
    builder.recipes.recipe("demo", "python", "tool", "other", smoke=["no-such"])
    assert builder("lock", "demo", "--as-of", "2026-02-01").code == 0

    untested = night("--as-of", "2026-02-02", code=0)["demo"]
    assert untested["reason"] == "no such check, which the recipe names: 'no-such'"
    builder.recipes.recipe("demo", "python", "tool", "other")
    fine = night("--as-of", "2026-02-02", code=0)["demo"]
    broken = night("--as-of", "2026-03-02", code=1)["demo"]
    later = night("--as-of", "2026-03-03", code=1)["demo"]

    assert (fine["state"], fine["tested"], fine["committed-state"]) == ("ok", True, "ok")
    assert fine["figures"]["installed"] > 0
    assert [(check["name"], check["status"]) for check in fine["checks"]] == [
        ("imports", "pass"),
        ("pip-check", "pass"),
    ]
    assert broken["state"] == "check-failed"
    assert broken["reason"].startswith("imports: ")
    assert "no such driver" in broken["reason"]
    assert broken["reason"].endswith("(the committed lock does not fail)")
    assert broken["committed-state"] == "ok"
    assert (later["earlier"]["since"], later["earlier"]["good"]) == ("2026-03-02", "2026-02-02")
    assert {(c["name"], c["before"], c["after"]) for c in later["suspects"]} == {
        ("tool", "1.0", "2.0"), ("other", "1.0", "1.1"),
    }  # fmt: skip
    locks = builder.root / "nightly/2026-03-03/locks"
    good = read_lock(locks / "demo.linux-64.good.conda-lock.yml")
    bad = read_lock(locks / "demo.linux-64.bad.conda-lock.yml")
    assert (good.digest, bad.digest) == (fine["digest"], later["digest"])
    command = re.search(r"<code>mlviews (bisect demo .*?)</code>", (locks.parent / "view-demo.html").read_text())
    assert command
    monkeypatch.chdir(locks.parent)
    bisected = builder(*command[1].split(), "--retries", "0", "--json").data
    assert [(c["name"], c["before"], c["after"]) for c in bisected["change"]] == [("tool", "1.0", "2.0")]
    assert not list((builder.root / "nightly/.scratch").iterdir())
    assert not (builder.root / "envs").exists()


def test_a_failure_of_the_place_is_told_from_one_of_the_packages(builder, versions, night):
    builder.recipes.recipe("demo", "python", "tool", "other")
    builder("lock", "demo", "--as-of", "2026-02-01")
    versions.archive("greet").unlink()
    versions.add("tool", "1.0", modules={"tool": BAD}, timestamp=milliseconds("2026-01-01"))  # the lock's no more

    found = night(code=1)["demo"]

    assert found["state"] == "check-failed"
    assert found["committed-state"] == "install-failed"
    assert found["reason"].endswith("(the committed lock fails too)")


def test_what_cannot_be_installed_is_a_state_and_stops_no_other(builder, versions, night):
    builder.recipes.recipe("gone", "python", "greet")
    builder.recipes.recipe("there", "python", "mild")
    versions.archive("greet").unlink()

    found = night("--jobs", "2", code=1)

    assert (found["gone"]["state"], found["gone"]["problem"]["code"]) == ("install-failed", "archive-missing")
    assert (found["there"]["state"], found["there"]["tested"]) == ("updated", True)
    junit = (builder.root / "nightly/latest/junit.xml").read_text()
    assert 'errors="1"' in junit


def test_a_platform_that_is_not_here_is_solved_and_never_counted_as_ok(builder, shelf, night):
    builder.recipes.recipe("far", "plain", platforms=["linux-aarch64"])
    builder("lock", "far")

    found = night(code=0)["far"]

    assert (found["state"], found["tested"], found["reason"]) == ("not-run", False, "this host is linux-64")
    assert found["digest"] == found["committed"]


def test_a_gpu_view_without_a_gpu_is_installed_and_never_counted_as_ok(builder, shelf, night):
    builder.recipes.recipe("gpu", "python", "greet", hardware={"glibc": "2.34", "cuda": "12.9"})
    builder("lock", "gpu")

    found = night(code=0)["gpu"]

    assert (found["state"], found["tested"]) == ("not-run", True)
    assert "no GPU was here" in found["reason"]
    assert [check["status"] for check in found["checks"]] == ["pass", "pass"]


def test_a_process_that_dies_is_its_cells_failure(builder, versions, night, monkeypatch):
    builder.recipes.recipe("deadly", "python", "greet")
    builder.recipes.recipe("fine", "python", "mild")
    from mlviews.nightly import workers

    monkeypatch.setattr(workers, "_child", _dies_for_deadly)
    found = night(code=1)

    assert found["fine"]["state"] == "updated"
    assert found["deadly"]["state"] == "install-failed"
    assert found["deadly"]["problem"]["code"] == "worker-died"
    assert "SIGKILL" in found["deadly"]["reason"]


def _dies_for_deadly(sender: Any, work: Any, job: Any) -> None:
    import os

    if job.key[0] == "deadly":
        os.kill(os.getpid(), 9)
    from mlviews.nightly.workers import _child

    _child(sender, work, job)
