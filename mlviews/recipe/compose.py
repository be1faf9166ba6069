"""Recipe and layers -> spec: one value that says what a view holds and who asked for each part of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlviews.errors import BadInputError, nearest
from mlviews.recipe.model import Hardware, Layer, Parsed, Recipe, Variant, parse
from mlviews.recipe.view import Origin, Override, Reason, Request, VariantOf, ViewHardware, ViewSpec, spec_name


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
    own = recipe.model
    if variant and own.on:
        where = recipe.document.where(("variants", variant))
        parts.faults.append(f"{where}: a view `on` another one takes that view's hardware and has no variants")
    elif variant:
        parts.refuse_empty_variant()
    hardware = parts.hardware(own.name) if own.on is None else parts.none_of_its_own()
    if own.on is None and (key := "replace" if own.replace else "editable" if own.editable else ""):
        parts.faults.append(f"{recipe.document.where((key,))}: only a view `on` another one can have it; take it out")
    if parts.faults:
        raise BadInputError(
            "recipe-invalid",
            f"{recipe.document.path}: the view cannot be composed",
            "Fix the recipe or the layer that is named; your own recipes/layers go before the catalogue's.",
            faults=tuple(dict.fromkeys(parts.faults)),
        )
    return ViewSpec(
        name=f"{own.name}-{variant}" if variant else own.name,
        summary=own.summary,
        module=f"{own.module}-{variant}" if variant else own.module,
        layers=tuple(part.source for part in parts.parts[:-1]),
        platforms=tuple(dict.fromkeys(own.platforms)),
        hardware=hardware,
        dependencies=parts.requests("dependencies"),
        constraints=parts.requests("constraints"),
        pypi=parts.requests("pypi"),
        gaps=parts.reasons("gaps"),
        cpu_only=parts.reasons("cpu_only"),
        some_gpus_only=parts.reasons("some_gpus_only"),
        smoke=tuple(dict.fromkeys(name for part in parts.parts for name in part.model.smoke)),
        link_scripts=tuple(dict.fromkeys(name for part in parts.parts for name in part.model.link_scripts)),
        pip_check_waivers=parts.reasons("pip_check_waivers"),
        overrides=parts.overrides(),
        sdists=tuple(dict.fromkeys(name for part in parts.parts for name in part.model.sdists)),
        replace=tuple(dict.fromkeys(own.replace)),
        editable=tuple(dict.fromkeys(own.editable)),
        on=own.on,
        variant=VariantOf(variant, own.name, own.module) if variant else None,
    )


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
        usual = tuple(dict.fromkeys(gpu for part in self.parts for gpu in part.model.hardware.gpus))
        gpus = tuple(dict.fromkeys(gpu for _, variant in self._variants() for gpu in variant.hardware.gpus)) or usual
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

    def refuse_empty_variant(self) -> None:
        """Note a variant that nobody says anything of: it would be the same view under another name."""
        if self.faults or any(variant != Variant() for _, variant in self._variants()):
            return
        layers = {name: self._load(name, "") for name in layer_files(*self.folders)}
        saying = [name for name, layer in layers.items() if layer and self.variant in layer.model.variants]
        self.faults.clear()  # of other layers
        where = self.parts[-1].origin("variants", self.variant or "").where
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

    def overrides(self) -> tuple[Override, ...]:
        found = [Override(o.package, o.of, o.spec, o.why) for part in self.parts for o in part.model.overrides]
        return tuple(dict.fromkeys(found))

    def reasons(self, key: str) -> tuple[Reason, ...]:
        reasons: Iterator[tuple[str, str]] = (
            (remark.package, remark.why) for part in self.parts for remark in getattr(part.model, key)
        )
        return tuple(Reason(package, why) for package, why in dict.fromkeys(reasons))
