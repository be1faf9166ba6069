"""Recipe and layers -> spec: one value that says what a view holds and who asked for each part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mlviews.errors import BadInputError, nearest
from mlviews.recipe.model import Hardware, Layer, Parsed, Recipe, Variant, parse
from mlviews.recipe.view import Origin, Override, Reason, Request, VariantOf, ViewHardware, ViewSpec, spec_name

_T = TypeVar("_T")


def compose(
    recipe: Parsed[Recipe],
    *layers_folders: Path,
    variant: str | None = None,
    known: dict[Path, Parsed[Layer]] | None = None,
) -> ViewSpec:
    """Join a recipe and its layers: layers in their order, each after the layers it builds on, the recipe last.

    Args:
        layers_folders: where layers are looked for, the folder that wins first.
        variant: one that the recipe names; what it says in each file, in the same order, goes over all of the above.
        known: layers that were read already, by their files; those that this one reads are added.

    Raises:
        BadInputError: a layer is missing, faulty or part of a circle, or two files contradict each other. All faults of
            all files are named at once.
    """
    parts = _Collector(layers_folders, variant, {} if known is None else known)
    parts.visit(recipe, ())
    parts.refuse_misplaced(recipe)
    hardware = parts.none_of_its_own() if recipe.model.on else parts.hardware(recipe.model.name)
    if parts.faults:
        raise BadInputError(
            "recipe-invalid",
            f"{recipe.document.path}: the view cannot be composed",
            "Fix the recipe or the layer that is named; your own recipes/layers go before the catalogue's.",
            faults=_once(parts.faults),
        )
    return parts.view(recipe.model, hardware)


def _once(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))


def layer_files(*folders: Path) -> dict[str, Path]:
    """Return the file of each layer; of one name, that of the first folder."""
    return {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.yaml")) if path.is_file()}


@dataclass(frozen=True, slots=True)
class _Part:
    source: str
    parsed: Parsed[Layer]

    @property
    def model(self) -> Layer:
        return self.parsed.model

    def variant(self, name: str | None) -> Variant | None:
        return self.model.variants.get(name) if name else None

    def origin(self, *path: str | int) -> Origin:
        return Origin(self.label, self.parsed.document.where(path))

    @property
    def label(self) -> str:
        return f"{'recipe' if isinstance(self.model, Recipe) else 'layer'} {self.source}"


class _Collector:
    """Visits layers depth first and gathers what they ask for, and what is wrong with them."""

    def __init__(self, folders: Sequence[Path], variant: str | None, known: dict[Path, Parsed[Layer]]) -> None:
        self.folders = folders
        self.variant = variant
        self._known = known
        self.parts: list[_Part] = []
        self.faults: list[str] = []
        self._seen: set[str] = set()

    def visit(self, parsed: Parsed[Layer], trail: tuple[str, ...]) -> None:
        model = parsed.model
        for index, name in enumerate(model.layers):
            where = parsed.document.where(("layers", index))
            if name in trail:
                self.faults.append(f"{where}: layer {name!r} builds on itself: {' -> '.join((*trail, name))}")
            elif name not in self._seen:
                self._seen.add(name)
                if layer := self._load(name, where):
                    self.visit(layer, (*trail, name))
        name = model.name if isinstance(model, Recipe) else trail[-1]
        self.parts.append(_Part(name, parsed))

    def _load(self, name: str, where: str) -> Parsed[Layer] | None:
        files = layer_files(*self.folders)
        if name not in files:
            places = " or ".join(map(str, self.folders))
            self.faults.append(f"{where}: there is no layer {name!r} in {places}{nearest(name, files)}")
            return None
        path = files[name]
        try:
            if path not in self._known:
                self._known[path] = parse(path, Layer)
            return self._known[path]
        except BadInputError as error:
            self.faults.extend(error.faults or (error.message,))
            return None

    def hardware(self, view: str) -> ViewHardware:
        usual = _once(gpu for part in self.parts for gpu in part.model.hardware.gpus)
        gpus = _once(gpu for _, variant in self._variants() for gpu in variant.hardware.gpus) or usual
        glibc = self._scalar("glibc")
        if glibc is None:
            where = self.parts[-1].origin("hardware").where
            self.faults.append(f"{where}: neither {view!r} nor a layer of it says hardware.glibc, such as '2.34'")
        cuda = self._scalar("cuda")
        if gpus and cuda is None:
            where = next((p.origin("hardware", "gpus").where for p in self.parts if p.model.hardware.gpus), view)
            self.faults.append(f"{where}: names GPUs, but nothing says hardware.cuda")
        return ViewHardware(glibc=glibc or "", cuda=cuda, archspec=self._scalar("archspec"), gpus=gpus)

    def _variants(self) -> Iterator[tuple[_Part, Variant]]:
        return ((part, found) for part in self.parts if (found := part.variant(self.variant)))

    def refuse_misplaced(self, recipe: Parsed[Recipe]) -> None:
        """Note what a view cannot have: the keys of a view `on` another one, or a variant."""
        own, where = recipe.model, recipe.document.where
        if own.on is None and (key := "replace" if own.replace else "editable" if own.editable else ""):
            self.faults.append(f"{where((key,))}: only a view `on` another one can have it; take it out")
        if self.variant and own.on:
            place = where(("variants", self.variant))
            self.faults.append(f"{place}: a view `on` another one takes that view's hardware and has no variants")
        elif self.variant and not self.faults and all(variant == Variant() for _, variant in self._variants()):
            self._refuse_empty_variant(where(("variants", self.variant)))

    def _refuse_empty_variant(self, where: str) -> None:
        """Note a variant that nobody says anything of: it would be the same view under another name."""
        layers = {name: self._load(name, "") for name in layer_files(*self.folders)}
        saying = [name for name, layer in layers.items() if layer and self.variant in layer.model.variants]
        self.faults.clear()  # of other layers
        hint = f"add a layer that does ({', '.join(sorted(saying))}), or state" if saying else "state"
        self.faults.append(f"{where}: neither the recipe nor its layers say what it changes; {hint} its hardware there")

    def none_of_its_own(self) -> ViewHardware:
        """Return the hardware of a view that extends another one, which brings its own."""
        for part in self.parts:
            if part.model.hardware != Hardware():
                where = part.origin("hardware").where
                self.faults.append(f"{where}: a view `on` another one takes that view's hardware; take the key out")
        return ViewHardware(glibc="", cuda=None, archspec=None, gpus=())

    def _scalar(self, key: str) -> str | None:
        given = [
            (value, part.origin("hardware", key))
            for part in self.parts
            if (value := getattr(part.model.hardware, key)) is not None
        ]
        for value, origin in given[1:]:
            first, first_origin = given[0]
            if value != first:
                self.faults.append(f"hardware.{key} is {first!r} in {first_origin} but {value!r} in {origin}")
        over = [value for _, variant in self._variants() if (value := getattr(variant.hardware, key)) is not None]
        return over[-1] if over else given[0][0] if given else None

    def requests(self, key: str) -> tuple[Request, ...]:
        origins: dict[str, list[Origin]] = {}
        for part in self.parts:
            for index, text in enumerate(getattr(part.model, key)):
                origins.setdefault(text, []).append(part.origin(key, index))
        for part, variant in self._variants():
            texts = getattr(variant, key, ())
            replaced = {spec_name(text) for text in texts}
            origins = {text: asked for text, asked in origins.items() if spec_name(text) not in replaced}
            for index, text in enumerate(texts):
                origins.setdefault(text, []).append(part.origin("variants", self.variant or "", key, index))
        return tuple(Request(text, tuple(asked)) for text, asked in origins.items())

    def reasons(self, key: str) -> tuple[Reason, ...]:
        return _once(Reason(one.package, one.why) for part in self.parts for one in getattr(part.model, key))

    def names(self, key: str) -> tuple[str, ...]:
        return _once(name for part in self.parts for name in getattr(part.model, key))

    def view(self, own: Recipe, hardware: ViewHardware) -> ViewSpec:
        """Return the view; nothing is wrong with it."""
        variant = self.variant
        return ViewSpec(
            name=f"{own.name}-{variant}" if variant else own.name,
            summary=own.summary,
            module=f"{own.module}-{variant}" if variant else own.module,
            layers=tuple(part.source for part in self.parts[:-1]),
            platforms=_once(own.platforms),
            hardware=hardware,
            dependencies=self.requests("dependencies"),
            constraints=self.requests("constraints"),
            pypi=self.requests("pypi"),
            gaps=self.reasons("gaps"),
            cpu_only=self.reasons("cpu_only"),
            some_gpus_only=self.reasons("some_gpus_only"),
            smoke=self.names("smoke"),
            link_scripts=self.names("link_scripts"),
            pip_check_waivers=self.reasons("pip_check_waivers"),
            overrides=_once(
                Override(one.package, one.of, one.spec, one.why) for part in self.parts for one in part.model.overrides
            ),
            sdists=self.names("sdists"),
            replace=_once(own.replace),
            editable=_once(own.editable),
            on=own.on,
            variant=VariantOf(variant, own.name, own.module) if variant else None,
        )
