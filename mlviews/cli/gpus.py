from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, complete_view, verb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

    from mlviews.gpus.coverage import CodeLine, LibraryServing
    from mlviews.release import Release
    from mlviews.results import GpusResult

__all__ = ["gpus"]


@verb("gpus")
@click.argument("target", metavar="VIEW[/RELEASE]|FOLDER", shell_complete=complete_view)
@click.option("--gpu", "names", metavar="NAME", multiple=True, help="Fail if it is not served; may be given again.")
def gpus(app: App, target: str, *, names: tuple[str, ...]) -> Outcome:
    """Say which GPUs a view's binaries serve, without a GPU: by the machine code and PTX that they carry.

    A FOLDER may be an LCG view, a virtual environment, an unpacked wheel, or one library; write ./NAME for a folder
    that is named as a view is.
    """
    from mlviews.gpus.coverage import survey
    from mlviews.gpus.scan import scan
    from mlviews.results import GpusResult

    _refuse_unknown(names)
    folder, release = _folder(app, target)
    found = scan(folder, progress=app.progress)
    judged = survey(
        found.libraries, (*(release.gpus if release else ()), *names), some=release.some_gpus_only if release else {}
    )
    result = GpusResult(
        folder=str(folder),
        view=release.view if release else None,
        release=release.release if release else None,
        files=found.files,
        gpus=list(judged.gpus),
        packages=list(judged.packages),
        libraries=list(judged.libraries),
        unread=dict(found.unread),
    )
    return Outcome(result, lambda console: _write(console, result), 1 if judged.failures else 0)


def _refuse_unknown(names: Iterable[str]) -> None:
    from mlviews.errors import BadInputError
    from mlviews.gpus.nvidia import GPUS

    if unknown := [name for name in names if name not in GPUS]:
        raise BadInputError("gpu-unknown", f"there is no GPU {', '.join(unknown)}", f"Known are {', '.join(GPUS)}.")


def _folder(app: App, target: str) -> tuple[Path, Release | None]:
    name = target.partition("/")[0]
    path = Path(target).expanduser()
    if not name or name.startswith((".", "~")) or (path.exists() and not (app.root / "envs" / name).is_dir()):
        return path.absolute(), None
    from mlviews.store.launcher import release_here

    return release_here(app.root, target)


_WIDE = 110  # columns; what libraries were made for is left to --json where it would squeeze the answers
_WAYS = {"native": "[green]native[/]", "ptx": "[yellow]PTX[/]", "none": "[red]no[/]"}


def _write(console: Console, result: GpusResult) -> None:
    from rich.markup import escape

    if result.view:
        console.print(f"[bold]{escape(result.view)}[/] {escape(result.release or '')}")
    if result.packages:
        console.print(_libraries(result, details=console.width >= _WIDE))
        console.print()
        console.print(_verdicts(result))
    else:
        console.print(f"no device code in {escape(result.folder)}: {result.files} files looked at", soft_wrap=True)
    for package in result.packages:
        if package.why_some:
            console.print(f"{escape(package.package)} may lack GPUs: {escape(package.why_some)}", soft_wrap=True)
    for library in result.libraries:
        if library.fault:
            console.print(f"[yellow]damaged[/] {escape(library.path)}: {escape(library.fault)}", soft_wrap=True)
    for path, why in result.unread.items():
        console.print(f"[yellow]not read[/] {escape(path)}: {escape(why)}", soft_wrap=True)


def _libraries(result: GpusResult, *, details: bool) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("Library", overflow="fold")
    for verdict in result.gpus:
        table.add_column(verdict.gpu, no_wrap=True)
    if details:
        table.add_column("Made for", overflow="fold")
    for package in result.packages:
        rows = _alike(library for library in result.libraries if library.package == package.package)
        table.add_row(f"[bold]{escape(package.package)}[/]", *(_WAYS[served.way] for served in package.gpus))
        for library, more in rows:
            name = escape(Path(library.path).name) + (f" and {more} alike" if more else "")
            # Beside what the package does as a whole, a library that does nothing is no fault.
            ways = (_WAYS[served.way] if served.way != "none" else "[dim]-[/]" for served in library.gpus)
            table.add_row(f"  {name}", *ways, *([_targets(library.code)] if details else ()))
    return table


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


def _verdicts(result: GpusResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("In sum", "", "Driver"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Without code for it", overflow="fold")
    for verdict in result.gpus:
        driver = f"{verdict.driver} or newer" if verdict.driver else "not known" if verdict.way != "none" else ""
        name = f"{verdict.gpu} (asked for)" if verdict.asked else verdict.gpu
        table.add_row(name, _WAYS[verdict.way], driver, escape(", ".join(verdict.lacking)))
    return table
