"""A new recipe: from scratch, from a view, or from what people have, and which view holds much of that already."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import TypeAdapter, ValidationError

from mlviews.errors import BadInputError
from mlviews.files.reading import content, is_folder_at
from mlviews.files.writing import make_folder, write_atomically
from mlviews.files.yamlfile import texts
from mlviews.recipe.catalogue import Catalogue, modules_clash
from mlviews.recipe.compose import compose
from mlviews.recipe.model import Recipe, ViewName, check_match_spec, check_requirement, parse
from mlviews.recipe.view import spec_name
from mlviews.wheels.requirements import conda_name, is_listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mlviews.lock.lockfile import Lock


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a file or an environment asks for.

    Attributes:
        source: where that was read.
        dependencies: as conda's match specs.
        pypi: requirements of pip's whose projects no channel is known to have.
        left_out: what a recipe cannot hold, each with the reason.
    """

    source: str
    dependencies: Sequence[str]
    pypi: Sequence[str]
    left_out: Sequence[str]


@dataclass(frozen=True, slots=True)
class Held:
    """What a view's lock holds of the packages that somebody asks for.

    Attributes:
        holds: those that it holds.
        differs: those that it holds in a version that is not asked for, which is named.
        adds: those that it lacks: a view on top of it would add them.
    """

    view: str
    holds: Sequence[str]
    differs: Sequence[str]
    adds: Sequence[str]


def held_by(dependencies: Iterable[str], locks: Mapping[str, Lock]) -> Held | None:
    """Return the view that holds most of what is asked for, the smallest of several; None where no view holds any.

    Args:
        dependencies: match specs and requirements.
    """
    asked = [*dependencies]
    found = {view: _held(view, asked, lock) for view, lock in locks.items()}

    def size(view: str) -> tuple[int, int, int]:
        held = found[view]
        return len(asked) - len(held.adds), len(held.holds), -len(locks[view].packages)

    best = max(found, key=size, default=None)
    return found[best] if best and size(best)[0] else None


def _held(view: str, asked: Iterable[str], lock: Lock) -> Held:
    from rattler import MatchSpec, Version, VersionSpec  # noqa: PLC0415  (takes time to import)

    versions = {package.name: package.version for package in lock.on(lock.platforms[0])}
    holds, differs, adds = [], [], []
    for text in asked:
        name = spec_name(text)
        # conda-forge's `matplotlib` is `matplotlib-base`, which the index calls so, and a toolkit of windows.
        have = versions.get(name, versions.get(conda_name(name)))
        wanted = MatchSpec(re.sub(r"\[[^]]*]|;.*", "", text)).version  # extras and markers are no match spec's
        if have is None:
            adds.append(text)
        elif wanted is None or VersionSpec(str(wanted)).matches(Version(have)):
            holds.append(text)
        else:
            differs.append(f"{text} (it has {have})")
    return Held(view, holds, differs, adds)


# What people have


class _Package(NamedTuple):
    name: str
    version: str
    needs: frozenset[str]
    is_wheel: bool = False


_MOST_BYTES = 64 << 20
_PLATFORM = "linux-64"


def adopt(path: Path, known: Collection[str] = ()) -> Adopted:
    """Return what a file or an environment asks for.

    It may be an ``environment.yml``, a ``requirements.txt``, a ``pixi.lock``, a ``conda-lock.yml``, a conda environment
    or a virtual environment. Of what is locked or installed, what nothing else there needs counts as asked for, in
    its minor version. Names of the Python package index become conda-forge's where that is known to have them.

    Args:
        path: the file or folder.
        known: packages that a channel has, as the locks of other views tell.

    Raises:
        BadInputError: it is none of these.
    """
    if is_folder_at(path, follow=True):
        return _adopted(path, _from_folder(path), known)
    raw = content(path, most=_MOST_BYTES)
    if raw is None:
        raise BadInputError("source-missing", f"there is no {path}", _KNOWN)
    try:
        if path.suffix in {".txt", ".in"}:
            return _adopted(path, _requirements(raw.decode()), known)
        return _adopted(path, _from_yaml(texts(raw)), known)
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        problem = " ".join(str(error).split())[:200]
        raise BadInputError("source-invalid", f"{path} cannot be understood: {problem}", _KNOWN) from error


