"""What ``mlviews render`` writes: a table of formats, each a function of one view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews import jupyter
from mlviews.conda.records import installed_licenses, read_conda_records
from mlviews.container import definitions
from mlviews.container.describe import NO_REPOSITORY, of_recipe, of_release
from mlviews.errors import RefusedError, nearest
from mlviews.hardware import host_platform
from mlviews.jobs.render import render_page
from mlviews.render import exchange, modulefile, setup_script
from mlviews.render.sbom import SBOM, render_sbom
from mlviews.store.disk import ReleaseEntry, Store
from mlviews.store.launcher import no_release_error
from mlviews.store.loaders import module_notes
from mlviews.store.locksource import NamedLock, lock_file, named_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlviews.container.definitions import Contents, Kind
    from mlviews.lock.lockfile import Lock
    from mlviews.recipe.view import ViewSpec
    from mlviews.release import Release
    from mlviews.render.modulefile import ModuleNotes
    from mlviews.site.profile import Site


@dataclass(frozen=True)
class RenderInput:
    """One view as formats see it; its release, lock and image are read by the formats that ask for them.

    Attributes:
        recipe: gives its recipe.
        named: the release that was named; None where the default is meant.
        platform: what to render for.
    """

    view: str
    site: Site
    recipe: Callable[[], ViewSpec]
    named: str | None
    platform: str

    @property
    def versioned(self) -> bool:
        """Whether a release was named."""
        return self.named is not None

    @property
    def release(self) -> Release:
        """The release on the platform."""
        return self._entry.platforms[self.platform]

    @property
    def ordered(self) -> list[Release]:
        """The release, by its platforms."""
        return [release for _, release in sorted(self._entry.platforms.items())]

    @property
    def notes(self) -> ModuleNotes:
        """What else is known of the release."""
        return module_notes(self._store, self._entry)

    @property
    def prefixes(self) -> list[Path]:
        """Where the release lies, and then the one that it extends."""
        own = self._store.platform_folder(self.view, self._entry.name, self.platform)
        return [own, *([Path(self.release.base.prefix)] if self.release.base else [])]

    @property
    def lock(self) -> Lock:
        """The release's own lock, where one was named, else the view's."""
        return self._lock.lock

    @cached_property
    def image(self) -> Contents:
        """What an image of that lock holds; a release of the lock knows more than the lock."""
        lock, text, store = self.lock, self._lock.text, self._store
        entries = store.entries(lock.view)
        for entry in entries:
            if self.platform in entry.platforms and entry.lock_digest == lock.digest:
                container = of_release(entry.platforms[self.platform], lock, self.site.container)
                prefix = store.platform_folder(lock.view, entry.name, self.platform)
                return definitions.Contents(container, lock, text, installed_licenses(read_conda_records(prefix)))
        for entry in entries:
            entry.check()  # it may be the one
        return definitions.Contents(of_recipe(self.recipe(), lock, self.platform, self.site.container), lock, text)

    @property
    def _store(self) -> Store:
        return Store(self.site.root, self.site.prefix)

    @cached_property
    def _entry(self) -> ReleaseEntry:
        found = find_release(self._store, self.view, self.named)
        self._check_platform(f"release {found.name} of {self.view}", found.platforms)
        return found

    @cached_property
    def _lock(self) -> NamedLock:
        found = named_lock(self.view, self.site, self.named) if self.named else lock_file(self.view, self.site)
        self._check_platform(f"the lock {found.label}", found.lock.platforms)
        return found

    def _check_platform(self, what: str, platforms: Iterable[str]) -> None:
        if self.platform not in platforms:
            raise RefusedError(
                "platform-missing",
                f"{what} is for {', '.join(platforms)}, not for {self.platform}{nearest(self.platform, platforms)}",
                "Name one of its platforms: --platform.",
            )


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        files: gives text by file name, the main file first. One file goes to stdout or into the file that ``-o``
            names, several go into the folder that it names.
        programs: those of the files that are programs.
        remarks: gives what people should know of the files, and need not read in them.
    """

    summary: str
    files: Callable[[RenderInput], Mapping[str, str]]
    programs: frozenset[str] = frozenset()
    remarks: Callable[[RenderInput], tuple[str, ...]] = lambda _: ()


def _definition(kind: Kind, summary: str) -> Format:
    def files(render_input: RenderInput) -> Mapping[str, str]:
        made = definitions.definition_files(kind, render_input.image, mirrors=render_input.site.mirrors)
        return {path: file.text for path, file in made.items()}

    return Format(summary, files, _PROGRAMS, lambda render_input: render_input.image.container.remarks)


