"""A job -> its files: what is submitted, what runs on the node, what lies beside them; and the page on all of that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlviews.container.definitions import unpacked
from mlviews.errors import BadInputError
from mlviews.files.reading import RELEASE_FILE
from mlviews.jobs.job import Job, JobRequest, by_image, plan_job
from mlviews.jobs.submit import SUBMITTERS, TITLES
from mlviews.render import escape
from mlviews.site.batch import SYSTEMS, BatchSystem, System
from mlviews.smoke.programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.container.describe import Container

RESUME_MODULE = "mlviews_resume.py"
"""What programs import to save checkpoints; it lies in the folder `<name>.files` beside the job."""

_BESIDE = Path(__file__).resolve().parent / "beside"
_CHECK = "torch-nccl"
_ENDINGS: Mapping[System, str] = {"slurm": ".slurm.sh", "htcondor": ".sub", "panda": ".panda.sh"}
_PATIENCE = 2 / 3  # of the margin: a program that has not saved by then does not
# Of the job's variables those that a program in an image needs: `apptainer exec -e` passes none.
_PASSED = (
    *("MLVIEWS_CHECKPOINTS", "MLVIEWS_START", "MLVIEWS_TASK", "CUDA_VISIBLE_DEVICES"),
    *("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"),
)


@dataclass(frozen=True, slots=True)
class _Names:
    """What the files of a job are called.

    Attributes:
        submitted: the worker's path as the submit file gives it.
        files: so the folder beside them; empty where the job needs none.
    """

    main: str
    worker: str
    submitted: str
    files: str


def main_name(job: Job) -> str:
    """Return what a job's submit file is called where nobody names it."""
    return f"{job.name}{_ENDINGS[job.system]}"


def job_files(job: Job, output: Path) -> dict[str, str]:
    """Return the files of a job by their path beside each other, the submit file first.

    Args:
        output: where the submit file is to lie. Slurm's nodes find what lies beside it by its absolute path, HTCondor
            by the path from the folder that it is submitted from; PanDA's goes to its own folder.

    Raises:
        BadInputError: the name of ``output`` cannot stand in a submit file.
    """
    beside = _beside(job)
    stem = output.name.removesuffix(_ENDINGS[job.system]).removesuffix(".sh")
    folder = f"{stem}.files" if beside else ""
    place = Path() if job.system == "panda" else output.parent
    names = _Names(output.name, f"{stem}.job.sh", str(place / f"{stem}.job.sh"), str(place / folder) if folder else "")
    try:
        if job.system == "slurm":
            files = str(output.parent.absolute() / folder) if folder else ""
            return {output.name: escape.render("job.slurm", "sh", _values(job, names, files)), **_below(folder, beside)}
        values = _values(job, names, folder)
        main = escape.render(f"job.{job.system}", "sh", values)
        worker = escape.render("job.worker", "sh", values)
    except ValueError as error:
        raise BadInputError("job-name", f"{error}", "Choose another name for the file: -o.") from error
    return {names.main: main, names.worker: worker, **_below(folder, beside)}


def _below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


def _beside(job: Job) -> dict[str, str]:
    """Return the programs that a job brings along, by their path in its folder."""
    found = {}
    if job.request.resume and job.launcher != "lightning":
        found[RESUME_MODULE] = (_BESIDE / RESUME_MODULE).read_text(encoding="utf-8")
    if job.request.check_first:
        check = PROGRAMS[_CHECK].path
        for path in (check, *sorted(check.parent.glob("_*.py"))):  # what it imports, and is small
            found[f"checks/{path.name}"] = path.read_text(encoding="utf-8")
    return found


def _values(job: Job, names: _Names, files: str) -> dict[str, Any]:
    """Return what the templates name; numbers as text, which `bare` passes, and empty for none."""
    return {
        **_labels(job),
        **_resources(job),
        **_times(job),
        **_program(job),
        "files": files,
        "worker": names.submitted,
        "inputs": ",".join(filter(None, [_program_path(job.request), names.files])),
    }


def _labels(job: Job) -> dict[str, Any]:
    release = job.entry.view
    return {
        "slurm": job.system == "slurm",
        "htcondor": job.system == "htcondor",
        "panda": job.system == "panda",
        "view": job.name,
        "release": release.release,
        "lock": release.lock_digest,
        "release_file": f"{release.prefix}/{RELEASE_FILE}",
        "kinds": ", ".join(job.kinds),
        "to_fill_in": job.to_fill_in,
        "queue": job.queue,
        "account": job.account,
    }


