"""A view at a site: what the place changes in the recipe before it is solved."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlviews.errors import MlviewsError, RefusedError
from mlviews.gpus.nvidia import version_key
from mlviews.hardware import host_glibc, host_platform
from mlviews.recipe.view import Origin, Reason, Request, ViewHardware, ViewSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.base import Base
    from mlviews.site.model import CudaWheels
    from mlviews.site.profile import Site
    from mlviews.wheels.target import Target

_GLIBC = "2.17"  # of releases that do not say: the oldest that wheels are made for today


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A view as one site solves it.

    Attributes:
        spec: the view, changed where the site demands it.
        absent: packages that the recipe asks for and this site cannot have, with the reason.
        inputs: everything that its lock depends on.
        error: why the site cannot have the view at all; then the rest is the recipe's.
        pins: with wheels, package -> the one version to use.
        differs: what else is not as the recipe has it: a package or ``CUDA``, and what there is instead.
        base: the release that it extends.
    """

    spec: ViewSpec
    absent: Mapping[str, str]
    inputs: Mapping[str, Any]
    error: MlviewsError | None = None
    pins: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)
    base: Base | None = None

    @property
    def requested(self) -> tuple[str, ...]:
        """The packages that are asked for, without those that hold what an extra of a wheel needs."""
        from packaging.requirements import Requirement  # noqa: PLC0415  (a lock alone does not need these)

        from mlviews.wheels.requirements import EXTRA, conda_name  # noqa: PLC0415

        wheels = (conda_name(Requirement(request.text).name) for request in self.spec.pypi)
        names = dict.fromkeys([*(request.name for request in self.spec.dependencies), *wheels])
        return tuple(name for name in names if EXTRA not in name)

    def stated(self) -> dict[str, Any]:
        """Return what a release states of its recipe and its site that its lock does not, by `Release`'s names."""
        from mlviews.release import ReleaseVariant  # noqa: PLC0415  (what only locks needs no release)

        spec = self.spec
        return {
            "summary": spec.summary,
            "module": spec.module,
            "some_gpus_only": {reason.package: reason.why for reason in spec.some_gpus_only},
            "pip_check_waivers": {reason.package: reason.why for reason in spec.pip_check_waivers},
            "gaps": {reason.package: reason.why for reason in spec.gaps},
            "absent": dict(self.absent),
            "differs": dict(self.differs),
            "overrides": tuple(f"{o.of} takes {o.package} {o.spec or '*'}: {o.why}" for o in spec.overrides),
            "sdists": spec.sdists,
            "editable": spec.editable,
            "base": self.base.stated if self.base else None,
            "variant": ReleaseVariant(name=of.name, view=of.view, module=of.module) if (of := spec.variant) else None,
        }


def for_site(spec: ViewSpec, site: Site) -> SiteSpec:
    """Return the view as ``site`` solves it, or why it cannot; one view that a site cannot have stops no other.

    With conda channels that is the recipe itself. With wheels the host's CPython and glibc replace the recipe's, what
    the site declares absent is left out, and in views for GPUs the CUDA of the wheels and the projects that the site
    names stand for what the recipe asks for.
    """
    try:
        if spec.on:
            return _on_base(spec, spec.on, site)
        return _of_wheels(spec, site) if site.packages == "wheels" else SiteSpec(spec, {}, spec.inputs(site.channels))
    except MlviewsError as error:
        return SiteSpec(spec, {}, {}, error)


def _on_base(spec: ViewSpec, on: str, site: Site) -> SiteSpec:
    """Return a view that extends another one: for the base's platform and hardware, whatever the site is made of."""
    from mlviews.base import find_base  # noqa: PLC0415  (few views are on top of another)

    (platform,) = spec.platforms if len(spec.platforms) == 1 else (host_platform(),)
    base = find_base(on, site.root, platform)
    release = base.release
    if site.packages == "wheels" and spec.dependencies:
        raise RefusedError(
            "no-channel",
            f"view {spec.name} asks for conda packages, and site {site.name} has no conda channel",
            "Move them from dependencies to pypi.",
        )
    adapted = replace(
        spec,
        platforms=(platform,),
        hardware=ViewHardware(glibc=release.glibc or _GLIBC, cuda=release.cuda, archspec=None, gpus=release.gpus),
    )
    channels = () if site.packages == "wheels" else site.channels
    return SiteSpec(adapted, {}, adapted.inputs(channels) | {"on": base.inputs}, base=base)


