from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_view, verb

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.results.releases import ReleaseLine, ReleasesResult
    from mlviews.store.disk import ReleaseEntry, Store

__all__ = ["releases"]

_NAMED = 5


@verb("releases")
@click.argument("view", shell_complete=complete_view)
def releases(app: App, view: str) -> Outcome:
    """List a view's releases: what each takes, what is proved of it, which is the default, what is pinned."""
    from mlviews.results.releases import ReleasesResult, RemovedLine
    from mlviews.store.disk import Store
    from mlviews.store.removal import removed

    store = Store(app.site.root, app.site.prefix)
    gone = [
        RemovedLine(release=note.release, removed=note.removed.isoformat(timespec="seconds"), lock=note.lock_digest)
        for note in removed(store, view)
    ]
    default = store.default(view)
    lines = [_line(store, view, entry, default) for entry in store.releases(view)]
    result = ReleasesResult(view=view, releases=lines, removed=gone)
    return Outcome(result, lambda console: _write(console, result))


def _line(store: Store, view: str, entry: ReleaseEntry, default: str | None) -> ReleaseLine:
    from mlviews.prefix.usage import read, shared_bytes
    from mlviews.results.releases import ReleaseLine
    from mlviews.smoke.proof import proved_gpus
    from mlviews.smoke.records import last_results, read_records

    records = read_records(store.root, view, entry.lock_digest)
    checks = last_results(records)
    prefixes = [store.platform_folder(view, entry.name, platform) for platform in entry.platforms]
    usages = {prefix: read(prefix) for prefix in prefixes}
    return ReleaseLine(
        release=entry.name,
        default=entry.name == default,
        pinned=store.is_pinned(view, entry.name),
        platforms=sorted(entry.platforms),
        created=max(release.created for release in entry.platforms.values()).isoformat(),
        lock=entry.lock_digest,
        packages=max(len(release.packages) for release in entry.platforms.values()),
        bytes=sum(usage.bytes for usage in usages.values()),
        shared=sum(shared_bytes(prefix, usage) for prefix, usage in usages.items()),
        passed=sorted(name for name, passed in checks.items() if passed),
        failed=sorted(name for name, passed in checks.items() if not passed),
        gpus=list(proved_gpus(_claimed(entry), records)),
    )


def _claimed(entry: ReleaseEntry) -> tuple[str, ...]:
    return next(iter(entry.platforms.values())).gpus


def _write(console: Console, result: ReleasesResult) -> None:
    from rich.table import Table

    from mlviews.cli.text import size
    from mlviews.results.checks import gpus_in_words

    if not result.releases:
        console.print(f"no release of {result.view}; `mlviews build {result.view}` makes one", markup=False)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Release", "", "Platforms", "Lock"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Packages", "Size", "Shared"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Checks", no_wrap=True)
    for line in result.releases:
        marks = ["[green]default[/]"] * line.default + ["[cyan]pinned[/]"] * line.pinned
        figures = [line.lock[:8], str(line.packages), size(line.bytes), size(line.shared), _checks(line)]
        table.add_row(line.release, " ".join(marks), " ".join(line.platforms), *figures)
    console.print(table)
    for line in (line for line in result.releases if line.gpus):
        console.print(f"{line.release} on GPUs: {gpus_in_words(line.gpus)}", markup=False, soft_wrap=True)
    if result.removed:
        names = ", ".join(line.release for line in result.removed[-_NAMED:])
        more = len(result.removed) - _NAMED
        console.print(f"removed: {names}{f' and {more} before' if more > 0 else ''}", style="dim", markup=False)


def _checks(line: ReleaseLine) -> str:
    failed = f"[red]{len(line.failed)} failed[/]"
    return ", ".join([f"{len(line.passed)} passed"] * bool(line.passed) + [failed] * bool(line.failed)) or "-"
