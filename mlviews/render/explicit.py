"""The list of archives that conda, mamba and pixi install without solving.

See https://conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html, "Building identical conda
environments", and CEP 23.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlviews.lock.lockfile import Lock, LockedPackage


def render_explicit(
    lock: Lock, platform: str, *, strong: bool = False, mirrors: Mapping[str, str] | None = None
) -> str:
    """Return the packages that a lock holds for a platform, what each depends on before it.

    Each is an archive's URL and its MD5, the one hash that all readers know.

    Args:
        strong: give the sha256 instead, as ``#sha256:...``, which micromamba reads from 1.0 on, and conda from 24.9.
        mirrors: URL of a channel -> URL that it is fetched from.

    Raises:
        RefusedError: it holds wheels, which no such list can name.
    """
    if wheels := [package.name for package in lock.on(platform) if package.manager == "pip"]:
        raise RefusedError(
            "explicit-wheels",
            f"the lock of {lock.view} names wheels ({', '.join(wheels)}); such a list can only name conda packages",
            "Give the lock file to `conda-lock install`, or make an image: `mlviews container build`.",
        )
    lines = [f"# view {lock.view}, lock {lock.digest}", f"# platform: {platform}", "@EXPLICIT"]
    for package in _in_order(lock.on(platform)):
        digest = f"sha256:{package.sha256}" if strong else package.md5
        lines.append(f"{_at(package.url, mirrors or {})}#{digest}")
    return "\n".join([*lines, ""])


def _at(url: str, mirrors: Mapping[str, str]) -> str:
    for channel, mirror in mirrors.items():
        if url.startswith(f"{channel.rstrip('/')}/"):
            return mirror.rstrip("/") + url.removeprefix(channel.rstrip("/"))
    return url


def _in_order(packages: Iterable[LockedPackage]) -> list[LockedPackage]:
    by_name = {package.name: package for package in packages}
    order: dict[str, LockedPackage] = {}
    entered: set[str] = set()

    def enter(name: str) -> None:
        if name in entered or name not in by_name:  # a cycle, or a virtual package
            return
        entered.add(name)
        for dependency in sorted(by_name[name].dependencies):
            enter(dependency)
        order[name] = by_name[name]

    for name in sorted(by_name):
        enter(name)
    return list(order.values())
