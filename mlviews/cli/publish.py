from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import PATH, App, complete_release, named, verb
from mlviews.cli.output import Outcome
from mlviews.progress import counted, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.cli.terminal import Console
    from mlviews.publish.contents import Item
    from mlviews.publish.plan import PublishResult

_SHOWN = 5
_WAYS = {
    "release": "a release",
    "promotion": "a promotion",
    "rollback": "a rollback",
    "removal": "a removal",
    "records": "records",
}


@verb("publish")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.option("--plan", "planned", is_flag=True, help="Say what would be published; change nothing.")
@click.option("--tar", type=PATH, metavar="FILE", help="With --plan: pack it for `cvmfs_server`.")
@click.option(
    "--published",
    is_flag=True,
    help="With --plan: assume that the repository, which is not mounted here, holds the release.",
)
def publish(app: App, view: str, *, planned: bool, tar: Path | None, published: bool) -> Outcome:
    """Publish on CVMFS what the repository lacks of a view: a release, the default, records, or a removal.

    Without --plan this host publishes: it needs `cvmfs_server`, and the site must name its repository. Exit 1 if a rule
    forbids it; then nothing is changed or packed.
    """
    from mlviews.publish.plan import plan, plan_and_pack
    from mlviews.publish.server import publish as carry_out

    name, release = named(view)
    store, site, progress = app.store, app.site, app.progress
    items: Sequence[Item] = ()
    if planned and tar:
        result, items = plan_and_pack(store, site, name, release, published=published, tar=tar, progress=progress)
    elif planned:
        result, items = plan(store, site, name, release, published=published, progress=progress)
    elif tar or published:
        raise click.UsageError("--tar and --published go with --plan")
    else:
        result = carry_out(store, site, name, release, progress=progress)
    return Outcome(
        result,
        lambda console, _: _write(console, result, items),
        1 if result.forbidden else 0,
    )


def _write(console: Console, result: PublishResult, items: Sequence[Item]) -> None:
    """Write what changes in a screenful; each name where details are wanted."""
    place = result.repository if result.base == "/" else f"{result.repository}/{result.base}"
    if not result.changes and result.replaced is None:
        console.say(f"{result.view}/{result.release}: nothing is missing there, if {place} holds the release")
    elif not result.changes:
        console.say(f"{result.view}/{result.release}: {place} holds all of it")
    else:
        what = " and ".join(_WAYS[change] for change in result.changes)
        console.say((f"{result.view}/{result.release}", "bold"), f" for {place}: {what}")
        _write_contents(console, result, items)
    _write_remarks(console, result)
    if result.done:
        console.say(("published", "bold green"), f", {result.tag or 'without a tag'}")
    elif result.commands and not result.forbidden:
        console.say(("\nOn the host that publishes, with no transaction open:", "bold"))
        for command in result.commands:
            console.say(f"  {command}", folds=False)


def _write_contents(console: Console, result: PublishResult, items: Sequence[Item]) -> None:
    files, links = counted(result.files, "file"), counted(result.links, "link")
    console.say(f"  puts     {files}, {links}, {size(result.bytes)}")
    for item in items if console.details else ():
        console.say(f"    {item.path}")
    if result.default:
        console.say(f"  default  {result.default}")
    for path in result.deleted:
        console.say(f"  deletes  {path}")
    for catalog in result.catalogs:
        console.say(f"  catalog  of {counted(catalog.entries, 'entry', 'entries')}: {catalog.folder}")
    if result.replaced is None:
        console.say("  The repository is not mounted here, so mlviews does not know what it holds.")
        if "release" in result.changes:
            console.say("  If it holds the release, give --published: then the plan only makes it the default.")
    elif result.replaced:
        console.say(f"  replaces {len(result.replaced)} of these")
        for path in result.replaced if console.details else ():
            console.say(f"    {path}")


def _write_remarks(console: Console, result: PublishResult) -> None:
    """Write what rules say; of one rule the first few, unless details are wanted."""
    seen: Counter[str] = Counter()
    for remark in sorted(result.remarks, key=lambda remark: not remark.forbids):
        seen[remark.rule] += 1
        if console.details or seen[remark.rule] <= _SHOWN:
            label = ("forbidden", "red") if remark.forbids else ("note", "yellow")
            console.say("  ", label, f" {remark.rule}: {remark.path}: {remark.why}")
    for rule, count in seen.items():
        if count > _SHOWN and not console.details:
            console.say(f"  {rule}: {count - _SHOWN} more (-v lists them)")