_KNOWN = (
    "Name a view, environment.yml, requirements.txt, pixi.lock, conda-lock.yml, or the folder of a conda or virtual "
    "environment."
)


def _from_folder(path: Path) -> Iterable[_Asked]:
    from mlviews.conda.records import read_conda_records  # noqa: PLC0415  (most sources are files)

    if records := read_conda_records(path):
        packages = [_Package(record.name, record.version, frozenset(record.depends)) for record in records]
        return _roots(packages)
    found = sorted(path.glob("lib/python*/site-packages"))
    if not found:
        raise BadInputError("source-invalid", f"{path} is neither a conda nor a virtual environment", _KNOWN)
    packages = [
        _Package(
            conda_name(distribution.metadata["Name"]),
            distribution.version,
            frozenset(conda_name(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in distribution.requires or ()),
            is_wheel=True,
        )
        for distribution in metadata.distributions(path=[str(folder) for folder in found])
    ]
    python = _Package("python", found[0].parent.name.removeprefix("python").rstrip("t"), frozenset())
    return _roots([*packages, python])


def _from_yaml(data: Any) -> Iterable[_Asked]:
    if "package" in data:
        return _roots(_conda_lock(data["package"]))
    return _roots(_pixi_lock(data)) if "environments" in data else _environment(data)


class _Asked(NamedTuple):
    """One thing that a source says.

    Attributes:
        left_out: why a recipe cannot hold what it says.
        requirement: the same as pip takes it, where pip was asked for it.
    """

    spec: str
    left_out: str = ""
    requirement: str = ""


def _adopted(path: Path, asked: Iterable[_Asked], known: Collection[str]) -> Adopted:
    specs: dict[str, None] = {}
    requirements: dict[str, None] = {}
    left_out: list[str] = []
    for item in asked:
        if item.left_out:
            left_out.append(f"{item.spec}: {item.left_out}")
            continue
        name = spec_name(item.spec)
        try:
            if item.requirement and name not in known and not is_listed(name):
                requirements[check_requirement(item.requirement)] = None
            else:
                specs[check_match_spec(item.spec)] = None
                left_out += _without_extras(item.requirement)
        except ValueError as error:
            left_out.append(f"{item.spec}: {error}")
    if not specs and not requirements:
        raise BadInputError(
            "source-empty", f"{path} asks for nothing that a recipe can hold", _KNOWN, faults=tuple(left_out)
        )
    return Adopted(str(path), tuple(specs), tuple(requirements), tuple(left_out))


def _without_extras(requirement: str) -> list[str]:
    found = re.match(r"[\w.-]+\s*\[[^]]+]", requirement)
    return [f"{found[0]}: conda has no extras: name their packages"] if found else []


def _roots(packages: Iterable[_Package]) -> Iterable[_Asked]:
    """Return what nothing else there needs, and Python, each in its minor version."""
    known = {package.name: package for package in packages if not package.name.startswith("__")}
    needed = {name for package in known.values() for name in package.needs - {package.name}}
    for name, package in sorted(known.items()):
        if name == "python" or name not in needed | {"pip", "setuptools", "wheel"}:
            minor = re.match(r"\d+(\.\d+)?(?![\d!])", package.version)
            asked = f"{name} =={minor[0]}.*" if minor else name
            yield _Asked(f"{name} {minor[0]}.*" if minor else name, requirement=asked if package.is_wheel else "")


def _conda_lock(entries: Iterable[Mapping[str, Any]]) -> Iterable[_Package]:
    """Read https://github.com/conda/conda-lock's files, and so CEP 37's."""
    for entry in entries:
        if entry["platform"] == _PLATFORM:
            name = str(entry["name"])
            needs = entry.get("dependencies") or {}
            is_wheel = entry.get("manager") == "pip"
            yield _Package(
                conda_name(name) if is_wheel else name,
                str(entry["version"]),
                frozenset(conda_name(need) if is_wheel else need for need in needs),
                is_wheel,
            )


def _pixi_lock(data: Mapping[str, Any]) -> Iterable[_Package]:
    """Read https://pixi.sh's files, versions 5 and 6."""
    environments = data["environments"]
    environment = environments.get("default") or environments[min(environments)]
    chosen = {url for entry in environment["packages"][_PLATFORM] for url in entry.values()}
    for entry in data["packages"]:
        url = entry.get("conda") or entry.get("pypi") or entry["url"]
        if url not in chosen:
            continue
        if "pypi" in entry or entry.get("kind") == "pypi":
            needs = (re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in entry.get("requires_dist") or ())
            name, version = conda_name(entry["name"]), str(entry["version"])
            yield _Package(name, version, frozenset(map(conda_name, needs)), is_wheel=True)
        else:
            name, version, _ = url.rsplit("/", 1)[-1].rsplit("-", 2)
            yield _Package(name, version, frozenset(text.split()[0] for text in entry.get("depends") or ()))


_CHANNELS = frozenset({"conda-forge", "defaults", "nodefaults", "main"})


def _environment(data: Mapping[str, Any]) -> Iterable[_Asked]:
    """Read conda's ``environment.yml``."""
    for channel in _listed(data.get("channels") or []):
        if channel not in _CHANNELS:
            yield _Asked(f"channel {channel}", "a site names its channels, a recipe none")
    for entry in _listed(data["dependencies"]):
        if isinstance(entry, str):
            channel, _, spec = entry.rpartition("::")
            if channel and channel not in _CHANNELS:
                yield _Asked(entry, "a site names its channels, a recipe none")
            else:
                yield _Asked(_spaced(spec))
        else:
            yield from _requirements("\n".join(_listed(entry["pip"])))


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, not {value!r}")  # noqa: TRY004  (what was read is wrong, not the caller)
    return value


def _spaced(spec: str) -> str:
    """Return ``numpy=2.1=py_0``, as ``conda env export`` writes it, in a recipe's words, without the build."""
    found = re.fullmatch(r"([\w.-]+)\s*=\s*([\w.!+]+)(=[\w.*]+)?", spec)
    return f"{found[1]} =={found[2]}" if found and found[3] else f"{found[1]} {found[2]}.*" if found else spec


_CONFIGURED = "an option of pip's: its own configuration says where packages are looked up"
_OPTIONS = {
    "-e": "a project as it lies: `mlviews extend VIEW --editable FOLDER` puts it on top of a view",
    "--editable": "a project as it lies: `mlviews extend VIEW --editable FOLDER` puts it on top of a view",
    "-r": "name that file with --from, too, and join the two recipes",
    "--requirement": "name that file with --from, too, and join the two recipes",
    "-c": "write its limits under `constraints`",
    "--constraint": "write its limits under `constraints`",
}


def _requirements(text: str) -> Iterable[_Asked]:
    """Read pip's requirements; what is asked for on other hosts alone is passed over."""
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415  (few sources need it)

    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        said = re.split(r"(?:^|\s)#|\s--hash", line, maxsplit=1)[0].strip()
        if not said:
            continue
        if said.startswith("-"):
            yield _Asked(said, next((why for option, why in _OPTIONS.items() if said.startswith(option)), _CONFIGURED))
            continue
        if re.match(r"[\w+]+://", said):
            yield _Asked(said, "comes from a URL, and a recipe names packages")
            continue
        try:
            wanted = Requirement(said)
        except InvalidRequirement:
            yield _Asked(said, "no requirement of the form NAME VERSIONS")
            continue
        if wanted.url:
            yield _Asked(said, "comes from a URL, and a recipe names packages")
        elif wanted.marker is None or wanted.marker.evaluate():
            limits = sorted(re.sub(r"^==(.*\.\*)$", r"\1", str(limit)) for limit in wanted.specifier)
            wanted.marker = None
            yield _Asked(f"{conda_name(wanted.name)} {','.join(limits)}".strip(), requirement=str(wanted))


# The recipe

_LAYERS = ("base",)  # Python, a kernel, and the checks that every view should pass
_TEXT = """\
# A view: see docs/recipes.md for every key; `mlviews layers` and `mlviews checks` list what there is.
schema: 1
name: {name}
summary: {summary}
{module}# what `module load` takes
{layers}# shared parts
platforms: [linux-64]
hardware:
  glibc: "2.34"                   # el9, as the layer base says; docs/recipes.md tells how to go lower
{gpu}{heading}# conda match specs; "numpy >=2,<3", "python 3.12.*"
{dependencies}{pypi}{left_out}# constraints: ["numpy <3"]       # limits on packages that others pull in
# gaps:                           # what it should hold and cannot yet; `mlviews show` tells people
#   - {{package: name, why: the reason}}
{variants}{smoke}# besides those of its layers: {checks}
"""
_GPU = """\
  cuda: "12.9"                    # the driver must offer at least this
  gpus: [A100, H100]              # machine code or PTX for these must be in the binaries
"""
_VARIANTS = """\
# variants:                       # the same view for newer GPUs: `mlviews lock NAME-cuda13` makes its lock
#   cuda13: {hardware: {cuda: "13.0", gpus: [A100, H100, B200]}, constraints: [cuda-version 13.0.*]}
"""
_PYPI = "pypi:                             # what pip takes; where a channel has it, that goes first\n"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.<>=!,~* +-]*")


