"""The bytes of a lock file -> a lock: every part of it is checked, since anybody may have written it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mlviews.conda.records import site_packages_fault
from mlviews.credentials import refuse
from mlviews.errors import BadInputError
from mlviews.files.yamlfile import texts
from mlviews.lock.lockfile import Lock, LockedPackage, RecordRest, lock_bytes
from mlviews.wheels.made import Made, check_names, read_made

# CEP 26
_VERSION = r"[A-Za-z0-9_.!+~]+"
_ARCHIVE = re.compile(rf"(?P<name>[^/\s]+)-(?P<version>{_VERSION})-(?P<build>[A-Za-z0-9_.+]+?)(\.conda|\.tar\.bz2)")
_MAX_BYTES = 64 << 20


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
    rest: str = Field(alias="mlviews-rest")
    made: str | None = Field(None, alias="mlviews-made")


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


_RESTS = TypeAdapter(dict[str, RecordRest])


def read_lock(path: Path) -> Lock:
    """Read a lock's file; errors are those of `parse_lock`."""
    return parse_lock(lock_bytes(path), str(path))


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
            f"{source} was changed by hand: its digest is not that of its packages",
            f"Make it again with `mlviews lock {lock.view}`; limits on packages belong in the recipe.",
        )
    return lock


def _unusable(source: str, problem: str) -> BadInputError:
    return BadInputError(
        "lock-invalid",
        f"{source} is not a lock of mlviews: {problem}",
        "Delete it and make it again with `mlviews lock VIEW`.",
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
    made = read_made(custom.made)
    packages = tuple(
        _package(entry, size, rest, inputs, made.get(f"{entry.platform}/{entry.name}"))
        for entry, size, rest in zip(file.package, sizes, _rests(file), strict=True)
    )
    return Lock(custom.view, inputs, custom.solver, packages)


def _rests(file: _File) -> list[RecordRest]:
    """Return what is kept of each package; of one that is not named, there was nothing to keep."""
    kept = _RESTS.validate_json(file.metadata.custom_metadata.rest)
    keys = [f"{entry.platform}/{entry.name}" for entry in file.package]
    if unknown := kept.keys() - {*keys}:
        raise ValueError(f"it describes {min(unknown)}, which it does not hold")
    return [kept.get(key, RecordRest()) for key in keys]


def _package(
    entry: _Package, size: int, rest: RecordRest, inputs: Mapping[str, Any], made: Made | None
) -> LockedPackage:
    if entry.platform not in inputs["platforms"]:
        raise ValueError(f"{entry.url} is not for {entry.platform}")
    if fault := site_packages_fault(rest.python_site_packages_path):
        raise ValueError(f"{entry.url}: {fault}")
    if entry.manager == "pip":
        check_names(entry.name, entry.version, entry.url, made)
    return LockedPackage(
        name=entry.name,
        version=entry.version,
        build="" if entry.manager == "pip" else _build(entry),  # wheels have none
        platform=entry.platform,
        url=entry.url,
        md5=entry.hash.md5 or "",
        sha256=entry.hash.sha256,
        size=size,
        dependencies=entry.dependencies,
        rest=rest,
        manager=entry.manager,
        made=made if entry.manager == "pip" else None,
    )


def _build(entry: _Package) -> str:
    parts = entry.url.rsplit("/", 2)
    match = _ARCHIVE.fullmatch(parts[-1])
    if not match or (match["name"], match["version"]) != (entry.name, entry.version):
        raise ValueError(f"{entry.url} is not an archive of {entry.name} {entry.version}")
    if parts[-2] not in {entry.platform, "noarch"}:
        raise ValueError(f"{entry.url} is not for {entry.platform}")
    if not entry.hash.md5:
        raise ValueError(f"{entry.url} has no md5")
    return match["build"]
