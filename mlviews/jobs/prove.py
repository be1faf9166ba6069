"""Prove a view on each kind of GPU that a Slurm partition has: a job a kind, which runs `mlviews smoke` on a node."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from mlviews.errors import FailedError, MlviewsError
from mlviews.gpus.nvidia import GPUS
from mlviews.jobs.submit import call, queued
from mlviews.site.batch import BatchSystem, Queue, span
from mlviews.smoke.report import CheckLine, GpuKindLine, printable
from mlviews.store.proofs import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mlviews.files.filelock import Waiting
    from mlviews.store.disk import Store

UNKNOWN = "GPU"
"""What a kind is called that neither Slurm nor the site's file names."""

_GRES = re.compile(r"\bgpu:(?:([\w.-]+):)?\d+")
_NUMBER = re.compile(r"\d+")  # 16000+ where nodes of a line differ
_CORES = 4
_MEMORY = 16_384  # MB: two checks side by side
_POLL_SECONDS = 5.0
_TAIL = 500  # bytes of what a job printed
_LATE_SECONDS = 10.0  # a network's file system shows a file of another host that late


@dataclass(frozen=True, slots=True)
class GpuNodes:
    """Nodes of a partition that have one kind of GPU.

    Attributes:
        kind: the GPU's name; what Slurm calls it where nobody knows another name.
        queue: the partition.
        options: of ``sbatch``, by which a job gets one such GPU.
    """

    kind: str
    queue: str
    options: tuple[str, ...]


def partitions() -> str:
    """Return Slurm's partitions, what generic resources, features and memory their nodes have, for `gpu_nodes`."""
    return call(["sinfo", "--noheader", "--format=%R|%G|%f|%m"])


def gpu_nodes(listing: str, batch: BatchSystem, queue: str | None = None) -> tuple[GpuNodes, ...]:
    """Return each kind of GPU once, in the order of the site's queues; the rest in Slurm's order.

    A kind is known by the type that Slurm's administrators gave it (``gpu:a100:4``), else by a feature of its nodes
    that the site's file names, else by being the partition's only one.

    Args:
        listing: a line a group of nodes: partition, generic resources, features, memory in MB.
        batch: the site's queues; where it names none, all partitions count.
        queue: the only partition that counts.
    """
    wanted = [queue] if queue else [*batch.queues]
    found = [
        nodes
        for name, gres, features, memory in _lines(listing)
        if name in wanted or not wanted
        for nodes in _kinds(name, gres, features, memory, batch.queues.get(name))
    ]
    found.sort(key=lambda nodes: wanted.index(nodes.queue) if nodes.queue in wanted else len(wanted))
    return tuple({nodes.kind: nodes for nodes in reversed(found)}.values())[::-1]


def _lines(listing: str) -> Iterator[tuple[str, str, frozenset[str], int]]:
    for line in listing.splitlines():
        parts = line.strip().split("|")
        if len(parts) == 4 and (memory := _NUMBER.match(parts[3])):  # noqa: PLR2004
            yield parts[0], parts[1], frozenset(parts[2].split(",")), int(memory[0])


def _kinds(name: str, gres: str, features: frozenset[str], memory: int, queue: Queue | None) -> Iterator[GpuNodes]:
    known = dict(queue.gpus) if queue else {}
    # A node that has less would take no job at all.
    common = (f"--partition={name}", f"--mem={min(_MEMORY, memory)}M")
    for found in _GRES.finditer(gres):
        if label := found[1]:
            yield GpuNodes(_named(label, known), name, (*common, f"--gres=gpu:{label}:1"))
            continue
        here = [kind for kind, feature in known.items() if feature in features] or (
            list(known) if len(known) == 1 else []
        )
        if not here:
            yield GpuNodes(UNKNOWN, name, (*common, "--gres=gpu:1"))
        for kind in here:
            feature = known[kind]
            constraint = (f"--constraint={feature}",) if feature in features else ()
            yield GpuNodes(kind, name, (*common, "--gres=gpu:1", *constraint))


def _named(label: str, known: Iterable[str]) -> str:
    """Return the GPU that Slurm's type means: nvidia_a100_80gb_pcie is A100."""
    words = [word.upper() for word in re.split(r"[^A-Za-z0-9]+", label)]
    spelled = " ".join(words)
    names = sorted({*known, *GPUS}, key=len, reverse=True)
    return next((name for name in names if f" {name.upper()} " in f" {spelled} "), label)


@dataclass(frozen=True, slots=True)
class GpuJob:
    """How a job on one kind of GPU ended.

    Attributes:
        nodes: where it was to run.
        number: the job's; empty where none was taken.
        output: what it wrote to its standard output; empty where it did not end.
        problem: why there is no output; empty where there is one.
    """

    nodes: GpuNodes
    number: str = ""
    output: str = ""
    problem: str = ""