def write_new_recipe(
    name: str, folder: Path, catalogue: Catalogue, *, gpu: bool = False, like: str = "", adopted: Adopted | None = None
) -> Path:
    """Write ``<folder>/<name>.yaml`` and return its path.

    Args:
        folder: the user's own recipes.
        gpu: whether it is for NVIDIA GPUs.
        like: a view whose recipe is copied.
        adopted: what it asks for, unless it is a copy.

    Raises:
        BadInputError: the name is no view's name, the file exists, or another view has the module; ``like`` is no view.
    """
    module = f"atlasml/{name}"
    path = free_file(name, module, folder, catalogue.modules_by_file)
    text = _copy(catalogue, like, name, module) if like else _text(name, module, adopted, gpu=gpu)
    make_folder(folder)
    write_atomically(path, text)
    if not like:
        made = parse(path, Recipe)
        named = compose(made, folder / "layers", *catalogue.layers).smoke
        checks = [check for check in named if check not in made.model.smoke]
        write_atomically(path, text.replace(_CHECKS, ", ".join(checks) or "none"))
    return path


_CHECKS = "@checks@"


def _copy(catalogue: Catalogue, like: str, name: str, module: str) -> str:
    catalogue.view(like)  # it must be one
    source = catalogue.file(like)
    text = source.read_text(encoding="utf-8")
    for key, value in {"name": name, "module": module}.items():
        text = re.sub(rf"(?m)^{key}:.*$", f"{key}: {value}", text)
    return text


