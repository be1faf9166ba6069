from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, complete_release, verb

if TYPE_CHECKING:
    from mlviews.cli.terminal import Console
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
@click.option("--tar", type=click.Path(path_type=Path), metavar="FILE", help="With --plan: pack it for `cvmfs_server`.")
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
    from mlviews.publish.contents import pack
    from mlviews.publish.plan import plan
    from mlviews.publish.server import publish as carry_out

    name, _, release = view.partition("/")
    store, site = app.store, app.site
    if not planned:
        if tar or published:
            raise click.UsageError("--tar and --published go with --plan")
        done = carry_out(store, site, name, release or None, progress=app.progress)
        return Outcome(done, _Shown(done, items=[], details=False).write, 1 if done.forbidden else 0)
    found, items = plan(
        store, name, release or None, published=published, tar=tar.absolute() if tar else None,
        demands=site.promotion, licences=site.licences, shared=site.group is not None, progress=app.progress,
    )  # fmt: skip
    if found.tar:
        pack(items, found.tar, total=found.bytes, progress=app.progress)
    show = _Shown(found, items=[item.path for item in items], details=app.verbosity > 0)
    return Outcome(found, show.write, 1 if found.forbidden else 0)


class _Shown:
    """Writes a plan: what changes in a screenful, each name where details are wanted."""

    def __init__(self, result: PublishResult, *, items: list[str], details: bool) -> None:
        self._result, self._items, self._details = result, items, details

    def write(self, console: Console, /) -> None:
        from mlviews.cli.terminal import say

        result = self._result
        place = result.repository if result.base == "/" else f"{result.repository}/{result.base}"
        if not result.changes and result.replaced is None:
            say(console, f"{result.view}/{result.release}: nothing is missing there, if {place} holds the release")
        elif not result.changes:
            say(console, f"{result.view}/{result.release}: {place} holds all of it")
        else:
            what = " and ".join(_WAYS[change] for change in result.changes)
            say(console, (f"{result.view}/{result.release}", "bold"), f" for {place}: {what}")
            self._write_contents(console)
        self._write_remarks(console)
        if result.done:
            say(console, ("published", "bold green"), f", {result.tag or 'without a tag'}")
        elif result.commands and not result.forbidden:
            say(console, ("\nOn the host that publishes, with no transaction open:", "bold"))
            for command in result.commands:
                say(console, f"  {command}", folds=False)

    def _write_contents(self, console: Console) -> None:
        from mlviews.cli.terminal import say
        from mlviews.progress import size

        result = self._result
        say(console, f"  puts     {_count(result.files, 'file')}, {_count(result.links, 'link')}, {size(result.bytes)}")
        for path in self._items if self._details else ():
            say(console, f"    {path}")
        if result.default:
            say(console, f"  default  {result.default}")
        for path in result.deleted:
            say(console, f"  deletes  {path}")
        for catalog in result.catalogs:
            say(console, f"  catalog  of {_count(catalog.entries, 'entry', 'entries')}: {catalog.folder}")
        if result.replaced is None:
            say(console, "  The repository is not mounted here, so mlviews does not know what it holds.")
            if "release" in result.changes:
                say(console, "  If it holds the release, give --published: then the plan only makes it the default.")
        elif result.replaced:
            say(console, f"  replaces {_count(len(result.replaced), 'of these', 'of these')}")
            for path in result.replaced if self._details else ():
                say(console, f"    {path}")

    def _write_remarks(self, console: Console) -> None:
        """Write what rules say; of one rule the first few, unless details are wanted."""
        from mlviews.cli.terminal import say

        seen: Counter[str] = Counter()
        for remark in sorted(self._result.remarks, key=lambda remark: not remark.forbids):
            seen[remark.rule] += 1
            if self._details or seen[remark.rule] <= _SHOWN:
                label = ("forbidden", "red") if remark.forbids else ("note", "yellow")
                say(console, "  ", label, f" {remark.rule}: {remark.path}: {remark.why}")
        for rule, count in seen.items():
            if count > _SHOWN and not self._details:
                say(console, f"  {rule}: {count - _SHOWN} more (-v lists them)")


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
