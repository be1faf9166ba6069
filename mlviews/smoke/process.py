"""Run one program that may hang, crash or eat memory, so that nothing else is hurt.

The limit is on memory in use (the proportional set size of the process and its children), watched from outside.
``RLIMIT_AS`` counts address space, of which CUDA and PyTorch reserve hundreds of gigabytes that they never touch;
``RLIMIT_DATA`` counts thread stacks and arenas in the same way; a cgroup needs rights that users of a batch node or a
container do not have. What grows past the limit between two looks is left to the kernel, which is told to end the
check, not the session, when memory runs out.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOOK = 0.1  # seconds between two looks at the memory in use
_POLL = 0.02
_PAGE = resource.getpagesize()
_GRACE = 10  # seconds for a killed process to go; one that hangs in a driver may never do so
_LOG = 20_000
_FILE_BYTES = 4 << 30  # no file that a check writes, its log included, grows larger
MARK = "MLVIEWS_SMOKE_RUN"
"""The variable by which what a check started is known; a route must let it through."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one check may take.

    Attributes:
        seconds: wall-clock time. Far from the files, importing a framework alone takes minutes: 6 from a far CVMFS.
        memory: bytes in use by the process and its children together.
    """

    seconds: float = 600
    memory: int = 8_000_000_000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended.

    Attributes:
        returncode: as `subprocess` gives it; negative for a signal.
        stopped: why it was ended from outside; empty where it ended by itself.
        log: the end of what it printed.
    """

    returncode: int
    seconds: float
    stopped: str
    log: str

    @property
    def how(self) -> str:
        """The end in words."""
        if self.returncode < 0:
            return f"ended by {signal.Signals(-self.returncode).name}"
        return f"ended with status {self.returncode}"


def run_limited(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    limits: Limits,
    stop: threading.Event | None = None,
) -> Ended:
    """Run ``command`` to its end or its limits; nothing that it started outlives it.

    Args:
        environment: the whole environment.
        folder: working folder; also takes what the program prints.
        stop: ends the program when it is set.
    """
    mark = uuid.uuid4().hex
    log = folder / "log"
    start = time.monotonic()
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**environment, MARK: mark},
                start_new_session=True,
            )
        except OSError as error:
            return Ended(127, 0.0, f"cannot be started: {error.strerror}: {command[0]}", "")
    try:
        _restrict(process.pid)
        stopped = _watch(process, start, limits, stop or threading.Event())
    finally:
        _end(process, mark)
    code = -signal.SIGKILL if process.returncode is None else process.returncode
    return Ended(code, round(time.monotonic() - start, 3), stopped, _end_of(log))


def _restrict(pid: int) -> None:
    with suppress(OSError, ValueError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


def _watch(process: subprocess.Popen[bytes], start: float, limits: Limits, stop: threading.Event) -> str:
    look = start
    while process.poll() is None:
        if stop.is_set():
            return "interrupted"
        now = time.monotonic()
        if now - start > limits.seconds:
            return f"no end after {limits.seconds:g} s"
        if now >= look:
            used = _in_use(process.pid, limits.memory)
            if used > limits.memory:
                return f"out of memory: {used / 1e9:.1f} GB in use, {limits.memory / 1e9:.1f} GB allowed"
            look = now + _LOOK
        time.sleep(_POLL)
    return ""


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in _numbers(Path(f"/proc/{pid}/task")):
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{task}/children").read_text(encoding="ascii")
            for child in children.split():
                yield from _family(int(child))


def _in_use(pid: int, limit: int) -> int:
    """Return the bytes that a process and its children use; exactly only where it may be too much: that takes time."""
    family = list(_family(pid))
    resident = sum(_resident(member) for member in family)
    return resident if resident <= limit else sum(_proportional(member) for member in family)


def _resident(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    return 0


def _proportional(pid: int) -> int:
    """Return the bytes that a process uses; pages shared with others count in parts."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # A Jupyter kernel starts a session of its own: what carries this run's mark belongs to it.
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline:
        marked = [pid for pid in _numbers(Path("/proc")) if pid != process.pid and _carries(pid, mark)]
        for pid in marked:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not marked:
            break
        time.sleep(_POLL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)


def _carries(pid: int, mark: str) -> bool:
    try:
        # A dead process that nobody has waited for has no environment left.
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
    except OSError:
        return []


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG))
        return file.read().decode(errors="replace")
