"""What every night found, in one SQLite file under the site's root.

The journal is SQLite's oldest kind: WAL needs shared memory, which the hosts of a network file system do not have. Each
cell is one transaction, so a night that is interrupted keeps what it has found.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter

from mlviews.errors import BadInputError, FailedError, MlviewsError
from mlviews.files.writing import make_folder
from mlviews.lock.lockfile import Lock
from mlviews.nightly.cell import FAILURES
from mlviews.nightly.night import CellState, Earlier, Night, NightCell
from mlviews.wheels.made import Made

_LOCK = TypeAdapter(Lock)
_LOCK.rebuild(_types_namespace={"Made": Made})  # which a lock's module does not import
_BUSY_SECONDS = 30.0
_BEGIN = "BEGIN IMMEDIATE"  # two nights at once wait for each other, cell by cell
_TESTED_FAILURES = FAILURES - {"unsolvable"}
_VERSION = 1  # of the tables, as `user_version` has it; 0 is a file without any
_TABLES = f"""
    CREATE TABLE cells (
        variant TEXT NOT NULL,
        view TEXT NOT NULL,
        platform TEXT NOT NULL,
        night TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ({", ".join(f"'{state}'" for state in get_args(CellState))})),
        tested INTEGER NOT NULL,
        digest TEXT,
        body BLOB NOT NULL,
        PRIMARY KEY (variant, view, platform, night)
    );
    CREATE INDEX cells_by_night ON cells (variant, night);
    CREATE TABLE locks (digest TEXT PRIMARY KEY, body BLOB NOT NULL);
    """


@dataclass(frozen=True, slots=True)
class PastCell:
    """What one night said of a cell, in short."""

    night: str
    state: CellState
    tested: bool
    digest: str | None


def history_file(root: Path) -> Path:
    """Return where a site's history lies."""
    return root / "nightly" / "history.sqlite"


@contextmanager
def open_history(root: Path) -> Iterator[History]:
    """Open a site's history, and make it where there is none."""
    path = history_file(root)
    make_folder(path.parent)
    with _opened(path) as history:
        yield history


@dataclass(frozen=True, slots=True)
class Gathered:
    """What one file of another host gave.

    Attributes:
        latest: the latest night that it holds; None where it holds none.
        errors: what could not be read of it, each with its place; all else was taken.
    """

    latest: date | None
    errors: tuple[MlviewsError, ...] = ()


def gather(history: History, path: Path) -> Gathered:
    """Take what another host's history holds; of two accounts of one cell, the one that tells more stays.

    Args:
        path: the other host's file, which anyone may have made: only cells and locks that can be read are taken.
    """
    errors: list[MlviewsError] = []
    latest: date | None = None
    for found in _accounts(path):
        if isinstance(found, MlviewsError):
            errors.append(found)
            continue
        night, cell, lock = found
        known = history.cells(night).get((cell.view, cell.platform))
        if known is None or _worth(cell) >= _worth(known):
            history.keep(night, cell, lock)
        if not night.variant:
            latest = max(night.day, latest or night.day)
    return Gathered(latest, tuple(errors))


def _accounts(path: Path) -> Iterator[tuple[Night, NightCell, Lock | None] | MlviewsError]:
    """Yield what a file holds, and in the place of what cannot be read, why."""
    try:
        path.stat()  # SQLite would make a file where there is none
        with _opened(path) as other:
            for place, account in other.everything():
                if isinstance(account, sqlite3.DatabaseError):
                    yield _unusable(path, f"{place}: {account}")
                else:
                    yield account
    except FileNotFoundError:
        yield BadInputError("history-missing", f"{path}: there is no such file", "Check the path.")
    except OSError as error:
        yield _unusable(path, error.strerror or str(error))
    except FailedError as error:
        yield error


def _worth(cell: NightCell) -> tuple[bool, bool]:
    """Rank accounts of one cell: a host that tested knows more than one that solved, and that more than no host."""
    return (cell.tested, cell.digest is not None)


@contextmanager
def _opened(path: Path) -> Iterator[History]:
    with _failing(path):
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            _prepare(connection, path)
            yield History(connection)
        finally:
            connection.close()


@contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, zlib.error, ValueError, TypeError, KeyError) as error:
        raise _unusable(path, str(error)) from error


def _unusable(path: Path, why: str) -> FailedError:
    return FailedError(
        "history-unusable",
        f"{path}: {why}",
        "Check the disk. If the file is damaged, move it away: a new history begins.",
    )


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    with connection:  # commits, or rolls back
        connection.execute(_BEGIN)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise FailedError(
                "history-newer", f"{path} was written by a newer mlviews", "Upgrade mlviews, or name another --root."
            )
        if not version:
            for statement in (*filter(str.strip, _TABLES.split(";")), f"PRAGMA user_version = {_VERSION}"):
                connection.execute(statement)


