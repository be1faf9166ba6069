"""Checkpoints that survive: written beside a job by `mlviews job --resume`. Needs Python 3.8 or newer, nothing else.

    from mlviews_resume import Checkpoints

    checkpoints = Checkpoints()
    newest = checkpoints.newest()                     # a path, or None at the first start
    state = torch.load(newest) if newest else first_state()
    for state.step in range(state.step, steps):
        ...
        if checkpoints.due():
            checkpoints.save(lambda file: torch.save(state, file))

A checkpoint is whole or not there: it is written beside the others, flushed, and renamed; its name holds the first
digits of its sha256, by which it is checked on reading. The last two are kept. Each start of a job has a number: where
a newer start is at work, an older one that lives on can write no more, and ends. `save` ends the program, with status
85, once the job has told it that its time is over; a program that ends with status 0 is done.

With several processes only one of them may save: the first. What it knows must reach the others:

    told = torch.tensor(checkpoints.told())           # each process may see it at another moment
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn

AGAIN = 85
"""Status of a program that was told to end and saved what it has: start it again."""
SUPERSEDED = 86
"""Status of a program that a newer start of its job has replaced."""

_NAME = re.compile(r"checkpoint-(\d{6})-(\d{8})-([0-9a-f]{16})")
_KEEP = 2


class Checkpoints:
    """The checkpoints of one training, in a folder that every start of its job sees.

    Args:
        folder: where they lie; None for the one that the job names, or ./checkpoints without a job.
        every: seconds from one checkpoint to the next.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, every: float = 600.0) -> None:
        self.folder = Path(folder or os.environ.get("MLVIEWS_CHECKPOINTS") or "checkpoints").absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start = int(os.environ.get("MLVIEWS_START") or 0) or self._take_number()
        self._every = every
        self._saved_at = time.monotonic()
        self._count = 0
        self._signalled = False
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._hear)
            signal.signal(signal.SIGUSR1, self._hear)

    def newest(self) -> Path | None:
        """Return the path of the newest checkpoint that is whole, or None; damaged ones are told of and left out."""
        for path in reversed(self._all()):
            try:
                whole = path.name.endswith(_digest(path))
            except OSError as error:
                _say(f"{path} cannot be read: {error}")
                continue
            if whole:
                return path
            _say(f"{path} is damaged and left out")
        return None

    def told(self) -> bool:
        """Tell whether the job has asked for a checkpoint and the program's end."""
        self._check_newest()
        return self._signalled or (self.folder / f"start-{self.start}" / "told").exists()

    def due(self) -> bool:
        """Tell whether it is time to save: the job has asked for it, or the last checkpoint is old enough."""
        return self.told() or time.monotonic() - self._saved_at >= self._every

    def save(self, write: Callable[[IO[bytes]], Any]) -> bool:
        """Save a checkpoint; then end the program if the job has told it to.

        Where the disk is full, or fails, the checkpoints before stay, and the program goes on.

        Args:
            write: called with a binary file that it writes the whole state to.

        Returns:
            Whether it was saved.

        Raises:
            SystemExit: with `AGAIN`, the job had told the program to end; with `SUPERSEDED`, there is a newer start.
        """
        self._saved_at = time.monotonic()
        part = self.folder / f".writing-{self.start:06d}-{os.getpid()}"
        try:
            with part.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            self._put(part, _digest(part))
            saved = True
        except OSError as error:
            _say(f"no checkpoint could be saved: {error}")
            with contextlib.suppress(OSError):
                part.unlink()
            saved = False
        if self.told():
            self.end()
        return saved

    def end(self) -> NoReturn:
        """End this process as the job has asked: for those that do not save themselves.

        Raises:
            SystemExit: with `AGAIN`.
        """
        raise SystemExit(AGAIN)

    def _put(self, part: Path, digest: str) -> None:
        """Give a checkpoint its name, and delete old ones, while no other start does."""
        with (self.folder / "lock").open("a") as lock:
            with contextlib.suppress(OSError):  # without locks, the numbers in the names keep the order all the same
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._check_newest()
            self._count += 1
            part.replace(self.folder / f"checkpoint-{self.start:06d}-{self._count:08d}-{digest}")
            _flush(self.folder)
            for path in self._all()[:-_KEEP]:
                path.unlink()
            for path in self.folder.glob(".writing-*"):
                if path.name < part.name[: len(".writing-000000")]:
                    path.unlink()

    def _check_newest(self) -> None:
        """End this process where a newer start of the job is at work.

        Raises:
            SystemExit: with `SUPERSEDED`.
        """
        if (self.folder / f"start-{self.start + 1}").exists():
            _say(f"start {self.start} ends: a newer one has taken over")
            with contextlib.suppress(OSError):
                (self.folder / f"start-{self.start}" / "superseded").touch()
            raise SystemExit(SUPERSEDED)

    def _all(self) -> list[Path]:
        """Return all checkpoints, the oldest first: by the number of the start, then by their own."""
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def _take_number(self) -> int:
        """Take the next number of a start; mkdir gives each number once, on NFS too."""
        number = 1
        while True:
            try:
                (self.folder / f"start-{number}").mkdir()
            except FileExistsError:
                number += 1
            else:
                return number

    def _hear(self, number: int, frame: Any) -> None:
        """Note a signal; a forked worker that gets it beside the program must neither die of it nor live for ever."""
        del frame
        if os.getpid() == self._process:
            self._signalled = True
            return
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:  # whoever tells the program, and not the worker, marks it within that time
            if (self.folder / f"start-{self.start}" / "told").exists():
                return
            time.sleep(0.05)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()[:16]


def _flush(folder: Path) -> None:
    """A rename is on the disk only when its folder is."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _say(text: str) -> None:
    sys.stderr.write(f"mlviews: {text}\n")
    sys.stderr.flush()
