"""Releases: list them, choose the default, keep one, take one away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, complete_release, complete_view, named, verb
from mlviews.cli.output import Outcome, tell_unreadable
from mlviews.cli.table import Column

if TYPE_CHECKING:
    from mlviews.cli.terminal import Console
    from mlviews.store.disk import Store
    from mlviews.store.listing import ReleasesResult, ReleaseSummary
    from mlviews.store.releases import PromoteResult
    from mlviews.store.removal import UninstallResult

_NAMED = 5


@verb("releases")
@click.argument("view", required=False, metavar="[VIEW]", shell_complete=complete_view)
def releases(app: App, view: str | None) -> Outcome:
    """List a view's releases: size, checks, the default, pins. Without VIEW, list those of all views.

    -v adds when each was built, its folder, the checks that it failed, and all releases that were removed.
    """
    from mlviews.store.listing import all_releases, releases_of

    store = app.store
    result = releases_of(store, view) if view else all_releases(store)
    return Outcome(result, lambda console, _: _write(console, result, store))


def _write(console: Console, result: ReleasesResult, store: Store) -> None:
    from mlviews.release import gpus_in_words

    tell_unreadable(console, result.unreadable)
    for name in result.lost:
        view = name.partition("/")[0]
        text = f"the default {name} is not there any more: `mlviews promote {view}/RELEASE` makes another the default"
        console.say((text, "yellow"))
    if not result.releases:
        what = f"of {result.view}; `mlviews build {result.view}`" if result.view else "is here; `mlviews build VIEW`"
        console.say(f"no release {what} makes one")
        return
    _write_releases(console, result, store)
    for line in result.releases:
        name = line.release if result.view else f"{line.view}/{line.release}"
        if console.details and line.failed:
            console.say(f"{name} failed: {', '.join(line.failed)}")
        if line.override:
            console.say(f"{name} was promoted without proof: {line.override}")
        if line.gpus:
            console.say(f"{name} on GPUs: {gpus_in_words(line.gpus)}")
    if console.details:
        for gone in result.removed:
            console.say((f"removed {gone.view}/{gone.release} on {gone.removed:%Y-%m-%d}", "dim"))
    elif result.view and result.removed:
        names = ", ".join(line.release for line in result.removed[-_NAMED:])
        more = len(result.removed) - _NAMED
        console.say((f"removed: {names}{f' and {more} before' if more > 0 else ''}", "dim"))


def _write_releases(console: Console, result: ReleasesResult, store: Store) -> None:
    from mlviews.progress import size

    columns = (
        Column("View", style="bold"), Column("Release"), Column(style="green"), Column("Built", rank=1),
        Column("Platforms", rank=5), Column("Lock", rank=3), Column("Packages", rank=4, right=True),
        Column("Size", right=True), Column("Shared", rank=2, right=True), Column("Checks", folds=9),
        Column("Folder", below=True),
    )  # fmt: skip
    rows: list[tuple[str | tuple[str, str], ...]] = []
    for line in result.releases:
        marks = " ".join(["default"] * line.default + ["pinned"] * line.pinned)
        built = f"{line.created:%Y-%m-%d %H:%M} UTC" if console.details else ""
        figures = (line.lock[:8], str(line.packages), size(line.bytes), size(line.shared), _checks(line))
        folder = str(store.view_folder(line.view) / line.release) if console.details else ""
        rows.append((line.view, line.release, marks, built, " ".join(line.platforms), *figures, folder))
    of_one = result.view is not None  # who named it knows it
    console.table(columns[of_one:], [row[of_one:] for row in rows])


def _checks(line: ReleaseSummary) -> tuple[str, str]:
    counts = {"passed": len(line.passed), "failed": len(line.failed)}
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return told or "-", "red" if line.failed else ""


def _split(text: str) -> tuple[str, str]:
    """Return the view and the release that VIEW/RELEASE names.

    Raises:
        click.BadParameter: it names no release.
    """
    view, release = named(text)
    if not view or not release:
        raise click.BadParameter(f"{text!r} is not VIEW/RELEASE: `mlviews releases {view or 'VIEW'}` lists them")
    return view, release


@verb("promote")
@click.argument("release", metavar="VIEW/RELEASE", shell_complete=complete_release)
@click.option(
    "--override", metavar="WHY", default="", help="Promote without the proofs that the site demands; WHY is kept."
)
def promote(app: App, release: str, *, override: str) -> Outcome:
    """Make a release the default: what a plain `module load` gives."""
    from mlviews.smoke.report import printable
    from mlviews.store.releases import promote as promote_release

    view, name = _split(release)
    result = promote_release(
        app.store, view, name,
        demands=app.site.promotion, override=printable(override).strip(), progress=app.progress,
    )  # fmt: skip
    return Outcome(result, _write_promotion)


def _write_promotion(console: Console, result: PromoteResult) -> None:
    same = result.before == result.release
    was = "it was that already" if same else f"before it was {result.before or 'none'}"
    console.say(f"{result.view}: the default is {result.release}; {was}")
    for line in result.missing if result.override else ():
        console.say(("without proof", "yellow"), f" {line}")


@verb("rollback")
@click.argument("view", shell_complete=complete_view)
def rollback(app: App, view: str) -> Outcome:
    """Make the previous default the default again. Repeat it to go back further."""
    from mlviews.store.releases import rollback as roll_back

    result = roll_back(app.store, view, progress=app.progress)
    until = f"{result.before} stays until `mlviews gc` or `mlviews remove` takes it"
    text = f"{view}: the default is {result.release} again; {until}"
    return Outcome(result, lambda console, _: console.say(text))


@verb("pin")
@click.argument("release", metavar="VIEW/RELEASE", shell_complete=complete_release)
@click.option("--undo", is_flag=True, help="Unpin it.")
def pin(app: App, release: str, *, undo: bool) -> Outcome:
    """Keep a release: neither `gc` nor `remove` removes it."""
    from mlviews.store.releases import pin as pin_release

    view, name = _split(release)
    result = pin_release(app.store, view, name, pinned=not undo, progress=app.progress)
    text = f"{view}/{name} is {'no longer pinned' if undo else 'pinned: nothing removes it'}"
    return Outcome(result, lambda console, _: console.say(text))


_force = click.option("--force", is_flag=True, help="Remove it even if it is in use.")


@verb("remove")
@click.argument("release", metavar="VIEW/RELEASE", shell_complete=complete_release)
@_force
def remove(app: App, release: str, *, force: bool) -> Outcome:
    """Remove a release. Its loaders then say what to load instead. The default and pinned releases stay.

    If processes, kernels, venvs or views on top use it, as far as you can see that from this host, it stays, and they
    are named.
    """
    from mlviews.progress import size
    from mlviews.store.releases import remove as remove_release

    if "/" not in release:
        whole = f"`mlviews uninstall {release}` removes all of the view"
        raise click.BadParameter(f"{release!r} is not VIEW/RELEASE: `mlviews releases {release}` lists them; {whole}")
    view, name = _split(release)
    result = remove_release(app.store, view, name, force=force, progress=app.progress)
    stays = "what other releases or the cache share stays (`mlviews gc`)"
    text = f"removed {view}/{name}: {size(result.bytes)} free; {stays}"
    return Outcome(result, lambda console, _: console.say(text))


@verb("uninstall")
@click.argument("view", shell_complete=complete_view)
@_force
def uninstall(app: App, view: str, *, force: bool) -> Outcome:
    """Remove all releases, modules and kernels of a view. Its recipe, lock and records stay; `build` makes it again."""
    from mlviews.jupyter import own_places
    from mlviews.progress import size
    from mlviews.store.removal import uninstall as uninstall_view

    store = app.store
    result = uninstall_view(store, view, own_places(), force=force, progress=app.progress)

    recipe = app.recipes / f"{view}.yaml"

    def write(console: Console, result: UninstallResult) -> None:
        names = ", ".join(result.releases)
        what = f"removed {view} ({names})" if names else f"there was no release of {view}; removed what was left"
        stays = "packages stay in the cache (`mlviews gc`)"
        console.say(f"{what}: {size(result.bytes)} free; {stays}")
        for folder in result.kernels:
            console.say(f"removed the kernel {folder}")
        if recipe.is_file():
            console.say(f"its recipe stays, {recipe}: `mlviews build {view}` makes the view again")

    return Outcome(result, write)