class History:
    """An open history."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def keep(self, night: Night, cell: NightCell, lock: Lock | None) -> None:
        """Keep a cell, in the place of what the same night said of it before, and the lock that it is about.

        Args:
            lock: the newest packages; kept once, however many nights give the same.
        """
        with self._connection:
            self._connection.execute(_BEGIN)
            if lock:
                self._connection.execute(
                    "INSERT OR IGNORE INTO locks VALUES (?, ?)", (lock.digest, _packed(json.dumps(asdict(lock))))
                )
            self._connection.execute(
                "INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(night.variant, cell.view, cell.platform, _name(night), cell.state, cell.tested, cell.digest),
                    _packed(cell.model_dump_json(by_alias=True)),
                ),
            )

    def cells(self, night: Night) -> dict[tuple[str, str], NightCell]:
        """Return what a night found, by view and platform."""
        rows = self._connection.execute(
            "SELECT body FROM cells WHERE variant = ? AND night = ? ORDER BY view, platform",
            (night.variant, _name(night)),
        )
        return {(cell.view, cell.platform): cell for cell in (_cell(body) for (body,) in rows)}

    def trend(self, night: Night, view: str, platform: str, *, nights: int) -> tuple[tuple[str, NightCell], ...]:
        """Return what this night and those before it found of a cell, the oldest first."""
        rows = self._connection.execute(
            "SELECT night, body FROM cells WHERE variant = ? AND view = ? AND platform = ? AND night <= ? "
            "ORDER BY night DESC LIMIT ?",
            (night.variant, view, platform, _name(night), nights),
        ).fetchall()
        return tuple((name, _cell(body)) for name, body in reversed(rows))

    def before(self, night: Night, view: str, platform: str) -> tuple[PastCell, ...]:
        """Return what the nights before this one said of a cell, the latest first."""
        rows = self._connection.execute(
            "SELECT night, state, tested, digest FROM cells WHERE variant = ? AND view = ? AND platform = ? "
            "AND night < ? ORDER BY night DESC",
            (night.variant, view, platform, _name(night)),
        )
        return tuple(PastCell(name, state, bool(tested), digest) for name, state, tested, digest in rows)

    def everything(self) -> Iterator[tuple[str, tuple[Night, NightCell, Lock | None] | sqlite3.DatabaseError]]:
        """Yield every cell of every night, the oldest first, with its place and the lock that it is about.

        In the place of a cell that cannot be read stands why.
        """
        rows = self._connection.execute(
            "SELECT variant, night, view, platform, cells.body, locks.body FROM cells LEFT JOIN locks USING (digest) "
            "ORDER BY night"
        )
        for variant, name, view, platform, cell, lock in rows:
            place = f"{view} {platform}, night {name}"
            try:
                with _readable():
                    night = Night(day=date.fromisoformat(name), cuda=variant.removeprefix("cuda-") or None)
                yield place, (night, _cell(cell), _lock(lock) if lock else None)
            except sqlite3.DatabaseError as error:
                yield place, error

    def lock(self, night: Night, view: str, platform: str, name: str) -> Lock | None:
        """Return the newest packages as the night ``name`` knew them."""
        row = self._connection.execute(
            "SELECT locks.body FROM cells JOIN locks USING (digest) "
            "WHERE variant = ? AND view = ? AND platform = ? AND night = ?",
            (night.variant, view, platform, name),
        ).fetchone()
        return _lock(row[0]) if row else None


def look_back(seen: Sequence[PastCell], state: CellState, night: str) -> Earlier:
    """Say what earlier nights tell about a state: the last night, and for a failure, since when it is there.

    A night that only solved knows nothing of checks: it neither begins nor ends a failure to install or to pass.

    Args:
        seen: the nights before, the latest first.
        state: tonight's.
        night: tonight's name.
    """
    last = seen[0] if seen else None
    since, good = night, None
    for earlier in seen if state in FAILURES else ():
        if earlier.digest is not None if state == "unsolvable" else earlier.tested and earlier.state not in FAILURES:
            good = earlier.night
            break
        if earlier.state in ({"unsolvable"} if state == "unsolvable" else _TESTED_FAILURES):
            since = earlier.night
    return Earlier(
        last=last.night if last else None,
        last_state=last.state if last else None,
        since=since if state in FAILURES else None,
        good=good,
    )


def _name(night: Night) -> str:
    return night.day.isoformat()


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode())


def _cell(body: bytes) -> NightCell:
    with _readable():
        return NightCell.model_validate_json(zlib.decompress(body))


def _lock(body: bytes) -> Lock:
    with _readable():
        return _LOCK.validate_json(zlib.decompress(body), strict=True)


@contextmanager
def _readable() -> Iterator[None]:
    """Say of what cannot be read what SQLite says of a file that is damaged."""
    try:
        yield
    except (zlib.error, ValueError, TypeError) as error:
        raise sqlite3.DatabaseError(f"what it holds cannot be read: {error}") from error
