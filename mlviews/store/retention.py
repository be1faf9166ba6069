"""Which releases stay: a pure rule, so that nothing on a disk can bend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

KEEP = 3
DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseState:
    """What the rule needs to know of a release.

    Attributes:
        default: whether it is the view's default.
        pinned: whether people said that it stays.
        in_progress: whether a build has written its file, and is not done with it.
        unreadable: whether nobody can tell what it is.
        built: when it was made; None where nobody knows.
        left: when it stopped being the default, if it ever was.
        used_by: who uses it, as far as that can be seen.
    """

    name: str
    default: bool = False
    pinned: bool = False
    in_progress: bool = False
    unreadable: bool = False
    built: datetime | None = None
    left: datetime | None = None
    used_by: Sequence[str] = ()


def kept(releases: Sequence[ReleaseState], *, keep: int, within: timedelta, now: datetime) -> dict[str, str]:
    """Return the releases that stay, each with the reason.

    Args:
        releases: of one view, oldest first.
        keep: how many of the newest stay.
        within: how long a release stays after it was built, and after it stopped being the default: jobs on other
            hosts, which nobody sees from here, may have begun with it.
        now: the moment to count back from. What happened after it, by a clock that was wrong, was lately.
    """
    newest = {release.name for release in releases[max(0, len(releases) - keep) :]}
    reasons = {}
    for release in releases:
        if release.default:
            reasons[release.name] = "default"
        elif release.pinned:
            reasons[release.name] = "pinned"
        elif release.in_progress:
            reasons[release.name] = "in progress"
        elif release.unreadable:
            reasons[release.name] = "unreadable"
        elif release.used_by:
            reasons[release.name] = f"in use by {', '.join(release.used_by)}"
        elif release.name in newest:
            reasons[release.name] = f"among the last {keep}"
        elif release.left is not None and now - release.left < within:
            reasons[release.name] = f"the default until {release.left:%Y-%m-%d}"
        elif release.built is not None and now - release.built < within:
            reasons[release.name] = f"built on {release.built:%Y-%m-%d}"
    return reasons
