from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mlviews.cli.app import FILE, LEVEL, THERE, App, complete_check, complete_view_or_release, reader, verb
from mlviews.cli.cluster import prove_on_cluster
from mlviews.cli.output import STATUS_STYLES, Outcome
from mlviews.cli.table import Column
from mlviews.values import from_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlviews.cli.terminal import Console
    from mlviews.errors import MlviewsError
    from mlviews.recipe.view import OwnCheck
    from mlviews.release import Release
    from mlviews.results import SmokedView, SmokeResult
    from mlviews.smoke.process import Limits
    from mlviews.smoke.programs import Level
    from mlviews.smoke.records import SpeedDrop
    from mlviews.smoke.report import CheckLine, RouteLine
    from mlviews.smoke.routes import Route
    from mlviews.smoke.runner import CheckPlan, Interpreter


@verb("smoke")
@click.argument("view", required=False, metavar="[VIEW[/RELEASE]]", shell_complete=complete_view_or_release)
@click.option("--python", type=THERE, help="Test this interpreter, not a view.")
@click.option(
    "--check", "names", metavar="NAME", multiple=True, shell_complete=complete_check,
    help="Run only this check; may be given several times.",
)  # fmt: skip
@LEVEL
@click.option(
    "--require-gpu", is_flag=True, help="If no GPU did the work of a GPU check, it is an error and not skipped."
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Time that each check may take."
)
@click.option(
    "--via",
    "routes",
    type=click.Choice(["prefix", "module", "kernel", "container", "all"]),
    multiple=True,
    help="Enter the view by this route, and compare; may be given several times.",
)
@click.option("--base", metavar="IMAGE", help="Base image for --via container.  [default: the site's]")
@click.option(
    "--cluster",
    is_flag=True,
    help="Run the checks in Slurm jobs, once on each kind of GPU in the site's partitions.",
)
@click.option("--queue", callback=reader("word"), metavar="NAME", help="With --cluster: only this partition.")
@click.option(
    "--wait", callback=reader("seconds"), default="12h", show_default=True, metavar="TIME",
    help="With --cluster: cancel jobs that have not ended by then.",
)  # fmt: skip
@click.option("--junit", type=FILE, help="Write the results as JUnit XML, too.")
def smoke(
    app: App,
    view: str | None,
    *,
    python: Path | None,
    names: tuple[str, ...],
    level: Level,
    require_gpu: bool,
    timeout: float | None,
    routes: tuple[Route | Literal["all"], ...],
    base: str | None,
    cluster: bool,
    queue: str | None,
    wait: int,
    junit: Path | None,
) -> Outcome:
    """Prove that a view, or any Python, computes right: run the recipe's checks with its own interpreter.

    Without VIEW, prove all built views: of each the default release, or the newest if it has no default.
    """
    if view and python:
        raise click.UsageError("name a view or give --python PATH, not both")
    if routes and not view:
        raise click.UsageError("--via needs a view")
    if cluster:
        if python or routes or junit or not view:
            raise click.UsageError("--cluster needs one view, and cannot be used with --python, --via or --junit")
        options = _smoke_options(names, level, timeout)
        return prove_on_cluster(app, view, options, level=level, queue=queue, wait=wait)
    if queue:
        raise click.UsageError("--queue goes with --cluster")
    from mlviews.smoke.process import Limits
    from mlviews.smoke.runner import refuse_unknown

    own = app.catalogue.own_checks if names or not python else ()
    refuse_unknown(names, own)
    run = _Run(app, names, level, Limits(seconds=timeout) if timeout else Limits(), require_gpu, own)
    errors: tuple[MlviewsError, ...] = ()
    untested: tuple[MlviewsError, ...] = ()
    if python:
        result = _of_python(run, python)
    elif view:
        result, errors = _of_view(run, view, routes, base)
    else:
        result, errors, untested = _of_all(run)
    return _outcome(run, result, errors, untested, junit)


