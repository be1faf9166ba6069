"""The command line: one verb a file."""

from __future__ import annotations

import click

from mlviews import __version__
from mlviews.cli.app import shared_options
from mlviews.cli.bisect import bisect
from mlviews.cli.build import build, run
from mlviews.cli.catalogue import list_views, new, show
from mlviews.cli.ci import ci
from mlviews.cli.doctor import doctor
from mlviews.cli.extend import extend
from mlviews.cli.gpus import gpus
from mlviews.cli.kernel import kernel
from mlviews.cli.locks import diff, lock
from mlviews.cli.nightly import nightly
from mlviews.cli.publish import publish
from mlviews.cli.releases import pin, promote, releases, remove, rollback
from mlviews.cli.render import container, render
from mlviews.cli.smoke import smoke
from mlviews.cli.store import gc, verify

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@shared_options(environment=True)
@click.version_option(__version__, prog_name="mlviews")
def cli() -> None:
    """Small, locked, GPU-ready machine-learning environments from short recipes.

    \b
    mlviews list                          what there is
    mlviews build plotting                solve, install, check, make it the default
    mlviews run plotting -- python        use it
    """  # noqa: D301  (click wants the character, not its escape)


for command in (
    *(list_views, show, new, doctor, gpus, lock, diff, build, extend, run, smoke),
    *(releases, promote, rollback, pin, remove, verify, gc, publish, render, kernel, container, nightly, bisect, ci),
):
    cli.add_command(command)
