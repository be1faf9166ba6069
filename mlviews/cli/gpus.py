from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, complete_view, verb
from mlviews.cli.output import Outcome, tell_variants
from mlviews.cli.table import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlviews.cli.table import Part
    from mlviews.cli.terminal import Console
    from mlviews.gpus.coverage import CodeLine, GpusResult, LibraryServing
    from mlviews.release import Release
    from mlviews.upstream import Ending, GpusAllResult, ViewGpus


@verb("gpus")
@click.argument("target", metavar="VIEW[/RELEASE]|FOLDER", required=False, shell_complete=complete_view)
@click.option(
    "--gpu", "names", metavar="NAME", multiple=True, help="Fail if this GPU is not served; may be given several times."
)
@click.option(
    "--all", "everything", is_flag=True, help="All views, by their releases, or by their locks where nothing is built."
)
def gpus(app: App, target: str | None, *, names: tuple[str, ...], everything: bool) -> Outcome:
    """Say which GPUs a view can use. No GPU is needed: this reads the machine code and PTX in its binaries.

    A FOLDER may be an LCG view, a virtual environment, an unpacked wheel, or one library. Write ./NAME for a folder
    with the same name as a view.
    """
    from mlviews.gpus.coverage import survey
    from mlviews.gpus.scan import scan
    from mlviews.variants import choice_of, read_driver

    if everything:
        if target or names:
            raise click.UsageError("--all takes every view: give it no view and no --gpu")
        return _all(app)
    if not target:
        raise click.UsageError("name a view or a folder, or give --all")
    _refuse_unknown(names)
    folder, release = _folder(app, target)
    result = survey(scan(folder, progress=app.progress), release, names)
    if release and (choice := choice_of(release.view, app.catalogue, read_driver())):
        result = replace(result, chosen=f"{choice.takes}; {choice.why}")
    return Outcome(result, _write, 1 if result.failures else 0)


def _all(app: App) -> Outcome:
    from mlviews.errors import MlviewsError
    from mlviews.holdings import gpus_of, holdings_of
    from mlviews.upstream import ENDINGS, GpusAllResult
    from mlviews.variants import choices, read_driver

    app.command = "gpus --all"
    store = app.store
    views: list[ViewGpus] = []
    cpu: list[str] = []
    errors: list[MlviewsError] = []
    for name in sorted({*app.catalogue.own, *store.views()}):
        try:
            found = gpus_of(holdings_of(name, app.catalogue, app.site, store))
        except MlviewsError as error:
            errors.append(error)
        else:
            views += [found] if found else []
            cpu += [] if found else [name]
    shown = {view.view for view in views}
    variants = [choice for choice in choices(app.catalogue, read_driver()) if choice.view in shown]
    result = GpusAllResult(views=views, cpu=cpu, endings=ENDINGS, variants=variants)
    return Outcome(result, _write_all, errors=errors)


def _refuse_unknown(names: Iterable[str]) -> None:
    from mlviews.errors import BadInputError, nearest
    from mlviews.gpus.nvidia import GPUS

    if unknown := [name for name in names if name not in GPUS]:
        told = ", ".join(f"{name!r}{nearest(name, GPUS)}" for name in unknown)
        raise BadInputError("gpu-unknown", f"there is no GPU {told}", f"Known are {', '.join(GPUS)}.")


def _folder(app: App, target: str) -> tuple[Path, Release | None]:
    name = target.partition("/")[0]
    path = Path(target).expanduser()
    if not name or name.startswith((".", "~")) or (path.exists() and not (app.root / "envs" / name).is_dir()):
        return path.absolute(), None
    from mlviews.store.launcher import release_here

    return release_here(app.root, target)


_WAYS = {"native": ("native", "green"), "ptx": ("PTX", "yellow"), "none": ("no", "red")}
_NONE = ("-", "dim")


def _write(console: Console, result: GpusResult) -> None:
    if result.view:
        console.say((result.view, "bold"), f" {result.release}")
    if result.packages:
        _write_libraries(console, result)
        console.print()
        _write_verdicts(console, result)
    else:
        runs = f"; {result.view} is a view for the CPU" if result.view else ""
        console.say(f"{result.folder} holds no GPU code; {result.files} files were read{runs}")
    if result.chosen:
        console.say(f"variant for this host: {result.chosen}")
    for package in result.packages:
        if package.why_some:
            console.say(f"{package.package} may not serve every GPU: {package.why_some}")
    for library in result.libraries:
        if library.fault:
            console.say(("damaged", "yellow"), f" {library.path}: {library.fault}")
    for path, why in result.unread.items():
        console.say(("not read", "yellow"), f" {path}: {why}")


