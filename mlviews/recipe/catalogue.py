"""The folder of recipes: one view by name, or all of them, and what they must not share.

Where no recipe has a fault, the views are kept; see `mlviews.files.kept`. Then nobody waits for YAML or pydantic.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError, FailedError, MlviewsError, nearest
from mlviews.files.kept import Kept, state_of
from mlviews.recipe.checks import check_files, read_checks
from mlviews.recipe.view import OwnCheck, ViewSpec, view_spec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlviews.recipe.model import Layer, Parsed, Recipe


@dataclass(frozen=True)  # no slots: what is asked for of each view is worked out once
class Catalogue:
    """Every view of a folder, composed; a faulty recipe does not stop work on the others.

    Attributes:
        composed: its views that can be used, each recipe's own before its variants.
        faulty: those of its views that cannot be used, and why.
        modules: the modules of its views, also of those that only their layers make faulty; without variants.
        variants: its views that are a variant of another: that one, and the variant's name.
        behind: the recipes that travel with mlviews, where the folder is the user's own: its views and layers are there
            too, and the folder's own go before them. A view behind is composed of layers behind alone: its lock stays.
    """

    folder: Path
    composed: dict[str, ViewSpec]
    faulty: dict[str, MlviewsError]
    modules: dict[str, str]
    variants: dict[str, tuple[str, str]]
    behind: Catalogue | None = None

    @cached_property
    def own(self) -> tuple[str, ...]:
        """The folder's own views, faulty ones too, in alphabetical order."""
        return tuple(sorted({*self.composed, *self.faulty}))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All views: the folder's own, then those behind that none of them hides."""
        return (*self.own, *(name for name in (self.behind.own if self.behind else ()) if name not in self.hidden))

    @cached_property
    def hidden(self) -> dict[str, str]:
        """Views behind -> the folder's own that goes before each: it has the same name, or the same module."""
        found = {}
        for name, module in (self.behind.modules if self.behind else {}).items():
            alike = (own for own, mine in self.modules.items() if modules_clash(mine, module))
            if by := name if name in self.own else next(alike, None):
                found[name] = by
        for name, (view, _) in (self.behind.variants if self.behind else {}).items():
            if view in found or name in self.own:
                found[name] = name if name in self.own else found[view]
        return found

    @property
    def altered(self) -> dict[str, str]:
        """Of ``hidden``, what is another view here: in a copy of mlviews' repository all are the same."""
        behind = self.behind.composed if self.behind else {}
        return {name: by for name, by in self.hidden.items() if not _alike(self.composed.get(name), behind.get(name))}

    @property
    def layers(self) -> tuple[Path, ...]:
        """The folders of layers, the one that wins first."""
        return (self.folder / "layers", *(self.behind.layers if self.behind else ()))

    @property
    def own_checks(self) -> tuple[OwnCheck, ...]:
        """The checks that lie beside the folder's own recipes.

        Raises:
            BadInputError: one of them is none; then every recipe of the folder is faulty, too.
        """
        return read_checks(self.folder)

    def view(self, name: str) -> ViewSpec:
        """Return one composed view.

        Raises:
            BadInputError: there is no such recipe, it is faulty, or it shares a name or a module with another.
        """
        if name in self.faulty:
            raise self.faulty[name]
        if name in self.composed:
            return self.composed[name]
        if by := self.hidden.get(name):
            raise BadInputError(
                "recipe-clash",
                f"the catalogue's view {name!r} and {self.file(by)} have the same module",
                "Your recipe hides it. To have both, give yours another `module`.",
            )
        if self.behind and name in self.names:
            return self.behind.view(name)
        raise BadInputError(
            "view-unknown",
            f"there is no view {name!r} in {self.folder}{nearest(name, self.names)}",
            "`mlviews list` shows all; `mlviews new VIEW` starts one; --recipes DIR names another folder of recipes.",
        )

    def family(self, name: str) -> tuple[ViewSpec, ...]:
        """Return a view and its variants; of a variant, or of a view that has none, it alone.

        Raises:
            BadInputError: as for `view`.
        """
        found = [other for other, (view, _) in self.variants.items() if view == name]
        if name not in self.own and self.behind and name in self.names:
            return self.behind.family(name)
        return tuple(self.view(each) for each in (name, *found))

    def file(self, name: str) -> Path:
        """Return the file that says a view which `view` gives."""
        view, _ = self.variants.get(name, (name, ""))
        return self.behind.file(name) if self.behind and view not in self.own else self.folder / f"{view}.yaml"

    @property
    def modules_by_file(self) -> dict[Path, str]:
        """The module that each recipe has, those behind too; not of recipes with faults of their own."""
        mine = {self.file(name): module for name, module in self.modules.items()}
        return {**mine, **(self.behind.modules_by_file if self.behind else {})}

    def views(self) -> tuple[ViewSpec, ...]:
        """Return every view of the folder's own, composed.

        Raises:
            BadInputError: any recipe is faulty; the faults of all are named.
        """
        views: list[ViewSpec] = []
        faults: list[str] = []
        for name in self.own:
            try:
                views.append(self.view(name))
            except MlviewsError as error:
                faults.extend(error.faults or (error.message,))
        if faults:
            raise BadInputError(
                "catalogue-invalid",
                f"{self.folder}: recipes with faults",
                "Correct them. `mlviews show VIEW` names those of one view.",
                faults=tuple(dict.fromkeys(faults)),
            )
        return tuple(views)

    def sound(self) -> tuple[ViewSpec, ...]:
        """Return those of the folder's own views that have no fault.

        Raises:
            BadInputError: all have one, as for `views`.
        """
        return tuple(self.composed[name] for name in self.own if name not in self.faulty) or self.views()


