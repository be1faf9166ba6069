"""Names and requirements, from match specs to pip's and from wheels' to conda's.

The names are in ``names.yaml``; of those that it does not have, in ``conda_names.json``, which others keep.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version
from rattler import MatchSpec

from mlviews.errors import BadInputError, RefusedError

EXTRA = ".extra."
"""Stands between a package and its extra in the name of the package that holds what the extra needs.

conda has no extras. Normalised names of an index hold no dots, so no project can take such a name.
"""


@dataclass(frozen=True, slots=True)
class _Table:
    conda: Mapping[str, str]  # by normalised index name
    index: Mapping[str, str]  # by conda-forge's name; may end in an extra
    not_python: tuple[str, ...]


@functools.cache
def _table() -> _Table:
    data = yaml.safe_load(Path(__file__).with_name("names.yaml").read_bytes())
    known = json.loads(Path(__file__).with_name("conda_names.json").read_bytes())["names"]
    conda = known | {str(canonicalize_name(name)): name for name in data["spelled"]} | data["renamed"]
    index = {name: project for project, name in conda.items()} | data["aliases"]
    return _Table(conda, index, tuple(data["not-python"]))


def conda_name(project: str) -> str:
    """Return what conda-forge calls the project ``project`` of a Python package index."""
    normalized = canonicalize_name(project)
    return _table().conda.get(normalized, normalized)


def is_listed(name: str) -> bool:
    """Tell whether the tables name the conda package ``name``: they list those that conda-forge calls otherwise."""
    return name in _table().index


def extra_name(project: str, extra: str) -> str:
    """Return the name of the package that stands for ``project[extra]``."""
    return f"{conda_name(project)}{EXTRA}{canonicalize_name(extra)}"


def project_of(name: str) -> tuple[NormalizedName, str]:
    """Return the project, and the extra or ``""``, that the conda package ``name`` is made of."""
    base, _, asked = name.partition(EXTRA)
    project, _, extra = _table().index.get(base, base).rstrip("]").partition("[")
    return canonicalize_name(project), asked or extra


def provider_of(name: str) -> tuple[NormalizedName, str]:
    """Return the project, and the extra or ``""``, that provides what a recipe means by ``name``.

    Raises:
        RefusedError: ``no-wheel``: no wheel can, or the project of that name is something else.
    """
    project, extra = project_of(name)
    base = name.partition(EXTRA)[0]
    hint = (
        f"Use a site with a conda channel, or name {name} under `absent` in this site's file if views can do without."
    )
    if base.endswith("-gpu") and base not in _table().index:
        raise RefusedError(
            "no-wheel",
            f"{name} asks for CUDA, and the site does not say which wheel stands for it",
            "Take a CPU view, or name what stands for it under `cuda: stand-ins` in this site's file.",
        )
    same = base in _table().index or canonicalize_name(conda_name(project)) == canonicalize_name(base)
    if not same or any(fnmatchcase(name, pattern) for pattern in _table().not_python):
        raise RefusedError("no-wheel", f"no wheel provides {name}", hint)
    return project, extra


def stand_ins(spec: str, name: str, project: str) -> tuple[str, ...]:
    """Return the match specs that ask for a project, and for each of its extras, in place of a package.

    Args:
        spec: a match spec for the package, such as ``onnxruntime >=1.24 *cuda*``.
        project: what stands for it, such as ``onnxruntime-gpu[cuda,cudnn]``.
    """
    wanted = Requirement(project)
    extras = (extra_name(wanted.name, extra) for extra in sorted(wanted.extras))
    return conda_name(wanted.name) + spec.removeprefix(name), *extras


_PLAIN = re.compile(r"(\d+!)?\d+(\.\d+)*(\.\*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelRequest:
    """One match spec: the conda package that it names, and the requirement that finds it with pip."""

    spec: str
    name: str
    requirement: Requirement


def requests_of(specs: Iterable[str]) -> tuple[WheelRequest, ...]:
    """Translate match specs; ``python`` and virtual packages are left out, the host decides about them.

    Raises:
        BadInputError: ``bad-spec``: a spec that does not parse or names no single package.
        RefusedError: ``no-wheel``.
    """
    parsed = [(spec, _parse(spec)) for spec in dict.fromkeys(specs)]
    return tuple(
        WheelRequest(spec=spec, name=name, requirement=_requirement(name, version))
        for spec, (name, version) in parsed
        if not _is_host(name)
    )


def limits_of(specs: Iterable[str]) -> tuple[Requirement, ...]:
    """Translate match specs that limit packages without asking for them; those without a wheel do no harm.

    Raises:
        BadInputError: ``bad-spec``.
    """
    limits = []
    for name, version in map(_parse, dict.fromkeys(specs)):
        if not _is_host(name):
            with suppress(InvalidRequirement):  # `_openmp_mutex` and the like are no projects
                limits.append(Requirement(f"{project_of(name)[0]}{_specifiers(version)}"))
    return tuple(limits)


def conda_depends(requirement: Requirement) -> list[str]:
    """Translate one requirement of a wheel, whose marker holds; each extra is a package of its own.

    The result takes every version that PEP 440 takes. It may take more: pip has chosen, conda only has to agree.
    """
    version = _conda_constraint(requirement.specifier)
    names = [
        conda_name(requirement.name),
        *(extra_name(requirement.name, extra) for extra in sorted(requirement.extras)),
    ]
    return [f"{name} {version}".rstrip() for name in names]


def conda_python(specifiers: SpecifierSet) -> str:
    """Translate a wheel's Requires-Python."""
    return f"python {_conda_constraint(specifiers)}".rstrip()