def _write_libraries(console: Console, result: GpusResult) -> None:
    columns = (
        Column("Library", folds=20), *(Column(verdict.gpu) for verdict in result.gpus),
        Column("Made for", rank=1, folds=40),
    )  # fmt: skip
    rows: list[tuple[Part, ...]] = []
    for package in result.packages:
        rows.append(((package.package, "bold"), *(_WAYS[served.way] for served in package.gpus), ""))
        for library, more in _alike(library for library in result.libraries if library.package == package.package):
            name = Path(library.path).name + (f" and {more} alike" if more else "")
            # Beside what the package does as a whole, a library that does nothing is no fault.
            ways = (_WAYS[served.way] if served.way != "none" else _NONE for served in library.gpus)
            rows.append((f"  {name}", *ways, _targets(library.code)))
    console.table(columns, rows)


def _alike(libraries: Iterable[LibraryServing]) -> list[tuple[LibraryServing, int]]:
    """Return one library for all of a package that were made for the same, with the number of the others."""
    groups: dict[tuple[str, ...], list[LibraryServing]] = {}
    for library in libraries:
        key = (_targets(library.code), *(served.way for served in library.gpus))
        groups.setdefault(key, []).append(library)
    return [(group[0], len(group) - 1) for group in groups.values()]


def _targets(code: Sequence[CodeLine]) -> str:
    """Write ``sm_70 75 80 90a, PTX 90``; of code that the driver links, what it can make more of."""
    parts = {
        "sm_": [line for line in code if line.linked and line.kind == "machine"],
        "PTX ": [line for line in code if line.linked and line.kind == "ptx"],
        "PTX to link ": [line for line in code if not line.linked and line.kind == "ptx"],
    }
    return ", ".join(
        name + " ".join(dict.fromkeys(line.target.partition("_")[2] for line in lines))
        for name, lines in parts.items()
        if lines
    )


def _write_verdicts(console: Console, result: GpusResult) -> None:
    columns = (Column("GPU"), Column("Code"), Column("Driver"), Column("No code in", folds=20))
    rows = []
    for verdict in result.gpus:
        driver = f"{verdict.driver} or newer" if verdict.driver else "not known" if verdict.way != "none" else ""
        name = f"{verdict.gpu} (asked for)" if verdict.asked else verdict.gpu
        rows.append((name, _WAYS[verdict.way], driver, ", ".join(verdict.lacking)))
    console.table(columns, rows)


def _write_all(console: Console, result: GpusAllResult) -> None:
    columns = (Column("View", style="bold"), Column("From"), Column("Code"), Column("Driver"), Column("GPUs", folds=20))
    if rows := [row for view in result.views for row in _rows(view)]:
        console.table(columns, rows)
    if any(view.source == "none" for view in result.views):
        console.say("none: the view has no release and no lock; `mlviews lock VIEW` makes a lock")
    if any(view.unknown for view in result.views):
        console.print()
        console.say("?: mlviews does not know these packages; the answers come from the other packages of the view:")
        for view in result.views:
            if view.unknown:
                console.say(f"  {view.view}: {', '.join(view.unknown)}")
    if result.cpu:
        console.say(f"for CPUs: {', '.join(result.cpu)}")
    tell_variants(console, result.variants)
    console.say("A MIG slice of an A100 or H100 needs the same code as the whole GPU.")
    console.print()
    ends = (
        Column("No code for"), Column("In", folds=20), Column("From version", folds=12), Column("Date"),
        Column("Source", below=True),
    )  # fmt: skip
    console.table(ends, map(_end, result.endings))


def _end(end: Ending) -> tuple[Part, ...]:
    version = (f"{end.ends} (planned)", "yellow") if end.planned else end.ends
    return (", ".join(end.gpus), end.software, version, end.date, (end.source, "dim"))


_UNKNOWN = ("unknown", "yellow")


def _rows(view: ViewGpus) -> list[tuple[Part, ...]]:
    """Return one row for all GPUs that a view serves alike."""
    if not view.gpus:
        return [(view.view, ("none", "dim"), "-", "-", "-")]
    groups: dict[tuple[str, ...], list[str]] = {}
    for gpu in view.gpus:
        groups.setdefault((gpu.way, gpu.driver or "", *gpu.limits), []).append(gpu.gpu)
    rows: list[tuple[Part, ...]] = []
    for (way, driver, *limits), names in groups.items():
        word, style = _WAYS.get(way, _UNKNOWN)
        # What lacks code does so whatever the rest holds: only the other answers are in doubt.
        doubt = "?" if view.unknown and way in {"native", "ptx"} else ""
        first = (view.view, view.source) if not rows else ("", "")
        why = f" (by {', '.join(limits)})" if limits else ""
        rows.append((*first, (word + doubt, style), driver, ", ".join(names) + why))
    return rows
