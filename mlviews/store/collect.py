"""Freeing what nobody needs: releases that may go, debris, and packages in the cache that no release has.

Which releases stay is a pure rule. Views are locked one after another and never together with the cache, so that no two
processes wait for each other. A view that is being built is left alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from mlviews.files.filelock import LOCK, HeldError, announce, held_by, hold
from mlviews.files.reading import Unreadable, UnreadableError, is_folder_at, status
from mlviews.files.writing import delete_tree, is_folder, remove_file, walk
from mlviews.prefix import usage
from mlviews.prefix.unpacked import PACKAGES, note_path
from mlviews.store import history
from mlviews.store.debris import cache_debris, common_debris, unused, view_debris
from mlviews.store.removal import finish, is_unfinished, remove_held
from mlviews.store.retention import ReleaseState, kept
from mlviews.store.users import ReleaseUse, release_uses, uses_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mlviews.progress import Progress
    from mlviews.store.disk import ReleaseEntry, Store


@dataclass(frozen=True, slots=True)
class Rule:
    """What stays besides defaults, pinned releases and those in progress.

    Attributes:
        keep: how many of a view's newest releases.
        within: how long what was built or the default, and what was fetched of channels and registries.
        force: whether what is in use goes, too.
    """

    keep: int
    within: timedelta
    force: bool = False


@dataclass(frozen=True, slots=True)
class KeptRelease:
    """A release that stays."""

    view: str
    release: str
    why: str


@dataclass(frozen=True, slots=True)
class GoingRelease:
    """A release that goes."""

    view: str
    release: str


@dataclass(frozen=True, slots=True)
class BusyView:
    """A view that is left alone, since somebody is at work on it."""

    view: str
    holder: str


@dataclass(frozen=True, slots=True)
class GcResult:
    """``mlviews gc``.

    Attributes:
        dry_run: whether nothing was changed.
        debris: what processes that died had left.
        unreadable: what cannot be read, and so stays. A release of which nobody knows the packages keeps all in the
            cache.
        cache: what nobody needs of the cache, by its path there.
        bytes: bytes that are free then; of what has several names, only what loses them all.
    """

    dry_run: bool
    removed: Sequence[GoingRelease]
    kept: Sequence[KeptRelease]
    busy: Sequence[BusyView]
    unreadable: Sequence[Unreadable]
    debris: Sequence[Path]
    cache: Sequence[str]
    bytes: int


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What `gc` does in one view.

    Attributes:
        unfinished: releases that were removed, and hold something still.
        debris: folders and files that are left of dead processes.
        unreadable: what cannot be read of it.
        busy: set where somebody is at work on the view: nothing is done then.
    """

    view: str
    kept: tuple[KeptRelease, ...] = ()
    removed: tuple[GoingRelease, ...] = ()
    unfinished: tuple[str, ...] = ()
    debris: tuple[Path, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    busy: BusyView | None = None


def foresee(store: Store, cache: Path, views: Sequence[str], rule: Rule) -> GcResult:
    """Say what `collect` would do now, and change nothing."""
    entries = store.all_entries()
    uses = () if rule.force else release_uses(store, entries)
    sweeps = [_sweep_if_free(store, view, entries[view], rule, uses) for view in views]
    going = {(release.view, release.release) for sweep in sweeps for release in sweep.removed}
    stays, tally = [], _Tally()
    for view, entry in ((view, entry) for view, found in entries.items() for entry in found):
        if (view, entry.name) not in going:
            stays.append(entry)
            continue
        for platform in entry.platforms:
            tally.add_release(store.platform_folder(view, entry.name, platform))
    free = _unused(cache, stays, rule)
    for sweep in sweeps:
        tally.add(store.view_folder(sweep.view) / name for name in sweep.unfinished)
        tally.add(sweep.debris)
    debris = (*common_debris(store.root), *cache_debris(cache))
    tally.add(cache / name for name in free)
    tally.add(debris)
    return _result(sweeps, debris, free, tally.freed, dry_run=True)


def collect(store: Store, cache: Path, views: Sequence[str], rule: Rule, *, progress: Progress) -> GcResult:
    """Free what nobody needs.

    Raises:
        FailedError: something cannot be deleted; what was deleted by then stays so, and the next call goes on.
    """
    sweeps = []
    uses = () if rule.force else release_uses(store, store.all_entries())
    debris = common_debris(store.root)
    freed = sum(map(_delete, debris))
    with progress("Removing", total=len(views)) as advance:
        for view in views:
            sweep, bytes_ = _collect_view(store, view, rule, uses)
            sweeps.append(sweep)
            freed += bytes_
            advance()
    if not is_folder_at(cache, follow=True):
        return _result(sweeps, debris, (), freed)
    with hold(cache / LOCK, waiting=announce(progress, "the cache")), progress("Cleaning the cache"):
        stays = [entry for view in store.views() for entry in store.entries(view)]
        free, left = _unused(cache, stays, rule), cache_debris(cache)
        freed += sum(_delete(cache / name) for name in free)
        freed += sum(map(_delete, left))
    return _result(sweeps, (*debris, *left), free, freed)


def _unused(cache: Path, stays: Sequence[ReleaseEntry], rule: Rule) -> tuple[str, ...]:
    """Return what nobody needs of the cache: nothing, where nobody knows what some release needs."""
    known = not any(entry.unreadable for entry in stays)
    return unused(cache, stays, within=rule.within) if known else ()


def _result(
    sweeps: Sequence[_Sweep], debris: Sequence[Path], cache: Sequence[str], freed: int, *, dry_run: bool = False
) -> GcResult:
    return GcResult(
        dry_run=dry_run,
        removed=[release for sweep in sweeps for release in sweep.removed],
        kept=[release for sweep in sweeps for release in sweep.kept],
        busy=[sweep.busy for sweep in sweeps if sweep.busy],
        unreadable=[unreadable for sweep in sweeps for unreadable in sweep.unreadable],
        debris=[*(path for sweep in sweeps for path in sweep.debris), *debris],
        cache=cache,
        bytes=freed,
    )


def _collect_view(store: Store, view: str, rule: Rule, uses: Sequence[ReleaseUse]) -> tuple[_Sweep, int]:
    try:
        with store.view_lock(view, waiting=None):
            sweep = _sweep(store, view, store.entries(view), rule, uses)
            now = datetime.now(timezone.utc)
            # What needs no room on the disk comes first, and makes some.
            freed = sum(map(_delete, sweep.debris))
            freed += sum(finish(store, view, name) for name in sweep.unfinished)
            return sweep, freed + sum(remove_held(store, view, release.release, now) for release in sweep.removed)
    except HeldError as held:
        return _Sweep(view, busy=BusyView(view, held.holder)), 0


def _sweep_if_free(
    store: Store, view: str, entries: Sequence[ReleaseEntry], rule: Rule, uses: Sequence[ReleaseUse]
) -> _Sweep:
    holder = held_by(store.view_folder(view) / LOCK)
    return _Sweep(view, busy=BusyView(view, holder)) if holder else _sweep(store, view, entries, rule, uses)


def _sweep(store: Store, view: str, entries: Sequence[ReleaseEntry], rule: Rule, uses: Sequence[ReleaseUse]) -> _Sweep:
    """Judge a view; one of which something cannot be read besides its releases is left alone."""
    try:
        return _judge(store, view, entries, rule, uses)
    except UnreadableError as error:
        known = (unreadable for entry in entries for unreadable in entry.unreadable)
        return _Sweep(view, unreadable=tuple(dict.fromkeys([*known, error.unreadable])))


def _judge(store: Store, view: str, entries: Sequence[ReleaseEntry], rule: Rule, uses: Sequence[ReleaseUse]) -> _Sweep:
    default, unpublished = store.default(view), store.unpublished(view)
    left = history.left(history.read(store.view_folder(view)))
    judged = [
        ReleaseState(
            name=entry.name,
            default=entry.name == default,
            pinned=store.is_pinned(view, entry.name),
            in_progress=entry.name == unpublished,
            unreadable=bool(entry.unreadable),
            built=max((release.created for release in entry.platforms.values()), default=None),
            left=left.get(entry.name),
            used_by=[str(use) for use in uses_of(uses, view, entry.name)],
        )
        for entry in entries
    ]
    stays = kept(judged, keep=rule.keep, within=rule.within, now=datetime.now(timezone.utc))
    return _Sweep(
        view,
        kept=tuple(KeptRelease(view, name, why) for name, why in stays.items()),
        removed=tuple(GoingRelease(view, entry.name) for entry in entries if entry.name not in stays),
        unfinished=tuple(name for name in store.folders(view) if is_unfinished(store, view, name)),
        debris=view_debris(store, view, entries),
        unreadable=tuple(unreadable for entry in entries for unreadable in entry.unreadable),
    )


def _delete(path: Path) -> int:
    """Delete a file or a folder, and of a package in the cache its note and the lock that rattler keeps beside it."""
    freed = 0
    if is_folder_at(path):
        freed = delete_tree(path)
    else:
        found = status(path)
        freed = found.st_size if found and found.st_nlink == 1 else 0
        remove_file(path)
    if path.parent.name == PACKAGES:
        remove_file(path.with_name(f"{path.name}.lock"))
        remove_file(note_path(path))
    return freed


class _Tally:
    """Counts the bytes that are free when all that was added is gone: what has another name elsewhere is not."""

    def __init__(self) -> None:
        self._own = 0
        self._seen: Counter[tuple[int, int]] = Counter()
        self._links: dict[tuple[int, int], int] = {}
        self._bytes: dict[tuple[int, int], int] = {}

    def add(self, paths: Iterable[Path]) -> None:
        """Add files and folders with all below them."""
        for path in paths:
            found = status(path)
            if found and not is_folder(found):
                self._file(found)
            for _, inner in walk(path) if found and is_folder(found) else ():
                if not is_folder(inner):
                    self._file(inner)

    def add_release(self, prefix: Path) -> None:
        """Add one platform of a release, by what was measured of it: of each package one file is looked at."""
        measured = usage.read(prefix)
        self._own += measured.own
        for package in measured.linked.values():
            found = status(prefix / package.file)
            if found is None:
                continue
            self._file(found)
            if found.st_nlink > 1:
                self._bytes[found.st_dev, found.st_ino] = package.bytes
            else:
                self._own += package.bytes - found.st_size

    @property
    def freed(self) -> int:
        """All bytes of which no name is left."""
        return self._own + sum(self._bytes[key] for key, seen in self._seen.items() if seen >= self._links[key])

    def _file(self, found: os.stat_result) -> None:
        if found.st_nlink == 1:
            self._own += found.st_size
            return
        key = (found.st_dev, found.st_ino)
        self._seen[key] += 1
        self._links[key] = found.st_nlink
        self._bytes.setdefault(key, found.st_size)
