from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_view, verb
from mlviews.store.retention import DAYS, KEEP

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.results.releases import GcResult
    from mlviews.store.collect import Collected

__all__ = ["gc"]

_SHOWN = 10


@verb("gc")
@click.argument("views", nargs=-1, metavar="[VIEW...]", shell_complete=complete_view)
@click.option("--keep", default=KEEP, show_default=True, type=click.IntRange(0), help="Keep the newest N of each view.")
@click.option(
    "--keep-days", default=DAYS, show_default=True, type=click.IntRange(0, 36500),
    help="Keep what was the default until fewer days ago.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be freed, and change nothing.")
def gc(app: App, views: tuple[str, ...], *, keep: int, keep_days: int, dry_run: bool) -> Outcome:
    """Remove old releases, what dead processes left, and packages in the cache that no release has.

    A default, a pinned release and one in progress always stay.
    """
    from datetime import timedelta

    from mlviews.errors import RefusedError
    from mlviews.store.collect import Rule, collect, foresee
    from mlviews.store.disk import Store

    store = Store(app.site.root, app.site.prefix)
    there = store.views()
    for view in views:
        if view not in there:
            raise RefusedError(
                "release-missing",
                f"there is no view {view} under {store.root}",
                f"There are: {', '.join(there) or 'none'}.",
            )
    chosen = tuple(dict.fromkeys(views)) or there
    rule = Rule(keep, timedelta(days=keep_days))
    if dry_run:
        collected = foresee(store, app.site.cache, chosen, rule)
    else:
        collected = collect(store, app.site.cache, chosen, rule, progress=app.progress)
    result = _result(collected, dry_run=dry_run)
    return Outcome(result, lambda console: _write(console, result, details=app.verbosity > 0))


def _result(collected: Collected, *, dry_run: bool) -> GcResult:
    from mlviews.results.releases import BusyView, GcResult, KeptRelease, RemovedRelease

    plans = collected.views
    return GcResult(
        dry_run=dry_run,
        removed=[RemovedRelease(view=plan.view, release=name) for plan in plans for name in plan.removed],
        kept=[KeptRelease(view=plan.view, release=name, why=why) for plan in plans for name, why in plan.kept.items()],
        busy=[BusyView(view=plan.view, holder=plan.busy) for plan in plans if plan.busy],
        debris=[str(path) for plan in plans for path in plan.debris] + [str(path) for path in collected.debris],
        cache=list(collected.cache),
        bytes=collected.bytes,
    )


def _write(console: Console, result: GcResult, *, details: bool) -> None:
    from rich.markup import escape

    from mlviews.cli.text import size

    would = "would remove" if result.dry_run else "removed"
    groups = {
        would: [f"{line.view}/{line.release}" for line in result.removed],
        f"{would} debris": result.debris,
        f"{would} from the cache": result.cache,
    }
    for label, names in groups.items():
        shown = names if details else names[:_SHOWN]
        for name in shown:
            console.print(f"[yellow]{label}[/] {escape(name)}", soft_wrap=True)
        if len(shown) < len(names):
            console.print(f"[yellow]{label}[/] {len(names) - len(shown)} more (-v lists them)")
    for kept in result.kept if details else ():
        console.print(f"[green]kept[/] {kept.view}/{kept.release}: {kept.why}", soft_wrap=True)
    for busy in result.busy:
        console.print(f"left alone {busy.view}: in use by {busy.holder}", markup=False, soft_wrap=True)
    stays = "1 release stays" if len(result.kept) == 1 else f"{len(result.kept)} releases stay"
    console.print(f"{size(result.bytes)} {'would be' if result.dry_run else 'are'} free; {stays}", markup=False)
