"""What there is: views, layers, checks; and the same as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import PATH, App, verb
from mlviews.cli.output import Outcome, tell_variants
from mlviews.cli.table import Column
from mlviews.progress import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.cli.terminal import Console
    from mlviews.errors import MlviewsError
    from mlviews.holdings import CatalogueResult
    from mlviews.lock.status import LockStatus
    from mlviews.recipe.view import ViewSpec
    from mlviews.results import ChecksResult, LayersResult, ListResult, ViewLine
    from mlviews.store.built import BuiltView
    from mlviews.store.disk import Store


@verb("list")
def list_views(app: App) -> Outcome:
    """List all views: module, CUDA, lock, what is built, summary. Your own recipes come first."""
    from mlviews.errors import MlviewsError
    from mlviews.lock.status import lock_status
    from mlviews.results import ListResult
    from mlviews.site.spec import for_site
    from mlviews.variants import choices, read_driver

    lines: list[ViewLine] = []
    errors: list[MlviewsError] = []
    site = app.site  # what is wrong with it is said once
    for name in app.catalogue.names:
        try:
            spec = app.catalogue.view(name)
            found = lock_status(for_site(spec, site), site)
            lines.append(_line(spec, found, _built(name, app.store, errors), own=name in app.catalogue.own))
            errors += found.unreadable
        except MlviewsError as error:
            errors.append(error)
    result = ListResult(
        recipes=str(app.catalogue.folder),
        views=lines,
        hidden=app.catalogue.altered,
        elsewhere=_elsewhere(app, errors),
        variants=choices(app.catalogue, read_driver()),
    )
    return Outcome(result, _list, errors=errors)


def _elsewhere(app: App, errors: list[MlviewsError]) -> list[str]:
    from mlviews.files.reading import UnreadableError

    store = app.store
    try:
        return [name for name in store.views() if name not in app.catalogue.names and store.entries(name)]
    except UnreadableError as error:
        errors.append(error)
        return []


def _built(view: str, store: Store, errors: list[MlviewsError]) -> BuiltView | None:
    from mlviews.files.reading import UnreadableError
    from mlviews.store.built import built_view

    try:
        return built_view(store, view)
    except UnreadableError as error:
        errors.append(error)
        return None


def _line(spec: ViewSpec, found: LockStatus, built: BuiltView | None, *, own: bool) -> ViewLine:
    from mlviews.results import ViewLine

    return ViewLine(
        name=spec.name,
        module=spec.module,
        summary=spec.summary,
        own=own,
        platforms=list(spec.platforms),
        cuda=spec.hardware.cuda,
        lock=found.state,
        packages=found.summary.packages[spec.platforms[0]] if found.summary else None,
        built=built,
    )


_LOCK_STYLES = {"current": "green", "stale": "yellow", "invalid": "red", "none": "dim", "unavailable": "dim"}


def _list(console: Console, result: ListResult) -> None:
    own, others = ([line for line in result.views if line.own is own] for own in (True, False))
    if own and others:
        console.say(("own recipes", "bold"), f" in {result.recipes}")
        _table(console, own)
        console.say(("\nthe catalogue", "bold"))
    _table(console, others if own and others else result.views)
    if result.elsewhere:
        console.say(f"Built here too, from recipes in other folders (--recipes): {', '.join(result.elsewhere)}")
    if same := [view for view, by in result.hidden.items() if view == by]:
        console.say(
            f"The catalogue's views of the same names as recipes in {result.recipes} are hidden: {', '.join(same)}",
        )
    for view, by in result.hidden.items():
        if view != by:
            console.say(f"The catalogue's {view} is hidden: {by} in {result.recipes} has the module of {view}.")
    if name := next((line.name for line in result.views if line.lock == "unavailable"), None):
        console.say(f"unavailable: this site cannot have the view; `mlviews lock {name}` says why")
    tell_variants(console, result.variants)


def _table(console: Console, lines: Sequence[ViewLine]) -> None:
    columns = (
        Column("View", style="bold"), Column("Module", rank=1), Column("CUDA"), Column("Platforms", rank=2),
        Column("Lock", rank=3), Column("Packages", rank=4, right=True), Column("Built", folds=13),
        Column("Checks", rank=5), Column("Summary", folds=50),
    )  # fmt: skip
    rows = (
        (
            line.name, line.module, line.cuda or "-", " ".join(line.platforms), (line.lock, _LOCK_STYLES[line.lock]),
            str(line.packages or "-"), *_told(line.built), line.summary,
        )
        for line in lines
    )  # fmt: skip
    console.table(columns, rows)


def _told(built: BuiltView | None) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the default release and what is known of it, in words."""
    if built is None:
        return ("-", "dim"), ("-", "dim")
    counts = {"passed": built.passed, "failed": built.failed}
    checks = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "unproved"
    release = (built.release, "green") if built.default else (f"{built.release}, no default", "yellow")
    return release, (checks, "red" if built.failed else "")


