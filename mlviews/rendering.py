"""From a view's name to what its formats are made from."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mlviews.errors import RefusedError
from mlviews.faces import known
from mlviews.hardware import host_platform
from mlviews.locksource import lock_file, named_lock
from mlviews.render.formats import Subject
from mlviews.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlviews.lock import Lock
    from mlviews.site import Site
    from mlviews.store import ReleaseEntry

__all__ = ["find_release", "subject"]


def subject(view: str, site: Site, *, release: str | None = None, platform: str | None = None) -> Subject:
    """Return what a view's formats are made from; nothing is read yet.

    Args:
        view: its name.
        site: where its releases and its lock lie.
        release: one of its releases; None or ``default`` for the default one.
        platform: what to render for; None for this host's.

    Raises:
        RefusedError: a format reads what is not there: the release, its platform, or the lock.
    """
    store = Store(site.root, site.prefix)
    named = release if release != "default" else None
    wanted = platform or host_platform()

    @cache
    def entry() -> ReleaseEntry:
        found = find_release(store, view, named)
        check_platform(f"release {found.name} of {view}", found.platforms)
        return found

    def lock() -> Lock:
        found = named_lock(view, site, named) if named else lock_file(view, site)
        check_platform(f"the lock {found.label}", found.lock.platforms)
        return found.lock

    def check_platform(what: str, platforms: Iterable[str]) -> None:
        if wanted not in platforms:
            raise RefusedError(
                "platform-missing",
                f"{what} is for {', '.join(platforms)}, not for {wanted}",
                "Name one of its platforms: --platform.",
            )

    return Subject(
        view=view,
        platform=wanted,
        versioned=named is not None,
        releases=lambda: entry().platforms,
        known=lambda: known(store, entry()),
        lock=lock,
    )


def find_release(store: Store, view: str, release: str | None) -> ReleaseEntry:
    """Return a release of a view, the default one where ``release`` is None.

    Raises:
        RefusedError: there is none.
    """
    name = release or store.default(view)
    entry = next((entry for entry in store.releases(view) if entry.name == name), None)
    if entry is None:
        what = f"no release {release}" if release else "no default release"
        raise RefusedError(
            "release-missing",
            f"there is {what} of {view} under {store.root}",
            f"`mlviews releases {view}` lists what there is; `mlviews build {view}` makes one.",
        )
    return entry
