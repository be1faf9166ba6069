from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import verb

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["new"]


@verb("new")
@click.argument("view")
@click.option("--gpu", is_flag=True, help="Start a view for NVIDIA GPUs.")
def new(app: App, view: str, *, gpu: bool) -> Outcome:
    """Start a recipe: a file with comments, that can be locked as it is."""
    from mlviews.recipe.new import write_new_recipe
    from mlviews.resources import folder
    from mlviews.results.catalogue import NewResult

    # The recipes that travel with mlviews are not the user's to add to.
    own = app.recipes if app.recipes != folder("recipes") or app.options.get("recipes") else Path("recipes").absolute()
    path = write_new_recipe(view, own, gpu=gpu)

    def write(console: Console) -> None:
        then = f"Next: edit it, then `mlviews lock {view}` and `mlviews build {view}`."
        console.print(f"{path}\n{then}", markup=False, soft_wrap=True)

    return Outcome(NewResult(view=view, path=str(path)), write)
