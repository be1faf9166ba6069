"""What was the default before: pure, from any notes; and read from a store whose process was killed in between."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.files.reading import DamagedError, UnreadableError
from mlviews.store import history
from mlviews.store.history import DefaultChange, former, left, note, read, settle

START = datetime(2026, 11, 1, tzinfo=timezone.utc)
NAMES = st.sampled_from("ABCDE")


def led(*steps: str) -> tuple[DefaultChange, ...]:
    """Return the changes that lead through the defaults; ``<B`` is a way back to B."""
    changes, before = [], None
    for number, step in enumerate(steps):
        after = step.removeprefix("<")
        at = START + timedelta(days=number)
        changes.append(DefaultChange(at=at, before=before, after=after, back=step.startswith("<")))
        before = after
    return tuple(changes)


@pytest.mark.parametrize(
    ("steps", "there"),
    [
        ("", ""),
        ("A", ""),
        ("A B C", "A B"),
        ("A B C <B", "A"),  # C is none to come back to
        ("A B C <B <A", ""),
        ("A B C <B D", "A B"),
        ("A B A", "A B"),
        ("A B C <A", ""),
    ],
)
def test_the_way_back_leads_through_what_was_the_default(steps, there):
    assert former(led(*steps.split())) == tuple(there.split())


def test_when_a_release_stopped_being_the_default():
    assert left(led("A", "B", "A", "C")) == {"A": START + timedelta(days=3), "B": START + timedelta(days=2)}


@given(st.lists(NAMES, max_size=8), NAMES)
def test_whatever_was_noted_the_link_is_right(steps, default):
    settled = settle(led(*steps), default, START)

    assert settled[-1].after == default
    assert settle(settled, default, START) == settled
    assert set(former(settled)) <= {*steps}


@given(st.lists(NAMES, min_size=1, max_size=8), NAMES)
def test_a_change_that_was_noted_and_not_made_is_none(steps, promised):
    noted = (*led(*steps), DefaultChange(at=START, before=steps[-1], after=promised))

    assert former(settle(noted, steps[-1], START)) == former(led(*steps)) or promised == steps[-1]


def test_a_change_by_hand_counts(tmp_path):
    (tmp_path / "default").symlink_to("A")
    note(tmp_path, "B", back=False, now=START)
    (tmp_path / "default").unlink()
    (tmp_path / "default").symlink_to("C")

    changes = read(tmp_path)

    assert [(change.before, change.after) for change in changes] == [(None, "A"), ("A", "B"), ("B", "C")]
    assert former(changes) == ("A", "B")


@pytest.mark.parametrize("content", ["", "{", "[{}]", "\0", "null", '[{"at": 1, "before": 2, "after": 3}]'])
def test_notes_that_cannot_be_read_cost_the_way_back_and_nothing_else(tmp_path, content):
    (tmp_path / "default").symlink_to("A")
    (tmp_path / ".history.json").write_text(content)

    with pytest.raises(DamagedError):
        read(tmp_path)
    note(tmp_path, "B", back=False, now=START)
    (tmp_path / "default").unlink()
    (tmp_path / "default").symlink_to("B")
    assert former(read(tmp_path)) == ("A",)


def test_the_last_notes_are_those_that_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "_LONGEST", 2)
    for name in "ABCD":
        note(tmp_path, name, back=False, now=START)
        (tmp_path / "default").unlink(missing_ok=True)
        (tmp_path / "default").symlink_to(name)

    assert former(read(tmp_path)) == ("B", "C")


def test_notes_of_a_newer_mlviews_are_not_written_over(tmp_path):
    (tmp_path / "default").symlink_to("A")
    notes = tmp_path / ".history.json"
    notes.write_text('{"schema": 2, "changes": "?"}')

    for use in (lambda: read(tmp_path), lambda: note(tmp_path, "B", back=False, now=START)):
        with pytest.raises(UnreadableError, match=r"newer mlviews \(schema 2\)"):
            use()
    assert notes.read_text() == '{"schema": 2, "changes": "?"}'
