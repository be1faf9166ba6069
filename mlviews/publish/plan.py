"""What publishing a view on CVMFS would change, and what forbids it: all known before a transaction is opened.

A view is built on one host and published on another. `plan` compares the two as far as this host sees the repository,
and says what is missing there: a release, what makes it the default, what proves it, or that it is gone. Each change is
one tar for ``cvmfs_server ingest``. See https://cvmfs.readthedocs.io/en/stable/cpt-repo.html.
"""

from __future__ import annotations

import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlviews.files.reading import NOTE, RELEASE_FILE, UNPROMOTED, content, status
from mlviews.files.writing import is_folder
from mlviews.prefix import catalogs
from mlviews.publish.contents import (
    Item,
    command_items,
    default_items,
    pack,
    proof_items,
    release_items,
    removal_items,
    tree_items,
    with_folders,
)
from mlviews.publish.repository import Repository, refuse_odd
from mlviews.publish.rules import PublishRemark, of_catalogs, of_items, of_licences, of_platform, of_promotion
from mlviews.store import history
from mlviews.store.launcher import no_release_error
from mlviews.store.layout import is_removed
from mlviews.store.listing import RemovalNote, removal_note
from mlviews.store.loaders import other_defaults
from mlviews.store.removal import locked
from mlviews.values import from_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlviews.progress import Progress
    from mlviews.site.profile import Site
    from mlviews.store.disk import ReleaseEntry, Store

Change = Literal["release", "promotion", "rollback", "removal", "records"]


