"""Recipes and layers as people write them: models, match specs without their traps, all faults of a file at once."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mlviews.credentials import refuse
from mlviews.errors import nearest
from mlviews.files.yamlfile import Document, read
from mlviews.gpus.nvidia import GPUS
from mlviews.hardware import ARCHSPECS, PLATFORMS
from mlviews.recipe.faults import parse_model
from mlviews.recipe.view import OWN, VIEW_NAME, spec_name

_EXACT = re.compile(r"==\s*([^,|()=*\s]+)(?=[,|()=\s]|$)")
_GAP = re.compile(r"[,|]\s+(=(?!=)|[\w*])")
_STAR = re.compile(r"(~=|[<>]=?)\s*[^,|<>=\s]*\*(?=[,|=\s]|$)")
_PACKAGE = re.compile(r"[a-z0-9_][a-z0-9_.-]*")
_RELEASE = r"[0-9]{1,9}(\.[0-9]{1,9})*"
_RANGE = rf"(>=|<=|<|>|!=){_RELEASE}"
_BUILD = r"[*]?[a-z0-9_]+[*]?"
_PLAIN = re.compile(rf"[a-z0-9]+([._-][a-z0-9]+)*( ?{_RANGE}(,{_RANGE})*( {_BUILD})?| {_RELEASE}\.[*]| [*] {_BUILD})?")
"""Specs that hold no trap: nearly all that recipes have. rattler, which judges the others, takes long to import."""


def check_match_spec(text: str) -> str:
    """Return ``text`` if it is a match spec that a recipe may hold.

    Source: conda's `MatchSpec` and CEP 29.

    Raises:
        ValueError: it does not parse, means something else than people expect, or asks for more than a package.
    """
    return text if _PLAIN.fullmatch(text) else _judged(text)


def _judged(text: str) -> str:
    from rattler import MatchSpec  # noqa: PLC0415
    from rattler.exceptions import InvalidMatchSpecError  # noqa: PLC0415

    try:
        spec = MatchSpec(text)
    except (InvalidMatchSpecError, ValueError) as error:
        if " - " in text:
            raise ValueError("is two items in one: the second is indented more than the first") from None
        raise ValueError(f"is not a match spec: {' '.join(str(error).split())}") from None
    name = spec_name(text)
    if spec.channel or "://" in text:
        raise ValueError("names a channel or a file; a recipe names packages, the site its channels")
    if not _PACKAGE.fullmatch(name) or "[" in text or not text.isascii() or (spec.build and " " in spec.build):
        raise ValueError("must be one package name in lower case, then at most a version and a build, no brackets")
    if name.startswith("__"):
        raise ValueError("is a virtual package: those are stated under `hardware`")
    if _STAR.search(text):
        raise ValueError("compares with '.*', which solvers read in different ways; leave '.*' out after <, > and ~=")
    if _GAP.search(text):
        raise ValueError("has a space inside its version, which conda takes for the build; leave it out")
    _refuse_bare_versions(text, str(spec.version or ""), spec.build)
    return text


def _refuse_bare_versions(text: str, understood: str, build: str | None) -> None:
    """Refuse a version that conda reads as an exact one although no ``==`` says so."""
    exact, said = _EXACT.findall(understood), _EXACT.findall(text)
    if len(exact) <= len(said):
        return
    bare = next((version for version in exact if version not in said), exact[0])
    before, after = (f"{spec_name(text)} ", f" {build}" if build else "") if understood == f"=={bare}" else ("", "")
    raise ValueError(
        f"means exactly {bare}; write '{before}{bare}.*{after}' for any {bare} release, "
        f"or '{before}=={bare}{after}' for that one"
    )


def check_requirement(text: str) -> str:
    """Return ``text`` if it is a requirement (PEP 508) that a recipe may hold.

    Raises:
        ValueError: it does not parse, or names a URL: a recipe names projects, pip's configuration their index.
    """
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415  (few recipes have wheels)

    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"is not a requirement: {str(error).splitlines()[0]}") from None
    if wanted.url:
        raise ValueError("names a URL; a recipe names projects, pip's configuration says where they are looked up")
    if wanted.marker and "extra" in re.findall(r"\w+", str(wanted.marker)):
        raise ValueError(f"has a marker about extras; write '{wanted.name}[EXTRA]'")
    return text


def _specifiers(value: str) -> str:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet  # noqa: PLC0415  (few recipes have wheels)

    try:
        return str(SpecifierSet(value) and value)
    except InvalidSpecifier as error:
        raise ValueError(f"is not a range of versions, such as '>=1.25,<2': {error}") from None


_NAME = re.compile(VIEW_NAME)
_MODULE_PART = re.compile(r"[a-z0-9]+([._+-][a-z0-9]+)*")
_VARIANT = re.compile(r"[a-z0-9]{1,16}")
_VERSION = re.compile(r"\d+\.\d+")
_PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_RESERVED = "default"
_NAME_LENGTH, _MODULE_LENGTH = 64, 128


def _text(value: str) -> str:
    for character in value:
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}:
            raise ValueError(f"holds the control character U+{ord(character):04X}")
    if not value.strip():
        raise ValueError("is empty")
    return value


def _name(value: str) -> str:
    if len(value) > _NAME_LENGTH or not _NAME.fullmatch(value):
        raise ValueError(
            f"must be lower-case letters and digits, joined by single hyphens, at most {_NAME_LENGTH} characters"
        )
    if value == _RESERVED:
        raise ValueError(f"{_RESERVED!r} is reserved: it names the release that a plain load gives")
    return value


def _variant_name(value: str) -> str:
    if not _VARIANT.fullmatch(value):
        raise ValueError("must be at most 16 lower-case letters and digits, such as 'cuda13'")
    if value == OWN:
        raise ValueError(f"{OWN!r} is reserved: it names the recipe without its variants")
    return value


def _module(value: str) -> str:
    parts = value.split("/")
    if len(value) > _MODULE_LENGTH or not all(_MODULE_PART.fullmatch(part) for part in parts):
        raise ValueError(
            "must be lower-case names joined by '/', such as 'atlasml/tagging', "
            f"each of letters, digits and inner . _ + -, at most {_MODULE_LENGTH} characters"
        )
    if _RESERVED in parts:
        raise ValueError(f"{_RESERVED!r} is reserved: it names the release that a plain load gives")
    return value


def _base(value: str) -> str:
    view, _, release = value.partition("/")
    if not value.startswith("/") and (not _NAME.fullmatch(view) or "/" in release or release in {".", ".."}):
        raise ValueError("must be VIEW, VIEW/RELEASE, or the absolute path of one of these below a root")
    return value


def _folder(value: str) -> str:
    if not value.startswith("/") or {"..", "."} & {*value.split("/")}:
        raise ValueError("must be the absolute path of a folder")
    return value


def _one_of(known: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"is none of {', '.join(known)}{nearest(value, known)}")
        return value

    return AfterValidator(check)


def _on_linux(value: str) -> str:
    if value.startswith(("osx-", "win-")):
        raise ValueError(f"is no Linux: views are for {' and '.join(PLATFORMS)}; elsewhere take a Linux container")
    return value


def _like(pattern: re.Pattern[str], fault: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(fault)
        return value

    return AfterValidator(check)


def _schema(**keys: Any) -> Any:
    """Tell editors, by way of the JSON Schema, what the validator beside it checks."""
    return Field(json_schema_extra=keys)


_LEVELS = tuple(level for levels in ARCHSPECS.values() for level in levels)
_NO_CONTROLS = r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*"

Text = Annotated[str, Field(max_length=2000), AfterValidator(_text), _schema(pattern=rf"^(?!\s*$){_NO_CONTROLS}$")]
PublicText = Annotated[Text, AfterValidator(refuse)]
ViewName = Annotated[
    Text, AfterValidator(_name), _schema(pattern=f"^(?!{_RESERVED}$){_NAME.pattern}$", maxLength=_NAME_LENGTH)
]
_Module = Annotated[
    Text,
    AfterValidator(_module),
    _schema(
        pattern=f"^(?!(.*/)?{_RESERVED}(/|$)){_MODULE_PART.pattern}(/{_MODULE_PART.pattern})*$",
        maxLength=_MODULE_LENGTH,
    ),
]
_VariantName = Annotated[Text, AfterValidator(_variant_name), _schema(pattern=f"^(?!{OWN}$){_VARIANT.pattern}$")]
_Version = Annotated[
    Text, _like(_VERSION, "must be MAJOR.MINOR, such as '12.9'"), _schema(pattern=f"^{_VERSION.pattern}$")
]
_Spec = Annotated[Text, AfterValidator(check_match_spec), _schema(pattern=f"^{_PACKAGE.pattern}([ =<>!~].*)?$")]
_Requirement = Annotated[Text, AfterValidator(check_requirement), _schema(pattern=r"^[A-Za-z0-9]([^@]*)$")]
_Project = Annotated[
    Text,
    _like(_PROJECT, "is not the name of a project: letters, digits, and inner . _ -"),
    _schema(pattern=f"^{_PROJECT.pattern}$"),
]
_Base = Annotated[Text, AfterValidator(_base), _schema(pattern=f"^(/.+|{_NAME.pattern}(/[^/]+)?)$")]
_Folder = Annotated[Text, AfterValidator(_folder), _schema(pattern="^/.*$")]
_PackageName = Annotated[
    Text,
    _like(_PACKAGE, "is not the name of a conda package: lower-case letters, digits, and inner . _ -"),
    _schema(pattern=f"^{_PACKAGE.pattern}$"),
]
_Platform = Annotated[Text, AfterValidator(_on_linux), _one_of(tuple(PLATFORMS)), _schema(enum=list(PLATFORMS))]
_Archspec = Annotated[Text, _one_of(_LEVELS), _schema(enum=list(_LEVELS))]
GpuName = Annotated[Text, _one_of(tuple(GPUS)), _schema(enum=list(GPUS))]


class Written(BaseModel):
    """What people write: of the right kinds, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=False)


