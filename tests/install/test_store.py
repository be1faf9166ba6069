"""The store: which folders are releases, what their names are, and the link that makes one the default."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.errors import RefusedError
from mlviews.files.reading import DamagedError, UnreadableError
from mlviews.release import Activation, Release
from mlviews.store.disk import Store, _order

NOON = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, tmp_path)


@pytest.fixture
def record(store: Store) -> Callable[..., None]:
    def record(name: str, platform: str = "linux-64") -> None:
        folder = store.platform_folder("demo", name, platform)
        folder.mkdir(parents=True)
        store.write_release(
            Release(
                mlviews="0",
                view="demo",
                release=name,
                platform=platform,
                summary="",
                module="a/demo",
                site="local",
                prefix=str(folder),
                lock_digest="x",
                created=NOON,
                packages=(),
                activation=Activation(prepend={}, set={}, unset=()),
            )
        )

    return record


def names(store: Store) -> list[str]:
    return [entry.name for entry in store.releases("demo")]


def test_releases_are_ordered_by_their_figures(store, record):
    for name in ("2026.11.23.10", "2026.11.23", "2026.11.23.9", "2025.12.31", "2026.11.23.2"):
        record(name)

    assert names(store) == ["2025.12.31", "2026.11.23", "2026.11.23.2", "2026.11.23.9", "2026.11.23.10"]


def test_a_name_is_free_and_of_the_day_in_utc(store, record):
    late = datetime.fromisoformat("2026-11-24T00:30:00+01:00")  # still the day before in UTC
    assert store.new_release_name("demo", late) == "2026.11.23"
    record("2026.11.23")
    assert store.new_release_name("demo", late) == "2026.11.23.2"
    store.platform_folder("demo", "2026.11.23.2", "linux-64").mkdir(parents=True)  # debris takes no name
    assert store.new_release_name("demo", late) == "2026.11.23.2"


@given(st.lists(st.integers(1, 30), unique=True, min_size=1))
def test_any_numbers_keep_their_order(numbers):
    made = ["2026.01.01" if number == 1 else f"2026.01.01.{number}" for number in numbers]

    assert sorted(made, key=_order) == [made[numbers.index(number)] for number in sorted(numbers)]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"view": "demo"}', "\x00\xff", "null"])
def test_a_release_without_a_whole_file_is_none_and_its_name_is_taken(store, record, content):
    record("2026.11.23")
    debris = store.platform_folder("demo", "2026.11.24", "linux-64")
    debris.mkdir(parents=True)
    (debris / "release.json").write_text(content)

    assert names(store) == ["2026.11.23"]
    assert [entry.name for entry in store.entries("demo")] == ["2026.11.23", "2026.11.24"]
    with pytest.raises(DamagedError, match=r"2026\.11\.24"):
        store.promote("demo", "2026.11.24")
    assert store.new_release_name("demo", datetime(2026, 11, 24, tzinfo=timezone.utc)) == "2026.11.24.2"
    with pytest.raises(UnreadableError):
        store.clear(debris)


def test_links_and_hidden_folders_are_no_releases(store, record):
    record("2026.11.23")
    store.promote("demo", "2026.11.23")
    (store.view_folder("demo") / ".2026.11.22").mkdir()

    assert names(store) == ["2026.11.23"]
    assert store.default("demo") == "2026.11.23"


def test_a_release_that_lacks_a_platform_of_the_default_is_not_promoted(store, record):
    record("2026.11.23")
    record("2026.11.23.2")
    store.promote("demo", "2026.11.23.2")
    record_both = store.platform_folder("demo", "2026.11.23.2", "linux-aarch64")
    record_both.parent.mkdir(exist_ok=True)
    record("2026.11.23.2", "linux-aarch64")

    with pytest.raises(RefusedError, match="linux-aarch64") as caught:
        store.promote("demo", "2026.11.23")

    assert caught.value.code == "platform-missing"
    assert store.default("demo") == "2026.11.23.2"


def test_no_reader_ever_finds_the_default_missing(store, record):
    record("2026.11.23")
    record("2026.11.24")
    store.promote("demo", "2026.11.23")
    link, seen, over = store.view_folder("demo") / "default", set(), threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.add(os.readlink(link))  # noqa: PTH115  (the bare call: nothing else may take time)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        store.promote("demo", "2026.11.24")
        store.promote("demo", "2026.11.23")
    over.set()
    reader.join()

    assert seen == {"2026.11.23", "2026.11.24"}
    assert [path.name for path in store.view_folder("demo").glob(".default*")] == []


def test_the_lock_keeps_others_out_and_tells_who_holds_it(store):
    told: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with store.view_lock("demo", waiting=lambda holder: nullcontext(told.append(holder))):
            entered.set()

    with store.view_lock("demo", waiting=lambda holder: nullcontext(told.append(holder))):
        other = threading.Thread(target=second)
        other.start()
        assert not entered.wait(0.2)
        assert told == [f"process {os.getpid()} on {os.uname().nodename}"]
    other.join(5)
    assert entered.is_set()


def test_the_locks_of_two_views_are_two(store):
    with store.view_lock("one", waiting=pytest.fail), store.view_lock("two", waiting=pytest.fail):
        pass
