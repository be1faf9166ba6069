from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import verb

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.recipe.compose import ViewSpec
    from mlviews.results.catalogue import ViewLine
    from mlviews.site.profile import Site

__all__ = ["list_views"]


@verb("list")
def list_views(app: App) -> Outcome:
    """List all views: module, platforms, hardware, and the state of each lock."""
    from mlviews.errors import MlviewsError
    from mlviews.results.catalogue import ListResult

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
    from mlviews.lock.state import lock_state
    from mlviews.results.catalogue import ViewLine

    found = lock_state(spec, site)
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
