"""Workers of Dask as jobs of the site's batch system: those that are lost are replaced."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlviews.errors import FailedError, RefusedError
from mlviews.files import make_folder
from mlviews.jobs.job import JobRequest, queue_for
from mlviews.site.batch import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlviews.site.batch import BatchSystem, System

__all__ = ["workers_on"]

_WORKER_SECONDS = 4 * 3600  # a night's longest trial, and time to wait for the next
_WORKER_MEMORY = "8GB"
_WORKER_CORES = 2  # two checks run side by side


@contextmanager
def workers_on(site_batch: Mapping[System, BatchSystem], count: int, logs: Path) -> Iterator[str]:
    """Run workers as jobs, and give their scheduler's address; all jobs are cancelled at the end.

    A worker that dies, whose job is cancelled or whose node is lost is replaced. What else Dask's configuration says of
    the batch system (``jobqueue.slurm``, ``jobqueue.htcondor``) holds.

    Args:
        site_batch: the site's batch systems; the first one is used.
        count: how many workers.
        logs: folder for what they print.

    Raises:
        RefusedError: the site names no batch system that Dask can use, or no queue that workers fit into.
        FailedError: dask-jobqueue is not installed, or the system takes no jobs.
    """
    system = next((name for name in site_batch if name != "panda"), None)
    if system is None:
        raise RefusedError(
            "cluster-missing", "the site names no Slurm and no HTCondor", "Add `batch: {slurm: {}}` to the site's file."
        )
    make_folder(logs)
    cluster = _cluster(system, site_batch[system], logs)
    with cluster:
        # A fixed number with `scale` would not be kept up: a job that is cancelled stays lost.
        cluster.adapt(minimum_jobs=count, maximum_jobs=count, interval="2s", wait_count=10**9)
        yield cluster.scheduler_address


def _cluster(system: System, batch: BatchSystem, logs: Path) -> Any:
    try:
        jobqueue: Any = importlib.import_module("dask_jobqueue")  # an extra
    except ImportError as error:
        raise FailedError(
            "dask-missing", "--cluster needs dask-jobqueue, which is not installed", "pip install 'mlviews[cluster]'"
        ) from error
    limits = [seconds(queue.limit) for queue in batch.queues.values() if queue.limit]
    length = min(_WORKER_SECONDS, max(limits, default=_WORKER_SECONDS))
    queue = queue_for(batch, JobRequest(command=(), seconds=length), 0, ())
    shared: dict[str, Any] = {
        "cores": _WORKER_CORES, "processes": 1, "memory": _WORKER_MEMORY, "python": sys.executable,
        "log_directory": str(logs), "scheduler_options": {"dashboard_address": None},
        "worker_extra_args": ["--no-dashboard"],
    }  # fmt: skip
    if system == "slurm":
        walltime = f"{length // 3600:02}:{length % 3600 // 60:02}:00"
        return jobqueue.SLURMCluster(queue=queue or None, account=batch.account, walltime=walltime, **shared)
    flavour = {"+JobFlavour": f'"{queue}"'} if queue else {"+MaxRuntime": str(length)}
    account = {"accounting_group": batch.account} if batch.account else {}
    return jobqueue.HTCondorCluster(disk="20GB", job_extra_directives={**flavour, **account}, **shared)