def _of_wheels(spec: ViewSpec, site: Site) -> SiteSpec:
    from mlviews.wheels.target import host_target  # noqa: PLC0415  (only such sites need it)

    target = host_target()
    cuda = _cuda(spec, site)
    out = _absent(spec, site, cuda)
    pins = {**site.pins, **(cuda.pins if cuda else {})}
    projects = cuda.stand_ins if cuda else {}
    asked = [request for request in spec.dependencies if request.name not in {"python", *out}]
    limits = [request for request in spec.constraints if request.name not in {"python", *out}]
    host = Origin(f"site {site.name}", "the host's CPython")
    adapted = replace(
        spec,
        platforms=(target.subdir,),
        hardware=replace(spec.hardware, glibc=host_glibc(), archspec=None, cuda=cuda.version if cuda else None),
        dependencies=(
            Request(f"python =={target.python}", (host,)),
            *(stand_in for request in asked for stand_in in _stand_ins(request, projects)),
            *(match_spec for request in spec.pypi for match_spec in _match_specs(request, target)),
        ),
        constraints=tuple(_stand_ins(request, projects)[0] for request in limits),
        pypi=(),
        link_scripts=(),  # wheels have none
        cpu_only=tuple(_renamed(reason, projects) for reason in spec.cpu_only),
        some_gpus_only=tuple(_renamed(reason, projects) for reason in spec.some_gpus_only),
        gaps=tuple(_gap(reason) for reason in spec.gaps if reason.package not in {request.name for request in asked}),
    )
    absent = {request.name: out[request.name] for request in spec.dependencies if request.name in out}
    inputs = adapted.inputs(site.channels) | {"pins": pins, "absent": sorted(absent)}
    differs = {request.name: projects[request.name] for request in asked if request.name in projects}
    if cuda and cuda.version != spec.hardware.cuda:
        differs["CUDA"] = f"{cuda.version}, which the wheels are for; the recipe has {spec.hardware.cuda}"
    return SiteSpec(adapted, absent, inputs, pins=pins, differs=differs)


def _match_specs(request: Request, target: Target) -> tuple[Request, ...]:
    """Return what asks for the same as a requirement: the project and its extras, where its marker holds."""
    from packaging.requirements import Requirement  # noqa: PLC0415  (only such sites need these)

    from mlviews.wheels.requirements import conda_depends  # noqa: PLC0415

    wanted = Requirement(request.text)
    if wanted.marker and not wanted.marker.evaluate({**target.markers}):
        return ()
    return tuple(Request(text, request.origins) for text in conda_depends(wanted))


def _absent(spec: ViewSpec, site: Site, cuda: CudaWheels | None) -> dict[str, str]:
    """Return what the view cannot have here, and why: at all, with CUDA, or beside something else that it holds."""
    out = {**site.absent, **(cuda.absent if cuda else {})}
    for request in spec.dependencies:
        if request.name not in out:
            out |= site.beside.get(request.name, {})
    return out


def _cuda(spec: ViewSpec, site: Site) -> CudaWheels | None:
    """Return what the view's CUDA wheels are; None for a view without a GPU.

    Raises:
        RefusedError: the site has none, or they need a newer driver than the view is for.
    """
    wanted = spec.hardware.cuda
    if wanted is None:
        return None
    if not site.cuda:
        raise RefusedError(
            "cuda-at-wheels",
            f"view {spec.name} is for CUDA {wanted}; site {site.name} makes views for the CPU",
            "Take a CPU view, such as training-cpu, or say under `cuda:` in the site's file which wheels to take.",
        )
    older = [wheels for wheels in site.cuda if version_key(wheels.version) <= version_key(wanted)]
    # What is for one major version is no variant for another; the view itself takes any that its driver runs.
    same = [wheels for wheels in older if version_key(wheels.version)[0] == version_key(wanted)[0] or not spec.variant]
    if not same:
        known = " and ".join(wheels.version for wheels in site.cuda)
        raise RefusedError(
            "cuda-at-wheels",
            f"view {spec.name} is for drivers of CUDA {wanted}; site {site.name} has wheels for {known}",
            "Take a view for a newer CUDA, or change `cuda:` in the site's file.",
        )
    return max(same, key=lambda wheels: version_key(wheels.version))


def _stand_ins(request: Request, projects: Mapping[str, str]) -> tuple[Request, ...]:
    """Return what is asked for in place of a request: the same, or a project of CUDA wheels and its extras."""
    if request.name not in projects:
        return (request,)
    from mlviews.wheels.requirements import stand_ins  # noqa: PLC0415  (only such sites need it)

    texts = stand_ins(request.text, request.name, projects[request.name])
    return tuple(Request(text, request.origins) for text in texts)


def _renamed(reason: Reason, projects: Mapping[str, str]) -> Reason:
    return replace(reason, package=projects.get(reason.package, reason.package).partition("[")[0])


def _gap(reason: Reason) -> Reason:
    """Return a gap as a site of wheels tells it: the reasons that recipes give are those of conda channels."""
    return replace(reason, why=f"left out, as with conda channels: {reason.why}")
