"""Releases: list them, choose the default, keep one, take one away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, complete_release, complete_view, split_release, verb

if TYPE_CHECKING:
    from mlviews.cli.terminal import Console
    from mlviews.store.listing import ReleasesResult, ReleaseSummary
    from mlviews.store.releases import PromoteResult

_NAMED = 5


@verb("releases")
@click.argument("view", required=False, metavar="[VIEW]", shell_complete=complete_view)
def releases(app: App, view: str | None) -> Outcome:
    """List a view's releases: size, checks, the default, pins. Without VIEW, list those of all views."""
    from mlviews.store.disk import Store
    from mlviews.store.listing import all_releases, releases_of

    store = Store(app.site.root, app.site.prefix)
    result = releases_of(store, view) if view else all_releases(store)
    return Outcome(result, lambda console: _write(console, result))


def _write(console: Console, result: ReleasesResult) -> None:
    from mlviews.cli.terminal import Column, tell_unreadable, write_table
    from mlviews.progress import size
    from mlviews.release import gpus_in_words

    tell_unreadable(console, result.unreadable)
    if not result.releases:
        what = f"of {result.view}; `mlviews build {result.view}`" if result.view else "is here; `mlviews build VIEW`"
        console.print(f"no release {what} makes one", markup=False)
        return
    columns = (
        Column("View", style="bold"), Column("Release"), Column(style="green"), Column("Platforms", rank=5),
        Column("Lock", rank=3),
        Column("Packages", rank=4, right=True), Column("Size", right=True), Column("Shared", rank=2, right=True),
        Column("Checks", folds=9),
    )  # fmt: skip
    rows: list[tuple[str | tuple[str, str], ...]] = []
    for line in result.releases:
        marks = " ".join(["default"] * line.default + ["pinned"] * line.pinned)
        figures = (line.lock[:8], str(line.packages), size(line.bytes), size(line.shared), _checks(line))
        rows.append((line.view, line.release, marks, " ".join(line.platforms), *figures))
    of_one = result.view is not None  # who named it knows it
    write_table(console, columns[of_one:], [row[of_one:] for row in rows])
    for line in result.releases:
        name = line.release if result.view else f"{line.view}/{line.release}"
        if line.override:
            console.print(f"{name} was promoted without proof: {line.override}", markup=False, soft_wrap=True)
        if line.gpus:
            console.print(f"{name} on GPUs: {gpus_in_words(line.gpus)}", markup=False, soft_wrap=True)
    if result.view and result.removed:
        names = ", ".join(line.release for line in result.removed[-_NAMED:])
        more = len(result.removed) - _NAMED
        console.print(f"removed: {names}{f' and {more} before' if more > 0 else ''}", style="dim", markup=False)


def _checks(line: ReleaseSummary) -> tuple[str, str]:
    counts = {"passed": len(line.passed), "failed": len(line.failed)}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return told or "-", "red" if line.failed else ""


@verb("promote")
@click.argument("release", metavar="VIEW/RELEASE", shell_complete=complete_release)
@click.option(
    "--override", metavar="WHY", default="", help="Promote without the proofs that the site demands; WHY is kept."
)
def promote(app: App, release: str, *, override: str) -> Outcome:
    """Make a release the default: what a plain `module load` gives."""
    from mlviews.smoke.report import printable
    from mlviews.store.disk import Store
    from mlviews.store.releases import promote as promote_release

    view, name = split_release(release)
    result = promote_release(
        Store(app.site.root, app.site.prefix), view, name,
        demands=app.site.promotion, override=printable(override).strip(), progress=app.progress,
    )  # fmt: skip
    return Outcome(result, lambda console: _write_promotion(console, result))


def _write_promotion(console: Console, result: PromoteResult) -> None:
    from mlviews.cli.terminal import say

    same = result.before == result.release
    was = "it was that already" if same else f"before it was {result.before or 'none'}"
    say(console, f"{result.view}: the default is {result.release}; {was}")
    for line in result.missing if result.override else ():
        say(console, ("without proof", "yellow"), f" {line}")