def run_on(
    kinds: Sequence[GpuNodes],
    command: Sequence[str],
    folder: Path,
    *,
    account: str,
    seconds: int,
    wait: int,
    done: Callable[[GpuJob], None],
) -> tuple[GpuJob, ...]:
    """Run a command once on each kind of GPU, side by side, and wait for it; every job has ended when this returns.

    Args:
        kinds: where.
        folder: one that all nodes see, for what jobs print.
        account: whom the time is charged to; empty where Slurm knows.
        seconds: the longest that a job may run.
        wait: seconds after which jobs that have not ended are cancelled.
        done: told of each that has ended.

    Raises:
        KeyboardInterrupt: Ctrl-C; jobs are cancelled.
    """
    ended: dict[GpuNodes, GpuJob] = {}

    def end(job: GpuJob) -> None:
        ended[job.nodes] = job
        done(job)

    running: dict[str, GpuNodes] = {}
    for number, nodes in enumerate(kinds):
        try:
            running[_submit(nodes, command, folder / str(number), account, seconds)] = nodes
        except FailedError as error:
            end(GpuJob(nodes, problem=error.message))
    places = {job: folder / str(kinds.index(nodes)) for job, nodes in running.items()}
    deadline = time.monotonic() + wait
    try:
        while running and time.monotonic() < deadline:
            there = queued("slurm")
            for job in [job for job in running if there is not None and job not in there]:
                end(_ended(running.pop(job), job, places[job]))
            if running:
                time.sleep(_POLL_SECONDS)
    finally:
        if running:
            subprocess.run(["scancel", *running], check=False, capture_output=True, timeout=60)
    for job, nodes in running.items():
        end(GpuJob(nodes, job, problem=f"job {job} had not ended after {span(wait)}, and was cancelled"))
    return tuple(ended[nodes] for nodes in kinds)


class _Found(BaseModel):
    checks: tuple[CheckLine, ...]
    record: Path | None


class _Fault(BaseModel):
    message: str


class _Said(BaseModel):
    """What `mlviews smoke --json` prints, as far as it is wanted."""

    data: _Found | None
    errors: tuple[_Fault, ...]


def kind_line(job: GpuJob, store: Store, waiting: Waiting) -> GpuKindLine:
    """Return what a job that ran `mlviews smoke --json` found, and see to it that its record is in this root.

    Args:
        store: takes a record that the node could not write into it.
        waiting: told who holds the view's lock, if this has to wait.
    """
    record, problem = None, job.problem
    said = _Said(data=None, errors=())
    try:
        said = _Said.model_validate_json(job.output) if job.output else said
    except ValidationError:
        problem = f"job {job.number} printed no result: {printable(job.output[-_TAIL:])}"
    if said.data is None and said.errors:
        problem = printable(said.errors[0].message)
    record = said.data.record if said.data else None
    if record and not record.is_relative_to(store.root):
        try:
            gather(store, record, waiting=waiting)
        except MlviewsError as error:
            problem = error.message
    checks = said.data.checks if said.data else ()
    return GpuKindLine(
        gpu=job.nodes.kind, queue=job.nodes.queue, job=job.number, checks=checks, record=record, problem=problem
    )


def _submit(nodes: GpuNodes, command: Sequence[str], place: Path, account: str, seconds: int) -> str:
    """Submit a job; returns its number."""
    printed = str(place).replace("%", "%%")  # Slurm puts numbers and names in the place of %j and its like
    options = [
        "--parsable", "--job-name=mlviews-smoke", f"--output={printed}.out", f"--error={printed}.err", "--no-requeue",
        "--nodes=1", "--ntasks=1", f"--cpus-per-task={_CORES}", f"--time={-(-seconds // 60)}",
        *([f"--account={account}"] if account else []), *nodes.options,
    ]  # fmt: skip
    said = call(["sbatch", *options], given=f"#!/bin/bash\nexec {shlex.join(command)}\n")
    return said.strip().partition(";")[0]


def _ended(nodes: GpuNodes, job: str, place: Path) -> GpuJob:
    """Read what a job printed, which a network's file system may show late."""
    deadline = time.monotonic() + _LATE_SECONDS
    while True:
        output = _text(place.with_suffix(".out"))
        if output or time.monotonic() > deadline:
            break
        time.sleep(_LATE_SECONDS / 20)
    said = printable(_text(place.with_suffix(".err"))[-_TAIL:].strip()) or "nothing"
    return GpuJob(nodes, job, output, "" if output else f"job {job} ended without a result; it said: {said}")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
