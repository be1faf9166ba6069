"""Work done elsewhere: in processes of its own, so that one that crashes takes nothing with it, or on a Dask cluster.

A cluster's workers may be jobs of Slurm or HTCondor; they must see the same folders.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from mlviews.errors import FailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess
    from types import ModuleType

    import distributed

WORKERS_LOST = "workers-lost"
"""The code of the error that jobs get which no worker was left for."""


_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_INTERRUPTED = 130


def each(
    work: Callable[[_Job], _Result], jobs: Sequence[_Job], count: int
) -> Iterator[tuple[_Job, _Result | Exception]]:
    """Do ``work`` for each job, ``count`` at a time, and give results as they come.

    What ``work`` raises, or the process' end without a result, is given in the result's place.

    Args:
        work: a function of a module; it, the jobs and the results are pickled.
        jobs: what it is called with.
        count: how many processes run side by side.

    Raises:
        KeyboardInterrupt: Ctrl-C; processes that run are interrupted, and waited for.
    """
    workers = _Workers(work)
    pool = ThreadPoolExecutor(count)
    try:
        futures = {pool.submit(workers.run, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        workers.stop()
        pool.shutdown(cancel_futures=True)


class _Workers(Generic[_Job, _Result]):
    """The processes that run now."""

    def __init__(self, work: Callable[[_Job], _Result]) -> None:
        self._work = work
        self._running: set[BaseProcess] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._context = multiprocessing.get_context("spawn")  # a fork would lack the threads of the solver's runtime

    def run(self, job: _Job) -> _Result | Exception:
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(sender, self._work, job), daemon=False)
        with self._lock:
            if self._stopped:
                return InterruptedError()
            process.start()
            self._running.add(process)
        sender.close()
        try:
            found: _Result | Exception = receiver.recv()
        except EOFError:
            process.join()
            found = _died(process.exitcode or 0)
        process.join()
        with self._lock:
            self._running.discard(process)
        process.close()
        return found

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()


def _died(status: int) -> FailedError:
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return FailedError("worker-died", f"the worker process {how}", "Perhaps its memory or disk was full.")


def _child(sender: Connection, work: Callable[[_Job], _Result], job: _Job) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = 0
    try:
        try:
            result: _Result | Exception = work(job)
        except Exception as error:  # noqa: BLE001  (it is the result)
            result = FailedError("internal-error", f"{type(error).__name__}: {error}")
        sender.send(result)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    os._exit(status)  # what a linker or a solver still does in another thread would hold the process


_CONNECT_SECONDS = "30s"
_LOOK_SECONDS = 1.0
_RESULT_SECONDS = 60.0  # a result whose worker died before it was fetched is worked out again
_NO_WORKER_SECONDS = 900.0


def each_on(
    scheduler: str, work: Callable[[_Job], _Result], jobs: Sequence[_Job]
) -> Iterator[tuple[_Job, _Result | Exception]]:
    """Do ``work`` for each job on a cluster that is there; see `mlviews.nightly.workers.each_of`.

    Args:
        scheduler: its address, such as ``tcp://host:8786``; ``tls://`` takes its keys from Dask's configuration.
        work: a function of a module; it, the jobs and the results are pickled.
        jobs: what it is called with.

    Raises:
        FailedError: the scheduler cannot be reached, or Dask is not installed.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FailedError(
            "scheduler-unreachable", f"the scheduler {scheduler} cannot be reached: {error}", "Check its address."
        ) from error
    with client:
        yield from each_of(client, work, jobs, trouble=_without_workers(client))


def each_of(
    client: distributed.Client, work: Callable[[_Job], _Result], jobs: Sequence[_Job], *, trouble: Callable[[], str]
) -> Iterator[tuple[_Job, _Result | Exception]]:
    """Do ``work`` for each job on a cluster, and give results as they come; see `mlviews.nightly.workers.each`.

    Each job has one result, whatever happens to workers: one that was lost with its worker is done again, by
    three more at most.

    Args:
        work: a function of a module; it, the jobs and the results are pickled.
        jobs: what it is called with.
        trouble: asked again and again: why no worker is to be hoped for; empty while there is hope.

    Raises:
        KeyboardInterrupt: Ctrl-C; what has not begun is cancelled, and what has goes to its end unheard.
    """
    finished: SimpleQueue[distributed.Future] = SimpleQueue()
    waiting = {client.submit(work, job, pure=False): job for job in jobs}
    futures = list(waiting)
    for future in futures:
        future.add_done_callback(finished.put)
    try:
        while waiting:
            with suppress(Empty):
                future = finished.get(timeout=_LOOK_SECONDS)
                try:
                    found: _Result | Exception = _outcome(future)
                except (TimeoutError, asyncio.TimeoutError):
                    finished.put(future)
                else:
                    yield waiting.pop(future), found
            if waiting and (why := trouble()):
                hint = "Look at the batch system; --resume continues with what is missing."
                lost = FailedError(WORKERS_LOST, f"no worker is left: {why}", hint)
                yield from ((job, lost) for job in waiting.values())
                return
    finally:
        client.cancel(futures)


def _without_workers(client: distributed.Client) -> Callable[[], str]:
    """Return what says that a cluster has had no workers for too long."""
    seen = time.monotonic()

    def trouble() -> str:
        nonlocal seen
        with suppress(OSError, RuntimeError):  # a scheduler that is away has none
            if client.scheduler_info()["workers"]:
                seen = time.monotonic()
        waited = time.monotonic() - seen
        return f"the scheduler has had none for {waited:.0f} s" if waited >= _NO_WORKER_SECONDS else ""

    return trouble


def _outcome(future: distributed.Future) -> _Result | Exception:
    """Return what came of a job.

    Raises:
        TimeoutError: its result was lost, and is not there again.
    """
    error = future.exception(timeout=_RESULT_SECONDS)
    if error is None:
        result: _Result = future.result(timeout=_RESULT_SECONDS)
        return result
    return FailedError("worker-died", f"the worker failed with {type(error).__name__}: {error}")


def _distributed() -> ModuleType:
    try:
        import distributed  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise FailedError(
            "dask-missing", "--scheduler needs Dask, which is not installed", "pip install 'mlviews[cluster]'"
        ) from error
    found: ModuleType = distributed
    return found
