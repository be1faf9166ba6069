"""The list of archives that conda, mamba and pixi install without solving.

See https://conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html, "Building identical conda
environments", and CEP 23.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlviews.lock import Lock, LockedPackage

__all__ = ["render"]


def render(lock: Lock, platform: str) -> str:
    """Return the packages that a lock holds for a platform, what each depends on before it.

    Each is an archive's URL and its MD5, the one hash that all readers know.
    """
    lines = [f"# view {lock.view}, lock {lock.digest}", f"# platform: {platform}", "@EXPLICIT"]
    return "\n".join([*lines, *(f"{package.url}#{package.md5}" for package in _in_order(lock.on(platform))), ""])


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
