from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, shared_options, verb

if TYPE_CHECKING:
    from mlviews.cli.terminal import Console
    from mlviews.results import CiGithubResult

__all__ = ["ci"]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")
_CRON = re.compile(r"[\d*,/-]+( [\dA-Za-z*,/-]+){4}")


def _labels(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    del context, parameter
    if bad := [label for label in value if not _LABEL.fullmatch(label)]:
        raise click.BadParameter(f"{bad[0]!r} is no label of a runner")
    return value


def _cron(context: click.Context, parameter: click.Parameter, value: str) -> str:
    del context, parameter
    if not _CRON.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no time for cron, such as '17 3 * * *'")
    return value


@click.group("ci")
@shared_options(environment=False)
def ci() -> None:
    """Write what runs mlviews in a CI system."""


@verb("github")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write it there.")
@click.option("--cron", callback=_cron, default="17 3 * * *", show_default=True, help="When it runs (UTC).")
@click.option(
    "--gpu-label", "labels", callback=_labels, metavar="LABEL", multiple=True, default=("gpu",), show_default=True,
    help="Label of the self-hosted runners that have GPUs.",
)  # fmt: skip
@click.option("--install", metavar="REQUIREMENT", help="Where pip gets mlviews.  [default: the checkout, else PyPI]")
def github(app: App, *, output: Path | None, cron: str, labels: tuple[str, ...], install: str | None) -> Outcome:
    """Write a GitHub workflow that tests every view each night, and publishes the report."""
    from mlviews.ciworkflow import Settings, workflow
    from mlviews.files import write_atomically
    from mlviews.results import CiGithubResult

    settings = Settings(
        cron=cron,
        gpu_labels=labels,
        requirement=install or _requirement(),
        recipes=_inside(app.recipes),
        lockfiles=_inside(app.site.lockfiles) or "lockfiles",
    )
    text = workflow(app.catalogue.views(), settings)
    if output:
        write_atomically(output.absolute(), text)
    result = CiGithubResult(path=str(output) if output else None, workflow=text)
    return Outcome(result, lambda console: _write(console, result))


ci.add_command(github)


def _requirement() -> str:
    """Return the checkout where that is mlviews itself, else this version."""
    from mlviews import __version__

    return ".[report]" if Path("mlviews/__init__.py").is_file() else f"mlviews[report]=={__version__}"


def _inside(folder: Path) -> str | None:
    """Return a folder as the repository's checkout names it; None for one that is not in it."""
    try:
        return folder.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return None


def _write(console: Console, result: CiGithubResult) -> None:
    if result.path:
        console.print(f"wrote {result.path}", markup=False, soft_wrap=True)
    else:
        console.print(result.workflow, markup=False, soft_wrap=True, end="")
