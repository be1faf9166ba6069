"""What mlviews itself writes into an image, and the folder of a Dockerfile or an Apptainer definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mlviews.errors import RefusedError
from mlviews.locksource import RELEASE_LOCK
from mlviews.render import explicit
from mlviews.render.container import render_apptainer, render_dockerfile, render_scripts
from mlviews.render.prefix import PrefixFile, prefix_files
from mlviews.render.sbom import SBOM, render_sbom
from mlviews.sources import channel_folder, channel_url
from mlviews.store import RECORD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.container.describe import Container
    from mlviews.lock import Lock

__all__ = ["Kind", "definition", "definition_files", "image_files"]

Kind = Literal["dockerfile", "apptainer"]

_MAIN = {"dockerfile": ("Dockerfile", render_dockerfile), "apptainer": ("view.def", render_apptainer)}


def definition(kind: Kind, container: Container) -> str:
    """Return the definition alone."""
    return _MAIN[kind][1](container)


def image_files(
    container: Container, lock: Lock, lock_text: str, *, licenses: Mapping[str, str] | None = None
) -> dict[str, PrefixFile]:
    """Return the files that the view gets in an image besides its packages, by their path below the prefix.

    Args:
        container: the image.
        lock: what it holds.
        lock_text: the lock's file.
        licenses: archive -> licence, where known.
    """
    release = container.release
    scripts = {"with-scripts": PrefixFile(render_scripts(container), executable=True)} if container.scripts else {}
    return {
        **prefix_files(release),
        **scripts,
        RELEASE_LOCK: PrefixFile(lock_text),
        RECORD: PrefixFile(release.model_dump_json(indent=2) + "\n"),
        SBOM: PrefixFile(render_sbom(lock, [release.platform], licenses=licenses)),
    }


def definition_files(
    kind: Kind,
    container: Container,
    lock: Lock,
    lock_text: str,
    *,
    mirrors: Mapping[str, str],
    licenses: Mapping[str, str] | None = None,
) -> dict[str, PrefixFile]:
    """Return the files of a definition's folder by their path.

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
    inside = image_files(container, lock, lock_text, licenses=licenses)
    return {
        _MAIN[kind][0]: PrefixFile(definition(kind, container)),
        "explicit.txt": PrefixFile(explicit.render(lock, platform, strong=True, mirrors=_servers(mirrors))),
        **{f"view/{path}": file for path, file in inside.items()},
    }


def _servers(mirrors: Mapping[str, str]) -> dict[str, str]:
    """Return those of a site's mirrors that are servers, by the channel's URL."""
    return {channel_url(name): place for name, place in mirrors.items() if channel_folder(place) is None}
