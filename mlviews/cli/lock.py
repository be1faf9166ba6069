from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.days import end_of_day
from mlviews.cli.output import distinct
from mlviews.cli.verb import complete_view, verb

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console

    from mlviews.lock.make import Locked
    from mlviews.results.locks import LockResult

__all__ = ["lock"]


@verb("lock")
@click.argument("views", nargs=-1, metavar="[VIEW...]", shell_complete=complete_view)
@click.option("--all", "every", is_flag=True, help="Lock every view.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a lock is missing or stale.")
@click.option("--upgrade", is_flag=True, help="Take the newest of everything.")
@click.option(
    "--upgrade-package", "packages", metavar="PKG", multiple=True, help="Take the newest of PKG, keep others."
)
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="As if it were the end of that day (UTC).")
def lock(
    app: App, views: tuple[str, ...], *, every: bool, check: bool, upgrade: bool, packages: tuple[str, ...],
    as_of: datetime | None,
) -> Outcome:  # fmt: skip
    """Solve views and write their lock files; versions that still fit are kept."""
    if every == bool(views):
        raise click.UsageError("name views, or give --all")
    if check and (upgrade or packages or as_of):
        raise click.UsageError("--check solves nothing: it goes without --upgrade, --upgrade-package and --as-of")
    from mlviews.lock.make import Wishes, check_lock, lock_views

    catalogue = app.catalogue
    specs = catalogue.views() if every else tuple(catalogue.view(name) for name in dict.fromkeys(views))
    if check:
        found = tuple(check_lock(spec, app.site) for spec in specs)
    else:
        wishes = Wishes(upgrade=upgrade, packages=frozenset(packages), as_of=end_of_day(as_of) if as_of else None)
        found = lock_views(specs, app.site, wishes, progress=app.progress)
    errors = distinct(item.error for item in found if item.error)
    result = _result(found)
    return Outcome(
        result,
        lambda console: _write(console, result, check=check, details=app.verbosity > 0),
        max((error.exit_code for error in errors), default=0),
        errors,
    )


def _result(found: tuple[Locked, ...]) -> LockResult:
    from mlviews.lock.diff import package_changes
    from mlviews.results.locks import LockedView, LockResult

    return LockResult(
        locks=[
            LockedView(
                view=item.view,
                path=str(item.path),
                status=item.status,
                digest=item.lock.digest if item.lock else None,
                packages=len(item.lock.packages) if item.lock else 0,
                changes=package_changes(item.changes),
            )
            for item in found
        ]
    )


def _write(console: Console, result: LockResult, *, check: bool, details: bool) -> None:
    from mlviews.cli.text import change_table

    words = {"unchanged": "up to date"} if check else {}
    for line in result.locks:
        if line.status == "failed":
            continue
        counts: dict[str, int] = {}
        for change in line.changes:
            counts[change.kind] = counts.get(change.kind, 0) + 1
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        status = words.get(line.status, line.status)
        console.print(
            f"{line.view}: {status}, {line.packages} packages{f' ({summary})' if summary else ''}", markup=False
        )
        if line.changes and details:
            console.print(change_table(line.changes))
