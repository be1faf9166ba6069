from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.cli.app import App, Outcome, verb

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.results import DoctorResult

__all__ = ["doctor"]


@verb("doctor")
def doctor(app: App) -> Outcome:
    """Look at this host: what views can use here, what is missing, and which views fit."""
    from mlviews.doctor import drivers, examine, fits
    from mlviews.results import DoctorResult

    host = examine(app.site)
    result = DoctorResult(
        findings=list(host.findings), views=fits(app.catalogue, host), drivers=drivers(app.catalogue, host)
    )
    problems = any(finding.status == "problem" for finding in result.findings)
    return Outcome(result, lambda console: _write(console, result), 1 if problems else 0)


def _write(console: Console, result: DoctorResult) -> None:
    from rich.markup import escape
    from rich.table import Table

    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in result.findings:
        table.add_row(marks[finding.status], finding.name, escape(finding.found), escape(finding.advice))
    console.print(table)
    views = Table(box=None, header_style="bold", pad_edge=False)
    views.add_column("View", no_wrap=True)
    views.add_column("Here")
    for fit in result.views:
        views.add_row(fit.view, "[green]runs[/]" if fit.runs else f"[yellow]no[/]: {escape(fit.why)}")
    console.print()
    console.print(views)
    _write_drivers(console, result)


def _write_drivers(console: Console, result: DoctorResult) -> None:
    from rich.table import Table

    if not result.drivers:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("CUDA", "Needs NVIDIA driver", "Here"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Views")
    for line in result.drivers:
        here = "[green]yes[/]" if line.here else "[yellow]no[/]"
        table.add_row(line.cuda, f"{line.driver} or newer" if line.driver else "unknown", here, ", ".join(line.views))
    console.print()
    console.print(table)
    missing = [line for line in result.drivers if not line.here and line.driver]
    has_gpu = any(finding.name == "GPU" and finding.found != "none" for finding in result.findings)
    if missing and has_gpu:
        console.print(
            f"For all of them, ask the administrator of this host for driver {missing[-1].driver} or newer.",
            highlight=False,
        )
