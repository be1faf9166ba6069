"""Records of checks: take in those of other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import PATH, App, shared_options, verb
from mlviews.cli.output import Outcome

if TYPE_CHECKING:
    from mlviews.cli.terminal import Console
    from mlviews.results import RecordsGatherResult


@click.group("records")
@shared_options(environment=False)
def records() -> None:
    """Take in records of checks that ran on other hosts."""


@verb("gather")
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
def gather(app: App, files: tuple[Path, ...]) -> Outcome:
    """Take in records that `mlviews smoke` wrote on other hosts. Each counts for the lock that it names.

    Exit 1 if one is refused; the others are taken.
    """
    from mlviews.errors import MlviewsError
    from mlviews.files.filelock import announce
    from mlviews.results import RecordsGatherResult
    from mlviews.store.proofs import gather as take_in

    store = app.store
    taken, errors = [], []
    for file in files:
        try:
            taken.append(take_in(store, file, waiting=announce(app.progress, "the view")))
        except MlviewsError as error:
            errors.append(error)
    if errors and not taken:
        raise errors[0]
    result = RecordsGatherResult(taken)
    return Outcome(result, lambda console: _write(console, result), 1 if errors else 0, tuple(errors))


def _write(console: Console, result: RecordsGatherResult) -> None:

    for record in result.records:
        state = ("taken in", "green") if record.status == "new" else ("known already", "dim")
        what = f" {record.view}, lock {record.lock[:8]}: {record.host}, {record.created:%Y-%m-%d %H:%M}"
        console.say(state, what)


records.add_command(gather)
