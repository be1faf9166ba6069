"""Recipes of one's own: one that is started, and one that puts packages on top of a view."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, complete_release, verb
from mlviews.cli.output import Outcome

if TYPE_CHECKING:
    from mlviews.adopt import Adopted
    from mlviews.cli.terminal import Console
    from mlviews.extend import ExtendResult
    from mlviews.lock.lockfile import Lock
    from mlviews.results import NewResult


@verb("new")
@click.argument("view")
@click.option(
    "--gpu/--no-gpu", default=None,
    help="Start a view for NVIDIA GPUs, or not.  [default: as SOURCE asks for CUDA or not]",
)  # fmt: skip
@click.option(
    "--from", "source", metavar="SOURCE",
    help="Start from a view, environment.yml, requirements.txt, pixi.lock, conda-lock.yml, or an environment's folder.",
)  # fmt: skip
def new(app: App, view: str, *, gpu: bool | None, source: str | None) -> Outcome:
    """Start a recipe: a file with comments, ready to be locked.

    With --from it also names the view that already holds most of these packages.
    """
    from mlviews.adopt import adopt
    from mlviews.files.writing import make_folder
    from mlviews.newview import held_by, write_new_recipe
    from mlviews.results import NewResult

    own = app.own_recipes
    if app.options.get("recipes"):
        make_folder(own)
    like = source if source in app.catalogue.names else ""
    if like and gpu is not None:
        option = "--gpu" if gpu else "--no-gpu"
        raise click.UsageError(f"{option} does not go with a copy of {like}: edit `hardware` in the copy")
    locks = _locks(app) if source and not like else {}
    known = {package.name for lock in locks.values() for package in lock.packages}
    adopted = adopt(Path(source), known) if source and not like else None
    if gpu is None:
        gpu = bool(adopted and adopted.cuda)
    path = write_new_recipe(view, own, app.catalogue, gpu=gpu, like=like, adopted=adopted)
    fit = {name: lock for name, lock in locks.items() if gpu == bool(app.catalogue.view(name).hardware.cuda)}
    held = held_by([*adopted.dependencies, *adopted.pypi], fit) if adopted else None
    return Outcome(NewResult(view=view, path=str(path), adopted=adopted, held=held), _write)


def _locks(app: App) -> dict[str, Lock]:
    """Return the locks of the views behind and of one's own, as far as they can be used."""
    from mlviews.errors import MlviewsError
    from mlviews.lock.status import lock_status

    found = {}
    for name in app.catalogue.names:
        try:
            if lock := lock_status(app.site_spec(name), app.site).lock:
                found[name] = lock
        except MlviewsError:
            continue  # `mlviews list` tells of it
    return found


def _write(console: Console, result: NewResult) -> None:
    console.say(result.path)
    if result.adopted:
        _tell(console, result, result.adopted)
    console.say(f"Next: edit it, then `mlviews lock {result.view}` and `mlviews build {result.view}`.")


def _tell(console: Console, result: NewResult, adopted: Adopted) -> None:
    if adopted.cuda:
        console.say(f"for NVIDIA GPUs, because of {adopted.cuda}: `--no-gpu` starts a recipe for CPUs")
    for text in adopted.left_out:
        console.say(("left out ", "yellow"), text)
    if adopted.pypi:
        console.say(f"under `pypi`, since no channel is known to have them: {', '.join(adopted.pypi)}")
    held = result.held
    if held is None:
        return
    count = len(adopted.dependencies) + len(adopted.pypi)
    console.say((held.view, "bold"), f" holds {len(held.holds)} of the {count} already: {', '.join(held.holds)}")
    if held.differs:
        console.say(f"  in another version: {', '.join(held.differs)}")
    if held.adds:
        asked = " ".join(f'"{text}"' for text in held.adds)
        console.say(f"  it lacks: {', '.join(held.adds)}")
        console.say(f"Perhaps that is enough for you: `mlviews extend {held.view} {asked}`")
    elif not held.differs:
        console.say(f"Perhaps you need no view of your own: `mlviews build {held.view}`")


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
        recipes=app.own_recipes,
        name=name,
        replace=replace,
        editable=editable,
        progress=app.progress,
    )
    return Outcome(done, lambda console, _: _write_extended(console, done, app))


def _write_extended(console: Console, done: ExtendResult, app: App) -> None:
    from mlviews.cli.build import write_built
    from mlviews.progress import size

    console.say(f"{done.recipe} makes a view on top of {done.base}, which stays as it is")
    added = ", ".join(f"{name} {version}" for name, version in done.added.items())
    added = added or "nothing, because the base holds all of them"
    console.say(("adds", "bold green"), f" {added}; {size(done.bytes)}")
    write_built(console, done.built, app)
