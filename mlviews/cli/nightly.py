from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, complete_view, end_of_day, verb
from mlviews.cli.output import Outcome, distinct, write_changes
from mlviews.cli.table import Column
from mlviews.progress import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlviews.cli.terminal import Console
    from mlviews.errors import MlviewsError
    from mlviews.jobs.cluster import Workers
    from mlviews.nightly.cell import CellJob, Tested
    from mlviews.nightly.night import NightCell, NightRun
    from mlviews.nightly.run import Runner
    from mlviews.results import NightlyResult

_STYLES = {"ok": "green", "updated": "cyan", "not-run": "yellow"}
_COULD_NOT = 3


def _cuda(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    del context, parameter
    if value is not None and not re.fullmatch(r"\d{1,3}\.\d{1,3}", value):
        raise click.BadParameter(f"{value!r} is not a version of CUDA, such as 13.0")
    return value


def _ends_of_months(first: date, last: date) -> tuple[date, ...]:
    """Return the last day of each month, from the one of ``first`` to the one of ``last``."""
    months = range(first.year * 12 + first.month, last.year * 12 + last.month + 1)
    return tuple(date(month // 12, month % 12 + 1, 1) - timedelta(days=1) for month in months)


def _months(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[date, ...]:
    del context, parameter
    if value is None:
        return ()
    try:
        first, last = (datetime.strptime(part, "%Y-%m").date() for part in value.split(".."))  # noqa: DTZ007
    except ValueError:
        raise click.BadParameter(f"{value!r} is not FROM..TO, such as 2026-01..2026-10") from None
    if not (days := _ends_of_months(first, last)):
        raise click.BadParameter(f"{value!r} ends before it begins")
    return days


@verb("nightly")
@click.argument("views", nargs=-1, metavar="[VIEW...]", shell_complete=complete_view)
@click.option("--solve-only", is_flag=True, help="Install and test nothing.")
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Take the packages of the end of this day (UTC).",
)
@click.option(
    "--backfill",
    callback=_months,
    metavar="FROM..TO",
    help="Solve as of the end of each month, such as 2026-01..2026-10.",
)
@click.option("--cuda", callback=_cuda, metavar="VERSION", help="Solve GPU views as if they were for this CUDA.")
@click.option("--resume", is_flag=True, help="Leave out what this night has tested already.")
@click.option(
    "--gather",
    "others",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Test nothing: read the history of another host, and write the report of its last night.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="How many views to test at once.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Test on the Dask cluster of this scheduler, not here.")
@click.option("--cluster", is_flag=True, help="Test in jobs of the site's batch system, --jobs at a time.")
def nightly(
    app: App, views: tuple[str, ...], *, solve_only: bool, as_of: datetime | None,
    backfill: tuple[date, ...], cuda: str | None, resume: bool, others: tuple[Path, ...], jobs: int,
    scheduler: str | None, cluster: bool,
) -> Outcome:  # fmt: skip
    """Test every view, or the named ones, with the newest packages. Lock files do not change.

    A recipe with faults stops no other; the exit code is 3 then, as for a view that could not be tested.
    """
    if backfill and as_of:
        raise click.UsageError("--backfill and --as-of cannot be used together")
    if cluster and scheduler:
        raise click.UsageError("--cluster and --scheduler cannot be used together")
    if others:
        if views or solve_only or as_of or backfill or cuda or resume:
            raise click.UsageError("--gather takes no view and no other option")
        return _gathered(app, others)
    days = backfill or ((as_of.date(),) if as_of else ())
    today = datetime.now(timezone.utc).date()
    if any(day > today for day in days):
        raise click.UsageError(f"{max(days)} is in the future")
    from mlviews.nightly.history import open_history
    from mlviews.nightly.night import Night, named_from
    from mlviews.nightly.report import write_night
    from mlviews.nightly.run import run_nights
    from mlviews.results import NightlyResult

    catalogue = app.catalogue
    chosen = tuple(app.view(name) for name in dict.fromkeys(views)) if views else catalogue.sound()
    faulty = () if views else distinct(catalogue.faulty.values())
    specs = tuple(named_from(spec, *(layers.parents[1] for layers in app.catalogue.layers)) for spec in chosen)
    only = solve_only or bool(backfill)
    nights = [Night(day=day, as_of=end_of_day(day), cuda=cuda, solve_only=only) for day in days]
    nights = nights or [Night(day=today, cuda=cuda, solve_only=only)]
    with open_history(app.site.root) as history, ExitStack() as stack:
        gpu = any(spec.hardware.cuda for spec in specs)
        runner = _in_jobs(app, stack, jobs, gpu=gpu) if cluster else _runner(jobs, scheduler)
        runs = tuple(run_nights(specs, app.site, nights, history, runner=runner, resume=resume, progress=app.progress))
        report = write_night(app.site.root, nights[-1], runs[-1], history, progress=app.progress)
    result = NightlyResult(report=str(report), nights=list(runs))
    return Outcome(result, _write, _COULD_NOT if faulty else _exit_code(runs), (*faulty, *_errors(runs)))


def _gathered(app: App, others: tuple[Path, ...]) -> Outcome:
    from mlviews.nightly.history import gather, open_history
    from mlviews.nightly.night import Night
    from mlviews.nightly.report import write_night
    from mlviews.results import NightlyResult

    with open_history(app.site.root) as history:
        found = [gather(history, path) for path in others]
        errors = [error for gathered in found for error in gathered.errors]
        days = [gathered.latest for gathered in found if gathered.latest]
        if errors and not days:
            raise errors[0]
        night = Night(day=max(days, default=datetime.now(timezone.utc).date()))
        cells = list(history.cells(night).values())
        run = replace(night, solve_only=not any(cell.tested for cell in cells)).result(cells)
        report = write_night(app.site.root, night, run, history, progress=app.progress)
    result = NightlyResult(report=str(report), nights=[run])
    return Outcome(
        result,
        _write,
        _COULD_NOT if errors else _exit_code([run]) if cells else 0,
        (*errors, *_errors([run])),
    )


def _runner(jobs: int, scheduler: str | None) -> Runner:
    from mlviews.nightly.workers import each, each_on

    return partial(each_on, scheduler) if scheduler else partial(each, count=jobs)


def _in_jobs(app: App, stack: ExitStack, jobs: int, *, gpu: bool) -> Runner:
    """Return what tries cells in jobs of the batch system; their workers start with the first cells, and go at the end.

    Raises:
        RefusedError: the site has no system or queue for them.
        FailedError: Dask is not installed.
    """
    from functools import cache

    from mlviews.errors import FailedError
    from mlviews.nightly.workers import each_of
    from mlviews.trial import scratch

    try:
        from mlviews.jobs.cluster import plan_workers, workers_on
    except ImportError as error:
        raise FailedError(
            "dask-missing", "--cluster needs dask-jobqueue, which is not installed", "pip install 'mlviews[cluster]'"
        ) from error
    planned = plan_workers(app.site.batch, jobs, app.site.root, gpu=gpu)

    @cache
    def workers() -> Workers:
        return stack.enter_context(workers_on(planned, stack.enter_context(scratch(app.site.root))))

    def run(
        work: Callable[[CellJob], Tested], cells: Sequence[CellJob]
    ) -> Iterator[tuple[CellJob, Tested | Exception]]:
        found = workers()
        return each_of(found.client, work, cells, trouble=found.trouble)

    return run


def _exit_code(runs: Sequence[NightRun]) -> int:
    """Return 3 where something could not be looked at, else 1 where something is broken, on the last night."""
    from mlviews.nightly.cell import FAILURES

    cells = runs[-1].cells
    if any(cell.state == "not-run" and cell.problem for cell in cells):
        return _COULD_NOT
    return 1 if any(cell.state in FAILURES for cell in cells) else 0


def _errors(runs: Sequence[NightRun]) -> tuple[MlviewsError, ...]:
    """Return what kept cells of the last night from being looked at; a cell that is broken is a result, no error."""
    from mlviews.errors import FailedError

    problems = [cell.problem for cell in runs[-1].cells if cell.state == "not-run" and cell.problem]
    return distinct(FailedError(problem.code, problem.message, problem.hint) for problem in problems)


def _write(console: Console, result: NightlyResult) -> None:
    for run in result.nights:
        what = "solved, nothing installed" if run.solve_only else "installed and checked"
        cuda = f", as if for CUDA {run.cuda}" if run.cuda else ""
        told = f"  ({what}{cuda}, {run.seconds:.1f} s)"
        console.say((run.night, "bold"), f"  {_counts(run.cells)}", (told, "dim"))
    _cells(console, result.nights[-1].cells)
    console.say(f"report: {result.report}")


def _counts(cells: Sequence[NightCell]) -> str:
    states = [cell.state for cell in cells]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))


def _cells(console: Console, cells: Sequence[NightCell]) -> None:
    from mlviews.nightly.cell import FAILURES

    columns = (
        Column("State"), Column("View"), Column("Platform", rank=1), Column("Changes", rank=3, right=True),
        Column("Since", rank=2), Column("What is known", folds=14),
    )  # fmt: skip
    rows = (
        (
            (cell.state, _STYLES.get(cell.state, "bold red")), cell.view, cell.platform,
            str(len(cell.changes)) if cell.digest else "-", cell.earlier.since or "", known(cell),
        )
        for cell in cells
    )  # fmt: skip
    console.table(columns, rows)
    for cell in cells:
        if cell.problem and cell.state in FAILURES:
            console.say((f"\n{cell.view} {cell.platform}", "bold"), f": {cell.problem.message}")
        if changes := (cell.suspects or cell.changes if console.details else cell.suspects):
            since = f"since {cell.earlier.good}, the last good night" if cell.suspects else "against the committed lock"
            console.say((f"\n{cell.view} {cell.platform}", "bold"), f": {counted(len(changes), 'change')} {since}")
            write_changes(console, changes)


_ASKER = re.compile(r"  <-  .*?(?=; | \(the committed lock |$)")


def known(cell: NightCell) -> str:
    """Say in a line what is known of a cell; who asks for what stands in the message that follows the table."""
    if cell.reason:
        return _ASKER.sub("", cell.reason)
    return {"none": "there is no lock", "stale": "the lock is stale", "invalid": "the lock cannot be read"}.get(
        cell.lock, ""
    )
