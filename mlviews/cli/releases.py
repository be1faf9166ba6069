from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_view, verb

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.results import ReleasesResult
    from mlviews.store import ReleaseEntry, Store

__all__ = ["releases"]


@verb("releases")
@click.argument("view", shell_complete=complete_view)
def releases(app: App, view: str) -> Outcome:
    """List a view's releases, the default one marked."""
    from mlviews.results import ReleaseLine, ReleasesResult
    from mlviews.smoke.proof import proved_gpus
    from mlviews.smoke.records import read_records
    from mlviews.store import Store

    store = Store(app.site.root, app.site.prefix)
    default = store.default(view)
    lines = [
        ReleaseLine(
            release=entry.name,
            default=entry.name == default,
            platforms=sorted(entry.platforms),
            created=max(release.created for release in entry.platforms.values()).isoformat(),
            lock=entry.lock_digest,
            packages=max(len(release.packages) for release in entry.platforms.values()),
            bytes=_bytes(store, view, entry),
            gpus=list(proved_gpus(_claimed(entry), read_records(store.root, view, entry.lock_digest))),
        )
        for entry in store.releases(view)
    ]
    result = ReleasesResult(view=view, releases=lines)
    return Outcome(result, lambda console: _write(console, result))


def _claimed(entry: ReleaseEntry) -> tuple[str, ...]:
    return next(iter(entry.platforms.values())).gpus


def _bytes(store: Store, view: str, entry: ReleaseEntry) -> int:
    from mlviews.files import bytes_under

    return sum(bytes_under(store.platform_folder(view, entry.name, platform)) for platform in entry.platforms)


def _write(console: Console, result: ReleasesResult) -> None:
    from rich.table import Table

    from mlviews.cli.text import size
    from mlviews.smoke.proof import gpus_in_words

    if not result.releases:
        console.print(f"no release of {result.view}; `mlviews build {result.view}` makes one", markup=False)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Release", "Default", "Platforms", "Created (UTC)", "Lock"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Packages", justify="right")
    table.add_column("Size", justify="right")
    if gpus := any(line.gpus for line in result.releases):
        table.add_column("GPUs")
    for line in result.releases:
        mark = "[green]default[/]" if line.default else ""
        created = line.created[:16].replace("T", " ")
        figures = [line.lock[:12], str(line.packages), size(line.bytes)]
        proofs = [gpus_in_words(line.gpus)] if gpus else []
        table.add_row(line.release, mark, " ".join(line.platforms), created, *figures, *proofs)
    console.print(table)
