"""What every verb shares: its options, the site and recipes they lead to, completion, and its result on the way out."""

from __future__ import annotations

import functools
import glob
import os
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from mlviews.cli.output import write_envelope, write_error, write_stdout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlviews.cli.output import Outcome
    from mlviews.cli.terminal import Console
    from mlviews.errors import MlviewsError
    from mlviews.progress import Progress
    from mlviews.recipe.catalogue import Catalogue
    from mlviews.recipe.view import ViewSpec
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec
    from mlviews.store.disk import Store

_PIPED_WIDTH = 200
_T = TypeVar("_T")


@dataclass
class App:
    """The options of one call, before or after the verb; the later one wins.

    ``typed`` names the options that come from no environment variable. ``bare`` says that nothing was typed but
    ``mlviews``: its help then has what everybody needs, on one screen.
    """

    options: dict[str, Any] = field(default_factory=dict)
    typed: set[str] = field(default_factory=set)
    command: str = ""
    bare: bool = False

    @property
    def json(self) -> bool:
        """Whether the result is wanted as JSON."""
        return bool(self.options.get("json"))

    @property
    def verbosity(self) -> int:
        """-1 quiet, 0 usual, 1 details, 2 tracebacks."""
        return -1 if self.options.get("quiet") else int(self.options.get("verbose", 0))

    @functools.cached_property
    def site_name(self) -> str:
        """The site that ``--site`` names, else ``MLVIEWS_SITE``, else the root that is named, else `mlviews use`."""
        from mlviews.site.file import FALLBACK, absolute, chosen_site, root_site

        if given := self.options.get("site"):
            return absolute(given)
        root = self._path("root")
        return (root and root_site(root)) or chosen_site() or FALLBACK

    @functools.cached_property
    def site(self) -> Site:
        """The site that is meant, with the other options put in."""
        from mlviews.site.profile import open_site

        return open_site(
            self.site_name,
            root=self._path("root"),
            prefix=self._path("prefix"),
            lockfiles=self._path("lockfiles"),
            mirrors=_mirrors((*os.environ.get("MLVIEWS_MIRROR", "").split(), *self.options.get("mirror", ()))),
        )

    @property
    def root(self) -> Path:
        """The site's root, without checking the whole site: the rest of it is not needed to run something."""
        from mlviews.site.file import quick_root

        return self._path("root") or quick_root(self.site_name) or self.site.root

    @functools.cached_property
    def store(self) -> Store:
        """The site's releases."""
        from mlviews.store.disk import Store

        return Store(self.site.root, self.site.prefix)

    @functools.cached_property
    def catalogue(self) -> Catalogue:
        """The recipes, and behind one's own those that travel with mlviews."""
        from mlviews.files.writing import folder
        from mlviews.recipe.catalogue import open_catalogue

        return open_catalogue(self.recipes, behind=folder("recipes"))

    def names(self) -> Iterator[str]:
        """Give the names of all views, for who tells that one is unknown; no recipe is read before."""
        from mlviews.errors import MlviewsError

        with suppress(MlviewsError):
            yield from self.catalogue.names

    @property
    def recipes(self) -> Path:
        """The folder of recipes: ``--recipes``, else ``./recipes``, else those that travel with mlviews."""
        from mlviews.files.writing import folder

        own = self.own_recipes
        return own if self.options.get("recipes") or own.is_dir() else folder("recipes")

    @property
    def own_recipes(self) -> Path:
        """The folder that new recipes go to: those that travel with mlviews are not the user's to add to."""
        return self._path("recipes") or Path("recipes").absolute()

    def view(self, name: str) -> ViewSpec:
        """Return a view of the recipes; of one that is built here from others, the error says so."""
        return self._named(name, self.catalogue.view)

    def family(self, name: str) -> tuple[ViewSpec, ...]:
        """Return a view and its variants; errors are `view`'s."""
        return self._named(name, self.catalogue.family)

    def _named(self, name: str, look_up: Callable[[str], _T]) -> _T:
        from mlviews.errors import BadInputError

        try:
            return look_up(name)
        except BadInputError as error:
            if error.code != "view-unknown" or name not in self.store.views():
                raise
            raise BadInputError(
                "view-unknown",
                f"{name} is built here, and its recipe lies in another folder than {self.catalogue.folder}",
                f"--recipes DIR names that folder. `mlviews releases {name}` and `mlviews run {name}` need no recipe.",
            ) from error

    def site_spec(self, view: str) -> SiteSpec:
        """Return a view as the site solves it."""
        from mlviews.site.spec import for_site

        return for_site(self.view(view), self.site)

    def _path(self, option: str) -> Path | None:
        value = self.options.get(option)
        try:
            return Path(value).expanduser().absolute() if value else None
        except RuntimeError as error:
            raise click.BadParameter(f"{value}: {error}", param_hint=f"--{option}") from error

    def console(self, *, stderr: bool = False) -> Console:
        """Return a console on stdout, for results, or on stderr, for everything else."""
        from mlviews.cli.terminal import Console

        console = Console(stderr=stderr, no_color=self.options.get("no_color") or None, details=self.verbosity > 0)
        if not console.has_edge:
            console.width = _PIPED_WIDTH
        return console

    def place(self, *, anew: bool) -> str:
        """Return the options that lead to this call's site and root, as a shell reads them.

        Args:
            anew: for a new shell, which may not have what environment variables said here.
        """
        known = self.options if anew else self.typed
        given = [(name, self.options[name]) for name in ("site", "root") if name in known]
        return "".join(f" --{name} {shlex.quote(value)}" for name, value in given)

    def _placed(self, text: str) -> str:
        """Let each command that a text names in backticks lead to this call's site and root."""

        def place(found: re.Match[str]) -> str:
            command, dashes, program = found[1].partition(" -- ")
            named = re.search(r" --(site|root)\b", command)
            return found[0] if named else f"`{command}{self.place(anew=False)}{dashes}{program}`"

        return re.sub(r"`(mlviews (?!use\b)[a-z][^`]*)`", place, text)

    def remark(self, text: str) -> None:
        """Tell people, on stderr, what is no error; with ``--json`` the result is to hold it."""
        if not self.json:
            self.console(stderr=True).say(("note: ", "bold yellow"), self._placed(text))

    def give(self, outcome: Outcome) -> None:
        """Print a verb's result to stdout; errors of parts of the work go to stderr, or into the envelope."""
        for error in outcome.errors:
            error.hint = self._placed(error.hint)
        if self.json:
            write_envelope(self.command, outcome.data, outcome.errors, ok=outcome.exit_code == 0)
            return
        outcome.show(self.console())
        write_stdout("")
        for error in outcome.errors:
            write_error(self.console(stderr=True), error, self.verbosity)

    def fail(self, error: MlviewsError) -> None:
        """Print the error that ended a verb."""
        error.hint = self._placed(error.hint)
        if self.json:
            write_envelope(self.command, None, [error], ok=False)
        else:
            write_error(self.console(stderr=True), error, self.verbosity)

    @property
    def progress(self) -> Progress:
        """Bars on stderr; nothing when quiet."""
        from mlviews.progress import silent

        if self.verbosity < 0:
            return silent
        from mlviews.cli.terminal import Bars

        return Bars(self.console(stderr=True))


