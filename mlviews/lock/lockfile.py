"""Lock files: ``<view>.conda-lock.yml`` (CEP 37), read and checked."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping  # noqa: TC003  (pydantic reads it)
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import yaml
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from rattler import BuildString, PackageRecord, RepoDataRecord

from mlviews.conda.channels import record_fault, site_packages_fault
from mlviews.credentials import hide, refuse
from mlviews.errors import BadInputError, FailedError
from mlviews.recipe.compose import inputs_digest
from mlviews.yamlfile import texts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlviews.site.spec import SiteSpec
    from mlviews.solve import Solution
    from mlviews.wheels.offers import Taken

__all__ = [
    "LOCK_SUFFIX",
    "Lock",
    "LockedPackage",
    "RecordRest",
    "lock_of",
    "lock_path",
    "locked_package",
    "parse_lock",
    "read_lock",
    "repodata_record",
]


LOCK_SUFFIX = ".conda-lock.yml"

# CEP 26
_VERSION = r"[A-Za-z0-9_.!+~]+"
_ARCHIVE = re.compile(rf"(?P<name>[^/\s]+)-(?P<version>{_VERSION})-(?P<build>[A-Za-z0-9_.+]+?)(\.conda|\.tar\.bz2)")
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class RecordRest:
    """What a channel's record says of a package besides, for which CEP 37 has no place.

    Attributes:
        depends: what it needs, sorted; empty where `LockedPackage.dependencies` lose nothing of it: the format takes
            neither builds nor two ranges of one package.
        constrains: limits on packages that it does not need, sorted.
        python_site_packages_path: of ``python`` alone: where noarch packages go (CEP 17); empty for the usual place.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    python_site_packages_path: str = ""


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One package: the archive of a channel, or a wheel of an index, of which an install makes one.

    Attributes:
        name: as the channel calls it; of a wheel, its project's normalised name.
        build: empty for a wheel.
        platform: the platform that it is locked for; a noarch package stands once for each.
        url: where the channel has the archive, or the index the wheel.
        md5: of the archive, in hexadecimal; empty for a wheel.
        sha256: of the archive or the wheel, in hexadecimal.
        size: of the archive in bytes; 0 where the channel does not say, and for a wheel.
        dependencies: package -> version range.
        rest: what the channel says besides; None in locks from before it was kept.
        manager: whose name, version and dependencies these are.
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
    rest: RecordRest | None = None
    manager: Literal["conda", "pip"] = "conda"

    @property
    def needs(self) -> tuple[str, ...]:
        """What it depends on, as conda's match specs."""
        return (self.rest and self.rest.depends) or _specs(self.dependencies)

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
        packages: sorted by manager, name and platform, as conda-lock has them.
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
        packages = [
            [p.platform, p.url, p.md5, p.sha256, sorted(p.dependencies.items()), *([asdict(p.rest)] if p.rest else [])]
            for p in self.packages
        ]
        text = json.dumps([self.view, self.inputs, packages], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def on(self, platform: str) -> tuple[LockedPackage, ...]:
        """Return the packages for one platform, sorted by name."""
        found = (package for package in self.packages if package.platform == platform)
        return tuple(sorted(found, key=lambda package: package.name))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class _Hash(_Strict):
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Package(_Strict):
    name: str = Field(pattern=r"^[a-z0-9_][a-z0-9_.-]*$")
    version: str = Field(pattern=f"^{_VERSION}$")
    manager: Literal["conda", "pip"]
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
    rest: str | None = Field(None, alias="mlviews-rest")


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


_RESTS = TypeAdapter(dict[str, RecordRest | None])


def lock_of(site_spec: SiteSpec, solutions: Iterable[Solution]) -> Lock:
    """Gather the solutions of a view, one for each platform, into a lock.

    Raises:
        FailedError: a package lacks a hash that the lock format asks for, or is not what its archive's name says.
    """
    packages = [locked_package(package, found.platform) for found in solutions for package in found.packages]
    packages += [_locked_wheel(wheel, found.platform) for found in solutions for wheel in found.wheels]
    ordered = tuple(sorted(packages, key=lambda package: (package.manager, package.name, package.platform)))
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
    # As conda-lock does: package and version range.
    dependencies = {parts[0]: " ".join(parts[1:2]) for text in record.depends if (parts := text.split())}
    depends = tuple(sorted(record.depends))
    return LockedPackage(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        platform=platform,
        url=_open_url(record),
        md5=record.md5.hex(),
        sha256=record.sha256.hex(),
        size=record.size or 0,
        dependencies=dependencies,
        rest=RecordRest(
            depends=depends if depends != _specs(dependencies) else (),
            constrains=tuple(sorted(record.constrains)),
            python_site_packages_path=record.python_site_packages_path or "",
        ),
    )


def _locked_wheel(wheel: Taken, platform: str) -> LockedPackage:
    needed: dict[str, str] = {}
    for line in wheel.requires:
        name = str(canonicalize_name(line.name))
        needed[name] = ",".join(filter(None, dict.fromkeys([needed.get(name, ""), str(line.specifier)])))
    offer = wheel.offer
    return LockedPackage(
        name=offer.name,
        version=str(offer.version),
        build="",
        platform=platform,
        url=_open(offer.url, f"{offer.name} {offer.version}", "the index"),
        md5="",
        sha256=offer.sha256,
        size=0,
        dependencies=dict(sorted(needed.items())),
        rest=RecordRest(),
        manager="pip",
    )


def _specs(dependencies: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(f"{name} {version}".strip() for name, version in dependencies.items()))


def _open_url(record: RepoDataRecord) -> str:
    return _open(record.url, record.file_name, f"channel {record.channel}")


def _open(url: str, what: str, place: str) -> str:
    try:
        return refuse(url)
    except ValueError as error:
        raise FailedError(
            "channel-secret",
            f"{place} says that {what} is at {hide(url)}, which {error}",
            f"A lock is read by everybody. Tell who runs {place}.",
        ) from error


def lock_path(folder: Path, view: str) -> Path:
    """Return where a view's lock lies in a folder of locks."""
    return folder / f"{view}{LOCK_SUFFIX}"


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
    packages = tuple(
        _package(entry, size, rest, inputs) for entry, size, rest in zip(file.package, sizes, _rests(file), strict=True)
    )
    return Lock(custom.view, inputs, custom.solver, packages)


def _rests(file: _File) -> list[RecordRest | None]:
    """Return what is kept of each package; of one that is not named, there was nothing to keep."""
    text = file.metadata.custom_metadata.rest
    if text is None:
        return [None] * len(file.package)
    kept = _RESTS.validate_json(text)
    keys = [f"{entry.platform}/{entry.name}" for entry in file.package]
    if unknown := kept.keys() - {*keys}:
        raise ValueError(f"it says more of {min(unknown)}, which it does not hold")
    return [kept.get(key, RecordRest()) for key in keys]


def _package(entry: _Package, size: int, rest: RecordRest | None, inputs: Mapping[str, Any]) -> LockedPackage:
    if entry.platform not in inputs["platforms"]:
        raise ValueError(f"{entry.url} is not for {entry.platform}")
    if rest and (fault := site_packages_fault(rest.python_site_packages_path)):
        raise ValueError(f"{entry.url}: {fault}")
    return LockedPackage(
        name=entry.name,
        version=entry.version,
        build=_wheels_build(entry) if entry.manager == "pip" else _build(entry),
        platform=entry.platform,
        url=entry.url,
        md5=entry.hash.md5 or "",
        sha256=entry.hash.sha256,
        size=size,
        dependencies=entry.dependencies,
        rest=rest,
        manager=entry.manager,
    )


def _build(entry: _Package) -> str:
    parts = entry.url.rsplit("/", 2)
    match = _ARCHIVE.fullmatch(parts[-1])
    if not match or (match["name"], match["version"]) != (entry.name, entry.version):
        raise ValueError(f"{entry.url} is no archive of {entry.name} {entry.version}")
    if parts[-2] not in {entry.platform, "noarch"}:
        raise ValueError(f"{entry.url} is not for {entry.platform}")
    if not entry.hash.md5:
        raise ValueError(f"{entry.url} has no md5")
    return match["build"]


def _wheels_build(entry: _Package) -> str:
    """Return a wheel's build, which it has none of, if it is one of what the entry names."""
    try:
        name, version, *_ = parse_wheel_filename(_wheel_file(entry.url))
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise ValueError(f"{entry.url} is no wheel") from error
    if (str(name), str(version)) != (entry.name, entry.version):
        raise ValueError(f"{entry.url} is no wheel of {entry.name} {entry.version}")
    return ""


def _wheel_file(url: str) -> str:
    """Return the name of the file that a wheel's URL leads to."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


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
        depends=list(package.needs),
        constrains=list(package.rest.constrains) if package.rest else None,
        python_site_packages_path=(package.rest and package.rest.python_site_packages_path) or None,
        sha256=bytes.fromhex(package.sha256),
        md5=bytes.fromhex(package.md5) or None,
        size=package.size or None,
    )
    return RepoDataRecord(record, package.archive, url, package.url.rsplit("/", 2)[0])