def _placed(render_input: RenderInput) -> tuple[str, ...]:
    if not render_input.image.container.reference.startswith(NO_REPOSITORY):
        return ()
    return (f"the site names no `container: {{repository: ...}}`: {NO_REPOSITORY} stands for it",)


def _whole(render_input: RenderInput) -> Lock:
    """Return the lock, if it holds all that the view does.

    Raises:
        RefusedError: the view extends another one.
    """
    lock = render_input.lock
    if base := lock.inputs.get("on"):
        raise RefusedError(
            "lock-extends",
            f"the lock of {lock.view} holds only what it adds to {base['view']}, and other tools cannot use that",
            f"Render {base['view']}, and take the wheels from the recipe.",
        )
    return lock


_PROGRAMS = frozenset({"view/launch", "view/with-scripts"})

FORMATS: Mapping[str, Format] = {
    "lmod": Format(
        "modulefile for Lmod", lambda it: {f"{it.release.release}.lua": modulefile.render_lua(it.ordered, it.notes)}
    ),
    "tcl": Format(
        "modulefile for environment-modules",
        lambda it: {it.release.release: modulefile.render_tcl(it.ordered, it.notes)},
    ),
    "sh": Format("setup.sh for bash, zsh, sh", lambda it: {"setup.sh": setup_script.render_setup(it.release)}),
    "csh": Format("setup.csh for tcsh", lambda it: {"setup.csh": setup_script.render_csh(it.release)}),
    "fish": Format("setup.fish for fish", lambda it: {"setup.fish": setup_script.render_fish(it.release)}),
    "kernel": Format(
        "kernel.json for Jupyter",
        lambda it: {jupyter.SPECIFICATION: jupyter.render_kernel(it.release, versioned=it.versioned)},
    ),
    "vscode": Format(
        "settings.json for a folder in VS Code",
        lambda it: {"settings.json": setup_script.render_vscode(it.release, versioned=it.versioned)},
    ),
    "explicit": Format(
        "list of archives for conda, mamba",
        lambda it: {"explicit.txt": exchange.render_explicit(it.lock, it.platform)},
    ),
    "constraints": Format(
        "versions that pip must not change, for pip install -c",
        lambda it: {"constraints.txt": exchange.render_constraints(it.view, it.prefixes)},
    ),
    "environment": Format(
        "environment.yml for conda, mamba",
        lambda it: {"environment.yml": exchange.render_environment(_whole(it), it.platform)},
    ),
    "pixi": Format("pixi.lock", lambda it: {"pixi.lock": exchange.render_pixi(_whole(it))}),
    "pylock": Format(
        "pylock.toml: the wheels alone", lambda it: {"pylock.toml": exchange.render_pylock(it.lock, it.platform)}
    ),
    "dockerfile": _definition("dockerfile", "Dockerfile for docker, podman, buildah, and what it copies"),
    "apptainer": _definition("apptainer", "definition for Apptainer, and what it copies"),
    "batch": Format(
        "how jobs use the image, in Markdown",
        lambda it: {f"{it.view}.md": render_page(it.image.container, it.site.batch)},
        remarks=_placed,
    ),
    "sbom": Format(
        "bill of materials, CycloneDX",
        lambda it: {SBOM: render_sbom(it.image.lock, [it.platform], licenses=it.image.licenses)},
    ),
}
"""Format by the name that the command line gives it."""


def render_input(
    view: str, site: Site, *, recipe: Callable[[], ViewSpec], release: str | None = None, platform: str | None = None
) -> RenderInput:
    """Return what a view's formats are made from; nothing is read yet.

    Args:
        recipe: gives its recipe.
        release: one of its releases; None or ``default`` for the default one.
        platform: what to render for; None for this host's.

    Raises:
        RefusedError: a format reads what is not there: the release, its platform, or the lock.
    """
    named = release if release != "default" else None
    return RenderInput(view, site, recipe, named, platform or host_platform())


def find_release(store: Store, view: str, release: str | None) -> ReleaseEntry:
    """Return a release of a view, the default one where ``release`` is None.

    Raises:
        RefusedError: there is none: there never was, or it was removed.
    """
    name = release or store.default(view)
    if name is None:
        raise no_release_error(store.root, view)
    return store.existing(view, name)
