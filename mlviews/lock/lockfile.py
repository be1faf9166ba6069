"""Locks, and their files: ``<view>.conda-lock.yml`` (CEP 37)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlviews.conda.records import link_script
from mlviews.errors import FailedError
from mlviews.recipe.view import inputs_digest

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.wheels.made import Made

LOCK_SUFFIX = ".conda-lock.yml"


@dataclass(frozen=True, slots=True)
class RecordRest:
    """What a channel's record says of a package besides, for which CEP 37 has no place.

    Attributes:
        depends: what it needs, sorted; empty where `LockedPackage.dependencies` lose nothing of it: the format takes
            neither builds nor two ranges of one package.
        constrains: limits on packages that it does not need, sorted.
        python_site_packages_path: of ``python`` alone: where noarch packages go (CEP 17); empty for the usual place.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": True}

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
        rest: what the channel says besides.
        manager: whose name, version and dependencies these are.
        made: where url and sha256 are those of sources, the wheel that is built of them.
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
    rest: RecordRest = RecordRest()
    manager: Literal["conda", "pip"] = "conda"
    made: Made | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """What it depends on, as conda's match specs."""
        return self.rest.depends or match_specs(self.dependencies)

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


@dataclass(frozen=True)
class Lock:
    """A lock in memory.

    Attributes:
        inputs: what it was solved from; see `mlviews.recipe.view.ViewSpec.inputs`.
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

    @cached_property
    def recipe_digest(self) -> str:
        """Sha256 of the inputs; a recipe with another one makes the lock stale."""
        return inputs_digest(self.inputs)

    @cached_property
    def digest(self) -> str:
        """Sha256 of inputs and packages: the lock's identity, whatever the file's layout."""
        packages = [
            [p.platform, p.url, p.md5, p.sha256, sorted(p.dependencies.items()), *_more(p)] for p in self.packages
        ]
        text = json.dumps([self.view, self.inputs, packages], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def on(self, platform: str) -> tuple[LockedPackage, ...]:
        """Return the packages for one platform, sorted by name."""
        found = (package for package in self.packages if package.platform == platform)
        return tuple(sorted(found, key=lambda package: package.name))

    def python(self, platform: str) -> tuple[str, str]:
        """Return the version and build of its Python, or of that of the view that it extends."""
        if base := self.inputs.get("on"):
            version, _, build = str(base["python"]).partition(" ")
            return version, build
        return next((package.version, package.build) for package in self.on(platform) if package.name == "python")


def _more(package: LockedPackage) -> list[dict[str, Any]]:
    """Return what CEP 37 has no place for."""
    rest = package.rest
    said = {  # `asdict` copies, and every lock of a folder is read
        "depends": rest.depends,
        "constrains": rest.constrains,
        "python_site_packages_path": rest.python_site_packages_path,
    }
    return [said, asdict(package.made)] if package.made else [said]


def match_specs(dependencies: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a lock says of dependencies (package -> version range) as conda's match specs, sorted."""
    return tuple(sorted(f"{name} {version}".strip() for name, version in dependencies.items()))


def lock_path(folder: Path, view: str) -> Path:
    """Return where a view's lock lies in a folder of locks."""
    return folder / f"{view}{LOCK_SUFFIX}"


def lock_tag(digest: str) -> str:
    """Return what images and bills of materials that are made from a lock have for a version, by its digest."""
    return f"lock-{digest[:12]}"


def lock_bytes(path: Path) -> bytes:
    """Return the bytes of a lock's file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FailedError("lock-unreadable", f"{path}: {error.strerror}", "Check the path.") from error


def unpacked_scripts(packages: Iterable[LockedPackage], cache: Path) -> frozenset[str]:
    """Return which packages have a post-link script, of those that lie unpacked in the cache: no channel tells it."""
    folders = ((package.name, cache / "pkgs" / package.stem) for package in packages)
    return frozenset(name for name, folder in folders if os.path.lexists(folder / link_script(name)))


def in_order(packages: Iterable[LockedPackage]) -> list[str]:
    """Return the packages' names, each after what it depends on; python and pip depend on each other."""
    needs = {package.name: package.dependencies for package in packages}
    order: dict[str, None] = {}
    begun: set[str] = set()
    for top in sorted(needs):
        open_ = [(top, iter(sorted(needs[top])))] if top not in begun else []
        begun.add(top)
        while open_:
            name, left = open_[-1]
            needed = next((one for one in left if one in needs and one not in begun), None)
            if needed is None:
                order[name] = None
                open_.pop()
            else:
                begun.add(needed)
                open_.append((needed, iter(sorted(needs[needed]))))
    return list(order)
