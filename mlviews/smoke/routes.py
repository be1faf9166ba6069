"""The routes of a view: its prefix, its module, its kernel and its image. Each must lead to the same Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mlviews import jupyter
from mlviews.errors import FailedError, RefusedError, last_line
from mlviews.smoke.process import MARK
from mlviews.smoke.release import release_target
from mlviews.smoke.runner import OWN_FOLDERS, Enter, Interpreter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from mlviews.progress import Progress
    from mlviews.release import Release
    from mlviews.site.profile import Site
    from mlviews.smoke.report import CheckLine, RouteLine

Route = Literal["prefix", "module", "kernel", "container"]
ROUTES: tuple[Route, ...] = get_args(Route)

_ISOLATED = ("--isolation=chroot", "--user=0:0")
_THROUGH_KERNEL = OWN_FOLDERS[0] / "_through_kernel.py"
_INIT_SCRIPTS = ("/usr/share/lmod/lmod/init/bash", "/usr/share/modules/init/bash", "/usr/share/Modules/init/bash")
_LOAD = 'eval "$1"; module use "$2" && module load "$3" || exit 97; shift 3; exec python "$@"'


def chosen_routes(names: Collection[str], release: Release) -> tuple[Route, ...]:
    """Return the routes that are named, in their own order; ``all`` leaves out the kernel where there can be none."""
    every = [route for route in ROUTES if route != "kernel" or release.has_python] if "all" in names else []
    return tuple(route for route in ROUTES if route in {*names, *every})


@contextmanager
def open_route(
    route: Route, prefix: Path, release: Release, site: Site, *, base: str | None, progress: Progress
) -> Iterator[Interpreter]:
    """Give a release's Python as one route leads to it, for as long as the context lasts.

    Args:
        route: which one. For ``container`` the release's image is made.
        base: of the image; the site's where None.

    Raises:
        FailedError: what the route needs is not on this host.
        RefusedError: the release has no such route.
    """
    if route == "module":
        yield _module_route(prefix, release, site.root)
    elif route == "kernel":
        yield _kernel_route(prefix, release, site.root)
    elif route == "prefix":
        yield release_target(prefix, release)
    else:
        _need_buildah()
        from mlviews.container.build import build_image  # noqa: PLC0415  (no other route needs it)

        with tempfile.TemporaryDirectory(prefix=".route-", dir=site.cache) as scratch:
            archive = Path(scratch) / "image.oci.tar"
            build_image(prefix, release, site, archive, base=base, progress=progress)
            with _image_route(prefix, release, archive, progress=progress) as target:
                yield target


def _module_route(prefix: Path, release: Release, root: Path) -> Interpreter:
    """Start a release's Python in a shell that has loaded its module.

    Raises:
        FailedError: this host has no module system.
    """
    target = release_target(prefix, release)
    module = f"{release.module}/{release.release}"
    command = ("bash", "--noprofile", "--norc", "-c", _LOAD, "bash", _module_system(), f"{root}/modulefiles", module)
    return replace(target, command=command)


def _module_system() -> str:
    """Return the line that makes ``module`` known to bash: of this shell's own system, else of one that is here."""
    homes = [f"{os.environ[name]}/init/bash" for name in ("LMOD_PKG", "MODULESHOME") if os.environ.get(name)]
    for script in (*homes, *_INIT_SCRIPTS):
        if Path(script).is_file():
            return f". '{script}'" if "'" not in script else f'. "{script}"'
    raise FailedError(
        "tool-missing",
        "there is no module system on this host: neither Lmod nor environment-modules was found",
        "Leave the route out, or run it in a shell that knows `module`.",
    )


