"""One report of what several hosts found: their histories, taken in."""

from __future__ import annotations

import json
import sqlite3
import zlib
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mlviews.nightly.history import Gathered, gather, history_file, open_history
from mlviews.nightly.night import Night, NightCell

DAY = date(2026, 11, 24)


def cell(platform: str, state: str, **keys: Any) -> NightCell:
    plain = {"view": "demo", "lock": "current", "digest": "d" * 64}
    return NightCell.model_validate({**plain, "platform": platform, "state": state, **keys})


@pytest.fixture
def hosts(tmp_path: Path) -> list[Path]:
    """Two hosts: each tested the view on its own platform, and only heard of the other one."""
    here = {"linux-64": "linux-aarch64", "linux-aarch64": "linux-64"}
    for own, other in here.items():
        with open_history(tmp_path / own) as history:
            history.keep(Night(day=DAY), cell(own, "ok", tested=True), None)
            history.keep(Night(day=DAY), cell(other, "not-run", digest=None), None)
            history.keep(Night(day=date(2026, 11, 23), cuda="13.0"), cell(own, "unsolvable"), None)
    return [history_file(tmp_path / own) for own in here]


def test_of_two_accounts_the_one_that_was_tested_stays(hosts: list[Path], tmp_path: Path) -> None:
    with open_history(tmp_path / "all") as history:
        history.keep(Night(day=DAY), cell("linux-64", "updated"), None)
        assert [gather(history, path) for path in (*hosts, hosts[0])] == [Gathered(DAY)] * 3
        found = {cell.platform: (cell.state, cell.tested) for cell in history.cells(Night(day=DAY)).values()}
        assert found == {"linux-64": ("ok", True), "linux-aarch64": ("ok", True)}
        assert len(history.cells(Night(day=date(2026, 11, 23), cuda="13.0"))) == 2


def test_the_report_is_of_the_night_that_was_gathered(cli: Any, hosts: list[Path]) -> None:
    cli.recipes.recipe("demo", "plain", platforms=["linux-64", "linux-aarch64"])
    done = cli("nightly", "--gather", hosts[0], "--gather", hosts[1], "--json")
    assert done.code == 0
    (night,) = done.data["nights"]
    assert [(c["platform"], c["state"]) for c in night["cells"]] == [("linux-64", "ok"), ("linux-aarch64", "ok")]
    report = Path(done.data["report"])
    assert report == cli.root / "nightly/2026-11-24/index.html"
    assert json.loads((report.parent / "night.json").read_text())["solve-only"] is False


def test_what_is_no_history_is_refused_and_changes_nothing(cli: Any, hosts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.sqlite").write_bytes(b"no database at all" * 100)
    done = cli("nightly", "--gather", tmp_path / "bad.sqlite", "--json")
    assert (done.code, done.codes) == (3, ["history-unusable"])
    assert cli("nightly", "--gather", hosts[0], "--solve-only").code == 2
    assert cli("nightly", "--gather", tmp_path / "none.sqlite").code == 2


@pytest.mark.parametrize("change", ["view = '../../up'", "body = x'00'", "night = 'someday'"])
def test_a_history_that_means_harm_is_refused(cli: Any, hosts: list[Path], change: str) -> None:
    connection = sqlite3.connect(hosts[0])
    if "view" in change:
        ((body,),) = connection.execute("SELECT body FROM cells LIMIT 1").fetchmany(1)
        body = zlib.compress(zlib.decompress(body).replace(b'"demo"', b'"../../up"'))
        connection.execute("UPDATE cells SET body = ?", (body,))
    else:
        connection.execute(f"UPDATE cells SET {change} WHERE variant = '' AND platform = 'linux-64'")
    connection.commit()
    connection.close()
    done = cli("nightly", "--gather", hosts[0], "--json")
    assert (done.code, set(done.codes)) == (3, {"history-unusable"})
    assert [path.name for path in cli.root.parent.rglob("view-*.html")] in ([], ["view-demo.html"])


def test_one_bad_cell_and_one_bad_file_do_not_keep_the_others_out(cli: Any, hosts: list[Path], tmp_path: Path) -> None:
    cli.recipes.recipe("demo", "plain", platforms=["linux-64", "linux-aarch64"])
    connection = sqlite3.connect(hosts[0])
    connection.execute("UPDATE cells SET body = x'00' WHERE variant = '' AND platform = 'linux-aarch64'")
    connection.commit()
    connection.close()
    (tmp_path / "bad.sqlite").write_bytes(b"no database at all" * 100)
    files = (tmp_path / "bad.sqlite", hosts[0], tmp_path / "none.sqlite", tmp_path, hosts[1])

    done = cli("nightly", *(part for file in files for part in ("--gather", file)), "--json")

    assert done.code == 3
    said = [error["message"] for error in done.json["errors"]]
    assert [str(path) in line for path, line in zip((files[0], hosts[0], files[2], tmp_path), said, strict=True)]
    assert f"{hosts[0]}: demo linux-aarch64, night {DAY}" in said[1]
    (night,) = done.data["nights"]
    assert [(c["platform"], c["state"]) for c in night["cells"]] == [("linux-64", "ok"), ("linux-aarch64", "ok")]
    assert not (tmp_path / "none.sqlite").exists()
