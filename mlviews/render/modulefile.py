"""Modulefiles: Lua for Lmod, Tcl for environment-modules; of a view, and of the ``mlviews`` command itself.

One file serves all platforms of a release: it looks at the machine's architecture when it is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlviews.errors import FailedError
from mlviews.gpus.nvidia import minimum_driver, toolkit_driver
from mlviews.release import GpuLine, Release, gpus_in_words, loading, served_in_words
from mlviews.render import escape

# What `uname -m` says on each conda platform.
_MACHINES = {"linux-64": "x86_64", "linux-aarch64": "aarch64", "linux-ppc64le": "ppc64le"}

# Packages that people look for under another name.
_ALSO_KNOWN_AS = {"pytorch": "torch", "pytorch_geometric": "torch-geometric"}

# Said at load, through `format`: %s is what the shell says of itself, the driver, or modules.
_SESSION = (
    "mlviews: this shell was set up by %s. This module hides its Python and libraries until you unload the module. "
    "If something fails, load the module in a new shell."
)
_OLD = "mlviews: this host's NVIDIA driver, %s, is too old for {}: CUDA {} comes with driver {}. {}"
_NOT_AT_ALL = "Its GPU code does not run here."
_PARTLY = "GPU code that is compiled as it runs (Triton, torch.compile) may fail here."
_FITTING = "mlviews: these work with this driver: %s"


@dataclass(frozen=True, slots=True)
class ModuleNotes:
    """What a modulefile tells of its release that the release itself does not hold.

    Attributes:
        gpus: what is known of its lock on the GPUs that it claims, and others.
        others: modules that may stand in for it on an older driver, the nearest first, with the CUDA that each needs.
        gone: of a release that was removed, what whoever loads it is told; unloading it still works.
    """

    gpus: tuple[GpuLine, ...] = ()
    others: tuple[tuple[str, str | None], ...] = ()
    gone: str = ""


_NOTHING = ModuleNotes()


def render_lua(releases: Sequence[Release], known: ModuleNotes = _NOTHING) -> str:
    """Return the modulefile for Lmod.

    Args:
        releases: one release of a view, once for each platform that it has.
        known: what else is known of it.

    Raises:
        FailedError: ``release-mixed`` or ``platform-unknown``.
    """
    values = {**_values(releases, known), "extensions": _extensions(releases)}
    return escape.render("modulefile.lua", "lua", values)


def render_tcl(releases: Sequence[Release], known: ModuleNotes = _NOTHING) -> str:
    """Return the modulefile for environment-modules 4 and later; arguments and errors are `render_lua`'s."""
    return escape.render("modulefile.tcl", "tcl", _values(releases, known))


def _values(releases: Sequence[Release], known: ModuleNotes) -> dict[str, Any]:
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
        "help": _help(first, sorted(item.platform for item in releases), known),
        "whatis": [
            f"Name: {first.module}",
            f"Version: {first.release}",
            f"Description: {first.summary}",
            f"Lock: {first.lock_digest}",
            *([f"GPUs: {gpus_in_words(known.gpus)}"] if known.gpus else []),
        ],
        "machines": sorted(machines),
        "elsewhere": f"mlviews: {first.view} {first.release} is for {' and '.join(sorted(machines))} machines.",
        "platforms": [_platform(machine, machines[machine]) for machine in sorted(machines)],
        "session": _SESSION,
        "driver": _driver(first, known) if first.cuda else None,
        "left_out": [gpu for gpu, way in first.served.items() if way == "none"],
        "unserved": f"mlviews: {first.view} holds no code for this host's %s: its first work on the GPU will fail.",
        "gone": known.gone,
    }


def _driver(release: Release, known: ModuleNotes) -> dict[str, Any] | None:
    """Return what the driver must be and what is said where it is older; None where no table knows."""
    cuda = release.cuda or ""
    driver, minimum = toolkit_driver(cuda), minimum_driver(cuda)
    if not driver or not minimum:
        return None
    # A branch is the first figure of a driver's version: 575.
    old = _OLD.format(release.view, cuda, driver, "{}")
    others = [(module, toolkit_driver(needed) if needed else "0") for module, needed in known.others]
    return {
        "branch": _branch(driver),
        "minimum": _branch(minimum),
        "old": old.format(_NOT_AT_ALL),
        "partly": old.format(_PARTLY),
        "fitting": _FITTING,
        "others": [{"module": module, "branch": _branch(oldest)} for module, oldest in others if oldest],
    }


def _branch(driver: str) -> str:
    return driver.partition(".")[0]