def _text(name: str, module: str, adopted: Adopted | None, *, gpu: bool) -> str:
    asked = adopted.dependencies if adopted else ["pytorch-gpu" if gpu else "numpy"]
    summary = f"What {Path(adopted.source).name} asks for" if adopted else f"What {name} is for, in one sentence"
    return _TEXT.format(
        name=name,
        summary=_scalar(summary),
        module=f"module: {module}".ljust(33) + " ",
        layers=f"layers: [{', '.join(_LAYERS)}]".ljust(33) + " ",
        gpu=_GPU if gpu else "",
        heading=f"{'dependencies:' if asked else 'dependencies: []':<34}",
        dependencies="".join(f"  - {_scalar(package)}\n" for package in asked),
        pypi=_PYPI + "".join(f"  - {_scalar(text)}\n" for text in adopted.pypi) if adopted and adopted.pypi else "",
        variants=_VARIANTS if gpu else "",
        smoke=f"{'smoke: [torch-matmul, torch-train]' if gpu and not adopted else 'smoke: []':<33} ",
        left_out="".join(f"# left out: {json.dumps(text)}\n" for text in (adopted.left_out if adopted else ())),
        checks=_CHECKS,
    )


def _scalar(text: str) -> str:
    """Return text as YAML reads it back."""
    return text if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text else json.dumps(text)


def free_file(name: str, module: str, folder: Path, others: Mapping[Path, str]) -> Path:
    """Return where the recipe of a new view goes: nothing is there, and no other view has its module."""
    try:
        TypeAdapter(ViewName).validate_python(name)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInputError("name-invalid", f"{name!r} {problem}", "Such as: tagging-gpu") from None
    path = folder / f"{name}.yaml"
    if path.exists():
        raise BadInputError("recipe-exists", f"{path} is there already", "Take another name, or edit that file.")
    for other, its in others.items():
        if modules_clash(module, its):
            raise BadInputError(
                "recipe-clash", f"the module {module!r} would clash with {its!r} in {other}", "Take another name."
            )
    return path
