"""A view as a recipe and its layers say it: one value that says what it holds and who asked for each part of it.

It is also kept as JSON, and read again without what checks recipes: see `mlviews.recipe.catalogue`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlviews.gpus.nvidia import GPUS
from mlviews.hardware import VirtualPackage, virtual_packages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from packaging.specifiers import SpecifierSet
    from packaging.utils import NormalizedName


VIEW_NAME = r"[a-z0-9]+(-[a-z0-9]+)*"
"""What a view is called; files and modules are named after it."""
OWN = "own"
"""What names a recipe without any of its variants, where a variant is asked for."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asked: ``layer pytorch`` or ``recipe tagging-gpu``, and where the request stands in its file."""

    source: str
    where: str

    def __str__(self) -> str:
        return f"{self.source} ({self.where})"


@dataclass(frozen=True, slots=True)
class Request:
    """A match spec, or a requirement of wheels, with everyone who asked for it."""

    text: str
    origins: tuple[Origin, ...] = field(compare=False, default=())

    @property
    def name(self) -> str:
        """The package's name."""
        return spec_name(self.text)


@dataclass(frozen=True, slots=True)
class Reason:
    """A package and why it is treated as it is (``gaps``, ``cpu-only``, ``some-gpus-only``, ``pip-check-waivers``)."""

    package: str
    why: str


@dataclass(frozen=True, slots=True)
class Override:
    """A requirement of a wheel that is loosened; see `mlviews.recipe.model.Override`."""

    package: str
    of: str
    spec: str
    why: str


@dataclass(frozen=True, slots=True)
class OwnCheck:
    """A check that lies beside a recipe; see `mlviews.recipe.checks`.

    Attributes:
        name: as recipes write it.
        text: of its file, when the recipe was read.
        file: where that is.
    """

    name: str
    text: str
    file: str


@dataclass(frozen=True, slots=True)
class VariantOf:
    """Which variant a view is, and of which: they share a module.

    Attributes:
        name: the variant's, such as ``cuda13``.
        view: the view of the recipe itself.
        module: of that view; it gives whichever of them the host's driver serves best.
    """

    name: str
    view: str
    module: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewHardware:
    """What a lock is solved for; see `mlviews.recipe.model.Hardware`."""

    glibc: str
    cuda: str | None
    archspec: str | None
    gpus: tuple[str, ...]

    def virtual_packages(self, platform: str) -> tuple[VirtualPackage, ...]:
        """Return what a solve for ``platform`` may count on."""
        compute = min((GPUS[name].compute for name in self.gpus), default=None)
        return virtual_packages(platform, glibc=self.glibc, cuda=self.cuda, archspec=self.archspec, compute=compute)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewSpec:
    """A recipe with its layers joined in.

    Attributes:
        sdists: projects that may be built of their sources.
        replace: packages of ``on`` in whose place others may go.
        editable: folders of Python projects, which stay where they are.
        on: the view, VIEW/RELEASE, or path of one, that this view extends; its hardware is the base's.
        variant: which variant it is; None for what the recipe itself says.
        own_checks: all that lie beside the recipe, whether or not ``smoke`` names them.
    """

    name: str
    summary: str
    module: str
    layers: tuple[str, ...]
    platforms: tuple[str, ...]
    hardware: ViewHardware
    dependencies: tuple[Request, ...]
    constraints: tuple[Request, ...]
    pypi: tuple[Request, ...]
    gaps: tuple[Reason, ...]
    cpu_only: tuple[Reason, ...]
    some_gpus_only: tuple[Reason, ...]
    smoke: tuple[str, ...]
    link_scripts: tuple[str, ...]
    pip_check_waivers: tuple[Reason, ...]
    overrides: tuple[Override, ...] = ()
    sdists: tuple[str, ...] = ()
    on: str | None = None
    variant: VariantOf | None = None
    replace: tuple[str, ...] = ()
    editable: tuple[str, ...] = ()
    own_checks: tuple[OwnCheck, ...] = ()

    @property
    def asked(self) -> tuple[Request, ...]:
        """All that is in the view because somebody asked for it, of channels and of an index."""
        return (*self.dependencies, *self.pypi)

    @property
    def loosened(self) -> dict[tuple[NormalizedName, NormalizedName], SpecifierSet]:
        """The overrides: (project, project that requires it) -> the versions that serve."""
        from packaging.specifiers import SpecifierSet  # noqa: PLC0415  (few recipes have any)
        from packaging.utils import canonicalize_name  # noqa: PLC0415

        return {
            (canonicalize_name(one.package), canonicalize_name(one.of)): SpecifierSet(one.spec)
            for one in self.overrides
        }

    def inputs(self, channels: Iterable[str]) -> dict[str, Any]:
        """Return what a lock depends on: all that the solve reads, and nothing that it does not."""
        hardware = self.hardware
        loosened = sorted([one.package, one.of, one.spec] for one in self.overrides)
        sources = sorted(self.sdists)
        return {
            "channels": list(channels),
            "platforms": sorted(self.platforms),
            "hardware": {
                "glibc": hardware.glibc,
                "cuda": hardware.cuda,
                "archspec": hardware.archspec,
                "gpus": sorted(hardware.gpus),
            },
            "dependencies": sorted(request.text for request in self.dependencies),
            "constraints": sorted(request.text for request in self.constraints),
            "pypi": sorted(request.text for request in self.pypi),
            "cpu-only": sorted(reason.package for reason in self.cpu_only),
            **({"overrides": loosened} if loosened else {}),  # a lock without any is what it was
            **({"sdists": sources} if sources else {}),
            **({"replace": sorted(self.replace)} if self.replace else {}),
            **({"editable": sorted(self.editable)} if self.editable else {}),
        }


def inputs_digest(inputs: Mapping[str, Any]) -> str:
    """Return the sha256 of a lock's inputs, in hexadecimal."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def spec_name(text: str) -> str:
    """Return the package name of a spec that `check_match_spec` accepted."""
    return re.split(r"[\s=<>!~\[]", text, maxsplit=1)[0]


def view_spec(said: dict[str, Any]) -> ViewSpec:
    """Return the view that `dataclasses.asdict` made this of, on its way through JSON.

    Raises:
        TypeError: it is none; or another error of what is no dictionary or list.
    """
    lists = {key: tuple(value) for key, value in said.items() if isinstance(value, list)}
    for key in ("dependencies", "constraints", "pypi"):
        lists[key] = tuple(Request(one["text"], tuple(Origin(**who) for who in one["origins"])) for one in said[key])
    for key in ("gaps", "cpu_only", "some_gpus_only", "pip_check_waivers"):
        lists[key] = tuple(Reason(**one) for one in said[key])
    hardware = said["hardware"]
    parts = {
        "hardware": ViewHardware(**{**hardware, "gpus": tuple(hardware["gpus"])}),
        "own_checks": tuple(OwnCheck(**one) for one in said["own_checks"]),
        "overrides": tuple(Override(**one) for one in said["overrides"]),
        "variant": VariantOf(**said["variant"]) if said["variant"] else None,
    }
    return ViewSpec(**{**said, **lists, **parts})
