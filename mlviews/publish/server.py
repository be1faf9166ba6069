"""Carrying a plan out where ``cvmfs_server`` is: whole or not at all; after a kill, the next call ends it.

A note says what is under way, and since when. `cvmfs_server` holds the same lock as the process that started it: who
comes after a kill waits until it has ended, and aborts the transaction that it left open, but no later one. What is
done, the repository itself says.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError, FailedError, RefusedError
from mlviews.files.filelock import LOCK, announce, hold
from mlviews.files.permissions import refuse_foreign
from mlviews.files.reading import DamagedError, content, status
from mlviews.files.storefile import StoreFile, parse
from mlviews.files.writing import delete_tree, write_atomically
from mlviews.progress import Progress, silent
from mlviews.publish.plan import PublishResult, plan, plan_and_pack
from mlviews.publish.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.site.profile import Site
    from mlviews.store.disk import Store

_FOLDER = ".publishing"
_NOTE = "note.json"
_TAR = "change.tar"
_TOLD = 5  # lines of what `cvmfs_server` said last
_SPOOL = Path("/var/spool/cvmfs")  # of each repository, `in_transaction.lock` is made when a transaction opens
_OPENS = timedelta(minutes=10)  # by then `cvmfs_server` has opened the transaction that it was started for
_ASKED = "Do you want to proceed anyway?"
_AGAIN = "Then run `mlviews publish` again."
_NOTHING_DONE = f"The repository has not changed. Correct what the message says. {_AGAIN}"
_PARTLY_DONE = f"What came before is done. Correct what the message says. {_AGAIN} It does the rest."


class _Note(StoreFile):
    """What is under way.

    Attributes:
        tag: the name that the state of the repository gets when it is done; may be empty.
        begun: when `cvmfs_server` was started last.
    """

    view: str
    release: str
    tag: str
    begun: datetime


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
    refuse_foreign(store.root, [store.root, folder])  # else somebody could change the tar before it is ingested
    with hold(folder / LOCK, waiting=announce(progress, repository.name)) as lock:
        server = _Server(repository.name, lock, progress)
        _finish(store, site, server, folder)
        found, _ = plan_and_pack(store, site, view, release, tar=folder / _TAR, progress=progress)
        if found.forbidden or not found.changes:
            return found
        _carry_out(server, folder, found.commands, view=view, release=found.release, tag=found.tag)
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


def _carry_out(server: _Server, folder: Path, commands: Sequence[str], *, view: str, release: str, tag: str) -> None:
    for number, command in enumerate(commands):
        note = _Note(view=view, release=release, tag=tag, begun=datetime.now(timezone.utc))
        write_atomically(folder / _NOTE, note.text())
        server.run(command, _PARTLY_DONE if number else _NOTHING_DONE)


def _finish(store: Store, site: Site, server: _Server, folder: Path) -> None:
    """Clear up after a call that was killed, which held the lock that is held now: nothing of it runs any more.

    What it had done is done; the name of that state may be missing. What it had not done, is planned anew.
    """
    note = None
    with suppress(DamagedError):
        if text := content(folder / _NOTE):
            note = parse(_Note, text, folder / _NOTE)
    if server.in_transaction():
        if note is None or server.opened_after(note.begun + _OPENS):
            raise RefusedError(
                "transaction-open",
                f"somebody has a transaction open on {server.name}",
                "Wait until it is closed; `cvmfs_server list` shows it.",
            )
        server.abort()
    if note and note.tag and not _left(store, site, note):
        command = f"cvmfs_server tag -a {note.tag} {server.name}"
        _carry_out(server, folder, [command], view=note.view, release=note.release, tag=note.tag)
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

    def opened_after(self, moment: datetime) -> bool:
        """Tell whether the open transaction was opened later; False where this host does not say when it was."""
        flag = status(_SPOOL / self.name / "in_transaction.lock")
        return flag is not None and flag.st_mtime > moment.timestamp()

    def abort(self) -> None:
        """End the open transaction; the repository is what it was before."""
        self._call(["cvmfs_server", "abort", "-f", self.name])

    def run(self, command: str, hint: str) -> None:
        """Run one line of a plan; a transaction that it leaves open is aborted.

        Args:
            hint: what to do if it fails.
        """
        with self._progress(command):
            try:
                self._call(shlex.split(command), hint)
            except FailedError:
                if self.in_transaction():
                    self.abort()
                raise

    def _call(self, command: Sequence[str], hint: str = _NOTHING_DONE) -> str:
        # It refuses to work in a folder of the repository, where whoever types this may well be.
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", cwd="/",
            stdin=subprocess.DEVNULL, pass_fds=(self._lock,),
        )  # fmt: skip
        if done.returncode:
            if _ASKED in done.stdout:
                hint = f"End the programs of this host that have files of {self.name} open. {_AGAIN}"
            raise FailedError(
                "server-failed",
                f"{' '.join(command)} ended with status {done.returncode}",
                hint,
                faults=tuple(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-_TOLD:]),
            )
        return done.stdout