class Hardware(Written):
    """What a lock is solved for."""

    glibc: _Version | None = Field(None, description="The oldest glibc the view must run on; el9 has 2.34.")
    cuda: _Version | None = Field(None, description="The CUDA version that the driver must offer at least.")
    archspec: _Archspec | None = Field(None, description="Micro-architecture level; the baseline where unset.")
    gpus: list[GpuName] = Field([], description="GPUs whose machine code or PTX must be in the binaries.")


class Remark(Written):
    """A package, and why it is treated as it is."""

    package: Text = Field(description="Its name; `*` stands for any letters under `cpu-only` and `some-gpus-only`.")
    why: PublicText = Field(description="The reason, for people.")


class Override(Written):
    """A requirement of a wheel that is too narrow, and what stands for it."""

    package: _Project = Field(description="The project that is required.")
    of: _Project = Field(description="The wheel that requires it.")
    spec: Annotated[str, AfterValidator(_specifiers)] = Field(
        description="The versions that serve, such as `>=1.25`; empty for any."
    )
    why: PublicText = Field(description="The reason, for people.")


class Variant(Written):
    """What a variant of a view has in place of what the rest says; an entry on a package replaces those on the same."""

    hardware: Hardware = Hardware()
    dependencies: list[_Spec] = Field([], description="conda match specs.")
    constraints: list[_Spec] = Field([], description="Limits on packages; a bare name takes the limit away.")


