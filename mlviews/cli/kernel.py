from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlviews.cli.app import PATH, App, complete_release, complete_view, shared_options, verb
from mlviews.cli.output import Outcome
from mlviews.cli.table import Column

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlviews.cli.terminal import Console
    from mlviews.jupyter import Place
    from mlviews.results import KernelAddResult, KernelListResult, KernelRemoveResult


@click.group("kernel")
@shared_options(environment=False)
def kernel() -> None:
    """Add, list or remove Jupyter and SWAN kernels of views."""


def _complete_release_alone(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete a release of the view that the call names already."""
    # A line that ends with an option is none that click can read: it leaves the words as they are.
    view = str(context.params.get("view") or next(iter(context.args), ""))
    found = complete_release(context, parameter, f"{view}/{incomplete}") if view else []
    return [name.partition("/")[2] for name in found]


def _places(function: Callable[..., Any]) -> Callable[..., Any]:
    for add in (
        click.option("--swan", is_flag=True, help="For SWAN."),
        click.option("--prefix", type=PATH, metavar="DIR", help="Where Jupyter is installed."),
        click.option("--user", is_flag=True, help="For you alone.  [default]"),
    ):
        function = add(function)
    return function


@verb("add")
@click.argument("view", shell_complete=complete_view)
@_places
@click.option(
    "--release", metavar="RELEASE", shell_complete=_complete_release_alone,
    help="Always run this release.  [default: follow the view's default]",
)  # fmt: skip
def add_kernel(app: App, view: str, *, user: bool, prefix: Path | None, swan: bool, release: str | None) -> Outcome:
    """Make a view a kernel of Jupyter.

    With --swan, it also writes the environment script that SWAN's form asks for.
    """
    from mlviews import jupyter
    from mlviews.formats import render_input
    from mlviews.results import KernelAddResult

    place = _place(user=user, prefix=prefix, swan=swan)
    it = render_input(view, app.site, recipe=lambda: app.view(view), release=release)
    folder = jupyter.add(place, it.release, versioned=it.versioned)
    (added,) = (found for found in jupyter.kernels_in(place) if found.folder == folder)
    result = KernelAddResult(kernel=added, script=place.script)
    return Outcome(result, lambda console, _: _write_added(console, result, given=prefix is not None))


@verb("list")
@click.option("--prefix", type=PATH, metavar="DIR", help="Look there, too.")
def list_kernels(app: App, *, prefix: Path | None) -> Outcome:
    """List the kernels of views that Jupyter and SWAN find here."""
    from mlviews import jupyter
    from mlviews.results import KernelListResult

    own = jupyter.Place("path", app.root / "kernels")
    places = [*([jupyter.prefix_place(prefix)] if prefix else []), *jupyter.places(), own]
    folders = dict.fromkeys(place.folder for place in places)
    found = [item for folder in folders for item in jupyter.kernels_in(jupyter.Place("path", folder))]
    return Outcome(KernelListResult(kernels=found), _write_list)


@verb("remove")
@click.argument("view", shell_complete=complete_view)
@_places
@click.option(
    "--release", metavar="RELEASE|default", shell_complete=_complete_release_alone,
    help="Only that kernel.  [default: all of the view's]",
)  # fmt: skip
def remove_kernel(app: App, view: str, *, user: bool, prefix: Path | None, swan: bool, release: str | None) -> Outcome:
    """Remove a view's kernels; nothing else changes."""
    del app
    from mlviews import jupyter
    from mlviews.results import KernelRemoveResult

    removed = jupyter.remove(_place(user=user, prefix=prefix, swan=swan), view, release)
    return Outcome(KernelRemoveResult(removed=removed), _write_removed)


for command in (add_kernel, list_kernels, remove_kernel):
    kernel.add_command(command)


def _place(*, user: bool, prefix: Path | None, swan: bool) -> Place:
    from mlviews import jupyter

    if user + (prefix is not None) + swan > 1:
        raise click.UsageError("give only one of --user, --prefix and --swan")
    if swan:
        return jupyter.swan_place()
    return jupyter.prefix_place(prefix) if prefix else jupyter.user_place()


def _write_added(console: Console, result: KernelAddResult, *, given: bool) -> None:
    line = result.kernel
    runs = f"release {line.release}" if line.follows == "release" else f"the default release, now {line.release}"
    console.say(("added", "bold green"), f" kernel {line.name}: {runs}")
    console.say(str(line.folder))
    if not (result.script or given or shutil.which("jupyter")):
        console.say("There is no jupyter on PATH. The view lab holds JupyterLab, and finds the kernels of all views:")
        console.say("  mlviews build lab; mlviews run lab -- jupyter lab", folds=False)
    if result.script:
        console.say(("\nIn SWAN's form, as environment script:", "bold"))
        console.say(f"  {_in_swan(result.script)}")


def _in_swan(script: Path) -> str:
    """Return a path as SWAN's form knows it, whoever's CERNBox it is."""
    parts = script.parts  # /eos/user/<initial>/<user>/...
    cernbox = parts[:3] == ("/", "eos", "user")
    return "/".join(["$CERNBOX_HOME", *parts[5:]]) if cernbox else str(script)


def _write_removed(console: Console, result: KernelRemoveResult) -> None:
    for line in result.removed:
        console.say(f"removed {line.folder}")


_STATE_STYLES = {"ok": "green", "removed": "yellow", "gone": "red"}


def _write_list(console: Console, result: KernelListResult) -> None:
    if not result.kernels:
        console.say("there is no kernel of a view; `mlviews kernel add VIEW` makes one")
        return
    columns = (
        Column("Kernel"), Column("Runs", folds=16), Column("Lock", rank=1), Column("State"),
        Column("Folder", below=True),
    )  # fmt: skip
    rows = (
        (
            line.name, f"{line.view}/{line.release}" if line.follows == "release" else f"{line.view}, its default",
            line.lock[:8], (line.state, _STATE_STYLES[line.state]), str(line.folder),
        )
        for line in result.kernels
    )  # fmt: skip
    console.table(columns, rows)
