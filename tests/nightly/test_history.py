"""The history of nights: what is kept, and what earlier nights say of a failure."""

from __future__ import annotations

import sqlite3
import threading
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.errors import FailedError
from mlviews.lock.lockfile import Lock, LockedPackage
from mlviews.nightly.cell import FAILURES
from mlviews.nightly.history import PastCell, history_file, look_back, open_history
from mlviews.nightly.night import Night, NightCell

NIGHT = Night(day=date(2026, 11, 24))
PACKAGE = LockedPackage(
    name="plain", version="1.0", build="h0_0", platform="linux-64", url="https://x/linux-64/plain-1.0-h0_0.conda",
    md5="a" * 32, sha256="b" * 64, size=5, dependencies={"python": ">=3"},
)  # fmt: skip
LOCK = Lock("demo", {"platforms": ["linux-64"], "channels": ["conda-forge"]}, "solver 1", (PACKAGE,))


def cell(state: str = "ok", view: str = "demo", **keys: object) -> NightCell:
    return NightCell.model_validate(
        {"view": view, "platform": "linux-64", "state": state, "lock": "current", "digest": LOCK.digest, **keys}
    )


def test_what_is_kept_comes_back_as_it_was(tmp_path):
    with open_history(tmp_path) as history:
        history.keep(NIGHT, cell(reason="ünïcode\x00"), LOCK)
    with open_history(tmp_path) as history:
        assert history.cells(NIGHT) == {("demo", "linux-64"): cell(reason="ünïcode\x00")}
        assert history.lock(NIGHT, "demo", "linux-64", "2026-11-24") == LOCK
        assert history.lock(NIGHT, "demo", "linux-64", "2026-11-23") is None


def test_a_night_that_is_run_again_replaces_what_it_said(tmp_path):
    with open_history(tmp_path) as history:
        history.keep(NIGHT, cell(), LOCK)
        history.keep(NIGHT, cell("updated"), LOCK)
        assert [one.state for one in history.cells(NIGHT).values()] == ["updated"]
        assert history.before(NIGHT, "demo", "linux-64") == ()


def test_nights_that_suppose_another_cuda_have_a_history_of_their_own(tmp_path):
    supposed = Night(day=date(2026, 11, 23), cuda="13.0")
    with open_history(tmp_path) as history:
        history.keep(supposed, cell("unsolvable"), None)
        history.keep(NIGHT, cell(), LOCK)
        assert history.before(NIGHT, "demo", "linux-64") == ()
        assert history.trend(supposed, "demo", "linux-64", nights=9) == (("2026-11-23", cell("unsolvable")),)


def test_a_trend_ends_with_the_night_and_begins_with_the_oldest(tmp_path):
    with open_history(tmp_path) as history:
        for day in (3, 1, 2, 4):
            history.keep(Night(day=date(2026, 11, day)), cell(reason=str(day)), None)
        trend = history.trend(Night(day=date(2026, 11, 3)), "demo", "linux-64", nights=2)
        before = history.before(Night(day=date(2026, 11, 3)), "demo", "linux-64")
    assert [(night, one.reason) for night, one in trend] == [("2026-11-02", "2"), ("2026-11-03", "3")]
    assert [seen.night for seen in before] == ["2026-11-02", "2026-11-01"]


def test_two_nights_at_once_lose_nothing(tmp_path):
    def keep(number: int) -> None:
        with open_history(tmp_path) as history:
            for i in range(20):
                history.keep(NIGHT, cell(view=f"view-{number}-{i}"), LOCK)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_history(tmp_path) as history:
        assert len(history.cells(NIGHT)) == 60


def test_an_interrupt_between_two_cells_keeps_the_first(tmp_path):
    def interrupted() -> None:
        with open_history(tmp_path) as history:
            history.keep(NIGHT, cell(), LOCK)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with open_history(tmp_path) as history:
        assert len(history.cells(NIGHT)) == 1


def test_a_history_of_a_newer_mlviews_is_left_alone(tmp_path):
    with open_history(tmp_path):
        pass
    connection = sqlite3.connect(history_file(tmp_path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(FailedError, match="newer mlviews") as raised, open_history(tmp_path):
        pass
    assert raised.value.code == "history-newer"


@pytest.mark.parametrize("content", [b"no database at all, but long enough for one" * 50])
def test_a_damaged_history_is_an_error_for_people(tmp_path, content):
    history_file(tmp_path).parent.mkdir()
    history_file(tmp_path).write_bytes(content)
    with pytest.raises(FailedError) as raised, open_history(tmp_path):
        pass
    assert raised.value.code == "history-unusable"


def test_no_file_beside_the_history_needs_shared_memory(tmp_path):
    with open_history(tmp_path) as history:
        history.keep(NIGHT, cell(), LOCK)
        assert {path.name for path in history_file(tmp_path).parent.iterdir()} == {"history.sqlite"}


# What earlier nights say


def seen(*states: str, tested: bool = True) -> list[PastCell]:
    """Nights by number, given from the oldest; the latest first, as the history does."""
    digest = {"unsolvable": None}
    return [PastCell(f"{n:02}", state, tested, digest.get(state, "d")) for n, state in enumerate(states, 1)][::-1]


@pytest.mark.parametrize(
    ("before", "state", "since", "good"),
    [
        (seen("ok", "ok"), "ok", None, None),
        (seen("ok", "updated"), "check-failed", "now", "02"),
        (seen("ok", "check-failed", "install-failed"), "check-failed", "02", "01"),
        (seen("check-failed"), "check-failed", "01", None),
        (seen("ok", "not-run", "check-failed"), "check-failed", "03", "02"),
        (seen("ok", "unsolvable", "unsolvable"), "unsolvable", "02", "01"),
        # that it could be solved is all that a failed check says about solving
        (seen("ok", "check-failed"), "unsolvable", "now", "02"),
        (seen("ok", "check-failed", "unsolvable"), "check-failed", "02", "01"),
    ],
)
def test_since_when_it_fails(before, state, since, good):
    found = look_back(before, state, "now")
    assert (found.since, found.good) == (since, good)


def test_a_night_that_only_solved_ends_no_failed_check():
    before = [*seen("ok", "check-failed")]
    solved_only = PastCell("03", "updated", False, "d")
    assert look_back([solved_only, *before], "check-failed", "04").since == "02"
    assert look_back([solved_only, *before], "check-failed", "04").last == "03"


@given(
    st.lists(st.tuples(st.sampled_from(["ok", "updated", "not-run", *sorted(FAILURES)]), st.booleans()), max_size=8),
    st.sampled_from(sorted(FAILURES)),
)
def test_a_failure_begins_after_the_last_good_night(nights, state):
    before = [
        PastCell(f"{n:02}", was, tested, None if was == "unsolvable" else "d") for n, (was, tested) in enumerate(nights)
    ][::-1]
    found = look_back(before, state, "99")
    assert found.since
    assert found.good is None or found.good < found.since
    between = [night for night in before if (found.good or "") < night.night]
    family = {"unsolvable"} if state == "unsolvable" else {"install-failed", "check-failed"}
    failing = [night.night for night in between if night.state in family]
    assert found.since == min([*failing, "99"])
