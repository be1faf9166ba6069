"""What people have, as a recipe asks for it: their environments, their lists of packages, the locks of other tools."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from mlviews import credentials
from mlviews.errors import BadInputError, nearest
from mlviews.files.reading import content, is_folder_at
from mlviews.files.yamlfile import texts
from mlviews.recipe.model import check_match_spec, check_requirement
from mlviews.recipe.view import spec_name
from mlviews.wheels.requirements import conda_name, is_listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a file or an environment asks for.

    Attributes:
        source: where that was read.
        dependencies: as conda's match specs.
        pypi: requirements of pip's whose projects no channel is known to have.
        left_out: what a recipe cannot hold, each with the reason.
        cuda: what of it shows that it is for NVIDIA GPUs; empty where nothing does.
    """

    source: str
    dependencies: Sequence[str]
    pypi: Sequence[str]
    left_out: Sequence[str]
    cuda: str


class _Package(NamedTuple):
    name: str
    version: str
    needs: frozenset[str]
    is_wheel: bool = False
    archive: str = ""


_LISTS = frozenset({".txt", ".in"})
_SUFFIXES = _LISTS | {".yml", ".yaml", ".lock"}
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
        beside = (entry.name for entry in path.parent.glob("*") if entry.suffix in _SUFFIXES)
        raise BadInputError("source-missing", f"there is no {path}{nearest(path.name, beside)}", _KNOWN)
    try:
        if path.suffix in _LISTS:
            return _adopted(path, _requirements(raw.decode(), path), known)
        return _adopted(path, _from_yaml(texts(raw), path), known)
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
        packages = [
            _Package(record.name, record.version, frozenset(record.depends), archive=record.archive)
            for record in records
        ]
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


def _from_yaml(data: Any, path: Path) -> Iterable[_Asked]:
    if "package" in data:
        return _roots(_conda_lock(data["package"]))
    return _roots(_pixi_lock(data)) if "environments" in data else _environment(data, path)


class _Asked(NamedTuple):
    """One thing that a source says.

    Attributes:
        said: in the source's words, with versions and builds that a recipe does not hold.
        spec: in a recipe's; empty for what is there and nobody asked for.
        left_out: why a recipe cannot hold what it says.
        requirement: the same as pip takes it, where pip was asked for it.
    """

    said: str
    spec: str = ""
    left_out: str = ""
    requirement: str = ""


def _left_out(said: str, why: str) -> _Asked:
    return _Asked(said, left_out=why)


def _adopted(path: Path, asked: Iterable[_Asked], known: Collection[str]) -> Adopted:
    specs: dict[str, None] = {}
    cuda = ""
    requirements: dict[str, None] = {}
    left_out: list[str] = []
    for item in asked:
        cuda = cuda or (item.said if _CUDA.match(item.said) else "")
        name = spec_name(item.spec)
        if why := item.left_out or _OTHERWISE.get(name):
            left_out.append(credentials.hide(f"{item.said}: {why}"))
        if not item.spec or why:
            continue
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
    return Adopted(str(path), tuple(specs), tuple(requirements), tuple(left_out), cuda)


_CUDA = re.compile(
    r"([\w-]+::)?(pytorch-cuda|cuda(toolkit|-[\w-]+)|cudnn|cupy|[\w-]+-gpu|nvidia-[\w-]+-cu\d\d)\b"
    r"|.*([+/]cu\d\d|=[^=]*=[^=]*cuda)"  # torch==2.5.1+cu124, an index of such wheels, pytorch=2.5=*cuda*
)
_OTHERWISE = {  # packages of other channels that say what a recipe says with a key
    "pytorch-cuda": "the recipe says it under `hardware: cuda`",
    "cudatoolkit": "the recipe says it under `hardware: cuda`",
    "cpuonly": "a recipe without `hardware: cuda` holds CPU builds alone",
}


def _without_extras(requirement: str) -> list[str]:
    found = re.match(r"[\w.-]+\s*\[[^]]+]", requirement)
    return [f"{found[0]}: conda has no extras: name their packages"] if found else []


def _roots(packages: Iterable[_Package]) -> Iterable[_Asked]:
    """Return what nothing else there needs, and Python, each in its minor version."""
    known = {package.name: package for package in packages if not package.name.startswith("__")}
    needed = {name for package in known.values() for name in package.needs - {package.name}}
    for name, package in sorted(known.items()):
        build = package.archive.rpartition("-")[2].partition(".")[0]
        said = f"{name}={package.version}" + (f"={build}" if build else "")
        if name == "python" or name not in needed | {"pip", "setuptools", "wheel"}:
            minor = re.match(r"\d+(\.\d+)?(?![\d!])", package.version)
            asked = f"{name} =={minor[0]}.*" if minor else name
            spec = f"{name} {minor[0]}.*" if minor else name
            yield _Asked(said, spec, requirement=asked if package.is_wheel else "")
        else:
            yield _Asked(said)


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
                archive=str(entry["url"]),
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
            names = frozenset(text.split()[0] for text in entry.get("depends") or ())
            yield _Package(name, version, names, archive=url)


