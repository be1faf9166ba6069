from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import FOLDER, LEVEL, App, complete_check, complete_view, verb
from mlviews.cli.output import Outcome, write_changes

if TYPE_CHECKING:
    from mlviews.bisect.find import BisectResult
    from mlviews.cli.terminal import Console
    from mlviews.smoke.programs import Level

_MOST_REASONS = 12
_LOCK = "LOCK|RELEASE|GITREF"


@verb("bisect")
@click.argument("view", shell_complete=complete_view)
@click.option("--good", metavar=_LOCK, required=True, help="A lock that works.")
@click.option("--bad", metavar=_LOCK, required=True, help="A lock that does not.")
@click.option(
    "--check", "names", metavar="NAME", multiple=True, shell_complete=complete_check,
    help="Look only at this check.  [default: the recipe's]",
)  # fmt: skip
@LEVEL
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    metavar="N",
    default=2,
    show_default=True,
    help="How often a test that decides is repeated.",
)
@click.option("--resume", is_flag=True, help="Continue an earlier call with these two locks.")
@click.option(
    "-o", "--output", type=FOLDER, metavar="DIR",
    help="Write the last good and the first bad lock there.  [default: under the root]",
)  # fmt: skip
def bisect(
    app: App,
    view: str,
    *,
    good: str,
    bad: str,
    names: tuple[str, ...],
    level: Level,
    retries: int,
    resume: bool,
    output: Path | None,
) -> Outcome:
    """Find the package change that breaks a view: build and check mixtures of two locks."""
    from mlviews.bisect.find import bisect as find
    from mlviews.smoke.runner import refuse_unknown
    from mlviews.store.locksource import named_lock

    site_spec = app.site_spec(view)
    refuse_unknown(names, site_spec.spec.own_checks)
    result = find(
        site_spec,
        app.site,
        named_lock(view, app.site, good),
        named_lock(view, app.site, bad),
        checks=names,
        level=level,
        retries=retries,
        resume=resume,
        output=output,
        progress=app.progress,
    )
    return Outcome(result, _write)


def _write(console: Console, result: BisectResult) -> None:
    def line(text: str, style: str = "") -> None:
        console.say((text, style))

    line(f"{result.good} -> {result.bad}", "dim")
    line(_heading(result), "bold")
    for name, reason in result.checks.items():
        line(f"  {name}: {reason}")
    write_changes(console, result.change)
    if result.because:
        line("These cannot be separated, because")
    for text in result.because[:_MOST_REASONS]:
        line(f"  {text}")
    if (more := len(result.because) - _MOST_REASONS) > 0:
        line(f"  ... and {more} more reasons; --json holds them")
    if result.step != result.change:
        line(f"Between the last good and the first bad lock: {', '.join(change.name for change in result.step)}")
    if result.skipped:
        line(f"Not tried, since the solver finds no mixture with them: {'; '.join(result.skipped)}")
    line(f"last good  {result.last_good}")
    line(f"first bad  {result.first_bad}")
    counted = f"{result.builds} builds"
    counted += f" and {result.kept} kept from before" if result.kept else ""
    counted += f"; {result.unsolvable} more mixtures do not exist" if result.unsolvable else ""
    line(counted, "dim")


def _heading(result: BisectResult) -> str:
    checks, count = ", ".join(result.checks), len(result.change)
    if count == 1:
        which = "the only change" if result.differ == 1 else f"1 of {result.differ} changes"
        return f"{which} breaks {checks} on {result.platform}"
    how = "and only together" if result.together else "and cannot be separated"
    return f"{count} of {result.differ} changes break {checks} on {result.platform}, {how}"
