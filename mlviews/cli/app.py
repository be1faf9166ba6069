"""What every verb shares: the options, the site and recipes they lead to, and how results and errors come out."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel
    from rich.console import Console

    from mlviews.errors import MlviewsError
    from mlviews.progress import Progress
    from mlviews.recipe.catalogue import Catalogue
    from mlviews.site.profile import Site

__all__ = ["App", "Outcome", "Show"]

_PIPED_WIDTH = 200


class Show(Protocol):
    """Writes a result for people."""

    def __call__(self, console: Console, /) -> None:
        """Write it."""


@dataclass(frozen=True)
class Outcome:
    """What a verb gives back.

    Attributes:
        data: the result; with ``--json`` it is the envelope's ``data``.
        show: writes the same for people.
        exit_code: 0, or 1 where the answer is no.
        errors: what went wrong with parts of the work that did not stop the rest.
    """

    data: BaseModel
    show: Show
    exit_code: int = 0
    errors: tuple[MlviewsError, ...] = ()


@dataclass
class App:
    """The options of one call, before or after the verb; the later one wins."""

    options: dict[str, Any] = field(default_factory=dict)
    command: str = ""

    @property
    def json(self) -> bool:
        """Whether the result is wanted as JSON."""
        return bool(self.options.get("json"))

    @property
    def verbosity(self) -> int:
        """-1 quiet, 0 usual, 1 details, 2 tracebacks."""
        return -1 if self.options.get("quiet") else int(self.options.get("verbose", 0))

    @functools.cached_property
    def site(self) -> Site:
        """The site that ``--site`` names, with the other options put in."""
        from mlviews.site.profile import open_site

        return open_site(
            self.options.get("site") or "local",
            root=self._path("root"),
            lockfiles=self._path("lockfiles"),
            mirrors=_mirrors((*os.environ.get("MLVIEWS_MIRROR", "").split(), *self.options.get("mirror", ()))),
        )

    @property
    def root(self) -> Path:
        """The site's root, without checking the whole site: the rest of it is not needed to run something."""
        from mlviews.site.file import quick_root

        return self._path("root") or quick_root(self.options.get("site") or "local") or self.site.root

    @functools.cached_property
    def catalogue(self) -> Catalogue:
        """The recipes."""
        from mlviews.recipe.catalogue import open_catalogue

        return open_catalogue(self.recipes)

    @property
    def recipes(self) -> Path:
        """The folder of recipes: ``--recipes``, else ``./recipes``, else those that travel with mlviews."""
        return self._path("recipes") or recipes_folder()

    def _path(self, option: str) -> Path | None:
        value = self.options.get(option)
        try:
            return Path(value).expanduser().absolute() if value else None
        except RuntimeError as error:
            raise click.BadParameter(f"{value}: {error}", param_hint=f"--{option}") from error

    def console(self, *, stderr: bool = False) -> Console:
        """Return a console on stdout, for results, or on stderr, for everything else."""
        from mlviews.cli.console import SafeConsole

        console = SafeConsole(stderr=stderr, no_color=self.options.get("no_color") or None)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = _PIPED_WIDTH  # a file or a pipe has no edge to fold at
        return console

    def remark(self, text: str) -> None:
        """Tell people, on stderr, what is no error; with ``--json`` the result is to hold it."""
        if not self.json:
            console = self.console(stderr=True)
            console.print("note: ", style="bold yellow", end="", markup=False)
            console.print(text, markup=False, soft_wrap=True)

    @property
    def progress(self) -> Progress:
        """Bars on stderr; nothing when quiet."""
        from mlviews.progress import silent

        if self.verbosity < 0:
            return silent
        from mlviews.cli.bars import Bars

        return Bars(self.console(stderr=True))


def recipes_folder() -> Path:
    from mlviews.resources import folder

    own = Path("recipes").absolute()
    return own if own.is_dir() else folder("recipes")


def _mirrors(pairs: tuple[str, ...]) -> Mapping[str, str]:
    mirrors = {}
    for pair in pairs:
        channel, _, location = pair.partition("=")
        if not (channel and location):
            raise click.BadParameter(f"{pair!r} is not CHANNEL=LOCATION", param_hint="--mirror")
        mirrors[channel] = location
    return mirrors