def _outcome(
    run: _Run,
    result: SmokeResult,
    errors: tuple[MlviewsError, ...],
    untested: tuple[MlviewsError, ...],
    junit: Path | None,
) -> Outcome:
    """Tell what was found.

    Args:
        errors: what went wrong beside the checks.
        untested: why views were not tested.
        junit: a file that the results are written to, too.
    """
    from mlviews.smoke.programs import programs

    suites = {one.view or "": one.checks for one in result.views}
    if not result.views and (result.view or result.python):
        suites = {result.view or "python": result.checks}
    _write_junit(junit, suites)
    lines = [line for checks in (*suites.values(), *(route.checks for route in result.routes)) for line in checks]
    gpu = {program.name for program in programs(run.own).values() if program.gpu}
    if run.require_gpu and not any(line.name in gpu for line in lines):
        run.app.remark("none of these checks has work for a GPU: so --require-gpu has no effect")
    failed = any(line.is_bad for line in lines) or result.differences
    return Outcome(
        result,
        lambda console, _: _write(console, result, run.app.root, empty=not untested),
        max([1 if failed else 0, *(error.exit_code for error in untested)]),
        (*errors, *untested),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """How checks are run, whatever they are run on."""

    app: App
    names: tuple[str, ...]
    level: Level
    limits: Limits
    require_gpu: bool
    own: tuple[OwnCheck, ...]

    def plan(self, wanted: Callable[[], Iterable[str]]) -> CheckPlan:
        """Return the checks that were named, else those that are wanted."""
        from mlviews.smoke.runner import choose

        return choose(self.names or tuple(wanted()), self.level, named=bool(self.names), own=self.own)

    def __call__(self, target: Interpreter, plan: CheckPlan) -> tuple[CheckLine, ...]:
        from mlviews.smoke.runner import run_checks

        return run_checks(
            target, plan,
            level=self.level, limits=self.limits, require_gpu=self.require_gpu, progress=self.app.progress,
        )  # fmt: skip


def _of_python(run: _Run, python: Path) -> SmokeResult:
    from mlviews.results import SmokeResult
    from mlviews.smoke.programs import PROGRAMS
    from mlviews.smoke.records import proves
    from mlviews.smoke.runner import any_python

    plan = run.plan(lambda: PROGRAMS)
    lines = run(any_python(python), plan)
    return SmokeResult(python=python, level=run.level, proved=proves(lines), full_only=plan.left_out, checks=lines)


def _of_view(
    run: _Run, view: str, routes: Sequence[Route | Literal["all"]], base: str | None
) -> tuple[SmokeResult, tuple[MlviewsError, ...]]:
    from mlviews.results import SmokeResult
    from mlviews.smoke.routes import differences

    entered = _routes(run, view, routes, base) if routes else []
    one, errors = _view(run, view, entered[0].checks if entered else None)
    apart = differences(entered) if entered else ()
    result = from_attributes(SmokeResult, one, level=run.level, routes=entered, differences=apart)
    return result, (*errors, *_different(result))


def _of_all(run: _Run) -> tuple[SmokeResult, tuple[MlviewsError, ...], tuple[MlviewsError, ...]]:
    """Test every view that is built; return what was found, what went wrong beside that, and why others were not."""
    from mlviews.errors import MlviewsError
    from mlviews.results import SmokeResult
    from mlviews.store.built import built_view

    store = run.app.store
    found: list[SmokedView] = []
    errors: list[MlviewsError] = []
    untested: list[MlviewsError] = []
    for view in store.views():
        try:
            if built := built_view(store, view):
                one, told = _view(run, f"{view}/{built.release}", None)
                found.append(one)
                errors += told
        except MlviewsError as error:  # it stops no other
            untested.append(error)
    result = SmokeResult(level=run.level, proved=any(one.proved for one in found), views=found)
    return result, tuple(errors), tuple(untested)


def _view(run: _Run, label: str, lines: Sequence[CheckLine] | None) -> tuple[SmokedView, tuple[MlviewsError, ...]]:
    """Test a release, unless somebody has, and record what was found."""
    from mlviews.results import SmokedView
    from mlviews.smoke.records import proves
    from mlviews.smoke.release import release_target
    from mlviews.store.launcher import release_here

    app = run.app
    prefix, release = release_here(app.root, label)
    if not app.store.in_place(release):
        app.remark(
            f"{label} was built for {release.prefix}, where it does not lie: the checks find it there, users do not"
        )
    plan = _planned(run, release)
    lines = run(release_target(prefix, release), plan) if lines is None else lines
    lines = (*lines, *_away(run, release))
    slower, unread = _slower(app, release, lines)
    record, unwritten = _record(app, release, lines, run.level)
    one = SmokedView(
        view=release.view, release=release.release, lock=release.lock_digest, proved=proves(lines), record=record,
        full_only=plan.left_out, checks=lines, slower=slower,
    )  # fmt: skip
    return one, (*unread, *unwritten)


def _planned(run: _Run, release: Release) -> CheckPlan:
    from mlviews.smoke.programs import BASIC

    return run.plan(lambda: (*BASIC, *run.app.view(release.view).smoke))


def _away(run: _Run, release: Release) -> tuple[CheckLine, ...]:
    """Return an error for each check that has proved this lock and is not here: it lies beside the recipe alone."""
    from mlviews.errors import MlviewsError
    from mlviews.smoke.programs import programs
    from mlviews.smoke.records import own_digests, read_records
    from mlviews.smoke.report import CheckLine

    if run.names:
        return ()
    proved: dict[str, str] = {}
    with suppress(MlviewsError):  # records that cannot be read are told with the figures
        proved = own_digests(read_records(run.app.root, release.view, release.lock_digest))
    why = "this check is not here: it lies beside the recipe; name that folder with --recipes DIR"
    away = sorted({*proved} - {*programs(run.own)})
    return tuple(CheckLine(name=name, status="error", reason=why, seconds=0, digest=proved[name]) for name in away)


def _smoke_options(names: Sequence[str], level: Level, timeout: float | None) -> list[str]:
    found = [f"--check={name}" for name in names]
    return [*found, f"--level={level}", *([f"--timeout={timeout:g}"] if timeout else []), "--require-gpu", "--json"]


def _slower(
    app: App, release: Release, lines: Sequence[CheckLine]
) -> tuple[tuple[SpeedDrop, ...], tuple[MlviewsError, ...]]:
    """Return where the GPU was much faster in earlier records, and the error where they cannot be read."""
    from mlviews.files.reading import UnreadableError
    from mlviews.smoke.records import drops, view_records

    try:
        return drops(lines, view_records(app.root, release.view)), ()
    except UnreadableError as error:
        return (), (error,)


def _different(result: SmokeResult) -> tuple[MlviewsError, ...]:
    from mlviews.errors import RefusedError

    if not result.differences:
        return ()
    what = f"{result.view}/{result.release} is not the same through each route"
    hint = f"`mlviews smoke {result.view} --via ROUTE` tests one; -v on the build tells what it is made of."
    return (RefusedError("routes-differ", what, hint, faults=tuple(result.differences)),)


def _routes(run: _Run, view: str, names: Sequence[Route | Literal["all"]], base: str | None) -> list[RouteLine]:
    """Run the checks through each route, in the routes' own order."""
    from mlviews.smoke.report import RouteLine
    from mlviews.smoke.routes import chosen_routes, open_route
    from mlviews.store.launcher import release_here

    app = run.app
    prefix, release = release_here(app.root, view)
    plan = _planned(run, release)
    found = []
    # All are opened before the first is used: a tool that is missing should not be told after minutes of work.
    with ExitStack() as stack:
        targets = {
            name: stack.enter_context(open_route(name, prefix, release, app.site, base=base, progress=app.progress))
            for name in chosen_routes(names, release)
        }
        for name, target in targets.items():
            found.append(RouteLine(route=name, checks=run(target, plan)))
    return found


def _record(
    app: App, release: Release, lines: Sequence[CheckLine], level: Level
) -> tuple[Path | None, tuple[MlviewsError, ...]]:
    from mlviews.errors import MlviewsError
    from mlviews.files.filelock import announce
    from mlviews.site.file import quick_root
    from mlviews.smoke.records import can_record, write_record
    from mlviews.store.loaders import tell_proofs

    record = None
    # Who reads views from CVMFS keeps the record among what is their own.
    own = None if can_record(app.root, release) else quick_root("local")
    try:
        record = write_record(own or app.root, release, lines, level=level)
        if record and not own and any(line.on_gpu for line in lines):
            tell_proofs(app.store, release, waiting=announce(app.progress, release.view))
    except MlviewsError as error:  # whoever only reads a store may test its views all the same
        app.remark(f"not recorded: {error.message}")
        return record, (error,) if app.json else ()
    return record, ()


def _write_junit(path: Path | None, suites: Mapping[str, Sequence[CheckLine]]) -> None:
    from mlviews.files.writing import write_atomically
    from mlviews.smoke.report import junit, junit_suites

    if path:
        one = next(iter(suites.items())) if len(suites) == 1 else None
        write_atomically(path, junit(*one) if one else junit_suites(suites))


def _write(console: Console, result: SmokeResult, root: Path, *, empty: bool) -> None:
    if result.routes:
        _write_routes(console, result)
    elif result.view or result.python:
        _write_checks(console, result.checks)
    elif not result.views and empty:
        console.say("no release is here: `mlviews build VIEW` makes one")
    for one in result.views:
        console.say((f"{one.view}/{one.release}", "bold"))
        _write_checks(console, one.checks)
        _write_remarks(console, one, root)
        console.say()
    if result.view or result.python:
        _write_remarks(console, result, root)


def _write_remarks(console: Console, one: SmokedView, root: Path) -> None:
    if one.full_only:
        console.say(f"only with --level full: {', '.join(one.full_only)}")
    if not one.proved:
        console.say(("nothing was proved", "bold yellow"))
    for drop in one.slower:
        what = f"slow: {drop.check}, {drop.figure}: {drop.now:g}; it was {drop.before:g}"
        console.say((f"{what} in {drop.records} earlier record(s) of {drop.device}", "bold yellow"))
    if one.record:
        console.say(f"recorded in {one.record}")
        if not one.record.is_relative_to(root):
            console.say("You cannot write to this root. Its owner takes the record with `mlviews records gather FILE`.")


def _write_checks(console: Console, lines: Sequence[CheckLine]) -> None:
    columns = (
        Column("Status"), Column("Check"), Column("Device", rank=1), Column("Time", rank=2, right=True),
        Column("Reason", folds=30),
    )  # fmt: skip
    rows = (
        ((line.status, STATUS_STYLES[line.status]), line.name, line.device, f"{line.seconds:.1f} s", line.reason)
        for line in lines
    )
    console.table(columns, rows)


def _write_routes(console: Console, result: SmokeResult) -> None:
    """Write what each check found, a column a route."""
    rows = (
        (lines[0].name, *((f"{line.status} {line.seconds:.1f} s", STATUS_STYLES[line.status]) for line in lines))
        for lines in zip(*(route.checks for route in result.routes), strict=True)
    )
    console.table((Column("Check"), *(Column(route.route, folds=7) for route in result.routes)), rows)
    found = (line for route in result.routes for line in route.checks if line.status != "pass")
    for name, status, reason in dict.fromkeys((line.name, line.status, line.reason) for line in found):
        console.say((status, STATUS_STYLES[status]), f" {name}: {reason}")
    if len(result.routes) > 1 and not result.differences:
        console.say(("the same", "bold green"), f" through {', '.join(route.route for route in result.routes)}")
