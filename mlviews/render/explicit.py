"""A lock's packages as the list that micromamba, conda and mamba install without solving."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlviews.lock import Lock, LockedPackage

__all__ = ["render_explicit"]


def render_explicit(lock: Lock, platform: str, *, mirrors: Mapping[str, str] | None = None) -> str:
    """Return an ``@EXPLICIT`` list: each package by URL and sha256, after all that it depends on.

    micromamba from 1.0, conda from 24.9 and pixi's tools check ``#sha256:...`` before they unpack.

    Args:
        lock: the lock.
        platform: for which of its platforms.
        mirrors: channel URL -> URL of a server that stands for it.
    """
    lines = [
        f"# View {lock.view} for {platform}. Lock: {lock.digest}",
        f"# platform: {platform}",
        "@EXPLICIT",
        *(f"{_at(package.url, mirrors or {})}#sha256:{package.sha256}" for package in _ordered(lock.on(platform))),
    ]
    return "\n".join(lines) + "\n"


def _at(url: str, mirrors: Mapping[str, str]) -> str:
    for channel, mirror in mirrors.items():
        if url.startswith(f"{channel.rstrip('/')}/"):
            return mirror.rstrip("/") + url.removeprefix(channel.rstrip("/"))
    return url


def _ordered(packages: Sequence[LockedPackage]) -> list[LockedPackage]:
    """Put what is depended on first: installers link such a list from top to bottom, and need Python early."""
    by_name = {package.name: package for package in packages}
    found: dict[str, LockedPackage] = {}
    for package in packages:
        _put(package, by_name, found, frozenset())
    return list(found.values())


def _put(
    package: LockedPackage,
    by_name: Mapping[str, LockedPackage],
    found: dict[str, LockedPackage],
    above: frozenset[str],
) -> None:
    if package.name in found or package.name in above:  # conda's packages may depend on each other in circles
        return
    for name in sorted(package.dependencies):
        if name in by_name:
            _put(by_name[name], by_name, found, above | {package.name})
    found[package.name] = package
