"""Records: what the checks proved of a lock on one host, kept beside releases; and what that proves of each GPU."""

from __future__ import annotations

import os
import re
import socket
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import mlviews
from mlviews.files.reading import DamagedError, content, folders_in, is_file, paths_in
from mlviews.files.storefile import StoreFile, parse
from mlviews.files.writing import write_atomically
from mlviews.hardware import host_platform
from mlviews.release import GpuLine, Release
from mlviews.smoke.programs import Level  # noqa: TC001  (pydantic reads it)
from mlviews.smoke.report import NO_GPU, CheckLine

LONGEST = 10_000_000
"""Bytes of a record at most."""


class Record(StoreFile):
    """One run of checks of one release."""

    mlviews: str
    view: str
    release: str
    lock: str
    platform: str
    host: str
    created: datetime
    level: Level
    checks: tuple[CheckLine, ...]


def proves(lines: Sequence[CheckLine]) -> bool:
    """Tell whether any check passed or failed."""
    return any(line.proves for line in lines)


def write_record(root: Path, release: Release, lines: Sequence[CheckLine], *, level: Level) -> Path | None:
    """Write ``records/<view>/<lock digest>/<UTC time>-<host>-<process>.json``; None where nothing was proved."""
    if not proves(lines):
        return None
    now = datetime.now(timezone.utc)
    host = socket.gethostname()
    record = Record(
        mlviews=mlviews.__version__,
        view=release.view,
        release=release.release,
        lock=release.lock_digest,
        platform=host_platform(),
        host=host,
        created=now,
        level=level,
        checks=tuple(lines),
    )
    safe = "".join(character if character.isalnum() or character in ".-" else "-" for character in host)
    path = record_folder(root, release.view, release.lock_digest) / f"{now:%Y%m%dT%H%M%S.%fZ}-{safe}-{os.getpid()}.json"
    write_atomically(path, record.text())
    return path


def can_record(root: Path, release: Release) -> bool:
    """Tell whether a record of a release can be written below a root: CVMFS is there to be read."""
    folder = record_folder(root, release.view, release.lock_digest)
    # What is closed to this user is there for nobody that asks as this user.
    return os.access(next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK)), os.W_OK)


def read_records(root: Path, view: str, lock_digest: str) -> tuple[Record, ...]:
    """Return what the checks proved of a lock, oldest first.

    Files that are no record of this lock are left out: whoever may write into the store may put anything there.

    Args:
        lock_digest: as the lock and the release state it.

    Raises:
        UnreadableError: one cannot be read, or a newer mlviews wrote it: what the others prove is not all.
    """
    found = _read(view, [record_folder(root, view, lock_digest)])
    return tuple(sorted((record for record in found if record.lock == lock_digest), key=lambda record: record.created))


def view_records(root: Path, view: str) -> tuple[Record, ...]:
    """Return what the checks proved of every lock of a view, oldest first; see `read_records`."""
    return tuple(sorted(_read(view, folders_in(root / "records" / view)), key=lambda record: record.created))


def _read(view: str, folders: Iterable[Path]) -> Iterator[Record]:
    for path in (path for folder in folders for path in paths_in(folder, ".json")):
        if is_file(path):
            with suppress(DamagedError):
                record = parse(Record, content(path, most=LONGEST) or b"", path)
                if record.view == view:
                    yield record


def last_results(records: Iterable[Record]) -> dict[str, bool]:
    """Return for each check whether it passed when it last proved anything, on every device where it did.

    Args:
        records: of one lock, oldest first.
    """
    found: dict[str, bool] = {}
    for (_, name), (_, line) in _latest(records).items():
        found[name] = found.get(name, True) and line.status == "pass"
    return found


def own_digests(records: Iterable[Record]) -> dict[str, str]:
    """Return the digest of the text that each own check had when it last proved anything.

    Args:
        records: oldest first.
    """
    lines = (line for record in records for line in record.checks if line.proves)
    return {name: digest for name, digest in ((line.name, line.digest) for line in lines) if digest}


