"""Which of a view's variants a host takes, by what its NVIDIA driver tells without any program.

Modules that variants share choose by the same rule; see `mlviews.render.defaultfile.render_default`.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError, MlviewsError, nearest
from mlviews.gpus.nvidia import GPUS, toolkit_driver
from mlviews.recipe.view import OWN, ViewSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.recipe.catalogue import Catalogue

_DRIVER = Path("/proc/driver/nvidia")


@dataclass(frozen=True, slots=True)
class HostDriver:
    """A host's NVIDIA driver.

    Attributes:
        version: such as ``580.65.06``; empty where there is none.
        gpus: those that the driver names and mlviews knows.
    """

    version: str = ""
    gpus: tuple[str, ...] = ()

    @property
    def branch(self) -> int:
        """The first figure of its version; 0 where there is none."""
        return int(self.version.partition(".")[0] or 0)


@dataclass(frozen=True, slots=True)
class VariantChoice:
    """Which of a view's variants this host takes.

    Attributes:
        view: the view of the recipe itself.
        takes: that one, or the view of a variant.
        why: in words.
    """

    view: str
    takes: str
    why: str


def read_driver(folder: Path = _DRIVER) -> HostDriver:
    """Return this host's driver, as its kernel module tells."""
    try:
        first = (folder / "version").read_text(errors="replace").partition("\n")[0]
    except OSError:
        return HostDriver()
    found = re.search(r"\s(\d+\.\d[\d.]*)", first)
    models = "".join(f" {_model(path)} " for path in sorted(folder.glob("gpus/*/information")))
    return HostDriver(found[1] if found else "", tuple(gpu for gpu in GPUS if f" {gpu} " in models))


def _model(information: Path) -> str:
    """Return a GPU's model with words apart: Tesla V100-SXM2-32GB."""
    try:
        first = information.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return ""
    return first.replace("-", " ").strip()


def choose(specs: Sequence[ViewSpec], driver: HostDriver) -> VariantChoice:
    """Return which of a view's variants a host takes: the one for the newest CUDA that its driver and GPUs have.

    Args:
        specs: the view of the recipe itself, then its variants.
    """
    own = specs[0]
    if not driver.version:
        return VariantChoice(own.name, own.name, "without an NVIDIA driver it takes the recipe itself")
    fitting = [spec for spec in specs if _needed(spec) <= driver.branch and _serves(spec, driver)]
    if not fitting:
        return VariantChoice(
            own.name, own.name, f"driver {driver.version} is too old for any, so it takes the recipe itself"
        )
    best = max(fitting, key=_needed)
    newer = [spec for spec in specs if _needed(spec) > _needed(best)]
    why = (
        f"driver {driver.version} serves CUDA {best.hardware.cuda}"
        if best.hardware.cuda
        else "that one needs no driver"
    )
    if newer and _needed(newer[0]) <= driver.branch:
        why += f"; {newer[0].name} has no code for this host's {', '.join(driver.gpus)}"
    elif newer:
        why += f"; {newer[0].name} needs driver {toolkit_driver(newer[0].hardware.cuda or '')} or newer"
    return VariantChoice(own.name, best.name, why)


def choice_of(name: str, catalogue: Catalogue, driver: HostDriver) -> VariantChoice | None:
    """Return which variant a host takes of a view; None where it has none, or where its recipe is faulty or gone.

    Args:
        name: the view's, or that of a variant of it.
    """
    with suppress(MlviewsError):
        variant = catalogue.view(name).variant
        if len(family := catalogue.family(variant.view if variant else name)) > 1:
            return choose(family, driver)
    return None


def choices(catalogue: Catalogue, driver: HostDriver) -> tuple[VariantChoice, ...]:
    """Return which variant a host takes of each view that has some; a faulty recipe is left to who tells of those."""
    found = ((name, choice_of(name, catalogue, driver)) for name in catalogue.names)
    return tuple(choice for name, choice in found if choice and choice.view == name)


def named(specs: Sequence[ViewSpec], variant: str) -> ViewSpec:
    """Return a view's variant by the variant's name; `own` is the recipe itself.

    Raises:
        BadInputError: it has none of that name.
    """
    known = {spec.variant.name if spec.variant else OWN: spec for spec in specs}
    if variant not in known:
        raise BadInputError(
            "variant-unknown",
            f"view {specs[0].name} has no variant {variant!r}{nearest(variant, known)}",
            f"It has {', '.join(known)}.",
        )
    return known[variant]


def _needed(spec: ViewSpec) -> int:
    """Return the branch of the driver that came with a view's CUDA."""
    driver = toolkit_driver(spec.hardware.cuda) if spec.hardware.cuda else "0"
    return int(driver.partition(".")[0]) if driver else 1 << 30


def _serves(spec: ViewSpec, driver: HostDriver) -> bool:
    """Tell whether a view is for GPUs as old as the host's: code for one runs on newer ones, at least as PTX."""
    oldest = min((GPUS[gpu].compute for gpu in spec.hardware.gpus), default=0)
    return all(GPUS[gpu].compute >= oldest for gpu in driver.gpus)
