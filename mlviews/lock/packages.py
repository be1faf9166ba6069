"""A channel's records and an index's wheels as a lock holds them, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rattler
from rattler import BuildString, PackageRecord, RepoDataRecord

from mlviews.conda.channels import record_fault
from mlviews.credentials import hide, refuse
from mlviews.errors import FailedError
from mlviews.lock.lockfile import Lock, LockedPackage, RecordRest, match_specs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlviews.site.spec import SiteSpec
    from mlviews.solve.solver import Solution
    from mlviews.wheels.offers import Taken


def lock_of(site_spec: SiteSpec, solutions: Iterable[Solution]) -> Lock:
    """Gather the solutions of a view, one for each platform, into a lock."""
    packages = [locked_package(package, found.platform) for found in solutions for package in found.packages]
    packages += [locked_wheel(wheel, found.platform) for found in solutions for wheel in found.wheels]
    ordered = tuple(sorted(packages, key=lambda package: (package.manager, package.name, package.platform)))
    solver = f"py-rattler {rattler.__version__}"
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
        url=_open(record.url, record.file_name, f"channel {record.channel}"),
        md5=record.md5.hex(),
        sha256=record.sha256.hex(),
        size=record.size or 0,
        dependencies=dependencies,
        rest=RecordRest(
            depends=depends if depends != match_specs(dependencies) else (),
            constrains=tuple(sorted(record.constrains)),
            python_site_packages_path=record.python_site_packages_path or "",
        ),
    )


def locked_wheel(wheel: Taken, platform: str) -> LockedPackage:
    """Return a wheel of an index as a lock holds it.

    Raises:
        FailedError: its address holds a secret.
    """
    from packaging.utils import canonicalize_name  # noqa: PLC0415  (few views have wheels)

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
        manager="pip",
        made=offer.made,
    )


def _open(url: str, what: str, place: str) -> str:
    try:
        return refuse(url)
    except ValueError as error:
        raise FailedError(
            "channel-secret",
            f"{place} says that {what} is at {hide(url)}, which {error}",
            f"Everybody can read a lock. Tell the people who run {place}.",
        ) from error


def repodata_record(package: LockedPackage, url: str) -> RepoDataRecord:
    """Return what a lock says of a package as repodata, which would hold more."""
    record = PackageRecord(
        package.name,
        package.version,
        BuildString(package.build),
        0,
        package.subdir,
        depends=list(package.needs),
        constrains=list(package.rest.constrains),
        python_site_packages_path=package.rest.python_site_packages_path or None,
        sha256=bytes.fromhex(package.sha256),
        md5=bytes.fromhex(package.md5) or None,
        size=package.size or None,
    )
    return RepoDataRecord(record, package.archive, url, package.url.rsplit("/", 2)[0])


def installed_name(package: LockedPackage) -> str:
    """Return the name of the package that is installed: a wheel becomes one by conda's name."""
    if package.manager != "pip":
        return package.name
    from mlviews.wheels.requirements import conda_name  # noqa: PLC0415  (few views have wheels)

    return conda_name(package.name)


def wheel_record(package: LockedPackage, pythons: Iterable[str]) -> RepoDataRecord:
    """Return what a lock says of a wheel as repodata.

    Args:
        package: as locked; what it depends on was found for one Python.
        pythons: those that it was locked for: ``3.12``.
    """
    from packaging.requirements import Requirement  # noqa: PLC0415  (few views have wheels)
    from packaging.version import Version  # noqa: PLC0415

    from mlviews.wheels.requirements import conda_depends, conda_version  # noqa: PLC0415

    needed = (Requirement(f"{name}{versions}") for name, versions in package.dependencies.items())
    depends = [text for line in needed for text in conda_depends(line)]
    held = "|".join(f"{python}.*" for python in sorted(pythons))
    record = PackageRecord(
        installed_name(package),
        conda_version(Version(package.version)),
        BuildString(package.made.sha256 if package.made else package.sha256),
        0,
        package.platform,
        depends=[*depends, f"python {held}"],
        sha256=bytes.fromhex(package.sha256),
    )
    folder, _, file = package.url.rpartition("/")
    return RepoDataRecord(record, file, package.url, folder)
