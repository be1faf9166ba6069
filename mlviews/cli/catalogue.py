"""The recipes: list them, show one, start a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, complete_view, verb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from mlviews.recipe.compose import Request, ViewSpec
    from mlviews.results import AskedPackage, ShowResult, ViewLine
    from mlviews.site.profile import Site

__all__ = ["list_views", "new", "show"]


@verb("list")
def list_views(app: App) -> Outcome:
    """List all views: module, platforms, hardware, and the state of each lock."""
    from mlviews.errors import MlviewsError
    from mlviews.results import ListResult

    lines, errors = [], []
    for name in app.catalogue.names:
        try:
            lines.append(_line(app.catalogue.view(name), app.site))
        except MlviewsError as error:
            errors.append(error)
    result = ListResult(recipes=str(app.catalogue.folder), views=lines)
    code = max((error.exit_code for error in errors), default=0)
    return Outcome(result, lambda console: _table(console, lines), code, tuple(errors))


def _line(spec: ViewSpec, site: Site) -> ViewLine:
    from mlviews.lock.lockfile import lock_status
    from mlviews.results import ViewLine
    from mlviews.site.spec import for_site

    found = lock_status(for_site(spec, site), site)
    return ViewLine(
        name=spec.name,
        module=spec.module,
        summary=spec.summary,
        platforms=list(spec.platforms),
        cuda=spec.hardware.cuda,
        lock=found.state,
        packages=len(found.lock.on(spec.platforms[0])) if found.lock else None,
    )


def _table(console: Console, lines: list[ViewLine]) -> None:
    from rich.markup import escape
    from rich.table import Table

    styles = {"current": "green", "stale": "yellow", "invalid": "red", "none": "dim", "unavailable": "dim"}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("View", "Module", "CUDA", "Platforms", "Lock"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Packages", justify="right")
    table.add_column("Summary")
    for line in lines:
        table.add_row(
            f"[bold]{line.name}[/bold]",
            line.module,
            line.cuda or "-",
            " ".join(line.platforms),
            f"[{styles[line.lock]}]{line.lock}[/]",
            str(line.packages or "-"),
            escape(line.summary),
        )
    console.print(table)


@verb("show")
@click.argument("view", shell_complete=complete_view)
def show(app: App, view: str) -> Outcome:
    """Show one view: what it holds, which layer asked for it, what is missing and why."""
    from mlviews.lock.lockfile import lock_status
    from mlviews.results import ShownHardware, ShownLock, ShowResult
    from mlviews.site.spec import for_site
    from mlviews.smoke.records import proved_gpus, read_records

    spec = app.catalogue.view(view)
    found = lock_status(for_site(spec, app.site), app.site)
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
        gaps=spec.gaps,
        cpu_only=spec.cpu_only,
        some_gpus_only=spec.some_gpus_only,
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
    from mlviews.results import AskedPackage

    return [AskedPackage(spec=request.text, by=[origin.source for origin in request.origins]) for request in requests]


def _write(console: Console, view: ShowResult) -> None:
    from rich.markup import escape
    from rich.table import Table

    from mlviews.cli.terminal import size
    from mlviews.release import gpus_in_words

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


@verb("new")
@click.argument("view")
@click.option("--gpu", is_flag=True, help="Start a view for NVIDIA GPUs.")
def new(app: App, view: str, *, gpu: bool) -> Outcome:
    """Start a recipe: a file with comments, that can be locked as it is."""
    from mlviews.files import folder
    from mlviews.recipe.catalogue import write_new_recipe
    from mlviews.results import NewResult

    # The recipes that travel with mlviews are not the user's to add to.
    own = app.recipes if app.recipes != folder("recipes") or app.options.get("recipes") else Path("recipes").absolute()
    path = write_new_recipe(view, own, gpu=gpu)

    def write(console: Console) -> None:
        then = f"Next: edit it, then `mlviews lock {view}` and `mlviews build {view}`."
        console.print(f"{path}\n{then}", markup=False, soft_wrap=True)

    return Outcome(NewResult(view=view, path=str(path)), write)