@dataclass(frozen=True, slots=True)
class Catalog:
    """A folder with a catalog of its own on CVMFS."""

    folder: str
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult:
    """``mlviews publish VIEW``.

    Attributes:
        base: the folder in the repository that everything is put into.
        changes: what changes there; nothing where the repository holds it all. ``records`` are what proves a release
            that lies there, and the modulefiles that tell of it.
        files: files that are put there.
        links: links that are put there.
        catalogs: catalogs that come.
        default: the default that the repository will have; null where that does not change.
        replaced: what becomes another; null where this host does not see the repository.
        deleted: what is taken away with all in it.
        tar: what is packed for `cvmfs_server ingest`.
        tag: the name of the state of the repository after this; empty where it gets none.
        commands: what publishes it, in order.
        done: whether it was carried out.
    """

    view: str
    release: str
    repository: str
    base: str
    changes: Sequence[Change]
    files: int
    links: int
    bytes: int
    catalogs: Sequence[Catalog]
    default: str | None
    replaced: Sequence[str] | None
    deleted: Sequence[str]
    remarks: Sequence[PublishRemark]
    tar: Path | None
    tag: str
    commands: Sequence[str]
    done: bool = False

    @property
    def forbidden(self) -> bool:
        """Whether a rule forbids it."""
        return any(remark.forbids for remark in self.remarks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A change of the repository that no rule has judged as a whole.

    Attributes:
        items: what its tar holds, folders before what lies in them.
        platforms: of a release, those whose prefixes it brings.
        remarks: what is known of it by now.
    """

    view: str
    release: str
    changes: tuple[Change, ...]
    items: tuple[Item, ...]
    platforms: tuple[str, ...] = ()
    remarks: tuple[PublishRemark, ...] = ()
    tag: str = ""
    default: str | None = None
    deleted: tuple[str, ...] = ()


def plan(
    store: Store,
    site: Site,
    view: str,
    release: str | None = None,
    *,
    published: bool = False,
    tar: Path | None = None,
    progress: Progress,
) -> tuple[PublishResult, tuple[Item, ...]]:
    """Plan what a repository lacks of a view.

    Args:
        store: where the view lies; its prefix is where it will lie.
        site: what it demands of a default, which licences it refuses, and whether a group shares the root.
        release: one of its releases, or one that was removed. None: the default where the repository has another one,
            else the newest.
        published: whether the repository holds the release already, where this host cannot see that.
        tar: where the change should be packed, if it should; the plan names it only where no rule forbids it.

    Returns:
        The plan, and every file, link and folder of its tar, folders before what they hold.

    Raises:
        BadInputError: the store's prefix is in no CVMFS repository, or a name cannot be published.
        RefusedError: there is no such release.
        OSError: something cannot be read.
    """
    repository = Repository.of(store)
    refuse_odd(view, "the view's name")
    if tar:
        refuse_odd(str(tar).lstrip("/"), "the tar's path")
    if release and (note := removal_note(store, view, release)):
        draft = _removal(store, repository, view, note)
    else:
        entry = _entry(store, repository, view, release, published=published)
        draft = _addition(store, repository, view, entry, published=published)
        draft = replace(draft, remarks=(*draft.remarks, *_judged(store, site, draft, entry, progress)))
    refuse_odd(draft.release, "the release's name")
    return _result(store, repository, draft, tar), draft.items


def plan_and_pack(
    store: Store,
    site: Site,
    view: str,
    release: str | None = None,
    *,
    published: bool = False,
    tar: Path,
    progress: Progress,
) -> tuple[PublishResult, tuple[Item, ...]]:
    """Plan as `plan` does, and pack what no rule forbids.

    Nobody builds, promotes or removes a release of the view meanwhile: else the tar might lead to a default that it
    does not hold.
    """
    with locked(store, view, progress):
        found, items = plan(store, site, view, release, published=published, tar=tar, progress=progress)
        if found.tar:
            pack(items, found.tar, total=found.bytes, progress=progress)
    return found, items


def _judged(
    store: Store, site: Site, draft: _Draft, entry: ReleaseEntry, progress: Progress
) -> Iterator[PublishRemark]:
    """Judge a release as a whole: each platform that it brings, and whether it may become the default."""
    for platform in draft.platforms:
        yield from of_platform(store, draft.view, entry, platform, shared=site.group is not None, progress=progress)
        yield from of_licences(store, draft.view, entry, platform, site.licences)
    if "promotion" in draft.changes:
        yield from of_promotion(store, draft.view, entry, site.promotion)


def _entry(store: Store, repository: Repository, view: str, release: str | None, *, published: bool) -> ReleaseEntry:
    if release:
        return store.existing(view, release)
    names, default = [entry.name for entry in store.entries(view)], store.default(view)
    if not names:
        raise no_release_error(store.root, view)
    another = published or (repository.seen is not None and repository.default(view) != default)
    # One that cannot be read is refused: an older one in its place would be published unasked.
    return store.existing(view, default if default and another else names[-1])


def _addition(store: Store, repository: Repository, view: str, entry: ReleaseEntry, *, published: bool) -> _Draft:
    """Draft what the repository lacks of a release: its prefixes, what lies around them, what makes it the default."""
    top = f"envs/{view}/{entry.name}"
    there = {name for name in entry.platforms if published or repository.status(f"{top}/{name}/{RELEASE_FILE}")}
    platforms = tuple(sorted({*entry.platforms} - there))
    trees = [item for platform in platforms for item in tree_items(store, view, entry, platform)]
    remarks = [*_published(store, repository, top, entry, trees), *_removed(store, repository, view)]
    around: list[Item] = []
    if not published:
        around = [*release_items(store, view, entry), *proof_items(store, view, entry)]
        command, told = _command(store, around)
        around = [item for item in (*around, *command) if repository.lacks(item)]
        remarks += told if platforms else ()
    default: list[Item] = []
    deleted: tuple[str, ...] = ()
    if store.default(view) == entry.name:
        default = [item for item in default_items(store, view, entry) if repository.lacks(item)]
        deleted = (*_other_defaults(store, repository, view, entry), *_unpromoted(store, repository, view))
    changes: list[Change] = ["release"] if platforms else ["records"] if around else []
    last = history.read(store.view_folder(view))[-1:] if default or deleted else ()
    changes += ["rollback" if change.back and change.after == entry.name else "promotion" for change in last]
    tag = f"{view}-{entry.name}" if platforms else ""
    return _Draft(
        view=view,
        release=entry.name,
        changes=tuple(changes),
        items=with_folders(store, [*trees, *around, *default]),
        platforms=platforms,
        remarks=tuple(remarks),
        tag=tag or "".join(f"{view}-default-{entry.name}-{change.at:%Y%m%dT%H%M%SZ}" for change in last),
        default=entry.name if default else None,
        deleted=deleted,
    )


def _other_defaults(store: Store, repository: Repository, view: str, entry: ReleaseEntry) -> tuple[str, ...]:
    """Return the links by which modules that the view's releases had before name its default there."""
    links = other_defaults(store, view, entry)
    return tuple(repository.inside(path) for path, target in links if repository.link(path) == target)


def _unpromoted(store: Store, repository: Repository, view: str) -> Iterator[str]:
    """Yield what hides releases there that were promoted since."""
    for path in (f"envs/{view}/{name}/{UNPROMOTED}" for name in store.folders(view)):
        if repository.status(path) and not status(store.root / path):
            yield repository.inside(path)


def _command(store: Store, around: Sequence[Item]) -> tuple[tuple[Item, ...], tuple[PublishRemark, ...]]:
    """Return the module of ``mlviews`` itself, where what it starts is published too; else what to say of that."""
    items = command_items(store, around[0].time) if around else ()
    if not items or Path(sys.executable).is_relative_to(store.prefix):
        return items, ()
    why = f"is left out: it starts {sys.executable}, which other users do not have"
    return (), (PublishRemark("command", items[-1].path, why, forbids=False),)


def _published(
    store: Store, repository: Repository, top: str, entry: ReleaseEntry, trees: Iterable[Item]
) -> Iterator[PublishRemark]:
    """Judge what lies where the release would: it, or nothing of it, since no release ever changes."""
    for platform in sorted(entry.platforms):
        path, file = f"{top}/{platform}", f"{top}/{platform}/{RELEASE_FILE}"
        if repository.status(file):
            if repository.content(file) != content(store.root / file):
                why = "another release of this name is published there, and a published release never changes"
                yield PublishRemark("published", path, why)
        elif repository.status(path):
            there = sum(1 for item in trees if not is_folder(item.status) and repository.status(item.path))
            why = f"{there} of its files lie there, without {RELEASE_FILE}; delete that folder there first"
            yield PublishRemark("published", path, why)


def _removed(store: Store, repository: Repository, view: str) -> Iterator[PublishRemark]:
    """Tell of releases that were removed here, and lie there still."""
    for name in store.folders(view):
        path = f"envs/{view}/{name}"
        if (
            is_removed(store.view_folder(view), name)
            and repository.status(path)
            and not repository.status(f"{path}/{NOTE}")
        ):
            why = f"it was removed here; `mlviews publish {view}/{name}` removes it there"
            yield PublishRemark("removed", path, why, forbids=False)


def _removal(store: Store, repository: Repository, view: str, note: RemovalNote) -> _Draft:
    """Draft that a removed release goes from the repository too, and that who asks for it there is told."""
    default = store.default(view)
    now = store.entry(view, default).platforms if default else {}
    module = note.module or next((release.module for release in now.values()), None)
    items = [item for item in removal_items(store, view, note, module) if repository.lacks(item)]
    top = f"envs/{view}/{note.release}"
    goes = not repository.seen or (repository.status(top) and not repository.status(f"{top}/{NOTE}"))
    remarks = []
    if repository.default(view) == note.release:
        why = f"it is still the default there; `mlviews publish {view}` publishes another one"
        remarks.append(PublishRemark("default", top, why))
    return _Draft(
        view=view,
        release=note.release,
        changes=("removal",) if items else (),
        items=with_folders(store, items),
        remarks=tuple(remarks),
        tag=f"{view}-removed-{note.release}" if items else "",
        deleted=(repository.inside(top),) if items and goes else (),
    )


def _result(store: Store, repository: Repository, draft: _Draft, tar: Path | None) -> PublishResult:
    listed = catalogs.listed([item.path for item in draft.items])
    remarks = [*draft.remarks, *of_items(store, draft.items), *of_catalogs(listed)]
    packed = tar if draft.items and not any(remark.forbids for remark in remarks) else None
    names = [item for item in draft.items if not is_folder(item.status)]
    sizes = [item.status.st_size for item in names if stat.S_ISREG(item.status.st_mode)]
    return from_attributes(
        PublishResult,
        draft,
        repository=repository.name,
        base=repository.base,
        files=len(sizes),
        links=len(names) - len(sizes),
        bytes=sum(sizes),
        catalogs=[Catalog(folder, count) for folder, count in listed.items()],
        replaced=[item.path for item in names if repository.status(item.path)] if repository.seen else None,
        remarks=remarks,
        tar=packed,
        commands=_commands(repository, draft, str(packed or "FILE")),
    )


def _commands(repository: Repository, draft: _Draft, tar: str) -> tuple[str, ...]:
    """Return what is typed on the host that publishes.

    What is deleted goes in a transaction of its own: in one, `cvmfs_server` 2.12 does not make a folder again that it
    has deleted.
    """
    name = repository.name
    lines = [f"cvmfs_server ingest --delete {path} {name}" for path in draft.deleted]
    if draft.items:
        lines.append(f"cvmfs_server ingest --tar_file {tar} --base_dir {repository.base} {name}")
    lines += [f"cvmfs_server tag -a {draft.tag} {name}"] if draft.tag else []
    return tuple(lines)