def _resources(job: Job) -> dict[str, Any]:
    """Return what a job asks of each node, and of its GPUs."""
    served, lacking = job.capabilities
    tasks = max(job.gpus, 1) if job.launcher == "lightning" else 1
    return {
        "nodes": str(job.request.nodes),
        "tasks": str(tasks),
        "gpus": _number(job.gpus),
        "cores": str(max(1, job.cores // tasks)),
        "memory": _number(job.request.megabytes),
        "driver": job.driver,
        "features": job.features,
        "capability": served[0] if served else "",
        "lacking": lacking,
        "architecture": f"&nvidia:driver>={'.'.join(job.driver.split('.')[:2])}" if job.driver else "&nvidia",
    }


def _times(job: Job) -> dict[str, str]:
    """Return how long a job may take and be repeated, and how it is told that its time is over."""
    request = job.request
    return {
        "seconds": str(request.seconds),
        "work": str(request.seconds - job.margin),
        "time": _slurm_time(request.seconds),
        "margin": str(job.margin),
        "patience": str(int(job.margin * _PATIENCE)),
        "signal": "USR1" if job.launcher == "lightning" else "B:USR1",
        "array": _number(request.array),
        "last": str(request.array - 1),
        "count": str(request.array or 1),
        "tries": str(request.tries if request.resume else 1),
    }


def _program(job: Job) -> dict[str, Any]:
    """Return what runs on the node, and around it."""
    request = job.request
    several = job.gpus > 1 or request.nodes > 1
    return {
        "resume": request.resume,
        "lightning": job.launcher == "lightning",
        "torchrun": job.launcher == "torchrun",
        "several": several,
        "processes": str(max(job.gpus, 1)),
        "check_first": request.check_first,
        "caches": job.caches,
        "passed": (*_PASSED, *job.caches),
        "talks": request.resume or several or request.check_first,
        "words": job.entry.words,
        "copies": job.entry.copies,
        "command": request.command,
        "arguments": request.command[1:],
        "image": f"docker://{job.entry.image}" if job.entry.image else "",
        "apptainer": bool(job.entry.image) and job.system != "panda",
    }


def _program_path(request: JobRequest) -> str:
    """Return what has the script and goes to the node: itself, or the folder that its path begins with; or nothing."""
    script = request.script
    return script.parts[0] if script and not script.is_absolute() and script.parts[0] != ".." else ""


def _number(value: int | None) -> str:
    return str(value) if value else ""


def _slurm_time(seconds: int) -> str:
    """Return a time as Slurm reads it: days-hours:minutes:seconds."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}"


def render_page(container: Container, batch: Mapping[System, BatchSystem]) -> str:
    """Return the page on how jobs use a view's image, with the files of each system.

    Every line of it in a code block works once the image is pushed.
    """
    release = container.release
    return escape.render(
        "batch.md",
        "markdown",
        {
            "view": release.view,
            "summary": release.summary,
            "lock": release.lock_digest,
            "image": container.reference,
            "unpacked": unpacked(container.reference),
            "sif": f"{release.view}-{release.release}.sif",
            "archive": f"{release.view}-{release.release}.oci.tar",
            "gpu": release.cuda is not None,
            "cuda": release.cuda or "",
            "gpus": ", ".join(release.gpus),
            "nv": "--nv " if release.cuda else "",
            "job": container.job,
            "systems": [_section(system, container, batch.get(system)) for system in SYSTEMS],
        },
    )


def _section(system: System, container: Container, batch: BatchSystem | None) -> dict[str, Any]:
    request = JobRequest(command=tuple(container.job.split()))
    job = plan_job(request, by_image(container, system), system, batch)
    main = main_name(job)
    program = "bash" if system == "panda" else SUBMITTERS[system]
    return {
        "title": TITLES[system],
        "name": system,
        "main": main,
        "submit": f"{program} {main}",
        "files": [
            {"name": name, "language": "" if name.endswith(".sub") else "sh", "text": text.rstrip("\n")}
            for name, text in job_files(job, Path(main)).items()
        ],
    }
