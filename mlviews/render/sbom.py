"""A lock as a software bill of materials: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

import mlviews
from mlviews.lock.lockfile import lock_tag
from mlviews.wheels.requirements import conda_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlviews.lock.lockfile import Lock, LockedPackage

SBOM = "sbom.cdx.json"
"""The file's name, in a release and in an image."""

_CONDA = "https://conda.anaconda.org/"


def render_sbom(lock: Lock, platforms: Iterable[str], *, licenses: Mapping[str, str] | None = None) -> str:
    """Return every package of a lock with its origin, hashes, licence and dependencies; the same lock, the same text.

    Args:
        platforms: those of its platforms that are meant.
        licenses: archive -> licence as its package states it; a lock does not hold that.
    """
    wanted = tuple(sorted(platforms))
    packages = [package for package in lock.packages if package.platform in wanted]
    # A noarch package stands in the lock once for each platform, and is one archive.
    archives = {package.url: package for package in packages}
    properties = {"mlviews:lock": [lock.digest], "mlviews:platform": wanted, "mlviews:recipe": [lock.recipe_digest]}
    view, version = f"view:{lock.view}", lock_tag(lock.digest)
    content = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        # It must be unique: one for each content.
        "serialNumber": uuid5(NAMESPACE_URL, f"mlviews:{lock.digest}:{','.join(wanted)}").urn,
        "version": 1,
        "metadata": {
            "component": _application(lock.view, version, view),
            "tools": {"components": [_application("mlviews", mlviews.__version__, "tool:mlviews")]},
            "properties": [{"name": name, "value": value} for name, values in properties.items() for value in values],
        },
        "components": [
            _component(package, _stated(package, licenses or {}))
            for package in sorted(archives.values(), key=lambda package: (package.name, package.version, package.url))
        ],
        "dependencies": [
            {"ref": ref, **({"dependsOn": sorted(needed)} if needed else {})}
            for ref, needed in sorted({**_dependencies(packages), view: archives.keys()}.items())
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _dependencies(packages: Iterable[LockedPackage]) -> dict[str, set[str]]:
    """Return which archives each archive needs, on any of the platforms."""
    urls = {(package.platform, package.name): package.url for package in packages}
    found: dict[str, set[str]] = {url: set() for url in urls.values()}
    for package in packages:
        # A wheel names projects; what stands for one may have the channel's name.
        wheel = package.manager == "pip"
        names = [*package.dependencies, *(map(conda_name, package.dependencies) if wheel else ())]
        found[package.url].update(urls[package.platform, name] for name in names if (package.platform, name) in urls)
    return found


def _application(name: str, version: str, ref: str) -> dict[str, str]:
    return {"type": "application", "bom-ref": ref, "name": name, "version": version}


def _component(package: LockedPackage, stated: str | None) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": package.url,
        "name": package.name,
        "version": package.version,
        "hashes": [
            *([{"alg": "MD5", "content": package.md5}] if package.md5 else []),
            {"alg": "SHA-256", "content": package.sha256},
        ],
        **({"licenses": [_license(stated)]} if stated else {}),
        "purl": _purl(package),
        "externalReferences": [{"type": "distribution", "url": package.url}],
    }


def _stated(package: LockedPackage, licenses: Mapping[str, str]) -> str | None:
    """Return a package's licence; a wheel's stands by the archive that was made of it."""
    if package.manager == "conda":
        return licenses.get(package.archive)
    made = f"{conda_name(package.name)}-{package.version.partition('+')[0]}-"
    return next((text for archive, text in licenses.items() if archive.startswith(made)), None)


def _license(stated: str) -> dict[str, Any]:
    """Return a licence by its SPDX identifier, as an SPDX expression, or by the name that the package gives it."""
    try:
        known = canonicalize_license_expression(stated)
    except InvalidLicenseExpression:
        return {"license": {"name": stated}}
    if set(known) & set(" ()"):
        return {"expression": known}
    return {"license": {"name" if known.startswith("LicenseRef-") else "id": known}}


def _purl(package: LockedPackage) -> str:
    """Return a package URL, of type conda or pypi: https://github.com/package-url/purl-spec/tree/main/types-doc."""
    if package.manager == "pip":
        return f"pkg:pypi/{quote(package.name)}@{quote(package.version, safe='')}"
    channel = package.url.rsplit("/", 2)[0]
    qualifiers = {
        "build": package.build,
        "channel": channel.removeprefix(_CONDA),
        "subdir": package.subdir,
        "type": "conda" if package.archive.endswith(".conda") else "tar.bz2",
    }
    said = "&".join(f"{key}={quote(value, safe=':/')}" for key, value in qualifiers.items())
    return f"pkg:conda/{quote(package.name)}@{quote(package.version)}?{said}"