def _machine(platform: str) -> str:
    if platform not in _MACHINES:
        known = ", ".join(_MACHINES)
        raise FailedError("platform-unknown", f"No module can be written for {platform}.", f"Platforms: {known}.")
    return _MACHINES[platform]


def _platform(machine: str, release: Release) -> dict[str, Any]:
    change = loading(release)
    own = change.activation
    return {
        "machine": machine,
        "needed": release.needed,
        "missing": release.missing,
        "prepend": own.prepend,
        "append": own.append,
        "set": {**own.set, **change.trace},
        "default": own.default,
        "around": own.around,
        "unset": own.unset,
        "conda": change.conda,
        "remembered": [
            name for name in (*own.set, *own.around, *own.unset, *change.conda) if not name.startswith("MLVIEWS_")
        ],
        "caches": change.caches,
        "foreign": {name: [f"{folder}/" for folder in folders] for name, folders in change.foreign.items()},
        "aliases": _aliases(release.prefix),
    }


# What brings back the aliases and functions that stepped aside; a child shell of the one that loaded has none.
_ALIASES_BACK = {
    "sh": "if command -v _mlviews_aliases_back >/dev/null 2>&1; then _mlviews_aliases_back; fi",
    "csh": 'eval "`alias _mlviews_aliases_back`"',
    "fish": "if functions -q _mlviews_aliases_back; _mlviews_aliases_back; end",
}


def _aliases(prefix: str) -> list[dict[str, str]]:
    """Return, for each kind of shell, what it is told at load and at unload: the file is a release's own."""
    files = {shell: f"{prefix}/aliases.{shell}" for shell in _ALIASES_BACK}
    return [
        {
            "shell": shell,
            "file": file,
            "aside": f"{'.' if shell == 'sh' else 'source'} {escape.quote(shell, file)}",
            "back": _ALIASES_BACK[shell],
        }
        for shell, file in files.items()
    ]


def _help(release: Release, platforms: Sequence[str], known: ModuleNotes) -> str:
    versions = {package.name: package.version for package in release.packages}
    holds = ", ".join(f"{name} {versions[name]}" for name in release.requested if name in versions)
    lines = [
        release.summary,
        "",
        f"View {release.view}, release {release.release}, for {', '.join(platforms)}; lock {release.lock_digest}",
        *([f"GPUs: {gpus_in_words(known.gpus)}"] if known.gpus else []),
        *([f"Holds code for {served_in_words(release.served)}"] if release.served else []),
        *([f"Needs an NVIDIA driver for CUDA {release.cuda}"] if release.cuda else []),
        *([f"Holds {holds}"] if holds else []),
        *(f"Differs from the recipe in {name}: here {instead}" for name, instead in release.differs.items()),
        *(f"Lacks {name}: {why}" for name, why in {**release.gaps, **release.absent}.items()),
        f"To change from another view to this one: module switch OTHER {release.module}",
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


MODULE = "atlasml/mlviews"
"""What ``module load`` calls it."""


def render_command_lua(version: str, *, root: Path, folder: Path) -> str:
    """Return the modulefile for Lmod.

    Args:
        version: mlviews' own.
        root: the site's root as files name it; the command finds its views there.
        folder: what goes to the front of PATH; all that it holds is `render_command_program`'s text, as ``mlviews``.
    """
    return escape.render("command.lua", "lua", _command_values(version, root, folder))


def render_command_tcl(version: str, *, root: Path, folder: Path) -> str:
    """Return the modulefile for environment-modules 4 and later; arguments are `render_command_lua`'s."""
    return escape.render("command.tcl", "tcl", _command_values(version, root, folder))


def render_command_program(python: str) -> str:
    """Return ``mlviews``, an executable ``/bin/sh`` script.

    A virtual environment's whole ``bin`` on PATH would bring its Python along.

    Args:
        python: the interpreter that mlviews is installed for.
    """
    return escape.render("command", "sh", {"python": python})


def _command_values(version: str, root: Path, folder: Path) -> dict[str, Any]:
    summary = "The command for views: list, run, smoke, kernel add, build"
    lines = [
        summary,
        "",
        "mlviews list                what there is",
        "mlviews doctor              what this host can run",
        "mlviews run VIEW -- CMD     a program in a view",
        "mlviews kernel add VIEW     a Jupyter kernel",
        f"It works on the views in {root}; --root DIR takes your own.",
    ]
    return {
        "module": MODULE,
        "help": "\n".join(lines),
        "whatis": [f"Name: {MODULE}", f"Version: {version}", f"Description: {summary}"],
        "folder": str(folder),
        "program": str(folder / "mlviews"),
        "missing": f"mlviews: this host has no {folder / 'mlviews'}",
        "root": str(root),
    }
