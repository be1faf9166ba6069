"""How a function becomes a command: its options, its completion, and its result on the way out."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlviews.cli.app import App
from mlviews.cli.output import write_outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlviews.cli.app import Outcome

__all__ = ["complete_release", "complete_view", "shared_options", "split_release", "verb"]

_F = TypeVar("_F", bound="Callable[..., Any]")


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Keep an option that was given; one that was not must not undo the same option before the verb."""
    if value not in (None, False, (), 0):
        options = context.ensure_object(App).options
        name = parameter.name or ""
        options[name] = (*options.get(name, ()), *value) if isinstance(value, tuple) else value
    return value


def shared_options(*, environment: bool) -> Callable[[_F], _F]:
    """Give a command the options that stand everywhere; ``MLVIEWS_*`` is read in one place only, before the verb."""

    def option(*names: str, **settings: Any) -> Callable[[_F], _F]:
        # Options that add up add to the environment's, wherever they stand: `App.site` joins them.
        alone = environment and not settings.get("multiple")
        variable = f"MLVIEWS_{names[0].lstrip('-').replace('-', '_').upper()}" if alone else None
        return click.option(*names, envvar=variable, expose_value=False, callback=_store, **settings)

    options = [
        option("--site", metavar="NAME", help="Site profile.  [default: local]"),
        option("--root", metavar="DIR", help="Folder that releases and caches are written to."),
        option("--recipes", metavar="DIR", help="Folder of recipes.  [default: ./recipes, else mlviews' own]"),
        option("--lockfiles", metavar="DIR", help="Folder of lock files."),
        option("--mirror", metavar="CHANNEL=LOCATION", multiple=True, help="Read a channel from a folder or URL."),
        option("--json", is_flag=True, help="Print the result as one JSON envelope."),
        option("--verbose", "-v", count=True, help="More detail; twice: tracebacks."),
        option("--quiet", "-q", is_flag=True, help="No progress."),
        option("--no-color", is_flag=True, help="No colours."),
    ]

    def decorate(function: _F) -> _F:
        for add in reversed(options):
            function = add(function)
        return function

    return decorate


def verb(name: str, **settings: Any) -> Callable[[Callable[..., Outcome | None]], click.Command]:
    """Make a function that takes the `App` and its own arguments into a command."""

    def decorate(function: Callable[..., Outcome | None]) -> click.Command:
        @click.command(name, **settings)
        @shared_options(environment=False)
        @click.pass_context
        @functools.wraps(function)
        def command(context: click.Context, /, **arguments: Any) -> int:
            app = context.ensure_object(App)
            app.command = context.command_path.removeprefix("mlviews ")
            outcome = function(app, **arguments)
            if outcome is None:
                return 0
            write_outcome(app, outcome)
            return outcome.exit_code

        made: click.Command = command
        return made

    return decorate


def complete_view(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete a view's name in the shell, from the file names alone."""
    del parameter
    folder = context.ensure_object(App).recipes
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem.startswith(incomplete))


def complete_release(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete VIEW/RELEASE in the shell, from the folders alone."""
    view, slash, _ = incomplete.partition("/")
    if not slash:
        return [f"{name}/" for name in complete_view(context, parameter, incomplete)]
    found = (path.parent for path in (context.ensure_object(App).root / "envs" / view).glob("*/*/release.json"))
    names = {f"{view}/{path.parent.name}" for path in found if path.parent.name != "default"}
    return sorted(name for name in names if name.startswith(incomplete))


def split_release(text: str) -> tuple[str, str]:
    """Return the view and the release that VIEW/RELEASE names.

    Raises:
        click.BadParameter: it names no release.
    """
    view, _, release = text.partition("/")
    if not view or not release:
        raise click.BadParameter(f"{text!r} is not VIEW/RELEASE: `mlviews releases {view or 'VIEW'}` lists them")
    return view, release
