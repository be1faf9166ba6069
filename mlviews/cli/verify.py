from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_release, verb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from mlviews.prefix.verify import Fault
    from mlviews.results.releases import FaultLine, VerifiedRelease, VerifyResult
    from mlviews.store.releases import Checked

__all__ = ["verify"]

_SHOWN = 20


@verb("verify")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.option("--repair", is_flag=True, help="Make what is damaged anew, from archives that are checked.")
def verify(app: App, view: str, *, repair: bool) -> Outcome:
    """Find every file of a view's releases that is changed, missing or extra; exit 1 if there is any."""
    from mlviews.results.releases import VerifyResult
    from mlviews.store.disk import Store
    from mlviews.store.releases import check

    name, _, release = view.partition("/")
    store = Store(app.site.root, app.site.prefix)
    checked = check(store, app.site, name, release or None, mend=repair, progress=app.progress)
    result = VerifyResult(view=name, releases=[_line(one) for one in checked])
    code = 1 if any(line.faults for line in result.releases) else 0
    return Outcome(result, lambda console: _write(console, result, details=app.verbosity > 0), code)


def _line(one: Checked) -> VerifiedRelease:
    from mlviews.results.releases import VerifiedRelease

    return VerifiedRelease(
        release=one.release,
        platform=one.platform,
        files=one.found.files,
        bytes=one.found.bytes,
        bytecode=one.found.bytecode,
        whole=one.found.whole,
        faults=_faults(one.found.faults),
        repaired=_faults(one.repaired),
    )


def _faults(faults: Iterable[Fault]) -> list[FaultLine]:
    from mlviews.results.releases import FaultLine

    return [FaultLine(path=fault.path, kind=fault.kind, package=fault.package) for fault in faults]


def _write(console: Console, result: VerifyResult, *, details: bool) -> None:
    from mlviews.cli.text import size

    for line in result.releases:
        looked = f"{line.files} files, {size(line.bytes)}"
        written = f"; byte code that Python wrote since: {line.bytecode} files" if line.bytecode else ""
        judged = written if line.whole else "; a damaged or old record leaves some of them unjudged"
        state = f"[red]{len(line.faults)} not as built[/]" if line.faults else "[green]intact[/]"
        console.print(f"{result.view}/{line.release} {line.platform}: {looked}: {state}{judged}", soft_wrap=True)
        _list(console, line.repaired, "[green]repaired[/] ", details=details)
        _list(console, line.faults, "", details=details)
    if any(fault for line in result.releases for fault in line.faults):
        console.print(_advice(result), markup=False, soft_wrap=True)


def _list(console: Console, faults: list[FaultLine], label: str, *, details: bool) -> None:
    from rich.markup import escape

    shown = faults if details else faults[:_SHOWN]
    for fault in shown:
        whose = f"  ({fault.package})" if fault.package else ""
        console.print(f"  {label}{fault.kind:8}{escape(fault.path + whose)}", soft_wrap=True)
    if len(shown) < len(faults):
        console.print(f"  {label}... and {len(faults) - len(shown)} more: -v lists them")


def _advice(result: VerifyResult) -> str:
    lost = any(fault.path == "release.json" for line in result.releases for fault in line.faults)
    if lost:
        return f"release.json itself is damaged, which nothing can make anew: `mlviews build {result.view}`"
    return f"`mlviews verify {result.view} --repair` makes them anew; other releases may share the damaged bytes"
