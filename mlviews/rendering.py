"""From a view's name to what its formats are made from."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mlviews.container.describe import of_recipe, of_release
from mlviews.errors import RefusedError
from mlviews.formats import Subject
from mlviews.hardware import host_platform
from mlviews.prefix.install import installed_licenses
from mlviews.store.disk import Store
from mlviews.store.faces import known
from mlviews.store.locksource import lock_file, named_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlviews.container.files import Contents
    from mlviews.recipe.compose import ViewSpec
    from mlviews.site.profile import Site
    from mlviews.store.disk import ReleaseEntry
    from mlviews.store.locksource import NamedLock

__all__ = ["find_release", "subject"]


def subject(
    view: str,
    site: Site,
    *,
    recipe: Callable[[], ViewSpec],
    release: str | None = None,
    platform: str | None = None,
) -> Subject:
    """Return what a view's formats are made from; nothing is read yet.

    Args:
        view: its name.
        site: where its releases and its lock lie.
        recipe: gives its recipe.
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

    @cache
    def lock() -> NamedLock:
        found = named_lock(view, site, named) if named else lock_file(view, site)
        check_platform(f"the lock {found.label}", found.lock.platforms)
        return found

    @cache
    def image() -> Contents:
        return _image(lock(), site, store, wanted, recipe)

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
        lock=lambda: lock().lock,
        image=image,
        mirrors=site.mirrors,
    )


def _image(named: NamedLock, site: Site, store: Store, platform: str, recipe: Callable[[], ViewSpec]) -> Contents:
    """Return what an image of a lock holds; a release of that lock knows more than the lock."""
    from mlviews.container.files import Contents  # noqa: PLC0415  (half of it is for bills of materials)

    lock = named.lock
    for entry in store.releases(lock.view):
        if entry.lock_digest == lock.digest and platform in entry.platforms:
            container = of_release(entry.platforms[platform], lock, site.container)
            prefix = store.platform_folder(lock.view, entry.name, platform)
            return Contents(container, lock, named.text, installed_licenses(prefix))
    return Contents(of_recipe(recipe(), lock, platform, site.container), lock, named.text)


def find_release(store: Store, view: str, release: str | None) -> ReleaseEntry:
    """Return a release of a view, the default one where ``release`` is None.

    Raises:
        RefusedError: there is none: there never was, or it was removed.
    """
    name = release or store.default(view)
    if name is None:
        raise RefusedError(
            "release-missing",
            f"there is no default release of {view} under {store.root}",
            f"`mlviews releases {view}` lists what there is; `mlviews build {view}` makes one.",
        )
    return store.existing(view, name)
