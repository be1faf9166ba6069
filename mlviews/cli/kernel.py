from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlviews.cli.app import App, Outcome, complete_view, shared_options, verb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from mlviews.jupyter import Kernel, KernelLine, Place
    from mlviews.results import KernelAddResult

__all__ = ["kernel"]


@click.group("kernel")
@shared_options(environment=False)
def kernel() -> None:
    """Jupyter and SWAN kernels of views."""


def _places(function: Callable[..., Any]) -> Callable[..., Any]:
    for add in (
        click.option("--swan", is_flag=True, help="For SWAN: writes the environment script that its form wants."),
        click.option("--prefix", type=click.Path(path_type=Path), metavar="DIR", help="Where Jupyter is installed."),
        click.option("--user", is_flag=True, help="Your own.  [default]"),
    ):
        function = add(function)
    return function


@verb("add")
@click.argument("view", shell_complete=complete_view)
@_places
@click.option("--release", metavar="RELEASE", help="Keep to this release.  [default: follow the view's default]")
def add_kernel(app: App, view: str, *, user: bool, prefix: Path | None, swan: bool, release: str | None) -> Outcome:
    """Make a view a kernel of Jupyter."""
    from mlviews import jupyter
    from mlviews.formats import render_input
    from mlviews.results import KernelAddResult

    place = _place(user=user, prefix=prefix, swan=swan)
    it = render_input(view, app.site, recipe=lambda: app.catalogue.view(view), release=release)
    folder = jupyter.add(place, it.release, versioned=it.versioned)
    (added,) = (found for found in jupyter.kernels_in(place) if found.folder == folder)
    result = KernelAddResult(kernel=_line(added), script=str(place.script) if place.script else None)
    return Outcome(result, lambda console: _write_added(console, result))


@verb("list")
@click.option("--prefix", type=click.Path(path_type=Path), metavar="DIR", help="Look there, too.")
def list_kernels(app: App, *, prefix: Path | None) -> Outcome:
    """List the kernels of views that Jupyter and SWAN find here."""
    from mlviews import jupyter
    from mlviews.results import KernelListResult

    own = jupyter.Place("path", app.root / "kernels")
    places = [*([jupyter.prefix_place(prefix.absolute())] if prefix else []), *jupyter.places(), own]
    folders = dict.fromkeys(place.folder for place in places)
    found = [item for folder in folders for item in jupyter.kernels_in(jupyter.Place("path", folder))]
    result = KernelListResult(kernels=[_line(item) for item in found])
    return Outcome(result, lambda console: _write_list(console, result.kernels))


@verb("remove")
@click.argument("view", shell_complete=complete_view)
@_places
@click.option("--release", metavar="RELEASE|default", help="Only that kernel.  [default: all of the view's]")
def remove_kernel(app: App, view: str, *, user: bool, prefix: Path | None, swan: bool, release: str | None) -> Outcome:
    """Take a view's kernels away; nothing else is touched."""
    del app
    from mlviews import jupyter
    from mlviews.results import KernelRemoveResult

    removed = jupyter.remove(_place(user=user, prefix=prefix, swan=swan), view, release)
    result = KernelRemoveResult(removed=[_line(item) for item in removed])

    def write(console: Console) -> None:
        for line in result.removed:
            console.print(f"removed {line.folder}", markup=False, soft_wrap=True)

    return Outcome(result, write)


for command in (add_kernel, list_kernels, remove_kernel):
    kernel.add_command(command)


def _place(*, user: bool, prefix: Path | None, swan: bool) -> Place:
    from mlviews import jupyter

    if user + (prefix is not None) + swan > 1:
        raise click.UsageError("--user, --prefix and --swan are three places: give one")
    if swan:
        return jupyter.swan_place()
    return jupyter.prefix_place(prefix.absolute()) if prefix else jupyter.user_place()


def _line(found: Kernel) -> KernelLine:
    from mlviews.jupyter import KernelLine

    return KernelLine(
        name=found.name,
        view=found.view,
        release=found.release,
        follows=found.follows,
        lock=found.lock,
        folder=str(found.folder),
        works=found.works,
    )


def _write_added(console: Console, result: KernelAddResult) -> None:
    line = result.kernel
    runs = f"release {line.release}" if line.follows == "release" else f"the default release, now {line.release}"
    console.print(f"[bold green]added[/] kernel {line.name}: {runs}")
    console.print(line.folder, markup=False, soft_wrap=True)
    if result.script:
        console.print("\nIn SWAN's form, as environment script:", style="bold")
        console.print(f"  {_in_swan(result.script)}", markup=False, soft_wrap=True)


def _in_swan(script: str) -> str:
    """Return a path as SWAN's form knows it, whoever's CERNBox it is."""
    parts = Path(script).parts  # /eos/user/<initial>/<user>/...
    cernbox = parts[:3] == ("/", "eos", "user")
    return "/".join(["$CERNBOX_HOME", *parts[5:]]) if cernbox else script


def _write_list(console: Console, kernels: Sequence[KernelLine]) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not kernels:
        console.print("no kernel of a view; `mlviews kernel add VIEW` makes one", markup=False)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Kernel", "Runs", "Lock", "State"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Folder", overflow="fold")
    for line in kernels:
        runs = f"{line.view}/{line.release}" if line.follows == "release" else f"{line.view}, its default"
        state = "[green]ok[/]" if line.works else "[red]gone[/]"
        table.add_row(escape(line.name), escape(runs), escape(line.lock[:12]), state, escape(line.folder))
    console.print(table)