def conda_version(version: Version) -> str:
    """Return the version of the conda package; a local version (``+cpu``) goes into the build string instead."""
    return version.public


def _is_host(name: str) -> bool:
    return name in {"python", "python_abi"} or name.startswith("__")


def _parse(spec: str) -> tuple[str, str]:
    try:
        match = MatchSpec(spec)
    except Exception as error:  # rattler raises several kinds, all of them about the text
        raise BadInputError(
            "bad-spec", f"{spec!r} is not a match spec: {error}", "Write it as `name >=version`."
        ) from error
    name = match.name.as_package_name() if match.name is not None else None
    if name is None:
        raise BadInputError("bad-spec", f"{spec!r} does not name one package", "Write the package's name in full.")
    return name.normalized, str(match.version or "")


def _requirement(name: str, version: str) -> Requirement:
    project, extra = provider_of(name)
    try:
        return Requirement(f"{project}[{extra}]{_specifiers(version)}")
    except InvalidRequirement as error:  # conda's names may begin or end in more ways
        raise BadInputError("bad-spec", f"no wheel can be called {name!r}", "Name a package of an index.") from error


def _specifiers(version: str) -> str:
    # `|` and brackets have no counterpart. Asking pip for less is safe: the solve on the channel checks the whole spec.
    if version in {"", "*"} or set(version) & set("|()"):
        return ""
    return ",".join(filter(None, map(_specifier, version.split(","))))


def _specifier(clause: str) -> str:
    try:
        specifier = Specifier(clause if clause[0] in "<>=!~" else f"=={clause}")
        if specifier.operator != "<":
            return str(specifier)
        limit = Version(specifier.version)
    except (InvalidSpecifier, InvalidVersion):
        return ""  # a version that only conda can read, such as 9e
    # conda's idiom `<2.0a0` is PEP 440's `<2.0`; written out, it would make pip take pre-releases.
    return f"<{limit.base_version}" if limit.is_prerelease else str(specifier)


def _conda_constraint(specifiers: SpecifierSet) -> str:
    return ",".join(sorted(clause for specifier in specifiers for clause in _conda_clauses(specifier)))


def _conda_clauses(specifier: Specifier) -> list[str]:
    operator, (version, local, _) = specifier.operator, specifier.version.partition("+")
    if not _PLAIN.fullmatch(version):
        return []  # the two disagree about the order of 1a1 and 1.0a1, and of post- and development releases
    if operator == "!=" and local:
        return []  # the package's version does not tell that build from the others
    if operator == "===":
        return [f"=={version}"]
    if operator == "~=":
        return [f">={version}", f"{version.rpartition('.')[0]}.*"]
    if operator == "==" and version.endswith(".*"):
        return [version]
    return [f"{operator}{version}"]