@verb("rollback")
@click.argument("view", shell_complete=complete_view)
def rollback(app: App, view: str) -> Outcome:
    """Make the previous default the default again. Repeat it to go back further."""
    from mlviews.store.disk import Store
    from mlviews.store.releases import rollback as roll_back

    result = roll_back(Store(app.site.root, app.site.prefix), view, progress=app.progress)
    until = f"{result.before} stays until `mlviews gc` or `mlviews remove` takes it"
    text = f"{view}: the default is {result.release} again; {until}"
    return Outcome(result, lambda console: console.print(text, markup=False))


@verb("pin")
@click.argument("release", metavar="VIEW/RELEASE", shell_complete=complete_release)
@click.option("--undo", is_flag=True, help="Unpin it.")
def pin(app: App, release: str, *, undo: bool) -> Outcome:
    """Keep a release: neither `gc` nor `remove` removes it."""
    from mlviews.store.disk import Store
    from mlviews.store.releases import pin as pin_release

    view, name = split_release(release)
    result = pin_release(Store(app.site.root, app.site.prefix), view, name, pinned=not undo, progress=app.progress)
    text = f"{view}/{name} is {'no longer pinned' if undo else 'pinned: nothing removes it'}"
    return Outcome(result, lambda console: console.print(text, markup=False))


_force = click.option("--force", is_flag=True, help="Remove it even if it is in use.")


@verb("remove")
@click.argument("release", metavar="VIEW/RELEASE", shell_complete=complete_release)
@_force
def remove(app: App, release: str, *, force: bool) -> Outcome:
    """Remove a release. Its loaders then say what to load instead. The default and pinned releases stay.

    Nothing is removed if processes, kernels, venvs or views on top use it, as far as this host lets you see that; they
    are named.
    """
    from mlviews.progress import size
    from mlviews.store.disk import Store
    from mlviews.store.releases import remove as remove_release

    if "/" not in release:
        whole = f"`mlviews uninstall {release}` removes all of the view"
        raise click.BadParameter(f"{release!r} is not VIEW/RELEASE: `mlviews releases {release}` lists them; {whole}")
    view, name = split_release(release)
    result = remove_release(Store(app.site.root, app.site.prefix), view, name, force=force, progress=app.progress)
    stays = "what other releases or the cache share stays (`mlviews gc`)"
    text = f"removed {view}/{name}: {size(result.bytes)} free; {stays}"
    return Outcome(result, lambda console: console.print(text, markup=False))


@verb("uninstall")
@click.argument("view", shell_complete=complete_view)
@_force
def uninstall(app: App, view: str, *, force: bool) -> Outcome:
    """Remove all releases, modules and kernels of a view. Its recipe, lock and records stay; `build` makes it again."""
    from mlviews.jupyter import swan_place, user_place
    from mlviews.progress import size
    from mlviews.store.disk import Store
    from mlviews.store.removal import uninstall as uninstall_view

    store = Store(app.site.root, app.site.prefix)
    result = uninstall_view(store, view, (user_place(), swan_place()), force=force, progress=app.progress)

    recipe = app.recipes / f"{view}.yaml"

    def write(console: Console) -> None:
        names = ", ".join(result.releases)
        what = f"removed {view} ({names})" if names else f"no release of {view} was left; removed what was"
        stays = "packages stay in the cache (`mlviews gc`)"
        console.print(f"{what}: {size(result.bytes)} free; {stays}", markup=False, soft_wrap=True)
        for folder in result.kernels:
            console.print(f"removed the kernel {folder}", markup=False, soft_wrap=True)
        if recipe.is_file():
            text = f"its recipe stays, {recipe}: `mlviews build {view}` makes the view again"
            console.print(text, markup=False, soft_wrap=True)

    return Outcome(result, write)
