"""Taking in records of other hosts: what proves a lock on a GPU, seldom comes from the host that built it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Literal

from mlviews.errors import BadInputError, RefusedError
from mlviews.files.reading import DamagedError, content
from mlviews.files.storefile import parse
from mlviews.files.writing import write_atomically
from mlviews.smoke.records import LONGEST, Record, read_records, record_folder
from mlviews.smoke.report import printable
from mlviews.store.loaders import tell_proofs

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.files.filelock import Waiting
    from mlviews.release import Release
    from mlviews.store.disk import Store

_AHEAD = timedelta(hours=1)
"""By how much another host's clock may be ahead of this one's."""


@dataclass(frozen=True, slots=True)
class GatheredRecord:
    """A record of another host that is kept here now.

    Attributes:
        file: where it came from.
        lock: the lock's digest that it is bound to.
        created: when the checks ran.
        status: ``known`` where it was here already.
    """

    file: Path
    view: str
    release: str
    lock: str
    host: str
    created: datetime
    status: Literal["new", "known"]


def gather(store: Store, file: Path, *, waiting: Waiting) -> GatheredRecord:
    """Take in one record, and let the modulefiles tell of it.

    Args:
        waiting: told who holds the view's lock, if this has to wait.

    Raises:
        BadInputError: it is no record, or one of the future.
        RefusedError: no release here has the lock that it is bound to.
    """
    text = content(file, most=LONGEST)
    try:
        record = parse(Record, text or b"", file)
    except DamagedError as error:
        hint = "Name a file that `mlviews smoke` has written: it says `recorded in FILE`."
        raise BadInputError("record-invalid", f"{file} is not a record of checks", hint) from error
    if record.created > datetime.now(timezone.utc) + _AHEAD:
        raise BadInputError(
            "record-invalid",
            f"{file} was made in the future: {record.created}",
            "Set the clock of the host that ran the checks, and run them again.",
        )
    release = _release(store, record, file)
    kept = _plain(record)
    known = kept in read_records(store.root, record.view, record.lock)
    if not known:
        digest = hashlib.sha256(kept.text().encode()).hexdigest()[:16]
        name = f"{record.created.astimezone(timezone.utc):%Y%m%dT%H%M%S.%fZ}-{digest}.json"
        write_atomically(record_folder(store.root, record.view, record.lock) / name, kept.text())
        tell_proofs(store, release, waiting=waiting)
    state: Literal["new", "known"] = "known" if known else "new"
    return GatheredRecord(file, record.view, kept.release, record.lock, kept.host, record.created, state)


def _release(store: Store, record: Record, file: Path) -> Release:
    """Return a release that a record is of: one of the same view and the same lock."""
    if record.view in store.views():
        entries = store.entries(record.view)
        for entry in entries:
            if entry.platforms and entry.lock_digest == record.lock:
                return entry.release
        for entry in entries:
            entry.check()  # it may be the one
    raise RefusedError(
        "record-foreign",
        f"{file} is of lock {record.lock[:8]} of {record.view}, which no release here has",
        "A record proves one lock: run the checks on a release that was built from the same one.",
    )


def _plain(record: Record) -> Record:
    """Return a record without what could act on a terminal or a module system: its file came from anywhere."""
    checks = tuple(
        line.model_copy(
            update={
                **{name: printable(getattr(line, name)) for name in ("name", "reason", "device", "driver")},
                "versions": {printable(key): printable(value) for key, value in line.versions.items()},
                "figures": {
                    printable(key): printable(value) if isinstance(value, str) else value
                    for key, value in line.figures.items()
                },
            }
        )
        for line in record.checks
    )
    plain = {name: printable(getattr(record, name)) for name in ("mlviews", "release", "platform", "host")}
    return record.model_copy(update={"checks": checks, **plain})
