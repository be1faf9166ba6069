"""What mlviews itself writes into an image, and the folder of a Dockerfile or an Apptainer definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mlviews.container.definitions import render_apptainer, render_dockerfile, render_scripts
from mlviews.errors import RefusedError
from mlviews.release import RECORD, RELEASE_LOCK, sealed
from mlviews.render import explicit
from mlviews.render.prefix import PrefixFile, prefix_files
from mlviews.render.sbom import SBOM, render_sbom
from mlviews.solve.sources import channel_folder, channel_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.container.describe import Container
    from mlviews.lock.lockfile import Lock

__all__ = ["Contents", "Kind", "definition_files", "image_files"]

Kind = Literal["dockerfile", "apptainer"]

_MAIN = {"dockerfile": ("Dockerfile", render_dockerfile), "apptainer": ("view.def", render_apptainer)}


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into an image.

    Attributes:
        container: the image.
        lock: what it holds.
        lock_text: the lock's file.
        licenses: archive -> licence, where known.
    """

    container: Container
    lock: Lock
    lock_text: str
    licenses: Mapping[str, str] = field(default_factory=dict)


def image_files(contents: Contents) -> dict[str, PrefixFile]:
    """Return the files that the view gets in an image besides its packages, by their path below the prefix."""
    container, lock = contents.container, contents.lock
    release = container.release
    scripts = {"with-scripts": PrefixFile(render_scripts(container), executable=True)} if container.scripts else {}
    return {
        **prefix_files(release),
        **scripts,
        RELEASE_LOCK: PrefixFile(contents.lock_text),
        RECORD: PrefixFile(sealed(release)),
        SBOM: PrefixFile(render_sbom(lock, [release.platform], licenses=contents.licenses)),
    }


def definition_files(kind: Kind, contents: Contents, *, mirrors: Mapping[str, str]) -> dict[str, PrefixFile]:
    """Return the files of a definition's folder by their path, the definition first.

    Args:
        kind: of definition.
        contents: what it says.
        mirrors: the site's; those that are servers stand in the list of packages.

    Raises:
        RefusedError: the packages lie in folders of this host, where no image builder sees them.
    """
    container, lock = contents.container, contents.lock
    platform = container.release.platform
    if here := next((package for package in lock.on(platform) if package.url.startswith("file:")), None):
        raise RefusedError(
            "container-local",
            f"{here.url} is a file of this host, which no image builder sees",
            f"`mlviews container build {lock.view}` makes the image from the packages here.",
        )
    name, render = _MAIN[kind]
    inside = image_files(contents)
    return {
        name: PrefixFile(render(container)),
        "explicit.txt": PrefixFile(explicit.render(lock, platform, strong=True, mirrors=_servers(mirrors))),
        **{f"view/{path}": file for path, file in inside.items()},
    }


def _servers(mirrors: Mapping[str, str]) -> dict[str, str]:
    """Return those of a site's mirrors that are servers, by the channel's URL."""
    return {channel_url(name): place for name, place in mirrors.items() if channel_folder(place) is None}
