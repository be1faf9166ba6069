from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_view, verb

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.results.locks import DiffResult

__all__ = ["diff"]


@verb("diff")
@click.argument("view", shell_complete=complete_view)
@click.option("--from", "before", metavar="LOCK|RELEASE|GITREF", help="[default: the default release's lock]")
@click.option("--to", "after", metavar="LOCK|RELEASE|GITREF", help="[default: the lock file]")
def diff(app: App, view: str, *, before: str | None, after: str | None) -> Outcome:
    """Compare two locks of a view: added, removed, up, down, rebuilt, and the size."""
    from mlviews.lock.diff import compare, package_changes
    from mlviews.results.locks import DiffResult
    from mlviews.store.locksource import default_release_lock, lock_file, named_lock

    spec = app.catalogue.view(view)
    old = named_lock(spec.name, app.site, before) if before else default_release_lock(spec.name, app.site)
    new = named_lock(spec.name, app.site, after) if after else lock_file(spec.name, app.site)
    changes = package_changes(compare(old.lock, new.lock))
    result = DiffResult(
        view=view,
        before=old.label,
        after=new.label,
        bytes=sum(change.bytes for change in changes),
        changes=changes,
    )
    return Outcome(result, lambda console: _write(console, result))


def _write(console: Console, result: DiffResult) -> None:
    from mlviews.cli.text import change_table, size

    console.print(f"{result.before} -> {result.after}", style="dim", markup=False, soft_wrap=True)
    if not result.changes:
        console.print("no difference")
        return
    console.print(change_table(result.changes))
    console.print(f"{len(result.changes)} packages differ, {size(result.bytes, sign=True)}", markup=False)
