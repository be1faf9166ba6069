from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_view, verb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from mlviews.recipe.compose import Reason, Request
    from mlviews.results.base import Why
    from mlviews.results.catalogue import AskedPackage, ShowResult

__all__ = ["show"]


@verb("show")
@click.argument("view", shell_complete=complete_view)
def show(app: App, view: str) -> Outcome:
    """Show one view: what it holds, which layer asked for it, what is missing and why."""
    from mlviews.lock.state import lock_state
    from mlviews.results.catalogue import ShownHardware, ShownLock, ShowResult
    from mlviews.smoke.proof import proved_gpus
    from mlviews.smoke.records import read_records

    spec = app.catalogue.view(view)
    found = lock_state(spec, app.site)
    records = read_records(app.site.root, spec.name, found.lock.digest) if found.lock else ()
    packages = {platform: found.lock.on(platform) for platform in found.lock.platforms} if found.lock else {}
    result = ShowResult(
        name=spec.name,
        summary=spec.summary,
        module=spec.module,
        layers=list(spec.layers),
        platforms=list(spec.platforms),
        hardware=ShownHardware(
            glibc=spec.hardware.glibc,
            cuda=spec.hardware.cuda,
            archspec=spec.hardware.archspec,
            gpus=list(spec.hardware.gpus),
        ),
        dependencies=_asked(spec.dependencies),
        constraints=_asked(spec.constraints),
        pypi=_asked(spec.pypi),
        gaps=_whys(spec.gaps),
        cpu_only=_whys(spec.cpu_only),
        some_gpus_only=_whys(spec.some_gpus_only),
        smoke=list(spec.smoke),
        lock=ShownLock(
            state=found.state,
            path=str(found.path) if found.path else None,
            digest=found.lock.digest if found.lock else None,
            packages={platform: len(locked) for platform, locked in packages.items()},
            bytes={platform: sum(package.size for package in locked) for platform, locked in packages.items()},
            changes=list(found.changes),
        ),
        gpus=list(proved_gpus(spec.hardware.gpus, records)),
    )
    return Outcome(result, lambda console: _write(console, result))


def _asked(requests: Iterable[Request]) -> list[AskedPackage]:
    from mlviews.results.catalogue import AskedPackage

    return [AskedPackage(spec=request.text, by=[origin.source for origin in request.origins]) for request in requests]


def _whys(reasons: Iterable[Reason]) -> list[Why]:
    from mlviews.results.base import Why

    return [Why(package=reason.package, why=reason.why) for reason in reasons]


def _write(console: Console, view: ShowResult) -> None:
    from rich.markup import escape
    from rich.table import Table

    from mlviews.cli.text import size
    from mlviews.results.checks import gpus_in_words

    console.print(f"[bold]{view.name}[/bold]  {escape(view.summary)}")
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("module", view.module)
    facts.add_row("layers", ", ".join(view.layers) or "none")
    facts.add_row("platforms", ", ".join(view.platforms))
    facts.add_row("hardware", _hardware(view))
    for platform, count in view.lock.packages.items():
        facts.add_row(f"lock {platform}", f"{count} packages, {size(view.lock.bytes[platform])} to fetch")
    facts.add_row("lock", f"{view.lock.state}{f', {escape(view.lock.path)}' if view.lock.path else ''}")
    facts.add_row("smoke", ", ".join(view.smoke) or "none")
    if view.gpus:
        facts.add_row("GPUs", escape(gpus_in_words(view.gpus)))
    console.print(facts)
    for change in view.lock.changes:
        console.print(f"  [yellow]changed since[/yellow] {escape(change)}")
    sections = {"dependencies": view.dependencies, "constraints": view.constraints, "pypi": view.pypi}
    for title, requests in sections.items():
        _section(console, title, [(request.spec, ", ".join(request.by)) for request in requests])
    _section(console, "gaps: what it should hold and cannot yet", [(gap.package, gap.why) for gap in view.gaps])
    _section(console, "cpu-only: may lock a CPU build", [(item.package, item.why) for item in view.cpu_only])
    some = [(item.package, item.why) for item in view.some_gpus_only]
    _section(console, "some-gpus-only: may lack code for some of the GPUs", some)


def _hardware(view: ShowResult) -> str:
    hardware = view.hardware
    parts = [f"glibc {hardware.glibc}", hardware.archspec or "baseline CPU"]
    parts.append(f"CUDA {hardware.cuda}" if hardware.cuda else "no GPU")
    return ", ".join(parts)


def _section(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    console.print(f"\n[bold]{title}[/bold]")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for left, right in rows:
        table.add_row(escape(left), escape(right))
    console.print(table)
