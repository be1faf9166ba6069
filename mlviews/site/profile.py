"""Sites: a profile of a place, and what options and the environment change in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from mlviews.errors import BadInputError, nearest
from mlviews.files.kept import Kept, state_of
from mlviews.files.reading import content, is_folder_at
from mlviews.files.writing import folder
from mlviews.site.file import expand, is_path, site_files, site_path, user_sites
from mlviews.values import from_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlviews.licences import Licences
    from mlviews.site.batch import BatchSystem, System
    from mlviews.site.model import CudaWheels, Images, Promotion, SiteFile


@dataclass(frozen=True, slots=True)
class _Summary:
    """What nearly every command asks of a site's file, by the names of `mlviews.site.model.SiteFile`.

    Attributes:
        given: which keys it has at all.
    """

    given: list[str]
    name: str
    root: str
    prefix: str | None
    packages: Literal["conda", "wheels"]
    channels: list[str]
    mirrors: dict[str, str]
    promote: Literal["on-build", "manual"]
    lockfiles: str | None
    pins: dict[str, str]
    absent: dict[str, str]
    cpu_index: str | None
    beside: dict[str, dict[str, str]]
    repository: str | None
    gpu_coverage: Literal["tell", "refuse"]
    group: str | None


@dataclass(frozen=True)
class _FoundSite:
    """A site's file, read once: its summary is kept, the rest is found out when it is asked for."""

    path: Path
    raw: bytes

    @cached_property
    def file(self) -> SiteFile:
        """What it says.

        Raises:
            BadInputError: it is faulty.
        """
        # Only here: a summary waits neither for YAML nor for pydantic.
        from mlviews.files.yamlfile import parse  # noqa: PLC0415
        from mlviews.recipe.faults import parse_model  # noqa: PLC0415
        from mlviews.site.model import SiteFile  # noqa: PLC0415

        return parse_model(parse(self.path, self.raw), SiteFile, guide="docs/reference/site-keys.md")

    @cached_property
    def summary(self) -> _Summary:
        """What is asked for most; errors are those of `file`."""
        kept = Kept(
            "sites", self.path.stem, state_of([bytes(self.path), self.raw], rooms=["", "files", "recipe", "site"])
        )
        summary = kept.recall(lambda said: _Summary(**said))
        if summary is None:
            summary = from_attributes(_Summary, self.file, given=sorted(self.file.model_fields_set))
            kept.keep(asdict(summary))
        return summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A site with all paths resolved.

    Attributes:
        root: where files are written.
        prefix: the same place as files name it; differs from ``root`` where one builds for ``/cvmfs/...``.
        lockfiles: where locks are written, and read first.
        shipped_lockfiles: where a lock is read when ``lockfiles`` has none: a published root's own, else those that
            travel with mlviews; None where that would be wrong.
        channels: names or URLs; with wheels, the channel that is made of them in the cache.
        mirrors: channel -> folder or URL.
        gpu_coverage: whether a release that leaves out a GPU of its recipe says so, or is refused.
        repository: the one that `publish` may change itself; None where it only plans.
        group: whose members may write below the root too.
        found: its file: what few commands ask for is found out then.
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
    pins: Mapping[str, str]
    absent: Mapping[str, str]
    cpu_index: str | None
    beside: Mapping[str, Mapping[str, str]]
    gpu_coverage: Literal["tell", "refuse"]
    repository: str | None
    group: str | None
    found: _FoundSite

    @property
    def cuda(self) -> tuple[CudaWheels, ...]:
        """With wheels, what views for GPUs are made of, for each CUDA."""
        return tuple(self.found.file.cuda) if self._has("cuda") else ()

    @property
    def promotion(self) -> Promotion | None:
        """What must be proved of a release before it becomes the default; None for nothing."""
        return self.found.file.promotion if self._has("promotion") else None

    @property
    def licences(self) -> Licences | None:
        """Which licences `lock` and `publish` refuse; None for none."""
        return self.found.file.licences if self._has("licences") else None

    @property
    def container(self) -> Images:
        """What images of views are made from."""
        return self.found.file.container

    @property
    def batch(self) -> Mapping[System, BatchSystem]:
        """The batch systems that jobs are submitted to; the first one is the usual one."""
        return self.found.file.batch if self._has("batch") else {}

    def _has(self, key: str) -> bool:
        return key in self.found.summary.given

    @property
    def lock_folders(self) -> tuple[Path, ...]:
        """Where a view's lock may lie: the first one counts that has it."""
        return tuple(filter(None, (self.lockfiles, self.shipped_lockfiles)))

    @property
    def cache(self) -> Path:
        """The folder of everything that may be deleted and comes back."""
        return self.root / "cache"


def site_names() -> tuple[str, ...]:
    """Return the names of all sites, shipped and the user's own."""
    return tuple(sorted({path.stem for path in site_files()}))


def open_site(
    name: str,
    *,
    root: Path | None = None,
    prefix: Path | None = None,
    lockfiles: Path | None = None,
    mirrors: Mapping[str, str] = MappingProxyType({}),
) -> Site:
    """Read a site; a user's own file goes before the shipped one of its name.

    Args:
        name: the site's name, or the path of its file.
        root: stands for the site's own root; its prefix stays, where the file gives one.
        prefix: stands for the site's own prefix.
        lockfiles: stands for the site's own folder of locks.
        mirrors: go before the site's own.

    Raises:
        BadInputError: there is no such site, or its file is faulty.
    """
    found = _find_site(name)
    given = found.summary
    own_root = (root or expand(given.root)).expanduser().absolute()
    own_prefix = prefix or (expand(given.prefix) if given.prefix else own_root)
    # A lock of wheels holds for the channel in the root's cache: it lies there too, wherever one stands who builds.
    wheels = given.packages == "wheels"
    usual = "{root}/lockfiles" if wheels else "lockfiles"
    where = lockfiles or expand((given.lockfiles or usual).replace("{root}", str(own_root)))
    # Locks of one's own folder or of wheels stand alone: another's lock would be a surprise.
    alone = lockfiles is not None or wheels
    return from_attributes(
        Site,
        given,
        root=own_root,
        prefix=own_prefix.absolute(),
        channels=((own_root / "cache" / "channel").as_uri(),) if wheels else tuple(given.channels),
        mirrors={**given.mirrors, **mirrors},
        lockfiles=where.absolute(),
        shipped_lockfiles=None if alone else _others_locks(own_root),
        found=found,
    )


def _find_site(name: str) -> _FoundSite:
    path = site_path(name)
    if path is None:
        raise BadInputError(
            "site-unknown",
            f"there is no site {name!r}{nearest(name, site_names())}",
            f"Known are {', '.join(site_names())}; your own go into {user_sites() or '~/.config/mlviews/sites'}, "
            "or name a file by its path: --site FOLDER/NAME.yaml.",
        )
    found = _FoundSite(path, content(path) or b"")
    if not is_path(name) and found.summary.name != name:
        what = f"{path}: name: is {found.summary.name!r}, but the file is {path.name}"
        raise BadInputError("site-invalid", what, "Give both the same name.")
    return found


def _others_locks(root: Path) -> Path:
    """Return where locks lie that somebody else made: below a root that is published, else in what is installed."""
    published = root / "lockfiles"
    return published if is_folder_at(published) else folder("lockfiles")
