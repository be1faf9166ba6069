"""Check releases, free what nobody needs, and take in what other hosts have proved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import PATH, App, complete_release, complete_view, named, shared_options, verb
from mlviews.cli.output import Outcome, tell_unreadable
from mlviews.files.reading import RELEASE_FILE, closed_by
from mlviews.progress import counted, size
from mlviews.store.retention import DAYS, KEEP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.cli.terminal import Console
    from mlviews.prefix.verify import Fault
    from mlviews.provenance.attest import Attestation
    from mlviews.results import RecordsGatherResult
    from mlviews.store.collect import GcResult
    from mlviews.store.disk import Store
    from mlviews.store.releases import VerifyResult

_SHOWN = 20


@verb("verify")
@click.argument("view", metavar="[VIEW[/RELEASE]]", required=False, shell_complete=complete_release)
@click.option("--repair", is_flag=True, help="Repair damaged files, from archives that are checked.")
@click.option(
    "--attestation", type=PATH, metavar="FILE",
    help="Also check this file, which `attest` wrote; needs --key.",
)  # fmt: skip
@click.option("--key", type=PATH, metavar="FILE", help="Public key of the signature.")
def verify(app: App, view: str | None, *, repair: bool, attestation: Path | None, key: Path | None) -> Outcome:
    """Find every changed, missing or extra file of releases; exit 1 if there is one. Without VIEW, check all views."""
    if (attestation is None) != (key is None) or (attestation and view is None):
        raise click.UsageError("--attestation FILE, --key FILE and a view go together")
    from mlviews.store.releases import check, check_all

    store = app.store
    if view is None:
        result = check_all(store, app.site, mend=repair, progress=app.progress)
    else:
        name, release = named(view)
        signed = _attested(app, view, attestation, key) if attestation and key else None
        release = signed[0] if signed else release
        result = check(store, app.site, name, release, mend=repair, progress=app.progress)
        result = replace(result, attestation=signed[1]) if signed else result
    refuted = result.attestation is not None and bool(result.attestation.faults)
    code = 1 if refuted or any(line.faults for line in result.releases) else 0
    return Outcome(result, lambda console, _: _write(console, result, store), code)


def _attested(app: App, view: str, attestation: Path, key: Path) -> tuple[str, Attestation]:
    """Return the release that a view's name means, and what signed statements say of it."""
    from mlviews.provenance.attest import check_attestation
    from mlviews.store.launcher import release_here

    prefix, release = release_here(app.site.root, view)
    return release.release, check_attestation(attestation, key, prefix, release)


def _write(console: Console, result: VerifyResult, store: Store) -> None:
    if not result.releases:
        console.say("no release is here: `mlviews build VIEW` makes one")
    for line in result.releases:
        looked = f"{line.files} files, {size(line.bytes)}"
        written = f"; byte code that Python wrote since: {counted(line.bytecode, 'file')}" if line.bytecode else ""
        judged = written if line.whole else "; some could not be checked, because another file is damaged or missing"
        state = (f"{len(line.faults)} not as built", "red") if line.faults else ("intact", "green")
        console.say(f"{line.view}/{line.release} {line.platform}: {looked}: ", state, judged)
        _list(console, line.repaired, "repaired ")
        _list(console, line.faults, "")
    for name, place in result.moved.items():
        console.say(("moved", "yellow"), f" {name} runs only in {place}, for which it was built")
    if result.moved:
        console.say("Move the root back, or build the views for this place: `mlviews build VIEW`.")
    if result.attestation:
        _write_attestation(console, result.attestation)
    unreadable = (
        store.platform_folder(line.view, line.release, line.platform) / fault.path
        for line in result.releases for fault in line.faults if fault.kind == "unreadable"
    )  # fmt: skip
    if closed := next(filter(None, map(closed_by, unreadable)), None):
        mend = f"`mlviews verify {result.view or 'VIEW'} --repair`"
        console.say(f"{closed[0]} belongs to {closed[1]}, and you may not read it; {closed[1]} opens it with {mend}")
    elif any(fault for line in result.releases for fault in line.faults):
        console.say(_advice(result))


def _write_attestation(console: Console, attestation: Attestation) -> None:
    for statement in attestation.statements:
        console.say(("signed", "green"), f" {statement.says}")
    for fault in attestation.faults:
        console.say(("refuted", "red"), f" {fault}")


def _list(console: Console, faults: Sequence[Fault], label: str) -> None:
    shown = faults if console.details else faults[:_SHOWN]
    for fault in shown:
        whose = f"  ({fault.package})" if fault.package else ""
        console.say("  ", (label, "green"), f"{fault.kind:11}{fault.path}{whose}")
    if len(shown) < len(faults):
        console.say("  ", (label, "green"), f"... and {len(faults) - len(shown)} more: -v lists them")


