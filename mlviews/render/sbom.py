"""A lock as a software bill of materials: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

import mlviews

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlviews.lock.lockfile import Lock, LockedPackage

__all__ = ["SBOM", "render_sbom"]

SBOM = "sbom.cdx.json"
"""The file's name, in a release and in an image."""

_CONDA = "https://conda.anaconda.org/"


def render_sbom(lock: Lock, platforms: Iterable[str], *, licenses: Mapping[str, str] | None = None) -> str:
    """Return every package of a lock with its origin, hashes, licence and dependencies; the same lock, the same text.

    Args:
        lock: the lock.
        platforms: those of its platforms that are meant.
        licenses: archive -> licence as its package states it; a lock does not hold that.
    """
    wanted = tuple(sorted(platforms))
    packages = [package for package in lock.packages if package.platform in wanted]
    view = Component(
        type=ComponentType.APPLICATION, name=lock.view, version=f"lock-{lock.digest[:12]}", bom_ref=f"view:{lock.view}"
    )
    # Serial numbers must be unique: one for each content.
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, f"mlviews:{lock.digest}:{','.join(wanted)}"))
    bom.metadata.component = view
    bom.metadata.tools.components.add(
        Component(type=ComponentType.APPLICATION, name="mlviews", version=mlviews.__version__, bom_ref="tool:mlviews")
    )
    bom.metadata.properties = [
        Property(name="mlviews:lock", value=lock.digest),
        Property(name="mlviews:recipe", value=lock.recipe_digest),
        *(Property(name="mlviews:platform", value=platform) for platform in wanted),
    ]
    # A noarch package stands in the lock once for each platform, and is one archive.
    components = {package.url: _component(package, (licenses or {}).get(package.archive)) for package in packages}
    bom.components = components.values()
    bom.register_dependency(view, components.values())
    by_name = {(package.platform, package.name): components[package.url] for package in packages}
    for package in packages:
        needed = [by_name.get((package.platform, name)) for name in package.dependencies]
        bom.register_dependency(components[package.url], [component for component in needed if component])
    return _timeless(JsonV1Dot6(bom).output_as_string())


def _component(package: LockedPackage, license_text: str | None) -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=package.url,
        purl=_purl(package),
        hashes=[
            HashType(alg=HashAlgorithm.SHA_256, content=package.sha256),
            HashType(alg=HashAlgorithm.MD5, content=package.md5),
        ],
        licenses=[LicenseFactory().make_from_string(license_text)] if license_text else None,
        external_references=[ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(package.url))],
    )


def _purl(package: LockedPackage) -> PackageURL:
    """Return a package URL: https://github.com/package-url/purl-spec/blob/main/types-doc/conda-definition.md."""
    channel = package.url.rsplit("/", 2)[0]
    qualifiers = {
        "build": package.build,
        "channel": channel.removeprefix(_CONDA),
        "subdir": package.subdir,
        "type": "conda" if package.archive.endswith(".conda") else "tar.bz2",
    }
    return PackageURL(type="conda", name=package.name, version=package.version, qualifiers=qualifiers)


def _timeless(text: str) -> str:
    """Take out when it was written, which the library puts in always and the format asks for never."""
    content = json.loads(text)
    del content["metadata"]["timestamp"]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
