"""Workers of Dask as jobs of the site's batch system: those that are lost are replaced.

dask-jobqueue's own ``adapt`` replaces a worker that was there and went. It waits for ever for one whose job the system
refused, or ended before the worker came: `_Keeper` forgets such jobs, so that they are submitted again.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import distributed
from dask_jobqueue import HTCondorCluster, SLURMCluster
from dask_jobqueue.core import Job
from dask_jobqueue.htcondor import HTCondorJob
from dask_jobqueue.slurm import SLURMJob
from distributed.core import Status
from distributed.deploy import Adaptive

from mlviews.errors import RefusedError
from mlviews.jobs.job import JobRequest, queue_for
from mlviews.jobs.submit import CALL_SECONDS, QUEUES, queued
from mlviews.site.batch import BatchSystem, System, seconds, span
from mlviews.smoke.report import printable

_WORKER_SECONDS = 4 * 3600  # a night's longest trial, and time to wait for the next
_WORKER_MEMORY = "8GB"
_WORKER_CORES = 2  # two checks run side by side
_AGAIN_SECONDS = 10.0  # from a submission that was refused, or a look at the queue, to the next
_REFUSED_SECONDS = 900.0  # a controller that is restarted is back by then
_FIRST_SECONDS = 60.0  # before there was any worker: what is wrong then, stays wrong
_QUEUED_SECONDS = 6 * 3600.0  # a night that waits longer for its first worker is over
_FRUITLESS = 5  # jobs for each worker that may end before it has come
_TAIL = 500  # bytes of what a worker printed


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJobs:
    """What is asked of a batch system: so many jobs, each of which holds one worker.

    Attributes:
        count: how many there are to be at any time.
        queue: partition or flavour; empty where the system chooses.
        account: whom the time is charged to; empty where the system knows.
        seconds: the longest that one runs.
        gpus: of each.
    """

    system: System
    count: int
    queue: str
    account: str
    seconds: int
    gpus: int


def plan_workers(site_batch: Mapping[System, BatchSystem], count: int, root: Path, *, gpu: bool) -> WorkerJobs:
    """Return the jobs that workers need on the first of a site's batch systems that Dask knows.

    Args:
        root: of the site; below it lies what workers are told by a path.
        gpu: whether some of the work needs a GPU; each worker then has one, if the site names a queue with any.

    Raises:
        RefusedError: there is no such system, no queue that workers fit into, or a path that no job can name.
    """
    for path in (str(root), sys.executable):
        if shlex.quote(path) != path or "%" in path:  # Dask writes paths into jobs without quotes
            raise RefusedError(
                "cluster-path", f"a job cannot name {printable(path)}", "Choose a root with a plain name."
            )
    system = next((name for name in site_batch if name in QUEUES), None)
    if system is None:
        raise RefusedError(
            "cluster-missing", "the site names no Slurm and no HTCondor", "Add `batch: {slurm: {}}` to the site's file."
        )
    batch = site_batch[system]
    with_gpus = {name: queue for name, queue in batch.queues.items() if queue.gpus or queue.gpus_per_node}
    gpus = int(gpu and bool(with_gpus))
    queues = with_gpus if gpus else batch.queues
    limits = [seconds(queue.limit) for queue in queues.values() if queue.limit]
    length = min(_WORKER_SECONDS, max(limits, default=_WORKER_SECONDS))
    request = JobRequest(command=(), seconds=length)
    queue = queue_for(batch.model_copy(update={"queues": queues}), request, gpus, ())
    return WorkerJobs(system=system, count=count, queue=queue, account=batch.account or "", seconds=length, gpus=gpus)


@dataclass(frozen=True, slots=True)
class Workers:
    """Workers that run, or are to come.

    Attributes:
        client: gives them work.
        trouble: says why no worker is to be hoped for any more; empty while there are some, or may be some soon.
    """

    client: distributed.Client
    trouble: Callable[[], str]


@contextmanager
def workers_on(jobs: WorkerJobs, folder: Path) -> Iterator[Workers]:
    """Start a scheduler here and workers as jobs; all jobs are cancelled at the end.

    A worker that dies, whose job is cancelled or whose node is lost is replaced. Scheduler and workers speak by TLS,
    with keys made for this time: whoever may speak to a scheduler may run programs as its user. What else Dask's
    configuration says of the batch system (``jobqueue.slurm``, ``jobqueue.htcondor``) holds.

    Args:
        folder: one that all nodes see, for keys and for what workers print.
    """
    cluster = _cluster(jobs, folder)
    # A fixed number with `scale` would not be kept up: a job that is cancelled stays lost.
    keeper = cluster.adapt(Adaptive=_Keeper, minimum_jobs=jobs.count, maximum_jobs=jobs.count, jobs=jobs, folder=folder)
    try:
        with distributed.Client(cluster, set_as_default=False) as client:
            yield Workers(client, keeper.trouble)
    finally:
        # Workers whose job is not cancelled in that time end by themselves: their scheduler is gone.
        with suppress(TimeoutError, asyncio.TimeoutError):
            cluster.sync(keeper.finish, callback_timeout=2 * CALL_SECONDS)
            cluster.close(timeout=2 * CALL_SECONDS)


async def _call(cmd: Sequence[str], **options: Any) -> str:
    """Run a program of the batch system, and end it where it hangs.

    Raises:
        RuntimeError: it fails, or was ended.
    """
    said: str = await Job._call(["timeout", str(CALL_SECONDS), *cmd], **options)  # noqa: SLF001
    return said


class _Job(Job):  # type: ignore[misc]
    _call = staticmethod(_call)

    async def close(self) -> None:
        await super().close()
        self.status = Status.closed  # a cluster that closes wants to see that


class _SlurmJob(_Job, SLURMJob):  # type: ignore[misc]
    pass


class _HTCondorJob(_Job, HTCondorJob):  # type: ignore[misc]
    pass


def _security(folder: Path) -> distributed.Security:
    """Make keys for scheduler and workers; files of this user alone, which the jobs' command lines name."""
    made = distributed.Security.temporary().get_tls_config_for_role("worker")
    files = {}
    for name in ("cert", "key"):
        files[name] = str(folder / f"{name}.pem")
        with os.fdopen(os.open(files[name], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made[name])
    roles = {f"tls_{role}_{name}": path for role in ("client", "scheduler", "worker") for name, path in files.items()}
    return distributed.Security(require_encryption=True, tls_ca_file=files["cert"], **roles)


def _cluster(jobs: WorkerJobs, folder: Path) -> Any:
    shared: dict[str, Any] = {
        "cores": _WORKER_CORES, "processes": 1, "memory": _WORKER_MEMORY, "python": sys.executable,
        "log_directory": str(folder), "security": _security(folder),
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "worker_extra_args": ["--no-dashboard", "--nthreads", "1"],  # one cell at a time
    }  # fmt: skip
    if jobs.system == "slurm":
        hours, rest = divmod(jobs.seconds, 3600)
        return SLURMCluster(
            job_cls=_SlurmJob, queue=jobs.queue or None, account=jobs.account or None,
            walltime=f"{hours:02}:{rest // 60:02}:00",
            job_extra_directives=[f"--gpus-per-node={jobs.gpus}"] if jobs.gpus else [], **shared,
        )  # fmt: skip
    wanted = {
        **({"+JobFlavour": f'"{jobs.queue}"'} if jobs.queue else {"+MaxRuntime": str(jobs.seconds)}),
        **({"accounting_group": jobs.account} if jobs.account else {}),
        **({"request_gpus": str(jobs.gpus)} if jobs.gpus else {}),
    }
    return HTCondorCluster(job_cls=_HTCondorJob, disk="20GB", job_extra_directives=wanted, **shared)


@dataclass(slots=True)
class _Wait:
    """Since when there is no worker, and what has been seen since then.

    Attributes:
        arrived: whether there ever was one.
        refused: what the system said when it took no job; empty since it took one.
        fruitless: jobs that ended before their worker came.
    """

    since: float = field(default_factory=time.monotonic)
    arrived: bool = False
    refused: str = ""
    fruitless: int = 0


class _Keeper(Adaptive):  # type: ignore[misc]
    """Keeps up the number of workers."""

    def __init__(self, cluster: Any, *, jobs: WorkerJobs, folder: Path, **options: Any) -> None:
        self._jobs = jobs
        self._folder = folder
        self._wait = _Wait()
        self._looked = 0.0
        self._turn = asyncio.Lock()
        super().__init__(cluster, wait_count=sys.maxsize, **options)

    async def recommendations(self, target: int) -> dict[str, Any]:
        """Submit what is missing: Dask's own part does so where fewer jobs are there than are asked for."""
        async with self._turn:
            return await self._keep_up(target) if self.state == "running" else {"status": "same"}

    async def finish(self) -> None:
        """Submit nothing any more: one that fails while the cluster is being closed would keep it from that."""
        self.stop()
        async with self._turn:
            pass

    async def _keep_up(self, target: int) -> dict[str, Any]:
        if self.observed:
            self._wait = _Wait(arrived=True)
        if time.monotonic() - self._looked >= _AGAIN_SECONDS:
            await self._forget_lost()
            self._looked = time.monotonic()
        while len(self.cluster.worker_spec) < target:
            self.cluster.worker_spec.update(self.cluster.new_worker_spec())
        try:
            found: dict[str, Any] = await super().recommendations(target)
        except (OSError, RuntimeError, ValueError) as error:
            self._wait.refused = printable(str(error))
            return {"status": "same"}
        if any(job.job_id for job in self.cluster.workers.values()):
            self._wait.refused = ""
        return found

    async def _forget_lost(self) -> None:
        """Forget each job that the system refused, or does not have any more, unless its worker is there.

        The system is asked only where a worker is missing; one that does not answer says nothing about any job.
        """
        there = self.observed
        missing = {name: job for name, job in self.cluster.workers.items() if name not in there}
        submitted = {name: job.job_id for name, job in missing.items() if job.job_id}
        there_still = await asyncio.to_thread(queued, self._jobs.system) if submitted else None
        ended = [name for name, number in submitted.items() if there_still is not None and number not in there_still]
        for name in (*(missing.keys() - submitted.keys()), *ended):
            # A new job gets a new name: of the old one Dask may still think that it is to be closed.
            missing[name].status = Status.closed
            self.cluster.workers.pop(name, None)
            self.cluster.worker_spec.pop(name, None)
        self._wait.fruitless += len(ended)

    def trouble(self) -> str:
        """See `Workers`."""
        wait = self._wait
        waited = time.monotonic() - wait.since
        if wait.fruitless >= _FRUITLESS * self._jobs.count:
            return f"{wait.fruitless} jobs of workers ended before they could work. The last one said: {self._last()}"
        if wait.refused and waited >= (_REFUSED_SECONDS if wait.arrived else _FIRST_SECONDS):
            return f"the batch system takes no jobs: {wait.refused}"
        if waited >= _QUEUED_SECONDS:
            return f"no job of a worker has started for {span(int(waited))}"
        return ""

    def _last(self) -> str:
        """Return the end of what a worker printed last."""
        logs = sorted(self._folder.glob("*.err"), key=lambda path: path.stat().st_mtime)
        return printable(logs[-1].read_text(errors="replace")[-_TAIL:]).strip() if logs else "nothing"
