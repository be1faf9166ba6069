"""Which package is in which view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, complete_view_or_release, named, verb
from mlviews.cli.output import Outcome
from mlviews.cli.table import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.cli.table import Part
    from mlviews.cli.terminal import Console
    from mlviews.holdings import HeldPackage, PackagesResult, SearchResult


@verb("packages")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_view_or_release)
def packages(app: App, view: str) -> Outcome:
    """List all packages of a view with their versions.

    Without RELEASE, they are those of the default release; if there is none, of the newest release; if there is none,
    of the lock.
    """
    return list_packages(app, view)


def list_packages(app: App, view: str) -> Outcome:
    """Return what `packages` prints, whatever verb asks for it."""
    from mlviews.errors import RefusedError
    from mlviews.holdings import PackagesResult, holdings_of, packages_of

    app.command = "packages"
    name, release = named(view)
    store = app.store
    chosen = store.default(name) if release == "default" else None
    held = holdings_of(name, app.catalogue, app.site, store, release=chosen or release)
    if held.entry is None and held.lock is None:
        raise RefusedError(
            "lock-missing", f"there is no release of {name} and no lock", f"`mlviews lock {name}` makes a lock."
        )
    found = packages_of(held, store)
    source = held.entry.name if held.entry else None
    return Outcome(PackagesResult(name, "release" if source else "lock", source, found), _write_packages)


@verb("search")
@click.argument("package")
def search(app: App, package: str) -> Outcome:
    """Say which views hold a package, in which version and for which CUDA. In PACKAGE `*` stands for any letters."""
    from mlviews.holdings import all_holdings
    from mlviews.holdings import search as find

    held = all_holdings(app.catalogue, app.site, app.store)
    return Outcome(find(package, held), _write_found, errors=held.errors)


def _write_packages(console: Console, result: PackagesResult) -> None:
    console.say((result.view, "bold"), f" {result.release or 'is not built: this is its lock'}")
    columns = (
        Column("Package"), Column("Version"), Column("Build", rank=2, folds=20), Column("CUDA", rank=1),
        Column("Platform", rank=3, folds=13),
    )  # fmt: skip
    first = sorted(result.packages, key=lambda package: not package.asked)
    console.table(columns, _alike(first))
    asked = len({package.name for package in result.packages if package.asked})
    console.say((f"The recipe asks for the first {asked} packages; these need the others.", "dim"))


def _alike(packages: Sequence[HeldPackage]) -> list[tuple[Part, ...]]:
    """Return one row for a package that is the same on several platforms."""
    platforms: dict[tuple[str, str, str, str, bool], list[str]] = {}
    for package in packages:
        key = (package.name, package.version, package.build or "wheel", package.cuda or "-", package.asked)
        platforms.setdefault(key, []).append(package.platform)
    return [
        ((name, "bold" if asked else ""), version, build, cuda, " ".join(found))
        for (name, version, build, cuda, asked), found in platforms.items()
    ]


def _write_found(console: Console, result: SearchResult) -> None:
    if result.packages:
        columns = (
            Column("Package", style="bold"), Column("Version"), Column("View"), Column("From", rank=3),
            Column("CUDA", rank=1), Column("Build", rank=2, folds=20), Column("Platform", rank=4),
        )  # fmt: skip
        rows = (
            (
                one.name,
                one.version,
                one.view,
                one.release or "lock",
                one.cuda or "-",
                one.build or "wheel",
                one.platform,
            )
            for one in result.packages
        )
        console.table(columns, rows)
    if result.asking:
        views = ", ".join(result.asking)
        console.say(f"neither built nor locked here, but their recipes ask for it: {views}")
    for gap in result.gaps:
        console.say((f"{gap.view} cannot have {gap.package} yet", "yellow"), f": {gap.why}")
