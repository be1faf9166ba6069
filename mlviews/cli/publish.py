from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, complete_release, verb

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.publish.plan import PublishResult
    from mlviews.store.disk import ReleaseEntry, Store

__all__ = ["publish"]

_SHOWN = 20


@verb("publish")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.option("--plan", "planned", is_flag=True, required=True, help="Say what would be published; change nothing.")
@click.option("--tar", type=click.Path(path_type=Path), metavar="FILE", help="Pack it for `cvmfs_server ingest`.")
def publish(app: App, view: str, *, planned: bool, tar: Path | None) -> Outcome:
    """Plan the publishing of a release on CVMFS, the newest unless one is named; pack it for the host that publishes.

    Exit 1 if a rule forbids it: then nothing is packed.
    """
    from mlviews.publish.ingest import pack
    from mlviews.publish.plan import plan
    from mlviews.store.disk import Store

    del planned  # publishing itself is cvmfs_server's, on another host
    name, _, release = view.partition("/")
    store = Store(app.site.root, app.site.prefix)
    entry = _entry(store, name, release)
    place, shared = tar.absolute() if tar else None, app.site.group is not None
    found, items = plan(store, name, entry, place, shared=shared, progress=app.progress)
    if found.tar:
        pack(found, items, found.tar, progress=app.progress)
    code = 1 if any(remark.forbids for remark in found.remarks) else 0
    return Outcome(found, lambda console: _write(console, found, details=app.verbosity > 0), code)


def _entry(store: Store, view: str, release: str) -> ReleaseEntry:
    from mlviews.errors import RefusedError

    if release:
        return store.existing(view, release)
    entries = store.releases(view)
    if not entries:
        raise RefusedError(
            "release-missing", f"there is no release of {view} under {store.root}", f"`mlviews build {view}` makes one."
        )
    return entries[-1]


def _write(console: Console, result: PublishResult, *, details: bool) -> None:
    from rich.markup import escape

    from mlviews.cli.terminal import size

    def line(text: str) -> None:
        console.print(text, soft_wrap=True)

    name, place = f"{result.view}/{result.release}", "" if result.base == "/" else f", below {result.base}"
    line(f"[bold]{name}[/] for {result.repository}{place}: {result.files} files, {size(result.bytes)}")
    for catalog in result.catalogs:
        line(f"  catalog of {catalog.entries:7} entries: {escape(catalog.folder)}")
    if result.replaced is None:
        line("  what is replaced is not known: the repository is not mounted here")
    for path in result.replaced or ():
        line(f"  replaced: {escape(path)}")
    shown = result.remarks if details else result.remarks[:_SHOWN]
    for remark in shown:
        label = "[red]forbidden[/]" if remark.forbids else "[yellow]note[/]"
        line(f"  {label} {remark.rule}: {escape(remark.path)}: {escape(remark.why)}")
    if len(shown) < len(result.remarks):
        line(f"  ... and {len(result.remarks) - len(shown)} more: -v lists them")
    if not any(remark.forbids for remark in result.remarks):
        console.print("\nOn the host that publishes, with no transaction open:", style="bold")
        console.print(f"  {result.command}", markup=False, soft_wrap=True)
