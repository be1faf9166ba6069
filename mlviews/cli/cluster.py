"""`mlviews smoke --cluster`: a view proved on each kind of GPU that Slurm offers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlviews.cli.output import STATUS_STYLES, Outcome
from mlviews.cli.table import Column

if TYPE_CHECKING:
    from mlviews.cli.app import App
    from mlviews.cli.terminal import Console
    from mlviews.jobs.prove import GpuNodes
    from mlviews.release import Release
    from mlviews.results import SmokeResult
    from mlviews.site.batch import BatchSystem
    from mlviews.smoke.programs import Level
    from mlviews.smoke.report import GpuKindLine

_JOB_SECONDS = 2 * 3600  # all checks at level full, on a slow disk


def prove_on_cluster(
    app: App, view: str, options: Sequence[str], *, level: Level, queue: str | None, wait: int
) -> Outcome:
    """Prove a view on each kind of GPU that Slurm offers and its binaries serve.

    Args:
        options: of the `mlviews smoke` that each job runs.
        queue: the one partition to use; None: all.
        wait: seconds after which jobs are cancelled.
    """
    from mlviews.errors import FailedError, RefusedError
    from mlviews.results import SmokeResult
    from mlviews.site.batch import BatchSystem
    from mlviews.smoke.records import proves
    from mlviews.store.launcher import release_here

    _, release = release_here(app.root, view)
    if not release.cuda:
        raise RefusedError("no-gpu-view", f"{release.view} is a view without CUDA", "Leave out --cluster.")
    if not any(option.startswith("--check") for option in options):
        app.view(release.view)  # its recipe names the checks: who has none learns it before jobs wait
    batch = app.site.batch.get("slurm", BatchSystem())
    lines = _prove(app, release, options, _kinds(app, release, batch, queue), account=batch.account or "", wait=wait)
    result = SmokeResult(
        view=release.view, release=release.release, lock=release.lock_digest, level=level,
        proved=any(proves(line.checks) for line in lines), gpus=lines,
    )  # fmt: skip
    errors = tuple(
        FailedError(
            "gpu-not-reached",
            f"{line.gpu} in {line.queue}: {line.problem}",
            "Look at the job, and try again." if line.job else "The site's `batch` names account and partitions.",
        )
        for line in lines
        if line.problem
    )
    failed = any(check.is_bad for line in lines for check in line.checks)
    code = FailedError.exit_code if errors else int(failed)
    return Outcome(result, _write_gpus, code, errors)


def _kinds(app: App, release: Release, batch: BatchSystem, queue: str | None) -> list[GpuNodes]:
    """Return the kinds of GPU that Slurm offers and the release serves."""
    from mlviews.errors import RefusedError
    from mlviews.gpus.nvidia import GPUS
    from mlviews.jobs.job import kinds_served
    from mlviews.jobs.prove import gpu_nodes, partitions

    served = kinds_served(release)
    offered = gpu_nodes(partitions(), batch, queue)
    left = [nodes.kind for nodes in offered if served and nodes.kind in GPUS and nodes.kind not in served]
    if left:
        app.remark(f"left out, because {release.view} has no code for it: {', '.join(left)}")
    kinds = [nodes for nodes in offered if nodes.kind not in left]
    if not kinds:
        where = f"the partition {queue}" if queue else "Slurm"
        raise RefusedError(
            "no-gpus",
            f"{where} has no GPUs that {release.view} serves",
            "`sinfo -o '%R %G %f'` lists the partitions and their GPUs.",
        )
    return kinds


def _prove(
    app: App, release: Release, options: Sequence[str], kinds: Sequence[GpuNodes], *, account: str, wait: int
) -> tuple[GpuKindLine, ...]:
    """Run `mlviews smoke` in a job on each kind; keep the records."""
    from mlviews.files.filelock import announce
    from mlviews.jobs.prove import kind_line, run_on
    from mlviews.site.file import quick_root
    from mlviews.smoke.records import can_record
    from mlviews.trial import scratch

    label = release.label
    here = [f"--site={app.site_name}", f"--root={app.root}", f"--recipes={app.recipes}"]
    command = [sys.executable, "-m", "mlviews", *here, "smoke", label, *options]
    shared = app.root if can_record(app.root, release) else quick_root("local") or app.root
    with scratch(shared) as folder, app.progress(f"Proving {label}", total=len(kinds)) as advance:
        jobs = run_on(
            kinds, command, folder, account=account, seconds=_JOB_SECONDS, wait=wait,
            done=lambda job: advance(note=job.nodes.kind),
        )  # fmt: skip
        store, waiting = app.store, announce(app.progress, release.view)
        return tuple(kind_line(job, store, waiting) for job in jobs)


def _write_gpus(console: Console, result: SmokeResult) -> None:
    """Write what was found on each kind of GPU: a row a kind, then what did not pass, then the records."""
    rows = []
    for line in result.gpus:
        found = [check.status for check in line.checks]
        counts = ", ".join(f"{found.count(status)} {status}" for status in dict.fromkeys(found)) or "not run"
        devices = dict.fromkeys(check.device for check in line.checks if check.on_gpu)
        rows.append((line.gpu, line.queue, line.job, ", ".join(devices), counts))
    columns = (Column("GPU"), Column("Queue"), Column("Job", rank=2), Column("Device", rank=1), Column("Checks"))
    console.table(columns, rows)
    for line in result.gpus:
        for check in (check for check in line.checks if check.status != "pass"):
            style = STATUS_STYLES[check.status]
            console.say((check.status, style), f" {line.gpu}, {check.name}: {check.reason}")
    for line in result.gpus:
        if line.record:
            console.say(f"recorded in {line.record}")
    if not result.proved:
        console.say(("nothing was proved", "bold yellow"))