def _kernel_route(prefix: Path, release: Release, root: Path) -> Interpreter:
    """Start a release's Python from its Jupyter kernel, in a session as SWAN makes them.

    Raises:
        RefusedError: the release has no kernelspec.
    """
    target = release_target(prefix, release)
    specification = root / "kernels" / jupyter.kernel_name(release) / jupyter.SPECIFICATION
    if not release.has_python:
        raise RefusedError(
            "kernel-missing",
            f"release {release.release} of {release.view} holds no Python, so it has no kernel",
            "Leave out --via kernel.",
        )
    if not specification.is_file():
        raise RefusedError(
            "kernel-missing", f"there is no {specification}", f"`mlviews build {release.view}` writes it again."
        )
    return replace(target, command=(*target.command, str(_THROUGH_KERNEL), str(specification)))


@contextmanager
def _image_route(prefix: Path, release: Release, archive: Path, *, progress: Progress) -> Iterator[Interpreter]:
    """Start a release's Python in a container of its image, for as long as the context lasts.

    Args:
        archive: its image, as an OCI archive.
    """
    before = _buildah("images", "--all", "--quiet", "--no-trunc")
    with progress("Unpacking the image"):
        image = _buildah("pull", "--quiet", f"oci-archive:{archive}").splitlines()[-1]
    containers: list[str] = []
    try:
        containers.append(_buildah("from", "--pull-never", image))
        # The first run makes what the image lacks (/dev); two of them at once would trip over each other.
        _buildah("run", *_ISOLATED, containers[0], "--", "sh", "-c", ":")
        python = (f"/opt/mlviews/{release.view}/launch", "python")
        target = release_target(prefix, release)
        # What an image says itself is left to it.
        told = {name: value for name, value in target.environment.items() if name not in {"PATH", "LD_LIBRARY_PATH"}}
        yield replace(target, command=python, environment=told, enter=_inside(containers[0]))
    finally:
        with suppress(FailedError):
            for container in containers:
                _buildah("rm", container)
            if image not in before:  # the same image may be somebody's already
                _buildah("rmi", image)


def _need_buildah() -> None:
    if shutil.which("buildah") is None:
        raise FailedError(
            "tool-missing",
            "an image cannot be entered: there is no buildah on this host",
            "Install buildah, or leave out --via container.",
        )


def _inside(container: str) -> Enter:
    """Return what runs a command in a container, as the user who may write: root there, the caller outside."""

    def enter(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[list[str], dict[str, str]]:
        mounts = [f"--volume={folder}:{folder}", *(f"--volume={own}:{own}:ro" for own in OWN_FOLDERS)]
        told = [f"--env={name}={value}" for name, value in environment.items()]
        options = [*_ISOLATED, f"--workingdir={folder}", f"--env={MARK}"]
        return ["buildah", "run", *options, *mounts, *told, container, "--", *command], dict(os.environ)

    return enter


def _buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        said = last_line(done.stderr)
        raise FailedError("buildah-failed", f"buildah {arguments[0]}: {said}", detail=done.stderr)
    return done.stdout.strip()


def differences(routes: Sequence[RouteLine]) -> tuple[str, ...]:
    """Say what is not the same through every route, each route held against the first.

    Times and other figures may differ; what was found, by which versions and on which device, may not.
    """
    first, *others = routes
    found = []
    for route in others:
        for here, there in zip(first.checks, route.checks, strict=True):
            found += [f"{route.route}: {here.name} {what}" for what in _differs(here, there, first.route)]
    return tuple(found)


def _differs(first: CheckLine, other: CheckLine, route: str) -> Iterator[str]:
    if first.status != other.status:
        why = f" ({other.reason or first.reason})"
        yield f"is {other.status}, not {first.status} as through the {route}{why}"
        return
    if first.device != other.device:
        yield f"ran on {other.device or 'nothing'}, not on {first.device or 'nothing'} as through the {route}"
    for name in sorted({*first.versions, *other.versions}):
        versions = [line.versions.get(name, "absent") for line in (other, first)]
        if versions[0] != versions[1]:
            yield f"has {name} {versions[0]}, not {versions[1]} as through the {route}"