def _mirrors(pairs: tuple[str, ...]) -> Mapping[str, str]:
    mirrors = {}
    for pair in pairs:
        channel, _, location = pair.partition("=")
        if not (channel and location):
            raise click.BadParameter(f"{pair!r} is not CHANNEL=LOCATION", param_hint="--mirror")
        mirrors[channel] = location
    return mirrors


class _Place(click.Path):
    """A path, made absolute: what is told of it holds in any folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        return Path(os.fsdecode(super().convert(value, param, ctx))).absolute()


PATH, FILE, FOLDER = _Place(), _Place(dir_okay=False), _Place(file_okay=False)
THERE = _Place(exists=True, dir_okay=False)
"""A file that is there."""
LEVEL = click.option(
    "--level", type=click.Choice(["quick", "full"]), default="quick", show_default=True,
    help="With `full`, all checks run, and they do more.",
)  # fmt: skip


_F = TypeVar("_F", bound="Callable[..., Any]")


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Keep an option that was given; one that was not must not undo the same option before the verb."""
    if value not in (None, False, (), 0):
        app, name = context.ensure_object(App), parameter.name or ""
        app.options[name] = (*app.options.get(name, ()), *value) if isinstance(value, tuple) else value
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            app.typed.add(name)
    return value


class _SharedOption(click.Option):
    """One that stands everywhere: every help shows these last."""


class Verb(click.Command):
    """A command whose help shows what it shares with all others last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write its own options, then the shared ones."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": [], "Options of every verb": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                title = "Options of every verb" if isinstance(parameter, _SharedOption) else "Options"
                groups[title].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class ProgramVerb(Verb):
    """A command that names a program, whose options are its own, with ``--`` before it and without."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``--`` before the program: the second word that is no option of mlviews, or the first without a view."""
        takes_value = {
            name: not getattr(option, "is_flag", False) and not getattr(option, "count", False)
            for option in self.params
            for name in option.opts
        }
        words = 0
        number = 0
        before = 1
        while number < len(args) and args[number] != "--":
            if not args[number].startswith("-") or args[number] == "-":
                words += 1
                if words > before:
                    args = [*args[:number], "--", *args[number:]]
                    break
            before = 0 if args[number].partition("=")[0] in {"--image", "--like"} else before
            number += 2 if takes_value.get(args[number], False) else 1
        if ctx.parent and isinstance(ctx.obj, App):  # what the program is told is no wish for JSON
            given = ctx.parent.get_parameter_source("json") is ParameterSource.COMMANDLINE
            ctx.obj.options["json"] = given or "--json" in args[:number]
        return super().parse_args(ctx, args)