@verb("layers")
def layers(app: App) -> Outcome:
    """List the layers: the parts that recipes share. Your own win over those of mlviews."""
    from mlviews.recipe.compose import layer_files
    from mlviews.recipe.model import Layer, parse
    from mlviews.results import LayerLine, LayersResult

    lines = []
    for name, path in sorted(layer_files(*app.catalogue.layers).items()):
        layer = parse(path, Layer).model
        asked = [*layer.dependencies, *layer.pypi]
        lines.append(LayerLine(name, layer.summary or "", asked, layer.layers, layer.smoke, path))
    return Outcome(LayersResult(lines), _write_layers)


def _write_layers(console: Console, result: LayersResult) -> None:
    columns = (
        Column("Layer", style="bold"), Column("Summary", folds=24), Column("Asks for", folds=30),
        Column("Checks", rank=1, folds=30),
    )  # fmt: skip
    rows = (
        (
            line.name,
            line.summary or "-",
            ", ".join([*(f"layer {name}" for name in line.layers), *line.dependencies]) or "-",
            ", ".join(line.smoke) or "-",
        )
        for line in result.layers
    )
    console.table(columns, rows)


@verb("checks")
def checks(app: App) -> Outcome:
    """List the checks: what a recipe can name under `smoke`. Your own lie in the folder `checks` of your recipes."""
    from mlviews.results import ChecksResult, KnownCheck
    from mlviews.smoke.programs import about, programs

    lines = [
        KnownCheck(item.name, about(item), item.gpu, item.level, item.path if item.own else None)
        for item in programs(app.catalogue.own_checks).values()
    ]
    return Outcome(ChecksResult(lines), _write_checks)


def _write_checks(console: Console, result: ChecksResult) -> None:
    columns = (
        Column("Check", style="bold"),
        Column("GPU", rank=1),
        Column("Level", rank=2),
        Column("Proves", folds=30),
    )
    console.table(columns, ((line.name, "yes" if line.gpu else "-", line.level, line.proves) for line in result.checks))
    for line in result.checks:
        if line.file:
            console.say(f"{line.name} is your own: {line.file}")


@verb("catalogue")
@click.option("-o", "--output", type=PATH, metavar="FOLDER", required=True, help="Folder to write to.")
def catalogue(app: App, output: Path) -> Outcome:
    """Write the catalogue as a page for a browser: views, packages, GPUs, what is proved.

    The page needs no server: open FOLDER/index.html, or copy it anywhere. FOLDER/catalogue.json holds the same.
    """
    from mlviews.holdings import all_holdings, write_catalogue

    held = all_holdings(app.catalogue, app.site, app.store)
    return Outcome(write_catalogue(output, held), _write_page, errors=held.errors)


def _write_page(console: Console, result: CatalogueResult) -> None:
    console.say(f"{counted(len(result.views), 'view')}, {counted(len(result.packages), 'package')}")
    console.say(str(result.page))
