"""The newest packages of many views on many platforms, from channels that are read once."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlviews.errors import RefusedError
from mlviews.lock.lockfile import lock_of
from mlviews.nightly.trial import problem
from mlviews.solve.solver import solve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from rattler import RepoDataRecord

    from mlviews.lock.lockfile import Lock
    from mlviews.results.base import Problem
    from mlviews.site.spec import SiteSpec
    from mlviews.solve.sources import Sources

__all__ = ["Solved", "solve_all"]

_SECONDS_A_DAY = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """What one solve gave: a lock, or why there is none.

    Attributes:
        refused: whether the answer was no; a problem that is no refusal says nothing about the packages.
        seconds: from its turn to its end; others may have run beside it.
        age: median age of the packages on the night, in days.
    """

    lock: Lock | None = None
    problem: Problem | None = None
    refused: bool = False
    seconds: float | None = None
    age: float | None = None


async def solve_all(
    views: Sequence[SiteSpec], sources: Sources, *, now: datetime, as_of: datetime | None, done: Callable[[str], None]
) -> tuple[Solved, ...]:
    """Solve views, each for its first platform, as many at a time as there are processors.

    Nothing is kept of any lock: this is what `mlviews lock --upgrade` would choose. What goes wrong with one view is
    its result.

    Args:
        views: what to solve; see `mlviews.nightly.night.only_on`.
        sources: the opened channels.
        now: the moment from which ages count.
        as_of: leave out what was built later than this.
        done: told the name of each view that is solved.
    """
    turn = asyncio.Semaphore(os.cpu_count() or 1)

    async def one(view: SiteSpec) -> Solved:
        async with turn:
            start = time.monotonic()
            try:
                solution = await solve(view.spec, view.spec.platforms[0], sources, as_of=as_of)
                seconds = round(time.monotonic() - start, 3)
                return Solved(lock=lock_of(view, [solution]), seconds=seconds, age=_age(solution.records, now))
            except Exception as error:  # noqa: BLE001  (the result of one view among many)
                refused = isinstance(error, RefusedError)
                return Solved(problem=problem(error), refused=refused, seconds=round(time.monotonic() - start, 3))
            finally:
                done(view.spec.name)

    return tuple(await asyncio.gather(*(one(view) for view in views)))


def _age(records: Sequence[RepoDataRecord], now: datetime) -> float | None:
    ages = [(now - record.timestamp).total_seconds() / _SECONDS_A_DAY for record in records if record.timestamp]
    return round(statistics.median(ages), 1) if ages else None
