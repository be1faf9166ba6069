"""Lock files: ``<view>.conda-lock.yml`` (CEP 37) read, checked and compared with what the recipe asks for now."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping  # noqa: TC003  (pydantic reads it)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from rattler import BuildString, PackageRecord, RepoDataRecord

from mlviews.conda.channels import record_fault
from mlviews.credentials import refuse
from mlviews.errors import BadInputError, FailedError, MlviewsError, RefusedError
from mlviews.reading import is_file
from mlviews.recipe.compose import inputs_digest
from mlviews.yamlfile import texts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec
    from mlviews.solve import Solution

__all__ = [
    "LOCK_SUFFIX",
    "Lock",
    "LockState",
    "LockStatus",
    "LockedPackage",
    "changes",
    "find_lock",
    "lock_of",
    "lock_path",
    "lock_status",
    "locked_package",
    "parse_lock",
    "read_lock",
    "repodata_record",
]


LockState = Literal["current", "stale", "none", "invalid", "unavailable"]
LOCK_SUFFIX = ".conda-lock.yml"

# CEP 26
_VERSION = r"[A-Za-z0-9_.!+~]+"
_ARCHIVE = re.compile(rf"(?P<name>[^/\s]+)-(?P<version>{_VERSION})-(?P<build>[A-Za-z0-9_.+]+?)(\.conda|\.tar\.bz2)")
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package archive.

    Attributes:
        platform: the platform that it is locked for; a noarch package stands once for each.
        url: where the channel has the archive.
        md5: of the archive, in hexadecimal.
        sha256: of the archive, in hexadecimal.
        size: of the archive in bytes; 0 where the channel does not say.
        dependencies: package -> version range.
    """

    name: str
    version: str
    build: str
    platform: str
    url: str
    md5: str
    sha256: str
    size: int
    dependencies: Mapping[str, str]

    @property
    def subdir(self) -> str:
        """The folder of the channel that holds the archive: the platform, or ``noarch``."""
        return self.url.rsplit("/", 2)[-2]

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """Name, version and build: what its folder in the cache and its conda record are called."""
        return self.archive.removesuffix(".conda").removesuffix(".tar.bz2")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock in memory.

    Attributes:
        inputs: what it was solved from; see `mlviews.recipe.compose.ViewSpec.inputs`.
        solver: name and version of the solver.
        packages: sorted by platform, then name.
    """

    view: str
    inputs: Mapping[str, Any]
    solver: str
    packages: tuple[LockedPackage, ...]

    @property
    def platforms(self) -> tuple[str, ...]:
        """The conda subdirs that it holds packages for."""
        return tuple(self.inputs["platforms"])

    @property
    def recipe_digest(self) -> str:
        """Sha256 of the inputs; a recipe with another one makes the lock stale."""
        return inputs_digest(self.inputs)

    @property
    def digest(self) -> str:
        """Sha256 of inputs and packages: the lock's identity, whatever the file's layout."""
        packages = [[p.platform, p.url, p.md5, p.sha256, sorted(p.dependencies.items())] for p in self.packages]
        text = json.dumps([self.view, self.inputs, packages], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def on(self, platform: str) -> tuple[LockedPackage, ...]:
        """Return the packages for one platform, sorted by name."""
        return tuple(package for package in self.packages if package.platform == platform)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class _Hash(_Strict):
    md5: str = Field(pattern=r"^[0-9a-f]{32}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Package(_Strict):
    name: str = Field(pattern=r"^[a-z0-9_][a-z0-9_.-]*$")
    version: str = Field(pattern=f"^{_VERSION}$")
    manager: Literal["conda"]
    platform: str
    dependencies: dict[str, str]
    url: Annotated[str, Field(pattern=r"^(https?|file)://\S+$"), AfterValidator(refuse)]
    hash: _Hash
    category: Literal["main"]
    optional: Literal["false"]


class _Custom(_Strict):
    view: str = Field(alias="mlviews-view")
    inputs: str = Field(alias="mlviews-inputs")
    recipe_digest: str = Field(alias="mlviews-recipe-digest")
    digest: str = Field(alias="mlviews-lock-digest")
    solver: str = Field(alias="mlviews-solver")
    sizes: str = Field(alias="mlviews-sizes", pattern=r"^[0-9 ]*$")


class _Metadata(_Strict):
    content_hash: dict[str, str]
    channels: list[Any]
    platforms: list[str]
    sources: list[str]
    custom_metadata: _Custom


class _File(_Strict):
    version: Literal["1"]
    metadata: _Metadata
    package: list[_Package]


def lock_of(site_spec: SiteSpec, solutions: Iterable[Solution]) -> Lock:
    """Gather the solutions of a view, one for each platform, into a lock.

    Raises:
        FailedError: a package lacks a hash that the lock format asks for, or is not what its archive's name says.
    """
    packages = (locked_package(package, found.platform) for found in solutions for package in found.packages)
    ordered = tuple(sorted(packages, key=lambda package: (package.name, package.platform)))
    solver = f"py-rattler {importlib.metadata.version('py-rattler')}"
    return Lock(site_spec.spec.name, site_spec.inputs, solver, ordered)


def locked_package(record: RepoDataRecord, platform: str) -> LockedPackage:
    """Return a package of a channel as a lock holds it.

    Raises:
        FailedError: it lacks a hash that the lock format asks for, or is not what its archive's name says.
    """
    if fault := record_fault(record):
        raise FailedError(
            "repodata-invalid",
            f"{record.file_name} of channel {record.channel}: {fault}",
            "Index the channel again with a current tool.",
        )
    assert record.md5
    assert record.sha256
    return LockedPackage(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        platform=platform,
        url=_open_url(record),
        md5=record.md5.hex(),
        sha256=record.sha256.hex(),
        size=record.size or 0,
        # As conda-lock does: package and version range; the format has no place for builds.
        dependencies={parts[0]: " ".join(parts[1:2]) for text in record.depends if (parts := text.split())},
    )


def _open_url(record: RepoDataRecord) -> str:
    try:
        return refuse(record.url)
    except ValueError as error:
        raise FailedError(
            "channel-secret",
            f"channel {record.channel} says that {record.file_name} is at {record.url}, which {error}",
            "A lock is read by everybody. Tell who runs the channel.",
        ) from error


def lock_path(folder: Path, view: str) -> Path:
    """Return where a view's lock lies in a folder of locks."""
    return folder / f"{view}{LOCK_SUFFIX}"


