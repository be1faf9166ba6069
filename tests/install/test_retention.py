"""Which releases stay: the rule alone, for any releases and clocks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from mlviews.store.retention import ReleaseState, kept

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
MOMENTS = st.none() | st.datetimes(datetime(2020, 1, 1), datetime(2033, 1, 1), timezones=st.just(timezone.utc))  # noqa: DTZ001


@st.composite
def states(draw: st.DrawFn) -> list[ReleaseState]:
    count = draw(st.integers(0, 12))
    default = draw(st.integers(-1, max(count - 1, 0)))
    return [
        ReleaseState(
            name=f"2026.01.{number + 1:02}",
            default=number == default,
            pinned=draw(st.booleans()),
            in_progress=draw(st.sampled_from([False, False, True])),
            built=draw(MOMENTS),
            left=draw(MOMENTS),
            used_by=draw(st.sampled_from([(), (), ("process 1",)])),
        )
        for number in range(count)
    ]


@given(states(), st.integers(0, 15), st.integers(0, 4000))
def test_what_must_stay_stays_and_the_rest_goes(releases, keep, days):
    within = timedelta(days=days)

    stays = kept(releases, keep=keep, within=within, now=NOW)

    for number, release in enumerate(releases):
        must = (
            release.default
            or release.pinned
            or release.in_progress
            or release.used_by
            or len(releases) - number <= keep
            or any(moment is not None and moment > NOW - within for moment in (release.built, release.left))
        )
        assert (release.name in stays) == bool(must), release


@given(states(), st.integers(0, 15), st.integers(0, 4000), MOMENTS.filter(bool))
def test_a_clock_that_is_set_back_takes_nothing_away(releases, keep, days, earlier):
    within = timedelta(days=days)
    before = min(NOW, earlier)

    assert (
        kept(releases, keep=keep, within=within, now=before).keys()
        >= kept(releases, keep=keep, within=within, now=NOW).keys()
    )


def test_each_has_its_reason():
    releases = [
        ReleaseState(name="a"),
        ReleaseState(name="b", left=NOW - timedelta(days=2)),
        ReleaseState(name="bb", built=NOW - timedelta(days=1)),
        ReleaseState(name="bc", used_by=["process 1", "kernel k"], left=NOW),
        ReleaseState(name="c", pinned=True),
        ReleaseState(name="d", in_progress=True),
        ReleaseState(name="e", default=True),
        ReleaseState(name="f"),
    ]

    assert kept(releases, keep=1, within=timedelta(days=3), now=NOW) == {
        "b": "the default until 2026-11-21",
        "bb": "built on 2026-11-22",
        "bc": "in use by process 1, kernel k",
        "c": "pinned",
        "d": "in progress",
        "e": "default",
        "f": "among the last 1",
    }
