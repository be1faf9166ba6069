from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from mlviews.cli.verb import complete_release, verb

if TYPE_CHECKING:
    from mlviews.cli.app import App, Outcome

__all__ = ["run"]


@verb("run")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def run(app: App, view: str, command: tuple[str, ...]) -> Outcome | None:
    """Run a program in a view; it takes this process's place."""
    from mlviews.store.running import launcher

    name, _, release = view.partition("/")
    launch = launcher(app.root, name, release or None)
    os.execv(launch, [str(launch), *command])  # noqa: S606  (no shell)
