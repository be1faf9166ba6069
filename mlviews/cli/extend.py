"""A view of one's own on top of another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, complete_release, own_recipes, verb
from mlviews.cli.output import Outcome

if TYPE_CHECKING:
    from mlviews.cli.terminal import Console
    from mlviews.extend import ExtendResult


@verb("extend")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.argument("requirements", nargs=-1, metavar="REQUIREMENT...")
@click.option("--name", metavar="NAME", help="Name of the new view.  [default: my-VIEW]")
@click.option(
    "--replace", metavar="PACKAGE", multiple=True, help="Use another version in place of this package of the view."
)
@click.option(
    "--editable",
    type=click.Path(path_type=Path, resolve_path=True),
    metavar="DIR",
    multiple=True,
    help="Add the project in this folder as it is; changes there take effect at once.",
)
def extend(
    app: App, view: str, requirements: tuple[str, ...], *, name: str | None, replace: tuple[str, ...],
    editable: tuple[Path, ...],
) -> Outcome:  # fmt: skip
    """Put packages of your own on top of a view: a recipe, its lock and a release.

    The view's packages stay as they are. The same again, with other requirements, adds these to your view. REQUIREMENT
    is what pip accepts: "seaborn >=0.13". VIEW may be the path of a view in another root, such as /cvmfs/.../envs/VIEW,
    or the view that is loaded.
    """
    if not requirements and not editable:
        raise click.UsageError("name a requirement, or a folder with --editable")
    from mlviews.extend import extend as extend_view
    from mlviews.extend import place_of

    done = extend_view(
        place_of(view, app.site.root),
        requirements,
        app.site,
        recipes=own_recipes(app),
        name=name,
        replace=replace,
        editable=editable,
        progress=app.progress,
    )
    return Outcome(done, lambda console: _write(console, done, app))


def _write(console: Console, done: ExtendResult, app: App) -> None:
    from mlviews.cli.build import write_built
    from mlviews.progress import size

    console.say(f"{done.recipe} makes a view on top of {done.base}, which stays as it is")
    added = ", ".join(f"{name} {version}" for name, version in done.added.items())
    added = added or "nothing, because the base holds all of them"
    console.say(("adds", "bold green"), f" {added}; {size(done.bytes)}")
    write_built(console, done.built, app)
