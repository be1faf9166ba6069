"""A view at a site: what the place changes in the recipe before it is solved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlviews.errors import MlviewsError, RefusedError
from mlviews.hardware import host_glibc
from mlviews.recipe.compose import Origin, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.recipe.compose import ViewSpec
    from mlviews.site.profile import Site

__all__ = ["SiteSpec", "for_site"]


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A view as one site solves it.

    Attributes:
        spec: the view, changed where the site demands it.
        absent: packages that the recipe asks for and this site cannot have, with the reason.
        inputs: everything that its lock depends on.
        error: why the site cannot have the view at all; then the rest is the recipe's.
    """

    spec: ViewSpec
    absent: Mapping[str, str]
    inputs: Mapping[str, Any]
    error: MlviewsError | None = None


def for_site(spec: ViewSpec, site: Site) -> SiteSpec:
    """Return the view as ``site`` solves it, or why it cannot; one view that a site cannot have stops no other.

    With conda channels that is the recipe itself. With wheels the host's CPython and glibc replace the recipe's, and
    what the site declares absent is left out.
    """
    try:
        return _of_wheels(spec, site) if site.packages == "wheels" else _of_channels(spec, site)
    except MlviewsError as error:
        return SiteSpec(spec, {}, {}, error)


def _of_channels(spec: ViewSpec, site: Site) -> SiteSpec:
    if spec.pypi:
        raise RefusedError(
            "pypi-unsupported",
            f"view {spec.name} asks for wheels under `pypi:` ({', '.join(r.text for r in spec.pypi)}); "
            "mlviews cannot put wheels beside conda packages yet",
            "Take them out, or build the view with --site pypi.",
        )
    return SiteSpec(spec, {}, spec.inputs(site.channels))


def _of_wheels(spec: ViewSpec, site: Site) -> SiteSpec:
    if spec.hardware.cuda is not None:
        raise RefusedError(
            "cuda-at-wheels",
            f"view {spec.name} is for CUDA {spec.hardware.cuda}; site {site.name} makes views for the CPU",
            "Take a CPU view, such as training-cpu, or a site with a conda channel.",
        )
    from mlviews.wheels.target import host_target  # noqa: PLC0415  (only such sites need it)

    target = host_target()
    here = Origin(f"site {site.name}", "the host's CPython")
    asked = [request for request in spec.dependencies if request.name not in {"python", *site.absent}]
    wheels = [Request(f"{request.text}", request.origins) for request in spec.pypi]
    adapted = replace(
        spec,
        platforms=(target.subdir,),
        hardware=replace(spec.hardware, glibc=host_glibc(), archspec=None),
        dependencies=(Request(f"python =={target.python}", (here,)), *asked, *wheels),
        constraints=tuple(request for request in spec.constraints if request.name not in {"python", *site.absent}),
        pypi=(),
    )
    absent = {request.name: site.absent[request.name] for request in spec.dependencies if request.name in site.absent}
    inputs = adapted.inputs(site.channels) | {"pins": dict(site.pins), "absent": sorted(absent)}
    return SiteSpec(adapted, absent, inputs)