def _advice(result: VerifyResult) -> str:
    lost = {fault.kind for line in result.releases for fault in line.faults if fault.path == RELEASE_FILE} - {"mode"}
    if lost == {"unreadable"}:
        return "release.json itself cannot be read: the disk does not give it, or a newer mlviews wrote it"
    if lost:
        return f"release.json itself is damaged, and nothing can repair it: `mlviews build {result.view or 'VIEW'}`"
    return f"`mlviews verify {result.view or 'VIEW'} --repair` repairs them; other releases may share the damaged files"


_SHOWN_LISTED = 10


@verb("gc")
@click.argument("views", nargs=-1, metavar="[VIEW...]", shell_complete=complete_view)
@click.option(
    "--keep",
    default=KEEP,
    show_default=True,
    type=click.IntRange(0),
    metavar="N",
    help="Keep the newest N of each view.",
)
@click.option(
    "--keep-days", default=DAYS, show_default=True, type=click.IntRange(0, 36500), metavar="N",
    help="Keep what was built, or was the default, in the last N days.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Remove releases that are in use, too.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed; change nothing.")
def gc(app: App, views: tuple[str, ...], *, keep: int, keep_days: int, force: bool, dry_run: bool) -> Outcome:
    """Remove old releases, leftovers of dead processes, and packages in the cache that no release uses.

    The default, pinned releases and those in progress always stay. So do releases in use, as far as you can see that
    from this host; --force removes these, too.
    """
    from datetime import timedelta

    from mlviews.errors import RefusedError, nearest
    from mlviews.store.collect import Rule, collect, foresee

    store = app.store
    there = store.views()
    for view in views:
        if view not in there:
            raise RefusedError(
                "release-missing",
                f"there is no view {view} under {store.root}{nearest(view, there)}",
                f"There are: {', '.join(there) or 'none'}.",
            )
    chosen = tuple(dict.fromkeys(views)) or there
    rule = Rule(keep, timedelta(days=keep_days), force)
    if dry_run:
        result = foresee(store, app.site.cache, chosen, rule)
    else:
        result = collect(store, app.site.cache, chosen, rule, progress=app.progress)
    return Outcome(result, _write_gc)


def _write_gc(console: Console, result: GcResult) -> None:
    would = "would remove" if result.dry_run else "removed"
    groups = {
        would: [f"{line.view}/{line.release}" for line in result.removed],
        f"{would} debris": [str(path) for path in result.debris],
        f"{would} from the cache": result.cache,
    }
    for label, names in groups.items():
        shown = names if console.details else names[:_SHOWN_LISTED]
        for name in shown:
            console.say((label, "yellow"), f" {name}")
        if len(shown) < len(names):
            console.say((label, "yellow"), f" {len(names) - len(shown)} more (-v lists them)")
    for kept in result.kept:
        if console.details or kept.why.startswith("in use"):
            console.say(("kept", "green"), f" {kept.view}/{kept.release}: {kept.why}")
    for busy in result.busy:
        console.say(f"did not touch {busy.view}: {busy.holder} works on it")
    tell_unreadable(console, result.unreadable)
    stays = "1 release stays" if len(result.kept) == 1 else f"{len(result.kept)} releases stay"
    why = "" if console.details or not result.kept else " (-v says why)"
    console.say(f"{size(result.bytes)} {'would be' if result.dry_run else 'are'} free; {stays}{why}")


@click.group("records")
@shared_options(environment=False)
def records() -> None:
    """Take in records of checks that ran on other hosts."""


@verb("gather")
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
def gather(app: App, files: tuple[Path, ...]) -> Outcome:
    """Take in records that `mlviews smoke` wrote on other hosts. Each counts for the lock that it names.

    Exit 1 if one is refused; the others are taken.
    """
    from mlviews.errors import MlviewsError
    from mlviews.files.filelock import announce
    from mlviews.results import RecordsGatherResult
    from mlviews.store.proofs import gather as take_in

    store = app.store
    taken, errors = [], []
    for file in files:
        try:
            taken.append(take_in(store, file, waiting=announce(app.progress, "the view")))
        except MlviewsError as error:
            errors.append(error)
    if errors and not taken:
        raise errors[0]
    return Outcome(RecordsGatherResult(taken), _write_records, 1 if errors else 0, tuple(errors))


def _write_records(console: Console, result: RecordsGatherResult) -> None:
    for record in result.records:
        state = ("taken in", "green") if record.status == "new" else ("known already", "dim")
        what = f" {record.view}, lock {record.lock[:8]}: {record.host}, {record.created:%Y-%m-%d %H:%M}"
        console.say(state, what)


records.add_command(gather)