def by_last_text(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return records without what own checks found when their text was another: it proves nothing of the new one.

    Args:
        records: oldest first.
    """
    records = tuple(records)
    if not (last := own_digests(records)):
        return records
    return tuple(
        record.model_copy(
            update={"checks": tuple(line for line in record.checks if line.digest in {"", last.get(line.name)})}
        )
        for record in records
    )


def _latest(records: Iterable[Record]) -> dict[tuple[str, str], tuple[Record, CheckLine]]:
    """Return by device and check the last result, and the record that holds it."""
    found: dict[tuple[str, str], tuple[Record, CheckLine]] = {}
    for record in by_last_text(records):
        for line in record.checks:
            if line.proves:
                found.pop(("", line.name), None)  # it came to no device then: any later result says more
                found[line.device, line.name] = (record, line)
    return found


def record_folder(root: Path, view: str, lock_digest: str) -> Path:
    """Return where the records of a lock lie below a site's root."""
    return root / "records" / view / lock_digest


def proved_gpus(claimed: Sequence[str], records: Iterable[Record]) -> tuple[GpuLine, ...]:
    """Return every GPU that a view claims, in the recipe's order, then others that it was tested on.

    Of each check the last result on each device counts: a run of one check says nothing of the others. A GPU is proved
    if checks passed on it and none failed.

    Args:
        claimed: the recipe's ``hardware.gpus``.
        records: of one lock, oldest first.
    """
    found: dict[str, list[tuple[Record, CheckLine]]] = {}
    for (device, _), result in _latest(records).items():
        if device not in NO_GPU:
            found.setdefault(product(device, claimed), []).append(result)
    tested = {gpu: _gpu_line(gpu, results) for gpu, results in found.items()}
    untested = {gpu: GpuLine(gpu=gpu, status="unproved") for gpu in claimed}
    return tuple((untested | tested).values())


def _gpu_line(gpu: str, results: Sequence[tuple[Record, CheckLine]]) -> GpuLine:
    """Return what is known of a GPU, which may be several devices; device, driver and time are the last record's."""
    record, last = max(results, key=lambda result: result[0].created)
    failed = {line.name for _, line in results if line.status == "fail"}
    return GpuLine(
        gpu=gpu,
        status="failed" if failed else "proved",
        device=last.device,
        driver=last.driver,
        checked=record.created.isoformat(timespec="seconds"),
        passed=[name for name in dict.fromkeys(line.name for _, line in results) if name not in failed],
        failed=sorted(failed),
    )


def product(device: str, claimed: Sequence[str]) -> str:
    """Return the claimed name that a driver's name for a GPU holds as a word, such as A100 in A100-SXM4-40GB."""
    words = re.split(r"[^A-Za-z0-9]+", device)
    return next((gpu for gpu in claimed if gpu in words), device)


# What the checks' figures end with, and whether more is better.
_RATES = {"TFLOP/s": True, "TOP/s": True, "GB/s": True, "milliseconds": False, "seconds an event": False}
_FAR_BELOW = 0.7  # clocks, temperature and neighbours account for a tenth or two


@dataclass(frozen=True, slots=True)
class SpeedDrop:
    """A figure that is far below what earlier records of the same GPU hold.

    Attributes:
        device: the GPU, as its driver calls it.
        check: which measured it.
        figure: its name, which ends with its unit.
        now: what was measured.
        before: the median of earlier records.
        records: how many records of this GPU hold the figure.
    """

    device: str
    check: str
    figure: str
    now: float
    before: float
    records: int


def drops(lines: Iterable[CheckLine], earlier: Iterable[Record]) -> tuple[SpeedDrop, ...]:
    """Return the figures of a run that are far below what the same GPU did before.

    A GPU without a record has no band, and a CPU has none at all: checks run side by side there.

    Args:
        earlier: records of the same view, whichever its lock.
    """
    known: dict[tuple[str, str, str], list[float]] = {}
    for key, value in (found for record in earlier for line in record.checks for found in _rates(line)):
        known.setdefault(key, []).append(value)
    found = []
    for (device, check, figure), now in (found for line in lines for found in _rates(line)):
        if values := known.get((device, check, figure)):
            before = statistics.median(values)
            ratio = now / before if _more_is_better(figure) else before / now
            if ratio < _FAR_BELOW:
                found.append(SpeedDrop(device, check, figure, now, before, len(values)))
    return tuple(found)


def _rates(line: CheckLine) -> Iterator[tuple[tuple[str, str, str], float]]:
    """Return the figures of a check that passed on a GPU, and are times or rates of that GPU."""
    if line.status != "pass" or not line.on_gpu:
        return
    for figure, value in line.figures.items():
        on_cpu = figure.lower().startswith("cpu")
        if not on_cpu and figure.endswith(tuple(_RATES)) and not isinstance(value, str) and 0 < value < float("inf"):
            yield (line.device, line.name, figure), float(value)


def _more_is_better(figure: str) -> bool:
    return next(better for unit, better in _RATES.items() if figure.endswith(unit))
