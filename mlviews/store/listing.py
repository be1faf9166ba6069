"""What releases there are, what each takes, and what is proved of it: looked at, and never changed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mlviews.files.reading import NOTE, DamagedError, Unreadable, UnreadableError, content
from mlviews.files.storefile import StoreFile, parse
from mlviews.prefix import usage
from mlviews.release import GpuLine, Inside, ReleaseVariant, module_versions
from mlviews.smoke.records import Record, last_results, proved_gpus, read_records
from mlviews.store import history

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlviews.store.disk import ReleaseEntry, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseSummary:
    """What there is to say of one release.

    Attributes:
        view: whose it is.
        pinned: whether nothing removes it until `mlviews pin --undo`.
        bytes: bytes that its files take; files shared with others count in full.
        shared: bytes of them that the cache or other releases hold too, by hard links.
        passed: checks that its lock passed, by the last record of each.
        failed: checks that its lock failed, by the last record of each.
        gpus: what proves its lock on the GPUs that it claims, and others.
        override: why it became the default last although proofs were missing; empty where none were.
    """

    view: str
    release: str
    default: bool
    platforms: Sequence[str]
    created: datetime
    lock: str
    packages: int
    pinned: bool
    bytes: int
    shared: int
    passed: Sequence[str]
    failed: Sequence[str]
    gpus: Sequence[GpuLine]
    override: str


class RemovalNote(StoreFile):
    """``removed.json``.

    Attributes:
        module: whose modulefile tells of it.
        variant: which variant of another view it is; that one's module tells of it, too.
    """

    view: str
    release: str
    lock_digest: str
    removed: datetime
    default: str | None
    module: Inside
    variant: ReleaseVariant | None

    @property
    def modules(self) -> tuple[tuple[str, str], ...]:
        """The modules and versions that tell of it."""
        return module_versions(self.module, self.release, self.variant)


@dataclass(frozen=True, slots=True)
class RemovedRelease:
    """A release that was removed.

    Attributes:
        view: whose it was.
    """

    view: str
    release: str
    removed: datetime
    lock: str


@dataclass(frozen=True, slots=True)
class ReleasesResult:
    """``mlviews releases [VIEW]``.

    Attributes:
        view: null where all were asked for.
        removed: what was there once.
        unreadable: what cannot be read; it may be a release, a part of one, or what proves one.
        lost: VIEW/RELEASE of each default that is not there: somebody deleted its folder.
    """

    view: str | None
    releases: Sequence[ReleaseSummary]
    removed: Sequence[RemovedRelease] = ()
    unreadable: Sequence[Unreadable] = ()
    lost: Sequence[str] = ()


def all_releases(store: Store) -> ReleasesResult:
    """Return the releases of every view, as `releases_of` does those of one."""
    found = [releases_of(store, view) for view in store.views()]
    return ReleasesResult(
        None,
        [line for one in found for line in one.releases],
        [line for one in found for line in one.removed],
        [line for one in found for line in one.unreadable],
        [line for one in found for line in one.lost],
    )


def releases_of(store: Store, view: str) -> ReleasesResult:
    """Return a view's releases and what is remembered of removed ones, both oldest first."""
    found: list[ReleaseSummary] = []
    unreadable: list[Unreadable] = []
    overrides: Mapping[str, str] = {}
    try:
        overrides = history.overrides(history.read(store.view_folder(view)))
    except UnreadableError as error:
        unreadable.append(error.unreadable)
    entries = store.entries(view)
    for entry in entries:
        unreadable += entry.unreadable
        if entry.platforms:
            try:
                records = read_records(store.root, view, entry.lock_digest)
            except UnreadableError as error:
                unreadable.append(error.unreadable)
                records = ()  # it is told: nothing of this is a proof
            found.append(_summary(store, view, entry, records, overrides))
    closed = {entry.name for entry in entries if "" in entry.errors}
    names = (name for name in store.folders(view) if name not in closed)
    notes = filter(None, (removal_note(store, view, name) for name in names))
    removed = [
        RemovedRelease(view, note.release, note.removed.replace(microsecond=0), note.lock_digest) for note in notes
    ]
    lost = store.lost_default(view)
    return ReleasesResult(view, found, removed, unreadable, [f"{view}/{lost}"] if lost else [])


def _summary(
    store: Store, view: str, entry: ReleaseEntry, records: Sequence[Record], overrides: Mapping[str, str]
) -> ReleaseSummary:
    checks = last_results(records)
    usages = {
        prefix: usage.read(prefix)
        for prefix in (store.platform_folder(view, entry.name, platform) for platform in entry.platforms)
    }
    return ReleaseSummary(
        view=view,
        release=entry.name,
        default=entry.name == store.default(view),
        platforms=sorted(entry.platforms),
        created=max(release.created for release in entry.platforms.values()),
        lock=entry.lock_digest,
        packages=max(release.locked_packages for release in entry.platforms.values()),
        pinned=store.is_pinned(view, entry.name),
        bytes=sum(used.bytes for used in usages.values()),
        shared=sum(usage.shared_bytes(prefix, used) for prefix, used in usages.items()),
        passed=sorted(name for name, passed in checks.items() if passed),
        failed=sorted(name for name, passed in checks.items() if not passed),
        gpus=proved_gpus(next(iter(entry.platforms.values())).gpus, records),
        override=overrides.get(entry.name, ""),
    )


def removal_note(store: Store, view: str, release: str) -> RemovalNote | None:
    """Return what is remembered of a release that was removed; None where it was not, or the note is damaged."""
    path = store.view_folder(view) / release / NOTE
    with suppress(DamagedError):
        if text := content(path):
            return parse(RemovalNote, text, path)
    return None
