"""The folder of a definition: a Dockerfile or an Apptainer definition, and all that it copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mlviews.errors import RefusedError
from mlviews.render.container import render_apptainer, render_dockerfile, starters
from mlviews.render.explicit import render_explicit
from mlviews.render.sbom import SBOM, render_sbom
from mlviews.sources import channel_folder, channel_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.container.describe import Container
    from mlviews.lock import Lock

__all__ = ["Kind", "definition", "definition_files", "server_mirrors"]

Kind = Literal["dockerfile", "apptainer"]

_MAIN = {"dockerfile": ("Dockerfile", render_dockerfile), "apptainer": ("view.def", render_apptainer)}


def definition(kind: Kind, container: Container) -> str:
    """Return the definition alone."""
    return _MAIN[kind][1](container)


def definition_files(
    kind: Kind,
    container: Container,
    lock: Lock,
    lock_text: str,
    *,
    mirrors: Mapping[str, str],
    licenses: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the files of a definition's folder by name; `starters` are programs.

    Args:
        kind: of definition.
        container: what it says.
        lock: what it installs.
        lock_text: the lock's file.
        mirrors: the site's; those that are servers stand in the list of packages.
        licenses: archive -> licence, where known.

    Raises:
        RefusedError: the packages lie in folders of this host, where no image builder sees them.
    """
    platform = container.release.platform
    if here := next((package for package in lock.on(platform) if package.url.startswith("file:")), None):
        raise RefusedError(
            "container-local",
            f"{here.url} is a file of this host, which no image builder sees",
            f"`mlviews container build {lock.view}` makes the image from the packages here.",
        )
    return {
        _MAIN[kind][0]: definition(kind, container),
        "explicit.txt": render_explicit(lock, platform, mirrors=server_mirrors(mirrors)),
        "conda-lock.yml": lock_text,
        SBOM: render_sbom(lock, [platform], licenses=licenses),
        **starters(container),
    }


def server_mirrors(mirrors: Mapping[str, str]) -> dict[str, str]:
    """Return those of a site's mirrors that are servers, by the channel's URL."""
    return {channel_url(name): place for name, place in mirrors.items() if channel_folder(place) is None}