class Layer(Written):
    """A recipe fragment in ``recipes/layers/`` that recipes list under ``layers:``."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of this format.")
    summary: PublicText | None = Field(None, description="One sentence; a layer's own is not joined to the recipe's.")
    layers: list[ViewName] = Field([], description="Layers that this one builds on, by file name.")
    hardware: Hardware = Hardware()
    dependencies: list[_Spec] = Field([], description="conda match specs.")
    constraints: list[_Spec] = Field([], description="Limits on packages that others pull in.")
    pypi: list[_Requirement] = Field(
        [], description="Requirements (PEP 508); wheels serve where no channel has what fits."
    )
    overrides: list[Override] = Field([], description="Requirements of wheels that are loosened.")
    sdists: list[_Project] = Field(
        [], description="Projects without a wheel that are built of their sources, whose code runs then."
    )
    gaps: list[Remark] = Field([], description="What the view should hold and cannot yet.")
    cpu_only: list[Remark] = Field(
        [], alias="cpu-only", description="In a CUDA view: packages that may lock a CPU build all the same."
    )
    some_gpus_only: list[Remark] = Field(
        [], alias="some-gpus-only", description="Packages that may hold no code for some of `hardware.gpus`."
    )
    variants: dict[_VariantName, Variant] = Field(
        {},
        description="What variants change; a view has those that its recipe itself names.",
        json_schema_extra={"additionalProperties": False},
    )
    smoke: list[ViewName] = Field([], description="Smoke checks that prove the view.")
    link_scripts: list[_PackageName] = Field(
        [], alias="link-scripts", description="Packages whose post-link scripts a build runs."
    )
    pip_check_waivers: list[Remark] = Field(
        [], alias="pip-check-waivers", description="Python packages whose unmet requirements `pip-check` lets pass."
    )


class Recipe(Layer):
    """One view: what it holds, where it must run, how it is proved."""

    name: ViewName = Field(description="The view's name, and the file's.")
    summary: PublicText = Field(description="One sentence for people.")
    module: _Module = Field(description="What `module load` takes.")
    platforms: list[_Platform] = Field(min_length=1, description="conda subdirs.")
    on: _Base | None = Field(
        None, description="The view, or VIEW/RELEASE, that this one extends: its packages stay as they are."
    )
    replace: list[_PackageName] = Field([], description="Packages of `on` in whose place others may go.")
    editable: list[_Folder] = Field(
        [], description="Folders of Python projects that stay where they are, by their path."
    )


_LayerT_co = TypeVar("_LayerT_co", bound=Layer, covariant=True)


@dataclass(frozen=True)
class Parsed(Generic[_LayerT_co]):
    """A recipe or layer with the file it was read from."""

    model: _LayerT_co
    document: Document


def parse(path: Path, kind: type[_LayerT_co]) -> Parsed[_LayerT_co]:
    """Read a `Recipe` or a `Layer`.

    Raises:
        BadInputError: the file is no plain YAML, or does not fit the model; every fault is named.
    """
    document = read(path)
    return Parsed(parse_model(document, kind), document)
