"""Carrying a plan out where ``cvmfs_server`` is: whole or not at all; after a kill, the next call ends it.

A note says what is under way. `cvmfs_server` holds the same lock as the process that started it: who comes after a kill
waits until it has ended, and aborts the transaction that it left open. What is done, the repository itself says.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError, FailedError, RefusedError
from mlviews.files.filelock import LOCK, announce, hold
from mlviews.files.reading import DamagedError, content
from mlviews.files.storefile import StoreFile, parse
from mlviews.files.writing import delete_tree, write_atomically
from mlviews.progress import Progress, silent
from mlviews.publish.contents import pack
from mlviews.publish.plan import PublishResult, plan
from mlviews.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlviews.site.profile import Site
    from mlviews.store.disk import Store

_FOLDER = ".publishing"
_NOTE = "note.json"
_TAR = "change.tar"
_TOLD = 5  # lines of what `cvmfs_server` said last


class _Note(StoreFile):
    """What is under way.

    Attributes:
        tag: the name that the state of the repository gets when it is done; may be empty.
    """

    view: str
    release: str
    tag: str


def publish(store: Store, site: Site, view: str, release: str | None, *, progress: Progress) -> PublishResult:
    """Publish what the repository lacks of a view; arguments and errors are also `mlviews.publish.plan.plan`'s.

    Returns:
        The plan, and whether it was carried out: a rule may forbid it, or there may be nothing to do.

    Raises:
        BadInputError: the site does not name the repository of its prefix.
        RefusedError: somebody else has a transaction open there.
        FailedError: there is no ``cvmfs_server`` here, or it failed; the repository is what it was.
    """
    repository = _own(store, site)
    folder = store.root / _FOLDER
    with hold(folder / LOCK, waiting=announce(progress, repository.name)) as lock:
        server = _Server(repository.name, lock, progress)
        _finish(store, site, server, folder)
        found, items = plan(store, site, view, release, tar=folder / _TAR, progress=progress)
        if found.forbidden or not found.changes:
            return found
        write_atomically(folder / _NOTE, _Note(view=view, release=found.release, tag=found.tag).text())
        if found.tar:
            pack(items, found.tar, total=found.bytes, progress=progress)
        for command in found.commands:
            server.run(command)
        delete_tree(folder, keep={LOCK})
    return replace(found, done=True)


def _own(store: Store, site: Site) -> Repository:
    """Return the repository, if it is the site's and its server is here."""
    repository = Repository.of(store)
    if site.repository != repository.name:
        named = f"names {site.repository}" if site.repository else "names no repository"
        raise BadInputError(
            "repository-unnamed",
            f"{store.prefix} is in {repository.name}, and site {site.name} {named}",
            f"Write `repository: {repository.name}` into the site's file, or plan only: --plan --tar FILE.",
        )
    if shutil.which("cvmfs_server") is None:
        raise FailedError(
            "server-missing",
            "there is no cvmfs_server on this host",
            "Give --plan --tar FILE here, and publish on the host that has it.",
        )
    if repository.seen is None:
        raise FailedError(
            "repository-unseen", f"{repository.name} is not mounted here", "Mount it: mlviews must know what it holds."
        )
    return repository


def _finish(store: Store, site: Site, server: _Server, folder: Path) -> None:
    """Clear up after a call that was killed, which held the lock that is held now: nothing of it runs any more.

    What it had done is done; the name of that state may be missing. What it had not done, is planned anew.
    """
    note = None
    with suppress(DamagedError):
        if text := content(folder / _NOTE):
            note = parse(_Note, text, folder / _NOTE)
    if server.in_transaction():
        if note is None:
            raise RefusedError(
                "transaction-open",
                f"somebody has a transaction open on {server.name}",
                "Wait until it is closed; `cvmfs_server list` shows it.",
            )
        server.abort()
    if note and note.tag and not _left(store, site, note):
        server.run(f"cvmfs_server tag -a {note.tag} {server.name}")
    delete_tree(folder, keep={LOCK})


def _left(store: Store, site: Site, note: _Note) -> bool:
    """Tell whether any of what a note says is still to be done."""
    with suppress(RefusedError):
        found, _ = plan(store, site, note.view, note.release, progress=silent)
        return bool(found.changes)
    return True


class _Server:
    """Runs ``cvmfs_server``."""

    def __init__(self, name: str, lock: int, progress: Progress) -> None:
        self.name, self._lock, self._progress = name, lock, progress

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open."""
        lines = self._call(["cvmfs_server", "list"]).splitlines()
        return any(line.startswith(f"{self.name} ") and " - in transaction" in line for line in lines)

    def abort(self) -> None:
        """End the open transaction; the repository is what it was before."""
        self._call(["cvmfs_server", "abort", "-f", self.name])

    def run(self, command: str) -> None:
        """Run one line of a plan; a transaction that it leaves open is aborted."""
        with self._progress(command):
            try:
                self._call(shlex.split(command))
            except FailedError:
                if self.in_transaction():
                    self.abort()
                raise

    def _call(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, pass_fds=(self._lock,),
        )  # fmt: skip
        if done.returncode:
            raise FailedError(
                "server-failed",
                f"{' '.join(command)} ended with status {done.returncode}",
                "The repository has not changed. Correct what the message says, and run `mlviews publish` again.",
                faults=tuple(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-_TOLD:]),
            )
        return done.stdout
