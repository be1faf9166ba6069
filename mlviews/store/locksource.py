"""Locks by any of their names: a file, a release, a Git revision of the lock file, or the stamp of a result."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError, MlviewsError, RefusedError, nearest
from mlviews.files.reading import folders_in, is_file
from mlviews.hardware import host_platform
from mlviews.lock.lockfile import Lock, lock_bytes, lock_path
from mlviews.lock.parse import parse_lock, read_lock
from mlviews.lock.status import find_lock, no_lock_error
from mlviews.release import RELEASE_LOCK
from mlviews.site.file import other_roots
from mlviews.store.disk import Store
from mlviews.store.launcher import no_release_error
from mlviews.store.layout import default_of, refuse_removed

if TYPE_CHECKING:
    from mlviews.provenance.stamp import Stamp
    from mlviews.site.profile import Site

_SHOWN = 12  # digits of a digest
_RELEASE = re.compile(r"\d{4}\.\d{2}\.\d{2}(\.\d+)?")


@dataclass(frozen=True, slots=True)
class NamedLock:
    """A lock and what to call it.

    Attributes:
        text: its file, as it is.
    """

    label: str
    lock: Lock
    text: str


def _named(label: str, path: Path) -> NamedLock:
    raw = lock_bytes(path)
    return NamedLock(label, parse_lock(raw, str(path)), raw.decode())


def lock_file(view: str, site: Site) -> NamedLock:
    """Return the view's lock file.

    Raises:
        RefusedError: there is none.
    """
    path = find_lock(view, site.lock_folders)
    if path is None:
        raise no_lock_error(view, site)
    return _named(str(path), path)


def default_release_lock(view: str, site: Site) -> NamedLock:
    """Return the lock of the view's default release.

    Raises:
        RefusedError: the view has no default release.
    """
    default = default_of(site.root / "envs" / view)
    if default is None:
        error = no_release_error(site.root, view)
        raise RefusedError(
            error.code,
            error.message,
            f"{error.hint} Or name what to compare with: --from LOCK, RELEASE or a Git revision such as HEAD.",
        )
    return _release_lock(view, site, default)


def named_lock(view: str, site: Site, name: str) -> NamedLock:
    """Return the lock that ``name`` means: a file that exists, else RELEASE or VIEW/RELEASE, else a Git revision.

    Raises:
        BadInputError: it is none of these, or no lock of mlviews.
        RefusedError: there is no such release.
    """
    path = os.path.expanduser(name)  # noqa: PTH111  (here and below: what cannot be a path is no file, not an error)
    if os.path.isfile(path):  # noqa: PTH113
        return _named(name, Path(path))
    release = name.removeprefix(f"{view}/")
    if release == "default":
        return default_release_lock(view, site)
    if _RELEASE.fullmatch(release):
        return _release_lock(view, site, release)
    return _git_lock(view, site, name)


def _release_lock(view: str, site: Site, release: str) -> NamedLock:
    folder = site.root / "envs" / view / release
    refuse_removed(folder.parent, release)
    found = [path / RELEASE_LOCK for path in folders_in(folder) if is_file(path / RELEASE_LOCK)]
    if not found:
        meant = nearest(release, (path.name for path in folders_in(folder.parent)))
        raise RefusedError(
            "release-missing",
            f"there is no release {release} of {view}{meant}",
            f"`mlviews releases {view}` lists them.",
        )
    return _named(f"{view}/{release}", found[0])


def _git_lock(view: str, site: Site, revision: str) -> NamedLock:
    path = lock_path(site.lockfiles, view)
    problem = f"{revision!r} is not a file, release or Git revision that holds {path.name}"
    hint = "For example: lockfiles/x.conda-lock.yml, 2026.11.23, HEAD~1"
    if site.packages == "wheels":
        hint = f"Git holds no lock of site {site.name}: they lie in {path.parent}. Name a file, or a release."
    if revision.startswith("-") or ":" in revision or not path.parent.is_dir():
        raise BadInputError("lock-unknown", problem, hint)
    try:
        shown = subprocess.run(
            ["git", "-C", str(path.parent), "show", f"{revision}:./{path.name}"], capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise BadInputError("lock-unknown", f"{problem} (there is no git here)", hint) from error
    if shown.returncode != 0:
        raise BadInputError("lock-unknown", problem, hint, detail=shown.stderr.decode(errors="replace"))
    label = f"{revision}:{path.name}"
    return NamedLock(label, parse_lock(shown.stdout, label), shown.stdout.decode())


def revision_of(path: Path, digest: str) -> tuple[str, Path, Path] | None:
    """Return the Git revision in which a lock file had a digest: the commit, the repository, and the file in it.

    Args:
        path: the lock file, which need not be there any more.

    Returns:
        None where Git knows of none.
    """
    if not path.parent.is_dir():
        return None

    def git(*arguments: str) -> str:
        line = ["git", "-C", str(path.parent), *arguments]
        return subprocess.run(line, capture_output=True, check=True, text=True, errors="replace").stdout

    try:
        top = Path(git("rev-parse", "--show-toplevel").strip())
        # Commits in which the number of times that the file holds the text changes, newest first.
        changed = git("log", "--format=%H", f"-S{digest}", "--", path.name).split()
        inside = Path(git("rev-parse", "--show-prefix").strip()) / path.name
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return (changed[-1], top, inside) if changed else None


def release_of_lock(root: Path, view: str, digest: str) -> str | None:
    """Return a release of a view that a lock gave and that runs on this host: the default one, else the newest."""
    store = Store(root, root)
    platform = host_platform()
    found = [
        entry.name
        for entry in store.releases(view)
        if platform in entry.platforms and entry.lock_digest == digest
    ]  # fmt: skip
    default = store.default(view)
    return default if default in found else found[-1] if found else None


def whence(stamp: Stamp, site: Site, recipes: Path) -> RefusedError:
    """Return the error for a lock that has no release here: which lock it is, and where it can be built from."""
    what = f"no release of {stamp.view} under {site.root} has the lock {stamp.lock[:_SHOWN]}"
    called = f", which was release {stamp.release} where the file was made" if stamp.release else ""
    return RefusedError("lock-not-built", f"{what}{called}", _way(stamp, site, recipes))


def _way(stamp: Stamp, site: Site, recipes: Path) -> str:
    view = stamp.view
    for name, root in other_roots(site.root):
        with suppress(MlviewsError):  # a root that cannot be read helps nobody
            if release_of_lock(root, view, stamp.lock):
                return f"Site {name} has one: add `--site {name}`."
    with suppress(MlviewsError):
        path = find_lock(view, site.lock_folders)
        if path and read_lock(path).digest == stamp.lock:
            return f"{path} is that lock: `mlviews build {view}` makes the release."
    if (found := revision_of(lock_path(site.lockfiles, view), stamp.lock)) is not None:
        commit, top, inside = found
        tree = f"{view}-{stamp.lock[:_SHOWN]}"
        options = f"--lockfiles {shlex.quote(os.path.join(tree, inside.parent))}"  # noqa: PTH118
        with suppress(ValueError):  # recipes may lie elsewhere
            options += f" --recipes {shlex.quote(os.path.join(tree, recipes.resolve().relative_to(top)))}"  # noqa: PTH118
        add = f"git -C {shlex.quote(str(top))} worktree add $PWD/{tree} {commit[:_SHOWN]}"
        return f"Git has it: `{add}`, then `mlviews build {view} {options}`."
    if stamp.source:
        return f"Its recipe and its lock are kept in {stamp.source}: the lock says `mlviews-lock-digest: {stamp.lock}`."
    return (
        f"Ask who made the file for the lock of {view} that says `mlviews-lock-digest: {stamp.lock}`, and its recipe."
    )
