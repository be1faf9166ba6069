"""The folder of recipes: one view by name, or all of them, and what they must not share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError, FailedError, MlviewsError
from mlviews.recipe.compose import compose
from mlviews.recipe.model import Recipe, nearest, parse

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.recipe.compose import ViewSpec
    from mlviews.recipe.model import Layer, Parsed

__all__ = ["Catalogue", "modules_clash", "open_catalogue"]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every recipe of a folder, parsed; a faulty one does not stop work on the others.

    Attributes:
        folder: the folder.
        recipes: its views.
        faulty: those of its views that cannot be used, and why.
        behind: the recipes that travel with mlviews, where the folder is the user's own: its views and layers are there
            too, and the folder's own go before them. A view behind is composed of layers behind alone: its lock stays.
    """

    folder: Path
    recipes: dict[str, Parsed[Recipe]]
    faulty: dict[str, MlviewsError]
    behind: Catalogue | None = None
    _known: dict[Path, Parsed[Layer]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def variants(self) -> dict[str, tuple[str, str]]:
        """The folder's views that are a variant of another: that one, and the variant's name."""
        return {f"{view}-{name}": (view, name) for view, item in self.recipes.items() for name in item.model.variants}

    @property
    def own(self) -> tuple[str, ...]:
        """The folder's own views, faulty ones too, in alphabetical order."""
        return tuple(sorted({*self.recipes, *self.variants, *self.faulty}))

    @property
    def names(self) -> tuple[str, ...]:
        """All views: the folder's own, then those behind that none of them hides."""
        return (*self.own, *(name for name in (self.behind.own if self.behind else ()) if name not in self.hidden))

    @property
    def hidden(self) -> dict[str, str]:
        """Views behind -> the folder's own that goes before each: it has the same name, or the same module."""
        found = {}
        for name, item in (self.behind.recipes if self.behind else {}).items():
            module = item.model.module
            alike = (own for own, mine in self.recipes.items() if modules_clash(mine.model.module, module))
            if by := name if name in self.own else next(alike, None):
                found[name] = by
        for name, (view, _) in (self.behind.variants if self.behind else {}).items():
            if view in found or name in self.own:
                found[name] = name if name in self.own else found[view]
        return found

    @property
    def layers(self) -> tuple[Path, ...]:
        """The folders of layers, the one that wins first."""
        return (self.folder / "layers", *(self.behind.layers if self.behind else ()))

    def view(self, name: str) -> ViewSpec:
        """Return one composed view.

        Raises:
            BadInputError: there is no such recipe, it is faulty, or it shares a name or a module with another.
        """
        if name in self.faulty:
            raise self.faulty[name]
        if name in self.recipes:
            return compose(self.recipes[name], *self.layers, known=self._known)
        if name in self.variants:
            view, variant = self.variants[name]
            return compose(self.recipes[view], *self.layers, variant=variant, known=self._known)
        if by := self.hidden.get(name):
            raise BadInputError(
                "recipe-clash",
                f"the catalogue's view {name!r} and {self.recipes[by].document.path} have one module",
                "Yours goes before it: give yours another name under `module`, to have both.",
            )
        if self.behind and name in self.names:
            return self.behind.view(name)
        raise BadInputError(
            "view-unknown",
            f"there is no view {name!r} in {self.folder}{nearest(name, self.names)}",
            "`mlviews list` shows all; `mlviews new VIEW` starts one.",
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

    def recipe(self, name: str) -> Parsed[Recipe]:
        """Return the recipe of a view that `view` gives."""
        view, _ = self.variants.get(name, (name, ""))
        return self.recipes[view] if view in self.recipes or not self.behind else self.behind.recipe(name)

    def all_recipes(self) -> tuple[Parsed[Recipe], ...]:
        """Return all that can be used, those behind too."""
        return (*self.recipes.values(), *(self.behind.all_recipes() if self.behind else ()))

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
                "Fix them; one by one: `mlviews show VIEW`.",
                faults=tuple(dict.fromkeys(faults)),
            )
        return tuple(views)


def open_catalogue(folder: Path, *, behind: Path | None = None) -> Catalogue:
    """Parse every recipe of ``folder``.

    Args:
        folder: the recipes that win.
        behind: those that are there too, unless it is the same folder.

    Raises:
        FailedError: the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".yaml" and not path.name.startswith("."))
    except OSError as error:
        raise FailedError(
            "recipes-unreadable", f"{folder}: {error.strerror}", "Name the folder of recipes with --recipes DIR."
        ) from error
    recipes: dict[str, Parsed[Recipe]] = {}
    faulty: dict[str, MlviewsError] = {}
    parsed: list[Parsed[Recipe]] = []
    for path in paths:
        try:
            parsed.append(parse(path, Recipe))
        except MlviewsError as error:
            faulty[path.stem] = error
    clashes = _clashes(parsed)
    for item in parsed:
        stem = item.document.path.stem
        if faults := clashes.get(stem):
            faulty[stem] = BadInputError(
                "recipe-clash",
                f"{item.document.path}: clashes with another recipe",
                "Names and modules belong to one recipe each.",
                faults=tuple(faults),
            )
        else:
            recipes[stem] = item
    more = behind and not (behind.exists() and behind.samefile(folder))
    return Catalogue(folder, recipes, faulty, open_catalogue(behind) if behind and more else None)


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


def modules_clash(one: str, other: str) -> bool:
    """Tell whether two modules are one, or one would be the folder that holds the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
