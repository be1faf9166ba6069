"""Lock -> the archives that are installed: the channel's as they are, and those that are made here, of locked wheels.

A view that extends another one gets a package `python` of its own, too: it makes the prefix a virtual environment
(PEP 405) whose Python, and whose packages where it has none of the name itself, are the base's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from mlviews.files.writing import file_sha256
from mlviews.lock.lockfile import Lock, LockedPackage, RecordRest
from mlviews.progress import Progress, silent

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.wheels.convert import PackagePlan
    from mlviews.wheels.pip import Found
    from mlviews.wheels.target import Target


def realized(
    lock: Lock, platform: str, *, cache: Path, base: str | None = None, progress: Progress = silent
) -> tuple[LockedPackage, ...]:
    """Return what a lock holds for a platform as archives, sorted by name; those that are made here exist then.

    Args:
        cache: the site's; archives that are made lie below it.
        base: the prefix that the lock's view extends; None where it extends none.
    """
    packages = lock.on(platform)
    wheels = [package for package in packages if package.manager == "pip"]
    if not wheels and base is None:
        return packages
    from mlviews.wheels.channel import open_cache  # noqa: PLC0415  (only such views need these)
    from mlviews.wheels.target import target_of  # noqa: PLC0415

    version, build = lock.python(platform)
    target = target_of(platform, version, build, glibc=lock.inputs["hardware"]["glibc"])
    with open_cache(cache) as channel:
        made = _made(wheels, cache, channel, target, progress)
        if base is not None:
            made.append(_base_python(channel, base, target))
    given = (package for package in packages if package.manager == "conda")
    return tuple(sorted((*given, *made), key=lambda package: package.name))


def _made(
    wheels: list[LockedPackage], cache: Path, channel: Path, target: Target, progress: Progress
) -> list[LockedPackage]:
    """Make an archive of each wheel, or take the one that was made before and is what it was."""
    from mlviews.wheels.obtain import obtain  # noqa: PLC0415

    found = [_found(wheel, cache, progress) for wheel in wheels]
    made = obtain(found, cache, channel, target, progress)
    changed = [item for item in made if file_sha256(channel / item.plan.archive) != item.sha256]
    for item in changed:
        (channel / item.plan.archive).unlink()
    if changed:
        made = obtain(found, cache, channel, target, progress)
    return [_archive(channel, item.plan, item.sha256, target.subdir) for item in made]


def _found(package: LockedPackage, cache: Path, progress: Progress) -> Found:
    """Return where the wheel is; one that is built of sources is there then."""
    from mlviews.wheels.pip import Found  # noqa: PLC0415

    name = canonicalize_name(package.name)
    found = Found(name=name, version=package.version, url=package.url, sha256=package.sha256)
    if package.made is None:
        return found
    from mlviews.wheels.sdist import rebuilt  # noqa: PLC0415

    wheel = rebuilt(found, package.made, cache, progress=progress)
    return Found(name=name, version=package.version, url=wheel.as_uri(), sha256=package.made.sha256)


def _archive(channel: Path, plan: PackagePlan, sha256: str, platform: str) -> LockedPackage:
    depends = tuple(sorted(plan.index["depends"]))
    return LockedPackage(
        name=plan.index["name"],
        version=plan.index["version"],
        build=plan.index["build"],
        platform=platform,
        url=(channel / plan.archive).as_uri(),
        md5="",
        sha256=sha256,
        size=(channel / plan.archive).stat().st_size,
        dependencies={parts[0]: " ".join(parts[1:2]) for text in depends if (parts := text.split())},
        rest=RecordRest(depends=depends, python_site_packages_path=plan.index.get("python_site_packages_path", "")),
    )


def _base_python(channel: Path, base: str, target: Target) -> LockedPackage:
    from mlviews.wheels.archive import File, Link, write_conda  # noqa: PLC0415
    from mlviews.wheels.convert import plan_python  # noqa: PLC0415

    name = f"python{target.minor}"
    settings = f"home = {base}/bin\ninclude-system-site-packages = true\nversion = {target.python}\n"
    plan = plan_python(target, settings, depends=[])
    members: list[File | Link] = [
        File(path="pyvenv.cfg", source=settings.encode()),
        Link(path=f"bin/{name}", target=f"{base}/bin/{name}"),
        *(Link(path=f"bin/{other}", target=name) for other in ("python", "python3")),
    ]
    path = write_conda(channel, index=plan.index, members=members)
    return _archive(channel, plan, file_sha256(path), target.subdir)
