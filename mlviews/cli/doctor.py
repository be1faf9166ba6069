"""This host, and the site that is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, complete_site, verb
from mlviews.cli.output import Outcome, tell_variants
from mlviews.cli.table import Column

if TYPE_CHECKING:
    from mlviews.cli.terminal import Console
    from mlviews.results import DoctorResult


@verb("doctor")
def doctor(app: App) -> Outcome:
    """Look at this host: what views can use here, what is missing, whether channels answer, and which views run."""
    from mlviews.doctor import drivers, examine, fits, left_out, out_of_place, without_base
    from mlviews.reach import start_asking
    from mlviews.results import DoctorResult
    from mlviews.variants import choices, read_driver

    answers = start_asking(app.site)  # they come while the rest is looked at
    host = examine(app.site)
    store = app.store
    found = [store.entry(view, name) for view in store.views() if (name := store.default(view))]
    here = [entry.platforms[host.platform] for entry in found if host.platform in entry.platforms]
    catalogue = app.catalogue
    result = DoctorResult(
        findings=[*host.findings, *left_out(here, host), *without_base(here), *out_of_place(store), *answers()],
        views=fits(catalogue, host, {release.view for release in here}),
        drivers=drivers(catalogue, host),
        variants=choices(catalogue, read_driver()),
    )
    problems = any(finding.status == "problem" for finding in result.findings)
    return Outcome(result, _write, 1 if problems else 0)


_STYLES = {"ok": "green", "note": "yellow", "problem": "red"}
_RUNS = {(True, True): ("runs", "green"), (True, False): ("would run", "")}
_DOES_NOT = ("no", "yellow")
_HERE = {True: ("yes", "green"), False: ("no", "yellow")}


def _write(console: Console, result: DoctorResult) -> None:
    columns = (Column(), Column(), Column(folds=20), Column(folds=20))
    findings = (((line.status, _STYLES[line.status]), line.name, line.found, line.advice) for line in result.findings)
    console.table(columns, findings, header=False)
    console.print()
    views = ((fit.view, _RUNS.get((fit.runs, fit.built), _DOES_NOT), fit.why) for fit in result.views)
    console.table((Column("View"), Column("Here"), Column("Why not", folds=30)), views)
    if any(fit.runs and not fit.built for fit in result.views):
        console.say("`mlviews build VIEW` builds a view that would run.")
    tell_variants(console, result.variants)
    if result.drivers:
        console.print()
        _write_drivers(console, result)


def _write_drivers(console: Console, result: DoctorResult) -> None:
    columns = (Column("CUDA"), Column("Needs NVIDIA driver"), Column("Here"), Column("Views", folds=20))
    rows = (
        (line.cuda, f"{line.driver} or newer" if line.driver else "unknown", _HERE[line.here], ", ".join(line.views))
        for line in result.drivers
    )
    console.table(columns, rows)
    missing = [line for line in result.drivers if not line.here and line.driver]
    has_gpu = any(finding.name == "GPU" and finding.found != "none" for finding in result.findings)
    if missing and has_gpu:
        console.say(f"To run all of them, ask the administrator of this host for driver {missing[-1].driver} or newer.")


@verb("use")
@click.argument("chosen", metavar="[SITE]", required=False, shell_complete=complete_site)
def use(app: App, chosen: str | None) -> Outcome:
    """Choose the default site; without SITE, say which it is.

    `--site` and the variable MLVIEWS_SITE win over it. `mlviews use local` goes back.
    """
    from mlviews.results import UseResult
    from mlviews.site.file import absolute, use_site
    from mlviews.site.profile import open_site

    site = open_site(chosen) if chosen else app.site
    file = use_site(absolute(chosen)) if chosen else None
    result = UseResult(site=site.name, root=str(site.root), file=str(file) if file else None)
    told = f"this is saved in {file}" if file else "`mlviews use SITE` chooses another one"
    return Outcome(result, lambda console, _: console.say(f"site {result.site}: views lie in {result.root}; {told}"))
