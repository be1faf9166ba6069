"""Request, view and site -> a job: the one value that every batch system's files are made from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlviews.container.definitions import unpacked
from mlviews.errors import BadInputError, RefusedError
from mlviews.gpus.nvidia import GPUS, dotted, toolkit_driver
from mlviews.release import Release, loading
from mlviews.site.batch import BatchSystem, Queue, System, megabytes, seconds, span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.container.describe import Container

Launcher = Literal["alone", "torchrun", "lightning"]

MARGIN_SECONDS = (30, 300)
"""How long before its end a job tells its program: a tenth of its time, between these."""

_PYTORCH = {"pytorch", "pytorch-cpu", "pytorch-gpu"}
_HOUR = 3600
_CORES_PER_GPU = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a person asks for.

    Attributes:
        command: the program and its arguments.
        nodes: how many hosts.
        gpus: of each node; None for one where the view is for GPUs.
        cores: processor cores of each node; None for four a GPU.
        megabytes: memory of each node; None for the system's own default.
        seconds: the longest that one start may run.
        queue: partition, flavour or queue; None for the site's first one that fits.
        array: how many jobs, each with a number in ``MLVIEWS_TASK``; 0 for one that has none.
        resume: whether the job goes back into the queue until its program says that it is done.
        tries: how many starts there may be at most.
        check_first: whether ``torch-nccl`` must pass before the program starts.
        lightning: whether the program is a Lightning Trainer's, which resumes by a plugin of its own.
    """

    command: tuple[str, ...]
    nodes: int = 1
    gpus: int | None = None
    cores: int | None = None
    megabytes: int | None = None
    seconds: int = _HOUR
    queue: str | None = None
    array: int = 0
    resume: bool = False
    tries: int = 50
    check_first: bool = False
    lightning: bool = False

    @property
    def script(self) -> Path | None:
        """The file that the program is in, as the command names it; None where that names none."""
        words = itertools.takewhile(lambda word: word not in {"-c", "-m"}, self.command)  # then text or a module
        return next((Path(word) for word in words if word.endswith((".py", ".sh"))), None)


@dataclass(frozen=True, slots=True)
class Entry:
    """How a job enters a view.

    Attributes:
        view: what is in it.
        words: what stands before a program to start it in the view.
        image: the image's name in its registry; empty where it is entered by ``launch``.
        copies: whether it is an image of `mlviews.pack.squashfs`, which is copied to each node's own disk first.
    """

    view: Release
    words: tuple[str, ...]
    image: str = ""
    copies: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job of one view on one batch system; everything is known but the folder that it is submitted from.

    Attributes:
        gpus: of each node.
        cores: of each node.
        queue: partition, flavour or queue; empty where the system chooses.
        account: whom the time is charged to; empty where the system knows.
        kinds: the GPUs that the view's binaries serve, as far as that is known.
        features: Slurm's features of which a node must have one; none where every node of the partition will do.
        capabilities: compute capabilities such as 8.0 that the view serves, the lowest first; and those above it
            that it is known not to serve.
        driver: the oldest NVIDIA driver that will do; empty where there is no GPU.
        launcher: what starts the program's processes.
        to_fill_in: what nobody has said, for people.
    """

    system: System
    name: str
    entry: Entry
    request: JobRequest
    gpus: int
    cores: int
    queue: str
    account: str
    kinds: tuple[str, ...]
    features: tuple[str, ...]
    capabilities: tuple[tuple[str, ...], tuple[str, ...]]
    driver: str
    launcher: Launcher
    to_fill_in: tuple[str, ...]

    @property
    def margin(self) -> int:
        """Seconds before the end at which the program is told."""
        least, most = MARGIN_SECONDS
        return min(most, max(least, self.request.seconds // 10))

    @property
    def caches(self) -> Mapping[str, str]:
        """Variables that name folders of caches -> what those are called in the node's own scratch."""
        return dict(sorted(loading(self.entry.view).caches.items()))


def by_launch(release: Release) -> Entry:
    """Enter a release on a root that every node sees."""
    return Entry(release, (f"{release.prefix}/launch",))


def by_file(release: Release, launch: Path) -> Entry:
    """Enter a release by the launch of its squashfs image, which every node sees; it is copied to each once."""
    return Entry(release, (str(launch),), copies=True)


def by_image(container: Container, system: System) -> Entry:
    """Enter a view's image: PanDA starts its jobs in it, elsewhere Apptainer does, from where CVMFS unpacks images."""
    release = container.release
    nv = ("--nv",) if release.cuda else ()
    apptainer = () if system == "panda" else ("apptainer", "exec", "-e", *nv, unpacked(container.reference))
    return Entry(release, (*apptainer, *container.entrypoint), container.reference)


