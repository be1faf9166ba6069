from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_view, verb

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.errors import MlviewsError
    from mlviews.release import Release
    from mlviews.results import CheckLine, SmokeResult
    from mlviews.smoke.runner import Target

__all__ = ["smoke"]

Level = Literal["quick", "full"]


@verb("smoke")
@click.argument("view", required=False, metavar="[VIEW[/RELEASE]]", shell_complete=complete_view)
@click.option(
    "--python", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Test this interpreter, not a view."
)
@click.option("--check", "names", metavar="NAME", multiple=True, help="Run just this check; may be given again.")
@click.option("--level", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@click.option("--require-gpu", is_flag=True, help="Work for a GPU that no GPU did is an error, not skipped.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="For each check.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write the results as JUnit XML, too.")
def smoke(
    app: App,
    view: str | None,
    *,
    python: Path | None,
    names: tuple[str, ...],
    level: Level,
    require_gpu: bool,
    timeout: float | None,
    junit: Path | None,
) -> Outcome:
    """Prove what a view, or any Python, computes: run its recipe's checks with its own interpreter."""
    if (view is None) == (python is None):
        raise click.UsageError("name a view, or give --python PATH")
    from mlviews.results import SmokeResult
    from mlviews.smoke.process import Limits
    from mlviews.smoke.programs import PROGRAMS
    from mlviews.smoke.prove import BASIC
    from mlviews.smoke.records import proves
    from mlviews.smoke.runner import any_python, choose, run_checks

    _refuse_unknown(names)
    release: Release | None = None
    target: Target
    if python:
        target, wanted = any_python(python.absolute()), names or tuple(PROGRAMS)
    else:
        target, release = _view(app, view or "")
        wanted = names or (*BASIC, *app.catalogue.view(release.view).smoke)
    plan = choose(wanted, level, named=bool(names))
    limits = Limits(seconds=timeout) if timeout else Limits()
    lines = run_checks(target, plan, level=level, limits=limits, require_gpu=require_gpu, progress=app.progress)
    record, errors = _record(app, release, lines, level) if release else (None, ())
    _write_junit(junit, release.view if release else "python", lines)
    result = SmokeResult(
        view=release.view if release else None,
        release=release.release if release else None,
        lock=release.lock_digest if release else None,
        python=str(python) if python else None,
        level=level,
        proved=proves(lines),
        record=str(record) if record else None,
        full_only=list(plan.left_out),
        checks=list(lines),
    )
    failed = any(line.status in {"fail", "error"} for line in lines)
    return Outcome(result, lambda console: _write(console, result), 1 if failed else 0, errors)


def _refuse_unknown(names: tuple[str, ...]) -> None:
    from mlviews.errors import BadInputError
    from mlviews.smoke.programs import PROGRAMS

    if unknown := [name for name in names if name not in PROGRAMS]:
        raise BadInputError(
            "check-unknown", f"there is no check {', '.join(unknown)}", f"The checks are {', '.join(PROGRAMS)}."
        )


def _view(app: App, label: str) -> tuple[Target, Release]:
    from mlviews.running import release_here
    from mlviews.smoke.prove import release_target

    prefix, release = release_here(app.root, label)
    return release_target(prefix, release), release


def _record(
    app: App, release: Release, lines: tuple[CheckLine, ...], level: Level
) -> tuple[Path | None, tuple[MlviewsError, ...]]:
    from mlviews.errors import MlviewsError
    from mlviews.faces import tell_proofs
    from mlviews.locks import announce
    from mlviews.smoke.records import write_record
    from mlviews.store import Store

    record = None
    try:
        record = write_record(app.root, release, lines, level=level)
        if record and any(line.device not in {"", "cpu"} for line in lines):
            tell_proofs(Store(app.site.root, app.site.prefix), release, waiting=announce(app.progress, release.view))
    except MlviewsError as error:
        return record, (error,)  # whoever only reads a store may test its views all the same
    return record, ()


def _write_junit(path: Path | None, suite: str, lines: tuple[CheckLine, ...]) -> None:
    from mlviews.files import write_atomically
    from mlviews.smoke.junit import junit

    if path:
        write_atomically(path.absolute(), junit(suite, lines))


def _write(console: Console, result: SmokeResult) -> None:
    from rich.markup import escape
    from rich.table import Table

    from mlviews.cli.text import STATUS_STYLES

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Status", "Check", "Device"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    table.add_column("Reason")
    for line in result.checks:
        style = STATUS_STYLES[line.status]
        table.add_row(
            f"[{style}]{line.status}[/]", line.name, escape(line.device), f"{line.seconds:.1f} s", escape(line.reason)
        )
    console.print(table)
    if result.full_only:
        console.print(f"only with --level full: {', '.join(result.full_only)}", markup=False)
    if not result.proved:
        console.print("nothing was proved", style="bold yellow")
    if result.record:
        console.print(f"recorded in {result.record}", markup=False, soft_wrap=True)
