"""How long a view takes to start, and from where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import FILE, THERE, App, complete_release, verb
from mlviews.cli.output import Outcome
from mlviews.cli.table import Column

if TYPE_CHECKING:
    from mlviews.cli.terminal import Console
    from mlviews.pack.startup import StartupResult


@verb("startup")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.option("--module", metavar="NAME", help="Module to import.  [default: torch, or another framework of the view]")
@click.option(
    "--sif",
    type=THERE,
    metavar="FILE",
    help="Also measure from this image of the release, which `container build --apptainer` made.",
)
@click.option(
    "--runs",
    type=click.IntRange(1, 100),
    metavar="N",
    default=3,
    show_default=True,
    help="How often each line is measured; the median is shown.",
)
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Also write a page (HTML).")
def startup(app: App, view: str, *, module: str | None, sif: Path | None, runs: int, output: Path | None) -> Outcome:
    """Measure how long `import torch` takes, from each place that has the view: cold, warm, without byte code.

    Places are the prefix, CVMFS where it is mounted, a squashfs file, and with --sif a container's image.
    """
    from mlviews.files.writing import write_atomically
    from mlviews.pack.startup import measure, module_of, render_page
    from mlviews.store.launcher import release_here

    prefix, release = release_here(app.root, view)
    result = measure(prefix, release, module or module_of(release), sif=sif, runs=runs, progress=app.progress)
    if output:
        write_atomically(output, render_page(result))
    return Outcome(result, _write)


def _write(console: Console, result: StartupResult) -> None:
    from mlviews.progress import size

    runs = f"median of {result.runs} runs" if result.runs > 1 else "1 run"
    console.say(f"{result.view}/{result.release}: import {result.module}, {runs}")
    columns = (
        Column("From"), Column("Byte code"), Column("Cache"), Column("Total", right=True),
        Column("Import", right=True), Column("Files opened", rank=2, right=True),
        Column("Libraries", rank=1, right=True), Column("Read", rank=3, right=True), Column("From disk", right=True),
    )  # fmt: skip
    rows = (
        (
            f"{line.place} ({line.filesystem})", "used" if line.bytecode else "none", "cold" if line.cold else "warm",
            f"{line.seconds:.2f} s", f"{line.importing:.2f} s", str(line.opens), str(line.libraries),
            "-" if line.read_bytes is None else size(line.read_bytes),
            "-" if line.disk_bytes is None else size(line.disk_bytes),
        )
        for line in result.lines
    )  # fmt: skip
    console.table(columns, rows)
    for place, why in result.left_out.items():
        console.say(("left out", "yellow"), f" {place}: {why}")