def plan_job(request: JobRequest, entry: Entry, system: System, batch: BatchSystem | None) -> Job:
    """Return the job that a request means for a view on a system.

    Args:
        batch: what the site says of it; None where it says nothing.

    Raises:
        BadInputError: the request contradicts itself, the view, or what the system can do.
        RefusedError: no queue of the site fits.
    """
    _refuse_contradictions(request, entry, system)
    release = entry.view
    gpus = request.gpus if request.gpus is not None else int(release.cuda is not None)
    kinds = kinds_served(release)
    given = batch or BatchSystem()
    name = request.queue or queue_for(given, request, gpus, kinds)
    queue = given.queues.get(name)
    served = [kind for kind in (queue.gpus if queue else ()) if kind in kinds]
    mixed = queue and len(served) < len(queue.gpus)
    features = tuple(dict.fromkeys(filter(None, (queue.gpus[kind] for kind in served)))) if queue and mixed else ()
    processes = request.nodes * max(gpus, 1)
    torch = any(package.name in _PYTORCH for package in release.packages)
    spread = processes > 1 and torch and request.command[:1] == ("python",)
    return Job(
        system=system,
        name=release.view,
        entry=entry,
        request=request,
        gpus=gpus,
        cores=request.cores or _CORES_PER_GPU * max(gpus, 1),
        queue=name,
        account=given.account or "",
        kinds=kinds,
        features=features if gpus else (),
        capabilities=_capabilities(release, kinds) if gpus else ((), ()),
        driver=(toolkit_driver(release.cuda) or "") if gpus and release.cuda else "",
        launcher="lightning" if request.lightning else "torchrun" if spread else "alone",
        to_fill_in=_to_fill_in(system, given, name, gpus),
    )


def _refuse_contradictions(request: JobRequest, entry: Entry, system: System) -> None:
    release, many = entry.view, request.nodes > 1
    packages = {package.name for package in release.packages}
    for wrong, what, hint in (
        (request.gpus and not release.cuda, f"{release.view} is a view without CUDA", "Name a GPU view, or no GPUs."),
        (many and system != "slurm", f"a job of {request.nodes} nodes needs Slurm", "Ask for one node with more GPUs."),
        (
            request.check_first and not packages & _PYTORCH,
            f"{release.view} holds no PyTorch, which torch-nccl checks",
            "Leave out --check-first.",
        ),
        (
            request.lightning
            and (system != "slurm" or entry.image or entry.copies or not packages & {"lightning", "pytorch-lightning"}),
            "Lightning's plugin resumes jobs of Slurm, entered by launch, of a view that holds lightning",
            "Leave out --lightning, and save checkpoints with mlviews_resume: docs/jobs.md.",
        ),
        (any("\0" in word for word in request.command), "an argument holds a null character", "Leave it out."),
    ):
        if wrong:
            raise BadInputError("job-request", what, hint)


def kinds_served(release: Release) -> tuple[str, ...]:
    """Return the GPUs that the binaries serve; where they were not read, those that the recipe names."""
    if release.served:
        return tuple(kind for kind, way in release.served.items() if way != "none")
    return release.gpus


def queue_for(batch: BatchSystem, request: JobRequest, gpus: int, kinds: tuple[str, ...]) -> str:
    """Return the first queue that a job fits into; empty where the site names none.

    Args:
        gpus: of each node.
        kinds: the GPUs that the view serves.

    Raises:
        RefusedError: it fits into none; with the reason for each.
    """
    faults = []
    for name, queue in batch.queues.items():
        why = _misfit(queue, request, gpus, kinds)
        if not why:
            return name
        faults.append(f"{name}: {why}")
    if faults:
        raise RefusedError(
            "job-queue", "this job fits into no queue of the site", "Ask for less, or name one: --queue.",
            faults=tuple(faults),
        )  # fmt: skip
    return ""


def _misfit(queue: Queue, request: JobRequest, gpus: int, kinds: tuple[str, ...]) -> str:
    if queue.limit and seconds(queue.limit) < request.seconds:
        return f"it ends jobs after {queue.limit}, this one asks for {span(request.seconds)}"
    if queue.memory and megabytes(queue.memory) < (request.megabytes or 0):
        return f"its nodes give {queue.memory}, this one asks for {request.megabytes} MB"
    if gpus and queue.gpus_per_node and gpus > queue.gpus_per_node:
        return f"its nodes have {queue.gpus_per_node} GPUs, this one asks for {gpus}"
    if gpus and queue.gpus and kinds and not set(queue.gpus) & set(kinds):
        return f"it has {', '.join(queue.gpus)}, the view serves {', '.join(kinds)}"
    return ""


def _capabilities(release: Release, kinds: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    served = sorted({GPUS[kind].compute for kind in kinds if kind in GPUS})
    if not served:
        return (), ()
    lacking = {GPUS[kind].compute for kind, way in release.served.items() if way == "none" and kind in GPUS}
    return tuple(map(dotted, served)), tuple(dotted(one) for one in sorted(lacking - set(served)) if one > served[0])


def _to_fill_in(system: System, batch: BatchSystem, queue: str, gpus: int) -> tuple[str, ...]:
    """Say what the site's file leaves open; with a site that names queues nothing is."""
    if batch.queues or queue or system != "slurm":
        return ()
    what = "the partition with GPUs: `sinfo -o '%R %G %l'` lists them" if gpus else "the partition: `sinfo` lists them"
    return (
        what,
        *(() if batch.account else ("your account, where the site asks for one: `sacctmgr show associations`",)),
    )
