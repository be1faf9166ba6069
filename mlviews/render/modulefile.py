"""Modulefiles: Lua for Lmod, Tcl for environment-modules, and the file that names a view's default release.

One file serves all platforms of a release: it looks at the machine's architecture when it is loaded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlviews.loading import loading
from mlviews.errors import FailedError
from mlviews.render import escape
from mlviews.smoke.proof import gpus_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.release import Release
    from mlviews.results import GpuLine

__all__ = ["default_file", "render_lua", "render_tcl", "version_file"]

# What `uname -m` says on each conda platform.
_MACHINES = {"linux-64": "x86_64", "linux-aarch64": "aarch64", "linux-ppc64le": "ppc64le"}

# Packages that people look for under another name.
_ALSO_KNOWN_AS = {"pytorch": "torch", "pytorch_geometric": "torch-geometric"}


def render_lua(releases: Sequence[Release], gpus: Sequence[GpuLine] = ()) -> str:
    """Return the modulefile for Lmod.

    Args:
        releases: one release of a view, once for each platform that it has.
        gpus: what is known of its lock on the GPUs that it claims, and others.

    Raises:
        FailedError: ``release-mixed`` or ``platform-unknown``.
    """
    return escape.render("modulefile.lua", "lua", {**_values(releases, gpus), "extensions": _extensions(releases)})


def render_tcl(releases: Sequence[Release], gpus: Sequence[GpuLine] = ()) -> str:
    """Return the modulefile for environment-modules 4 and later; arguments and errors are `render_lua`'s."""
    return escape.render("modulefile.tcl", "tcl", _values(releases, gpus))


def version_file(release: str) -> str:
    """Return the content of the ``.version`` file that makes ``release`` the default in both module systems."""
    return escape.render("version.tcl", "tcl", {"release": release})


def default_file(tree: str, release: str) -> tuple[str, str]:
    """Return the name and the content of the file beside the modulefiles that makes ``release`` their default.

    This is ``.version``, unless the path of the ``tree`` of modulefiles holds a space, a letter beyond ASCII or another
    character that Lmod 8.6 trips over: with a ``.version`` there it loads no module at all. Lmod then gets
    ``.modulerc.lua``, which environment-modules does not know: it takes the newest release.
    """
    if re.fullmatch(r"[A-Za-z0-9/._+@%=~-]+", tree):
        return ".version", version_file(release)
    return ".modulerc.lua", escape.render("version.lua", "lua", {"version": f"/{release}"})


def _values(releases: Sequence[Release], gpus: Sequence[GpuLine]) -> dict[str, Any]:
    first = releases[0]
    if len({(item.view, item.release, item.module, item.lock_digest) for item in releases}) > 1:
        raise FailedError(
            "release-mixed",
            f"The platforms of release {first.release} of {first.view} do not come from one lock.",
            "Build the release again from one lock.",
        )
    machines = {_machine(item.platform): item for item in releases}
    return {
        "module": first.module,
        "help": _help(first, sorted(item.platform for item in releases)),
        "whatis": [
            f"Name: {first.module}",
            f"Version: {first.release}",
            f"Description: {first.summary}",
            f"Lock: {first.lock_digest}",
            *([f"GPUs: {gpus_in_words(gpus)}"] if gpus else []),
        ],
        "machines": sorted(machines),
        "elsewhere": f"mlviews: {first.view} {first.release} is for {' and '.join(sorted(machines))} machines.",
        "platforms": [_platform(machine, machines[machine]) for machine in sorted(machines)],
    }


def _machine(platform: str) -> str:
    if platform not in _MACHINES:
        known = ", ".join(_MACHINES)
        raise FailedError("platform-unknown", f"No module can be written for {platform}.", f"Platforms: {known}.")
    return _MACHINES[platform]


def _platform(machine: str, release: Release) -> dict[str, Any]:
    change = loading(release)
    return {
        "machine": machine,
        "prefix": release.prefix,
        "missing": f"mlviews: this host has no folder {release.prefix}",
        "prepend": change.prepend,
        "set": change.set,
        "unset": change.unset,
    }


def _help(release: Release, platforms: Sequence[str]) -> str:
    versions = {package.name: package.version for package in release.packages}
    holds = ", ".join(f"{name} {versions[name]}" for name in release.requested if name in versions)
    lines = [
        release.summary,
        "",
        f"View {release.view}, release {release.release}, for {', '.join(platforms)}; lock {release.lock_digest}",
        *([f"Holds {holds}"] if holds else []),
        *(f"Lacks {name}: {why}" for name, why in {**release.gaps, **release.absent}.items()),
        f"To leave another view for this one: module switch OTHER {release.module}",
    ]
    return "\n".join(lines)


def _extensions(releases: Sequence[Release]) -> str:
    """Return what ``module spider`` finds besides the module's name: the packages that the recipe asks for.

    Without python, which many sites have as a module.
    """
    found: dict[str, str] = {}
    for release in releases:
        versions = {package.name: package.version for package in release.packages}
        for requested in release.requested:
            name = requested.removesuffix("-gpu").removesuffix("-cpu").removesuffix("-base")
            if version := versions.get(name) or versions.get(requested):
                found[_ALSO_KNOWN_AS.get(name, name)] = version
    return ", ".join(f"{name}/{version}" for name, version in sorted(found.items()) if name != "python")
