"""Sites: a profile of a place, and what options and the environment change in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlviews.errors import BadInputError
from mlviews.recipe.model import Text, ViewName, nearest, parse_model
from mlviews.resources import folder
from mlviews.site.file import SHIPPED_SITES, expand, site_path, user_sites
from mlviews.site.images import Images
from mlviews.yamlfile import read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Site", "SiteFile", "open_site", "site_names"]


class SiteFile(BaseModel):
    """A site as people write it: ``~/.config/mlviews/sites/NAME.yaml``.

    In ``root``, ``prefix`` and ``lockfiles``, ``~`` is the home folder, ``{user}`` the user's name and ``{initial}``
    its first letter, as AFS and EOS paths have them; in ``lockfiles`` also ``{root}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = Field(alias="schema", description="Version of this format.")
    name: ViewName = Field(description="The site's name, and the file's.")
    summary: Text = Field(description="One sentence for people.")
    root: Text = Field(description="Folder that everything is written to.")
    prefix: Text | None = Field(None, description="Folder baked into files, where it is not the root.")
    packages: Literal["conda", "wheels"] = Field(
        "conda", description="Where packages come from: conda channels, or wheels and the host's CPython."
    )
    channels: list[Text] = Field(["conda-forge"], description="conda channels by name or URL, the first one first.")
    mirrors: dict[Text, Text] = Field({}, description="Channel -> folder or URL to fetch it from.")
    promote: Literal["on-build", "manual"] = Field("on-build", description="When a new release becomes the default.")
    lockfiles: Text | None = Field(None, description="Folder of lock files.")
    pins: dict[Text, Text] = Field({}, description="With wheels: package -> the one version to use.")
    absent: dict[Text, Text] = Field({}, description="With wheels: package -> why this site cannot have it.")
    container: Images = Field(Images(), description="What images of views are made from.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A site with all paths resolved.

    Attributes:
        root: where files are written.
        prefix: the same place as files name it; differs from ``root`` where one builds for ``/cvmfs/...``.
        lockfiles: where locks are written, and read first.
        shipped_lockfiles: where a lock is read when ``lockfiles`` has none; None where that would be wrong.
        channels: names or URLs; with wheels, the channel that is made of them in the cache.
        mirrors: channel -> folder or URL.
        container: what images of views are made from.
    """

    name: str
    root: Path
    prefix: Path
    packages: Literal["conda", "wheels"]
    channels: tuple[str, ...]
    mirrors: Mapping[str, str]
    promote: Literal["on-build", "manual"]
    lockfiles: Path
    shipped_lockfiles: Path | None
    pins: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    container: Images = field(default_factory=Images)

    @property
    def cache(self) -> Path:
        """The folder of everything that may be deleted and comes back."""
        return self.root / "cache"


def site_names() -> tuple[str, ...]:
    """Return the names of all sites, shipped and the user's own."""
    return tuple(sorted({path.stem for base in (SHIPPED_SITES, user_sites()) for path in base.glob("*.yaml")}))


def open_site(
    name: str,
    *,
    root: Path | None = None,
    lockfiles: Path | None = None,
    mirrors: Mapping[str, str] = MappingProxyType({}),
) -> Site:
    """Read a site; a user's own file goes before the shipped one of its name.

    Args:
        name: the site's name.
        root: stands for the site's own root, and for its prefix.
        lockfiles: stands for the site's own folder of locks.
        mirrors: go before the site's own.

    Raises:
        BadInputError: there is no such site, or its file is faulty.
    """
    path = site_path(name)
    if path is None:
        raise BadInputError(
            "site-unknown",
            f"there is no site {name!r}{nearest(name, site_names())}",
            f"Known are {', '.join(site_names())}; your own go into {user_sites()}.",
        )
    document = read(path)
    given = parse_model(document, SiteFile)
    if given.name != name:
        raise BadInputError(
            "site-invalid",
            f"{document.where(('name',))}: is {given.name!r}, but the file is {path.name}",
            "Make them one.",
        )
    own_root = (root or expand(given.root)).expanduser().absolute()
    prefix = own_root if root or given.prefix is None else expand(given.prefix)
    where = lockfiles or expand((given.lockfiles or "lockfiles").replace("{root}", str(own_root)))
    # Locks of one's own folder or of wheels stand alone: another's lock would be a surprise.
    alone = lockfiles is not None or given.packages == "wheels"
    return Site(
        name=name,
        root=own_root,
        prefix=prefix,
        packages=given.packages,
        channels=((own_root / "cache" / "channel").as_uri(),) if given.packages == "wheels" else tuple(given.channels),
        mirrors={**given.mirrors, **mirrors},
        promote=given.promote,
        lockfiles=where.absolute(),
        shipped_lockfiles=None if alone else folder("lockfiles"),
        pins=given.pins,
        absent=given.absent,
        container=given.container,
    )