def open_catalogue(folder: Path, *, behind: Path | None = None) -> Catalogue:
    """Return every view of ``folder``, as its recipes say it now.

    Args:
        folder: the recipes that win.
        behind: those that are there too, unless it is the same folder.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".yaml" and not path.name.startswith("."))
    except OSError as error:
        raise FailedError(
            "recipes-unreadable", f"{folder}: {error.strerror}", "Name the folder of recipes with --recipes DIR."
        ) from error
    more = behind and not (behind.exists() and behind.samefile(folder))
    there = open_catalogue(behind) if behind and more else None
    layers = (folder / "layers", *(there.layers if there else ()))
    kept = Kept("recipes", hashlib.sha256(os.fsencode(folder)).hexdigest()[:16], _state(folder, paths, layers))
    views = kept.recall(lambda said: {name: view_spec(view) for name, view in said.items()})
    if views is None:
        made = _read(folder, paths, layers)
        if not made.faulty and _state(folder, paths, layers) == kept.state:
            kept.keep({name: asdict(view) for name, view in made.composed.items()})
        return replace(made, behind=there)
    modules = {name: view.module for name, view in views.items() if not view.variant}
    variants = {name: (view.variant.view, view.variant.name) for name, view in views.items() if view.variant}
    return Catalogue(folder, views, {}, modules, variants, there)


def _state(folder: Path, paths: Iterable[Path], layers: Iterable[Path]) -> str:
    """Return the state of all that views of a folder are composed of."""
    parts = [os.fsencode(folder)]
    for place in (
        *paths,
        *check_files(folder),
        *(path for layer in layers for path in sorted(layer.glob("*.yaml")) if path.is_file()),
    ):
        with suppress(OSError):  # what cannot be read is a fault, and then nothing is kept
            if place.is_file():  # a pipe would be waited for
                parts += [os.fsencode(place), place.read_bytes()]
    return state_of(parts, rooms=["", "files", "recipe"])


def _read(folder: Path, paths: Iterable[Path], layers: tuple[Path, ...]) -> Catalogue:
    """Parse the recipes and compose their views."""
    from mlviews.recipe.compose import compose  # noqa: PLC0415  (nobody waits for these where the views are kept)
    from mlviews.recipe.model import Recipe, parse  # noqa: PLC0415

    made = Catalogue(folder, {}, {}, {}, {})
    checks: tuple[OwnCheck, ...] = ()
    no_check: MlviewsError | None = None
    try:
        checks = made.own_checks
    except MlviewsError as error:
        no_check = error
    parsed: list[Parsed[Recipe]] = []
    for path in paths:
        try:
            parsed.append(parse(path, Recipe))
        except MlviewsError as error:
            made.faulty[path.stem] = error
    clashes = _clashes(parsed)
    known: dict[Path, Parsed[Layer]] = {}
    for item in parsed:
        path, model = item.document.path, item.model
        if faults := clashes.get(path.stem):
            what = f"{path}: clashes with another recipe"
            hint = "Names and modules belong to one recipe each."
            made.faulty[path.stem] = BadInputError("recipe-clash", what, hint, faults=tuple(faults))
            continue
        made.modules[model.name] = model.module
        variants = {f"{model.name}-{name}": (model.name, name) for name in model.variants}
        made.variants.update(variants)
        for view, (_, variant) in {model.name: (model.name, None), **variants}.items():
            try:
                if no_check:
                    raise no_check
                spec = compose(item, *layers, variant=variant, known=known)
                made.composed[view] = replace(spec, own_checks=checks)
            except MlviewsError as error:
                made.faulty[view] = error
    return made


def _clashes(parsed: list[Parsed[Recipe]]) -> dict[str, list[str]]:
    """Return, by file stem, what recipes must not share: a name, a module, or one module inside another's folder."""
    faults: dict[str, list[str]] = {}
    for item in parsed:
        mine, document = item.model, item.document
        found = faults.setdefault(document.path.stem, [])
        if mine.name != document.path.stem:
            found.append(f"{document.where(('name',))}: is {mine.name!r}, but the file is {document.path.name}")
        for other in parsed:
            theirs, there = other.model, other.document
            if other is item:
                continue
            found += _variant_clashes(item, other)
            if theirs.name == mine.name:
                found.append(f"{document.where(('name',))}: {mine.name!r} is also the name in {there.where(('name',))}")
            if theirs.module == mine.module:
                found.append(
                    f"{document.where(('module',))}: {mine.module!r} is also the module in {there.where(('module',))}"
                )
            elif modules_clash(mine.module, theirs.module):
                outer, inner = sorted((mine.module, theirs.module), key=len)
                found.append(
                    f"{document.where(('module',))}: {outer!r} would be the folder that holds {inner!r} "
                    f"(also {there.where(('module',))}), so neither could be loaded by its short name"
                )
    return {stem: found for stem, found in faults.items() if found}


def _variant_clashes(item: Parsed[Recipe], other: Parsed[Recipe]) -> list[str]:
    """Return where another recipe has the name or the module of a variant."""
    mine, theirs, there = item.model, other.model, other.document
    found = []
    for variant in mine.variants:
        where = item.document.where(("variants", variant))
        if theirs.name == f"{mine.name}-{variant}":
            found.append(f"{where}: makes a view {theirs.name!r}, which is the name in {there.where(('name',))}")
        if modules_clash(theirs.module, f"{mine.module}-{variant}"):
            module = f"{mine.module}-{variant}"
            found.append(f"{where}: makes a module {module!r}, beside that in {there.where(('module',))}")
    return found


def _alike(one: ViewSpec | None, other: ViewSpec | None) -> bool:
    """Tell whether two views would have the same lock and the same module."""
    return one is not None and other is not None and (one.inputs(()), one.module) == (other.inputs(()), other.module)


def modules_clash(one: str, other: str) -> bool:
    """Tell whether two modules are one, or one would be the folder that holds the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