def shared_options(*, environment: bool) -> Callable[[_F], _F]:
    """Give a command the options that stand everywhere; ``MLVIEWS_*`` is read in one place only, before the verb."""

    def option(*names: str, **settings: Any) -> tuple[tuple[str, ...], Callable[[_F], _F]]:
        # Options that add up add to the environment's, wherever they stand: `App.site` joins them.
        alone = environment and not settings.get("multiple")
        variable = f"MLVIEWS_{names[0].lstrip('-').replace('-', '_').upper()}" if alone else None
        kept = {"envvar": variable, "show_envvar": True, "expose_value": False, "callback": _store}
        return names, click.option(*names, cls=_SharedOption, **kept, **settings)

    options = [
        option(
            "--site", metavar="NAME", shell_complete=complete_site,
            help="Site, or the path of its file.  [default: site.yaml in the root that is named, else that of "
            "`mlviews use`, else local]",
        ),
        option("--root", metavar="DIR", help="Folder for releases and caches."),
        option("--prefix", metavar="DIR", help="Folder where files will be used, if it is not the root: /cvmfs/..."),
        option("--recipes", metavar="DIR", help="Folder of recipes.  [default: ./recipes, else mlviews' own]"),
        option("--lockfiles", metavar="DIR", help="Folder of lock files."),
        option(
            "--mirror", metavar="CHANNEL=LOCATION", multiple=True,
            help="Read a channel from a folder or URL; MLVIEWS_MIRROR may hold several.",
        ),
        option("--json", is_flag=True, help="Print the result as one JSON envelope."),
        option("--verbose", "-v", count=True, help="More detail; -vv adds tracebacks."),
        option("--quiet", "-q", is_flag=True, help="No progress."),
        option("--no-color", is_flag=True, help="No colours."),
    ]  # fmt: skip

    def decorate(function: _F) -> _F:
        # `kernel add --prefix` is Jupyter's word: there, mlviews' own stands before the verb.
        own = {name for given in getattr(function, "__click_params__", ()) for name in given.opts}
        for names, add in reversed(options):
            function = function if own & {*names} else add(function)
        return function

    return decorate


def verb(name: str, **settings: Any) -> Callable[[Callable[..., Outcome | None]], click.Command]:
    """Make a function that takes the `App` and its own arguments into a command."""

    def decorate(function: Callable[..., Outcome | None]) -> click.Command:
        @click.command(name, **{"cls": Verb, **settings})
        @shared_options(environment=False)
        @click.pass_context
        @functools.wraps(function)
        def command(context: click.Context, /, **arguments: Any) -> int:
            app = context.ensure_object(App)
            app.command = context.command_path.removeprefix("mlviews ")
            outcome = function(app, **arguments)
            if outcome is None:
                return 0
            app.give(outcome)
            return outcome.exit_code

        made: click.Command = command
        return made

    return decorate


def complete_view(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete a view's name in the shell, from the file names alone."""
    del parameter
    from mlviews.files.writing import folder

    places = (context.ensure_object(App).recipes, folder("recipes"))
    return sorted({path.stem for place in places for path in place.glob(f"{glob.escape(incomplete)}*.yaml")})


def complete_view_or_release(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete VIEW, or after a slash VIEW/RELEASE."""
    return (complete_release if "/" in incomplete else complete_view)(context, parameter, incomplete)


def complete_site(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete a site's name in the shell, from the file names alone."""
    del context, parameter
    from mlviews.site.file import site_files

    return sorted({path.stem for path in site_files() if path.stem.startswith(incomplete)})


def complete_check(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a smoke check in the shell; of those beside the recipes, from the file names alone."""
    del parameter
    from mlviews.files.reading import UnreadableError
    from mlviews.recipe.checks import check_files, check_name
    from mlviews.smoke.programs import PROGRAMS

    names = {*PROGRAMS}
    with suppress(UnreadableError):  # a shell has no place for it
        names |= {check_name(path) for path in check_files(context.ensure_object(App).recipes)}
    return sorted(name for name in names if name.startswith(incomplete))


def complete_release(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete VIEW/RELEASE in the shell, from the folders alone."""
    view, slash, _ = incomplete.partition("/")
    if not slash:
        return [f"{name}/" for name in complete_view(context, parameter, incomplete)]
    found = (path.parent for path in (context.ensure_object(App).root / "envs" / view).glob("*/*/release.json"))
    names = {f"{view}/{path.parent.name}" for path in found if path.parent.name != "default"}
    return sorted(name for name in names if name.startswith(incomplete))


def reader(name: str) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return what reads an option by a function of `mlviews.site.batch`."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
        del context, parameter
        if value is None:
            return None
        from mlviews.site import batch

        try:
            return getattr(batch, name)(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} {error}") from None

    return read


def named(text: str) -> tuple[str, str | None]:
    """Return the view and the release that ``VIEW[/RELEASE]`` names."""
    view, _, release = text.partition("/")
    return view, release or None


def end_of_day(day: date) -> datetime:
    """Return the last moment of a day (UTC)."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + timedelta(days=1, microseconds=-1)
