"""A night from end to end: solve every cell, try what can be tried here, compare with what is known, keep it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from mlviews.conda.channels import open_sources
from mlviews.errors import MlviewsError, RefusedError
from mlviews.lock.diff import compare, package_changes
from mlviews.lock.lockfile import lock_state
from mlviews.lock.make import prepare_view, refuse_looking_back
from mlviews.loop import run
from mlviews.nightly.cell import CellJob, CellRequest, Solved, Tested, cell_of, solve_all, try_cell
from mlviews.nightly.history import look_back
from mlviews.nightly.night import NightCell, NightRun, only_on, part_for, suppose_cuda
from mlviews.nightly.workers import each
from mlviews.progress import silent
from mlviews.site.spec import SiteSpec, for_site
from mlviews.smoke.release import BASIC
from mlviews.trial import Trial, TrialJob, problem, scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from mlviews.conda.channels import Sources
    from mlviews.lock.lockfile import Lock, LockStatus
    from mlviews.nightly.history import History
    from mlviews.nightly.night import Night
    from mlviews.progress import Progress
    from mlviews.recipe.compose import ViewSpec
    from mlviews.site.profile import Site

__all__ = ["Runner", "run_nights"]

_BATCH = 64  # cells whose packages are in memory at a time


class Runner(Protocol):
    """Tries cells somewhere, and gives what was found as it comes; see `mlviews.nightly.workers.each`."""

    def __call__(
        self, work: Callable[[CellJob], Tested], jobs: Sequence[CellJob], /
    ) -> Iterator[tuple[CellJob, Tested | Exception]]:
        """Do ``work`` for each job."""


_HERE: Runner = partial(each, count=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What all cells share."""

    site: Site
    history: History
    runner: Runner
    resume: bool
    progress: Progress


def run_nights(
    specs: Sequence[ViewSpec],
    site: Site,
    nights: Sequence[Night],
    history: History,
    *,
    runner: Runner = _HERE,
    resume: bool = False,
    progress: Progress = silent,
) -> Iterator[NightRun]:
    """Run nights one after another over the same views, and give each when it is over.

    No lock file is touched. A cell that fails, in whatever way, stops no other.

    Args:
        specs: the views.
        site: where they are solved and installed.
        nights: the oldest first; all suppose the same CUDA.
        history: takes every cell as soon as it is known.
        runner: where cells are installed and checked: here, some side by side, or on a cluster.
        resume: leave out cells that the history has of the same night.
        progress: told about solving and testing.

    Raises:
        FailedError: a channel's folder cannot be read, or the history cannot be written.
        BadInputError: a mirror names a channel that is not used, or CUDA is supposed for views without.
        KeyboardInterrupt: Ctrl-C; cells that are known are kept.
    """
    if any(night.as_of for night in nights):
        refuse_looking_back(site)
    work = _Work(site=site, history=history, runner=runner, resume=resume, progress=progress)
    states = {spec.name: lock_state(spec, site) for spec in specs}
    supposed = suppose_cuda(specs, nights[0].cuda) if nights[0].cuda else specs
    views = [_View(spec, states[spec.name], _ready(spec, work)) for spec in supposed]
    sources = _sources(site, views)
    for night in nights:
        start = time.monotonic()
        cells = _night(work, night, views, sources)
        yield NightRun(
            night=night.day.isoformat(),
            as_of=night.as_of.isoformat() if night.as_of else None,
            cuda=night.cuda,
            solve_only=night.solve_only,
            seconds=round(time.monotonic() - start, 3),
            cells=cells,
        )


@dataclass(frozen=True, slots=True)
class _View:
    """A view, its committed lock, and itself as the site solves it, or why there is no such thing."""

    spec: ViewSpec
    lock: LockStatus
    ready: SiteSpec | Solved | str

    @property
    def platforms(self) -> tuple[str, ...]:
        return self.ready.spec.platforms if isinstance(self.ready, SiteSpec) else self.spec.platforms


def _ready(spec: ViewSpec, work: _Work) -> SiteSpec | Solved | str:
    """Return the view as the site solves it; why pip could not solve it; or why the site cannot have it."""
    try:
        for_site(spec, work.site)
    except MlviewsError as error:
        return str(error)
    try:
        return prepare_view(spec, work.site, kept={}, as_of=None, progress=work.progress)
    except Exception as error:  # noqa: BLE001  (the result of one view among many)
        return Solved(problem=problem(error), refused=isinstance(error, RefusedError))


def _sources(site: Site, views: Iterable[_View]) -> Sources | None:
    ready = [view for view in views if isinstance(view.ready, SiteSpec)]
    platforms = dict.fromkeys(platform for view in ready for platform in view.platforms)
    return open_sources(site.channels, platforms, mirrors=site.mirrors, cache=site.cache) if ready else None


