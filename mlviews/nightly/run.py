"""A night from end to end: solve every cell, try what can be tried here, compare with what is known, keep it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice
from typing import TYPE_CHECKING

from mlviews.conda.channels import Sources, open_sources
from mlviews.errors import RefusedError
from mlviews.files.permissions import share
from mlviews.lock.diff import compare
from mlviews.lock.make import index_of, prepare_view, refuse_looking_back
from mlviews.lock.status import LockStatus, lock_status
from mlviews.loop import run
from mlviews.nightly.cell import Cell, CellJob, Solved, Tested, cell_of, solve_all, try_cell
from mlviews.nightly.history import History, look_back
from mlviews.nightly.night import Night, NightCell, NightRun, only_on, part_for, suppose_cuda
from mlviews.site.spec import SiteSpec, for_site
from mlviews.smoke.programs import BASIC
from mlviews.trial import Trial, TrialJob, scratch
from mlviews.values import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from mlviews.lock.lockfile import Lock
    from mlviews.progress import Progress
    from mlviews.recipe.view import ViewSpec
    from mlviews.site.profile import Site

    Runner = Callable[[Callable[[CellJob], Tested], Sequence[CellJob]], Iterator[tuple[CellJob, Tested | Exception]]]
    """Tries cells somewhere, and gives what was found as it comes; see `mlviews.nightly.workers.each`."""

_BATCH = 64  # cells whose packages are in memory at a time


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
    runner: Runner,
    resume: bool,
    progress: Progress,
) -> Iterator[NightRun]:
    """Run nights one after another over the same views, and give each when it is over.

    No lock file is touched. A cell that fails, in whatever way, stops no other.

    Args:
        nights: the oldest first; all suppose the same CUDA.
        history: takes every cell as soon as it is known.
        runner: where cells are installed and checked: here, some side by side, or on a cluster.
        resume: leave out cells that the history has of the same night.

    Raises:
        BadInputError: a mirror names a channel that is not used, or CUDA is supposed for views without.
        KeyboardInterrupt: Ctrl-C; cells that are known are kept.
    """
    if any(night.as_of for night in nights):
        refuse_looking_back(site)
    work = _Work(site=site, history=history, runner=runner, resume=resume, progress=progress)
    site_specs = [for_site(spec, site) for spec in specs]
    statuses = {site_spec.spec.name: lock_status(site_spec, site) for site_spec in site_specs}
    if cuda := nights[0].cuda:
        site_specs = [for_site(spec, site) for spec in suppose_cuda(specs, cuda)]
    views = [_prepared(site_spec, statuses[site_spec.spec.name], work) for site_spec in site_specs]
    sources = _sources(site, views)
    for night in nights:
        start = time.monotonic()
        cells = _night(work, night, views, sources)
        yield night.result(cells, seconds=round(time.monotonic() - start, 3))


@dataclass(frozen=True, slots=True)
class _View:
    """A view and how its committed lock stands.

    Attributes:
        site_spec: the view as it is solved.
        unsolved: why it cannot be solved, where pip said so before the first night.
    """

    site_spec: SiteSpec
    status: LockStatus
    unsolved: Solved | None = None

    @property
    def solvable(self) -> bool:
        return not self.site_spec.error and not self.unsolved

    def cell(self, platform: str) -> Cell:
        committed = part_for(self.status.lock, platform) if self.status.lock else None
        return Cell(site_spec=only_on(self.site_spec, platform), status=self.status, committed=committed)


def _prepared(site_spec: SiteSpec, status: LockStatus, work: _Work) -> _View:
    if site_spec.base:
        why = f"{site_spec.spec.name} extends {site_spec.base.name}, and a night tests only the site's own views"
        site_spec = replace(
            site_spec, error=RefusedError("night-extension", why, "Its owner tests it: `mlviews smoke`.")
        )
    if site_spec.error:
        return _View(site_spec, status)
    try:
        return _View(prepare_view(site_spec, work.site, kept={}, as_of=None, progress=work.progress), status)
    except Exception as error:  # noqa: BLE001  (the result of one view among many)
        return _View(site_spec, status, Solved(problem=Problem.of(error), refused=isinstance(error, RefusedError)))


def _sources(site: Site, views: Iterable[_View]) -> Sources | None:
    platforms = dict.fromkeys(name for view in views if view.solvable for name in view.site_spec.spec.platforms)
    share(site.root, site.group)
    return open_sources(site.channels, platforms, mirrors=site.mirrors, cache=site.cache) if platforms else None


def _night(work: _Work, night: Night, views: Sequence[_View], sources: Sources | None) -> list[NightCell]:
    known = _kept(work, night)
    wanted = [(view, view.cell(platform)) for view in views for platform in view.site_spec.spec.platforms]
    missing = [(view, cell) for view, cell in wanted if cell.key not in known]
    known |= {cell.key: _keep(work, night, _unready(view, cell), None) for view, cell in missing if not view.solvable}
    cells = [cell for view, cell in missing if view.solvable]
    if sources and cells:
        known |= {(found.view, found.platform): found for found in _cells(work, night, cells, sources)}
    return [known[cell.key] for _, cell in wanted]


def _kept(work: _Work, night: Night) -> dict[tuple[str, str], NightCell]:
    """Return cells that are not run again: a look back never replaces what was found on the night itself."""
    known = work.history.cells(night)
    return {
        key: cell for key, cell in known.items() if work.resume or (night.as_of is not None and not cell.looked_back)
    }


def _unready(view: _View, cell: Cell) -> NightCell:
    if view.unsolved:
        return cell_of(cell, view.unsolved, None)
    name, platform = cell.key
    return NightCell(
        view=name, platform=platform, state="not-run", reason=str(cell.site_spec.error), lock=cell.status.state
    )


def _cells(work: _Work, night: Night, cells: Sequence[Cell], sources: Sources) -> Iterator[NightCell]:
    now = night.as_of or datetime.now(timezone.utc)
    with work.progress(f"Solving {night.day}", total=len(cells)) as advance:
        for batch in _batches(cells):
            done = lambda name: advance(note=name)  # noqa: E731
            site_specs = [cell.site_spec for cell in batch]
            index = index_of(work.site)
            solved = run(solve_all(site_specs, sources, now=now, as_of=night.as_of, index=index, done=done))
            for cell, found, tested in _tested(work, night, list(zip(batch, solved, strict=True))):
                yield _keep(work, night, cell_of(cell, found, tested), found.lock)


def _batches(cells: Iterable[Cell]) -> Iterator[list[Cell]]:
    rest = iter(cells)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _tested(
    work: _Work, night: Night, pairs: Sequence[tuple[Cell, Solved]]
) -> Iterator[tuple[Cell, Solved, Tested | None]]:
    """Give each cell with what trials found of it, those first of which there is nothing to be tried."""
    if night.solve_only:
        yield from ((cell, solved, None) for cell, solved in pairs)
        return
    with scratch(work.site.root) as folder, work.progress("Testing", total=len(pairs)) as advance:
        jobs = [_job(cell, solved, work.site, folder) for cell, solved in pairs]
        by_key = {cell.key: (cell, solved) for cell, solved in pairs}
        for job, found in work.runner(try_cell, [job for job in jobs if job.newest or job.committed]):
            advance(note=job.key[0])
            tested = found if isinstance(found, Tested) else _not_tested(job, found)
            yield (*by_key.pop(job.key), tested)
        yield from ((cell, solved, None) for cell, solved in by_key.values())


def _job(cell: Cell, solved: Solved, site: Site, folder: Path) -> CellJob:
    checks = (*BASIC, *cell.site_spec.spec.smoke)

    def trial(lock: Lock | None) -> TrialJob | None:
        if lock is None:
            return None
        return TrialJob(site_spec=cell.site_spec, lock=lock, site=site, scratch=folder, checks=checks)

    same = solved.lock and cell.committed and not compare(cell.committed, solved.lock)
    return CellJob(key=cell.key, newest=trial(solved.lock), committed=None if same else trial(cell.committed))


def _not_tested(job: CellJob, error: Exception) -> Tested:
    """Return what is known of trials whose process died."""
    if job.newest is None:
        return Tested()
    lock = job.newest.lock
    return Tested(newest=Trial(digest=lock.digest, platform=job.key[1], problem=Problem.of(error)))


def _keep(work: _Work, night: Night, cell: NightCell, lock: Lock | None) -> NightCell:
    """Complete a cell with what earlier nights say about it, and hand it to the history."""
    seen = work.history.before(night, cell.view, cell.platform)
    earlier = look_back(seen, cell.state, night.day.isoformat())
    good = work.history.lock(night, cell.view, cell.platform, earlier.good) if earlier.good and lock else None
    suspects = list(compare(good, lock)) if good and lock else []
    whole = cell.model_copy(update={"earlier": earlier, "suspects": suspects, "looked_back": night.as_of is not None})
    work.history.keep(night, whole, lock)
    return whole