_CHANNELS = frozenset({"conda-forge", "defaults", "nodefaults", "main"})


def _environment(data: Mapping[str, Any], path: Path) -> Iterable[_Asked]:
    """Read conda's ``environment.yml``."""
    for channel in _listed(data.get("channels") or []):
        if channel not in _CHANNELS:
            yield _left_out(f"channel {channel}", "a site names its channels, a recipe none")
    entries = _listed(data["dependencies"])
    for entry in entries:
        if isinstance(entry, str):
            channel, _, spec = entry.rpartition("::")
            if channel and channel not in _CHANNELS:
                yield _left_out(entry, "a site names its channels, a recipe none")
            else:
                yield _spaced(spec)
        else:
            yield from _requirements("\n".join(_listed(entry["pip"])), path)
    if names := ", ".join(data.get("variables") or {}):
        yield _left_out(f"variables {names}", "a recipe sets none: write them into your script or job")
    built = sum(bool(isinstance(entry, str) and _EXPORTED.fullmatch(entry)) for entry in entries)
    if built * 2 > len(entries):
        yield _left_out(
            f"builds of {built} packages",
            "this file lists all that was installed. For a recipe of what you asked for, name the environment's folder "
            "with --from, or the file that `conda env export --from-history` writes",
        )


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, not {value!r}")  # noqa: TRY004  (what was read is wrong, not the caller)
    return value


_EXPORTED = re.compile(r"([\w.-]+)=([\w.!+]+)=(\w+)")  # as `conda env export` writes what is installed


def _spaced(said: str) -> _Asked:
    """Return what ``numpy=2.1=py_0`` asks for in a recipe's words, without the build."""
    found = re.fullmatch(r"([\w.-]+)\s*=\s*([\w.!+]+)(=[\w.*]+)?", said)
    if not found:
        return _Asked(said, said)
    return _Asked(said, f"{found[1]} =={found[2]}" if found[3] else f"{found[1]} {found[2]}.*")


_CONFIGURED = "an option of pip's: its own configuration says where packages are looked up"
_EDITABLE = "a project as it lies: `mlviews extend VIEW --editable FOLDER` puts it on top of a view"
_FROM_URL = "comes from a URL, and a recipe names packages"
_CLONED = f"{_FROM_URL}; `mlviews extend VIEW --editable FOLDER` puts your clone on top of a view"
_OPTIONS = {
    "-e": _EDITABLE,
    "--editable": _EDITABLE,
    "-c": "write its limits under `constraints`",
    "--constraint": "write its limits under `constraints`",
}
_INCLUDED = re.compile(r"(?:-r\s*|--requirement(?:\s+|=))(\S.*)")


def _requirements(text: str, path: Path, around: Collection[Path] = ()) -> Iterable[_Asked]:
    """Read pip's requirements; what is asked for on other hosts alone is passed over.

    Args:
        path: the file that holds them: files that it includes lie beside it.
        around: the files that include this one.
    """
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        said = re.split(r"(?:^|\s)#|\s--hash", line, maxsplit=1)[0].strip()
        if included := _INCLUDED.fullmatch(said):
            yield from _included(said, path.parent / included[1], {*around, path})
        elif said.startswith("-"):
            yield _left_out(said, next((why for name, why in _OPTIONS.items() if said.startswith(name)), _CONFIGURED))
        elif said:
            yield from _required(said)


def _included(said: str, path: Path, around: Collection[Path]) -> Iterable[_Asked]:
    raw = None if path in around else content(path, most=_MOST_BYTES)
    if raw is None:
        yield _left_out(said, "there is no such file" if path not in around else "it includes itself")
    else:
        yield from _requirements(raw.decode(), path, around)


def _required(said: str) -> Iterable[_Asked]:
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415  (few sources need it)
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415

    try:
        wanted = None if re.match(r"[\w+]+://", said) else Requirement(said)
    except InvalidRequirement:
        is_path = re.match(r"[./~]|file:|\S+/", said)
        yield _left_out(said, _EDITABLE if is_path else "no requirement of the form NAME VERSIONS")
        return
    if wanted is None or wanted.url:
        yield _left_out(said, _CLONED if re.search(r"(^|@\s*)git\+", said) else _FROM_URL)
    elif wanted.marker is None or wanted.marker.evaluate():
        wanted.marker = None
        wanted.specifier = SpecifierSet(re.sub(r"\+[^,]*", "", str(wanted.specifier)))  # +cu124: a build of one index
        limits = sorted(re.sub(r"^==(.*\.\*)$", r"\1", str(limit)) for limit in wanted.specifier)
        yield _Asked(said, f"{conda_name(wanted.name)} {','.join(limits)}".strip(), requirement=str(wanted))