def _night(work: _Work, night: Night, views: Sequence[_View], sources: Sources | None) -> list[NightCell]:
    cells = _kept(work, night)
    wanted = [(view, platform) for view in views for platform in view.platforms]
    asks: list[CellRequest] = []
    for view, platform in wanted:
        key = (view.spec.name, platform)
        if key in cells:
            continue
        if isinstance(view.ready, SiteSpec):
            asks.append(_ask(only_on(view.ready, platform), platform, view.lock))
        else:
            cells[key] = _keep(work, night, _unready(view, view.ready, platform), None)
    if sources and asks:
        cells |= {(cell.view, cell.platform): cell for cell in _cells(work, night, asks, sources)}
    return [cells[view.spec.name, platform] for view, platform in wanted]


def _kept(work: _Work, night: Night) -> dict[tuple[str, str], NightCell]:
    """Return cells that are not run again: a look back never replaces what was found on the night itself."""
    known = work.history.cells(night)
    return {
        key: cell for key, cell in known.items() if work.resume or (night.as_of is not None and not cell.looked_back)
    }


def _unready(view: _View, why: Solved | str, platform: str) -> NightCell:
    if isinstance(why, str):
        return NightCell(view=view.spec.name, platform=platform, state="not-run", reason=why, lock=view.lock.state)
    return cell_of(_ask(SiteSpec(view.spec, {}, {}), platform, view.lock), why, None)


def _ask(view: SiteSpec, platform: str, state: LockStatus) -> CellRequest:
    committed = part_for(state.lock, platform) if state.lock else None
    return CellRequest(view=view, platform=platform, lock_state=state.state, committed=committed)


def _cells(work: _Work, night: Night, asks: Sequence[CellRequest], sources: Sources) -> Iterator[NightCell]:
    now = night.as_of or datetime.now(timezone.utc)
    with work.progress(f"Solving {night.day}", total=len(asks)) as advance:
        for batch in _batches(asks):
            views = [ask.view for ask in batch]
            done = lambda name: advance(note=name)  # noqa: E731
            solved = run(solve_all(views, sources, now=now, as_of=night.as_of, done=done))
            pairs = list(zip(batch, solved, strict=True))
            for ask, found, tested in _tested(work, night, pairs):
                yield _keep(work, night, cell_of(ask, found, tested), found.lock)


def _batches(asks: Iterable[CellRequest]) -> Iterator[list[CellRequest]]:
    rest = iter(asks)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _tested(
    work: _Work, night: Night, pairs: Sequence[tuple[CellRequest, Solved]]
) -> Iterator[tuple[CellRequest, Solved, Tested | None]]:
    """Give each cell with what trials found of it, those first of which there is nothing to be tried."""
    if night.solve_only:
        yield from ((ask, solved, None) for ask, solved in pairs)
        return
    with scratch(work.site.root) as folder, work.progress("Testing", total=len(pairs)) as advance:
        jobs = {ask.key: _job(ask, solved, work.site, folder) for ask, solved in pairs}
        by_key = {ask.key: (ask, solved) for ask, solved in pairs}
        for job, found in work.runner(try_cell, [job for job in jobs.values() if job.newest or job.committed]):
            advance(note=job.key[0])
            tested = found if isinstance(found, Tested) else _not_tested(job, found)
            yield (*by_key.pop(job.key), tested)
        yield from ((ask, solved, None) for ask, solved in by_key.values())


def _job(ask: CellRequest, solved: Solved, site: Site, folder: Path) -> CellJob:
    def trial(lock: Lock | None) -> TrialJob | None:
        checks = (*BASIC, *ask.view.spec.smoke)
        return TrialJob(view=ask.view, lock=lock, site=site, scratch=folder, checks=checks) if lock else None

    same = solved.lock and ask.committed and not compare(ask.committed, solved.lock)
    return CellJob(key=ask.key, newest=trial(solved.lock), committed=None if same else trial(ask.committed))


def _not_tested(job: CellJob, error: Exception) -> Tested:
    """Return what is known of trials whose process died."""
    if job.newest is None:
        return Tested()
    lock = job.newest.lock
    return Tested(newest=Trial(digest=lock.digest, platform=job.key[1], problem=problem(error)))


def _keep(work: _Work, night: Night, cell: NightCell, lock: Lock | None) -> NightCell:
    """Complete a cell with what earlier nights say about it, and hand it to the history."""
    seen = work.history.before(night, cell.view, cell.platform)
    earlier = look_back(seen, cell.state, night.day.isoformat())
    good = work.history.lock(night, cell.view, cell.platform, earlier.good) if earlier.good and lock else None
    suspects = package_changes(compare(good, lock)) if good and lock else []
    whole = cell.model_copy(update={"earlier": earlier, "suspects": suspects, "looked_back": night.as_of is not None})
    work.history.record(night, whole, lock)
    return whole
