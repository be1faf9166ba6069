"""Lock views, and compare locks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, complete_view, end_of_day, verb
from mlviews.cli.output import Outcome, distinct, write_changes
from mlviews.progress import counted, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mlviews.cli.terminal import Console
    from mlviews.lock.diff import PackageChange
    from mlviews.lock.status import LockedView, LockResult
    from mlviews.recipe.view import ViewSpec
    from mlviews.results import DiffResult


@verb("lock")
@click.argument("views", nargs=-1, metavar="[VIEW...]", shell_complete=complete_view)
@click.option("--all", "every", is_flag=True, help="Lock every view.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a lock is missing or stale.")
@click.option("--upgrade", is_flag=True, help="Take the newest version of everything.")
@click.option(
    "--upgrade-package", "packages", metavar="PKG", multiple=True, help="Take the newest version of PKG only."
)
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="Solve with what there was at the end of that day (UTC).",
)
def lock(
    app: App, views: tuple[str, ...], *, every: bool, check: bool, upgrade: bool, packages: tuple[str, ...],
    as_of: datetime | None,
) -> Outcome:  # fmt: skip
    """Solve views and write their lock files. Versions that still fit stay.

    For each view this prints what changed among the packages that the recipe asks for; -v prints all changes.
    """
    if every == bool(views):
        raise click.UsageError("name views, or give --all")
    if check and (upgrade or packages or as_of):
        raise click.UsageError("--check cannot be used with --upgrade, --upgrade-package or --as-of")
    from mlviews.lock.status import check_locks, find_lock
    from mlviews.site.spec import for_site

    catalogue = app.catalogue
    named = tuple(app.view(name) for name in dict.fromkeys(views))
    # What a channel has for one CUDA it may not have for another: a variant's first lock is asked for by name.
    specs = named or tuple(
        spec for spec in catalogue.views() if not spec.variant or find_lock(spec.name, app.site.lock_folders)
    )
    site_specs = [for_site(spec, app.site) for spec in specs]
    if check:
        result, found = check_locks(site_specs, app.site, every=every)
    else:
        from mlviews.lock.make import LockOptions, lock_views

        options = LockOptions(upgrade, frozenset(packages), end_of_day(as_of) if as_of else None)
        result, found = lock_views(site_specs, app.site, options, progress=app.progress)
    errors = distinct(found)
    asked = {spec.name: spec for spec in specs}
    return Outcome(
        result,
        lambda console, _: _write(console, result, asked, check=check),
        errors=errors,
    )


def _write(console: Console, result: LockResult, asked: Mapping[str, ViewSpec], *, check: bool) -> None:
    # No channel was asked: one may have withdrawn a package.
    words = {"unchanged": "answers its recipe"} if check else {}
    for line in result.locks:
        if line.status == "failed":
            continue
        if line.status == "none":
            console.say(f"{line.view}: no lock; it needs wheels, so a build makes its lock")
            continue
        counts = Counter(change.kind for change in line.changes)
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        status = words.get(line.status, line.status)
        packages = counted(line.packages, "package")
        console.say(f"{line.view}: {status}, {packages}{f' ({summary})' if summary else ''}")
        if line.changes and console.details:
            write_changes(console, line.changes)
        elif main := _main_changes(line.changes, asked[line.view], console.width - 2):
            console.say(f"  {main}")
        _write_remarks(console, line, asked[line.view])
    for archive, why in sorted(result.unusable.items()):
        console.say(f"left out {archive}: {why}")
    if check:
        console.say(("No channel was asked. A build tells whether the channels still have each package.", "dim"))


def _main_changes(changes: Sequence[PackageChange], spec: ViewSpec, width: int) -> str:
    """Say what becomes of packages that the recipe itself asks for: as many as a line holds."""
    names = {request.name for request in spec.asked}
    found = list(
        dict.fromkeys(_in_words(change) for change in changes if change.name in names and change.before != change.after)
    )
    told = ", ".join(found)
    for count in range(len(found) - 1, 0, -1):
        if len(told) <= width:
            break
        told = f"{', '.join(found[:count])}, {len(found) - count} more (-v)"
    return told


def _in_words(change: PackageChange) -> str:
    if change.before and change.after:
        return f"{change.name} {change.before} -> {change.after}"
    return f"{change.name} {change.after or change.before} {change.kind}"


def _write_remarks(console: Console, line: LockedView, spec: ViewSpec) -> None:
    from mlviews.smoke.programs import unknown_checks

    if line.link_scripts:
        told = f"{line.view}: a build does not run the link scripts of {', '.join(line.link_scripts)}"
        console.say((told, "yellow"))
    for name in unknown_checks(spec.smoke, spec.own_checks):
        console.say(f"{line.view}: ", ("there is no check", "yellow"), f" {name}")
    for remark in line.licences:
        text = f" {remark.package} of {line.view}: {remark.licence or 'no licence'}: {remark.why}"
        console.say((f"{remark.verdict} licence", "yellow"), text)


@verb("diff")
@click.argument("view", shell_complete=complete_view)
@click.option(
    "--from", "before", metavar="LOCK|RELEASE|GITREF", help="The lock before.  [default: the default release's]"
)
@click.option("--to", "after", metavar="LOCK|RELEASE|GITREF", help="The lock after.  [default: the lock file]")
def diff(app: App, view: str, *, before: str | None, after: str | None) -> Outcome:
    """Compare two locks of a view: added, removed, up, down, rebuilt, and the size."""
    from mlviews.lock.diff import compare
    from mlviews.results import DiffResult
    from mlviews.store.locksource import default_release_lock, lock_file, named_lock

    spec = app.view(view)
    old = named_lock(spec.name, app.site, before) if before else default_release_lock(spec.name, app.site)
    new = named_lock(spec.name, app.site, after) if after else lock_file(spec.name, app.site)
    asked = {request.name for request in spec.asked}
    # What the recipe asks for comes first: hundreds of others can move with it.
    changes = tuple(sorted(compare(old.lock, new.lock), key=lambda change: change.name not in asked))
    result = DiffResult(
        view=view,
        before=old.label,
        after=new.label,
        bytes=sum(change.bytes for change in changes),
        changes=changes,
    )
    return Outcome(result, _write_diff)


def _write_diff(console: Console, result: DiffResult) -> None:
    console.say((f"{result.before} -> {result.after}", "dim"))
    if not result.changes:
        console.say("no difference")
        return
    write_changes(console, result.changes)
    count = f"{len(result.changes)} packages differ" if len(result.changes) > 1 else "1 package differs"
    console.say(f"{count}, {size(result.bytes, sign=True)}")
