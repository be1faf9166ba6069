"""Work sent to a Dask cluster, whose workers may be jobs of Slurm or HTCondor that see the same folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mlviews.errors import FailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

__all__ = ["each_on"]

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_CONNECT_SECONDS = "30s"


def each_on(
    scheduler: str, work: Callable[[_Job], _Result], jobs: Sequence[_Job]
) -> Iterator[tuple[_Job, _Result | Exception]]:
    """Do ``work`` for each job on a cluster, and give results as they come; see `mlviews.nightly.workers.each`.

    Args:
        scheduler: its address, such as ``tcp://host:8786``; ``tls://`` takes its keys from Dask's configuration.
        work: a function of a module; it, the jobs and the results are pickled.
        jobs: what it is called with.

    Raises:
        FailedError: the scheduler cannot be reached, or Dask is not installed.
        KeyboardInterrupt: Ctrl-C; what has not begun is cancelled, and what has goes to its end unheard.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FailedError(
            "scheduler-unreachable", f"the scheduler {scheduler} cannot be reached: {error}", "Check its address."
        ) from error
    with client:
        # A cell that ended its worker once is not given to a second one.
        futures = {client.submit(work, job, pure=False, retries=0): job for job in jobs}
        try:
            for future in distributed.as_completed(list(futures), loop=client.loop, raise_errors=False):
                yield futures[future], _outcome(future)
        finally:
            client.cancel(list(futures))


def _outcome(future: object) -> _Result | Exception:
    error = future.exception()  # type: ignore[attr-defined]
    if error is None:
        result: _Result = future.result()  # type: ignore[attr-defined]
        return result
    return FailedError("worker-died", f"the worker that did this gave {type(error).__name__}: {error}")


def _distributed() -> ModuleType:
    try:
        import distributed  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise FailedError(
            "dask-missing", "a scheduler is named, and Dask is not installed", "pip install 'mlviews[cluster]'"
        ) from error
    found: ModuleType = distributed
    return found