def find_lock(view: str, *folders: Path | None) -> Path | None:
    """Return the view's lock in the first folder that has one.

    Raises:
        UnreadableError: nobody can tell whether there is one.
    """
    return next((path for folder in folders if folder and is_file(path := lock_path(folder, view))), None)


def read_lock(path: Path) -> Lock:
    """Read a lock that mlviews wrote.

    Raises:
        BadInputError: it is no such lock, or was changed by hand.
        FailedError: it cannot be opened.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FailedError("lock-unreadable", f"{path}: {error.strerror}", "Check the path.") from error
    return parse_lock(raw, str(path))


def parse_lock(raw: bytes, source: str) -> Lock:
    """Read a lock from the bytes of its file; ``source`` names it in errors.

    Raises:
        BadInputError: it is no lock that mlviews wrote, or was changed by hand.
    """
    if len(raw) > _MAX_BYTES:
        raise _unusable(source, f"larger than {_MAX_BYTES} bytes")
    try:
        file = _File.model_validate(texts(raw))
        inputs = json.loads(file.metadata.custom_metadata.inputs)
        lock = _lock(file, inputs)
    except ValidationError as error:
        first = error.errors()[0]
        raise _unusable(source, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise _unusable(source, " ".join(str(error).split())) from error
    custom = file.metadata.custom_metadata
    if (custom.digest, custom.recipe_digest) != (lock.digest, lock.recipe_digest):
        raise BadInputError(
            "lock-edited",
            f"{source} was changed by hand: its packages do not give the digest that it states",
            f"Make it anew with `mlviews lock {lock.view}`; limits on packages belong into the recipe.",
        )
    return lock


def _unusable(source: str, problem: str) -> BadInputError:
    return BadInputError(
        "lock-invalid",
        f"{source} is no lock of mlviews: {problem}",
        "Delete it and make it anew with `mlviews lock VIEW`.",
    )


def _lock(file: _File, inputs: dict[str, Any]) -> Lock:
    custom = file.metadata.custom_metadata
    sizes = [int(size) for size in custom.sizes.split()]
    if len(sizes) != len(file.package):
        raise ValueError(f"{len(file.package)} packages, but {len(sizes)} sizes")
    if file.metadata.platforms != inputs["platforms"]:
        raise ValueError("its platforms are not those that it was solved for")
    for channel in inputs["channels"]:
        refuse(channel)
    packages = tuple(_package(entry, size, inputs) for entry, size in zip(file.package, sizes, strict=True))
    return Lock(custom.view, inputs, custom.solver, packages)


def _package(entry: _Package, size: int, inputs: Mapping[str, Any]) -> LockedPackage:
    parts = entry.url.rsplit("/", 2)
    match = _ARCHIVE.fullmatch(parts[-1])
    if not match or (match["name"], match["version"]) != (entry.name, entry.version):
        raise ValueError(f"{entry.url} is no archive of {entry.name} {entry.version}")
    if entry.platform not in inputs["platforms"] or parts[-2] not in {entry.platform, "noarch"}:
        raise ValueError(f"{entry.url} is not for {entry.platform}")
    return LockedPackage(
        name=entry.name,
        version=entry.version,
        build=match["build"],
        platform=entry.platform,
        url=entry.url,
        md5=entry.hash.md5,
        sha256=entry.hash.sha256,
        size=size,
        dependencies=entry.dependencies,
    )


def changes(lock: Lock, inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what differs between the inputs of a lock and what the recipe asks for now; empty if it is up to date."""
    if lock.recipe_digest == inputs_digest(inputs):
        return ()
    found: list[str] = []
    for key in sorted({*lock.inputs, *inputs}):
        before, after = lock.inputs.get(key), inputs.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += [
                f"{key}.{part}: {before.get(part)} -> {after.get(part)}"
                for part in sorted({*before, *after})
                if before.get(part) != after.get(part)
            ]
        elif isinstance(before, list) and isinstance(after, list):
            found += [f"{key}: {item} taken out" for item in before if item not in after]
            found += [f"{key}: {item} added" for item in after if item not in before]
            if before != after and sorted(before) == sorted(after):
                found.append(f"{key}: another order")
        elif before != after:
            found.append(f"{key}: {before} -> {after}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class LockStatus:
    """A view's lock as it stands.

    Attributes:
        state: ``unavailable`` where the site cannot have the view at all.
        changes: what the recipe changed since, where the lock is stale.
        error: why the lock cannot be installed from, unless it is current.
    """

    state: LockState
    path: Path | None = None
    lock: Lock | None = None
    changes: tuple[str, ...] = ()
    error: MlviewsError | None = None


def lock_status(site_spec: SiteSpec, site: Site) -> LockStatus:
    """Look at the view's lock in the site's folder, or in the one that travels with mlviews."""
    if site_spec.error:
        return LockStatus("unavailable", error=site_spec.error)
    view = site_spec.spec.name
    path = None
    try:
        path = find_lock(view, site.lockfiles, site.shipped_lockfiles)
        lock = read_lock(path) if path else None
    except MlviewsError as error:
        return LockStatus("invalid", path, error=error)
    if lock is None:
        wanted = lock_path(site.lockfiles, view)
        missing = RefusedError("lock-missing", f"there is no {wanted}", f"`mlviews lock {view}` makes it.")
        return LockStatus("none", error=missing)
    if lock.view != view:
        other = BadInputError(
            "lock-invalid", f"{path} is the lock of view {lock.view!r}", f"`mlviews lock {view}` makes its own."
        )
        return LockStatus("invalid", path, error=other)
    found = changes(lock, site_spec.inputs)
    if not found:
        return LockStatus("current", path, lock)
    stale = RefusedError(
        "lock-stale",
        f"{path} is stale: the recipe has changed since",
        f"`mlviews lock {view}` makes it anew.",
        faults=found,
    )
    return LockStatus("stale", path, lock, found, stale)


def repodata_record(package: LockedPackage, url: str) -> RepoDataRecord:
    """Return what a lock says of a package as repodata, which would hold more.

    Args:
        package: as locked.
        url: where its archive is read from.
    """
    record = PackageRecord(
        package.name,
        package.version,
        BuildString(package.build),
        0,
        package.subdir,
        depends=[f"{name} {version}".strip() for name, version in package.dependencies.items()],
        sha256=bytes.fromhex(package.sha256),
        md5=bytes.fromhex(package.md5),
        size=package.size or None,
    )
    return RepoDataRecord(record, package.archive, url, package.url.rsplit("/", 2)[0])
