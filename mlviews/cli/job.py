from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mlviews.cli.app import FILE, PATH, App, ProgramVerb, complete_release, named, reader, verb
from mlviews.cli.output import Outcome, write_stdout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.cli.terminal import Console
    from mlviews.jobs.job import Entry, Job
    from mlviews.results import JobResult
    from mlviews.site.batch import System

_COUNT = click.IntRange(min=1)


@verb("job", cls=ProgramVerb)
@click.argument("view", metavar="VIEW[/RELEASE]", required=False, shell_complete=complete_release)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] CMD...")
@click.option(
    "--system", type=click.Choice(["slurm", "htcondor", "panda"]), help="Batch system.  [default: the site's first one]"
)
@click.option("--nodes", type=_COUNT, metavar="N", default=1, show_default=True, help="Hosts.")
@click.option(
    "--gpus-per-node",
    "gpus",
    type=click.IntRange(min=0),
    metavar="N",
    help="GPUs of each host.  [default: 1 for a view with CUDA]",
)
@click.option(
    "--cores-per-node", "cores", type=_COUNT, metavar="N", help="Processor cores of each host.  [default: 4 a GPU]"
)
@click.option("--memory", callback=reader("megabytes"), metavar="SIZE", help="Memory of each host, such as 32GB.")
@click.option(
    "--time", "seconds", callback=reader("seconds"), default="1h", show_default=True, metavar="TIME",
    help="How long one start runs at most: 90m, 12h, 3d.",
)  # fmt: skip
@click.option(
    "--queue", callback=reader("word"), metavar="NAME", help="Partition, flavour or queue.  [default: the site's]"
)
@click.option("--array", type=_COUNT, metavar="K", help="Make K jobs. Each finds its number, from 0, in MLVIEWS_TASK.")
@click.option("--resume", is_flag=True, help="Start again from a checkpoint until the program is done; docs/jobs.md.")
@click.option(
    "--tries",
    type=click.IntRange(1, 50),
    metavar="N",
    default=50,
    show_default=True,
    help="With --resume: how many starts at most.",
)
@click.option("--lightning", is_flag=True, help="The program uses a Lightning Trainer, whose own plugin resumes it.")
@click.option("--check-first", is_flag=True, help="Start the program only where torch-nccl passes.")
@click.option(
    "--via", type=click.Choice(["launch", "image"]), help="Enter the view from the shared root, or its image."
)
@click.option(
    "--image", type=PATH, metavar="FILE",
    help="Use this file, which `pack` wrote and every node can read, in place of a view.",
)  # fmt: skip
@click.option("--interactive", is_flag=True, help="Write no job, but the line that starts a shell on a node.")
@click.option("--submit", "submits", is_flag=True, help="Write the files, and submit them.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="The file to write.")
def job(
    app: App, view: str | None, command: tuple[str, ...], *, system: System | None, nodes: int, gpus: int | None,
    cores: int | None, memory: int | None, seconds: int, queue: str | None, array: int | None, resume: bool,
    tries: int, lightning: bool, check_first: bool, via: Literal["launch", "image"] | None, image: Path | None,
    interactive: bool, submits: bool, output: Path | None,
) -> Outcome:  # fmt: skip
    """Write the job of a program in a view, for Slurm, HTCondor or PanDA."""
    if image and via:
        raise click.UsageError("--image and --via cannot be used together")
    if image and view is not None:
        command = (view, *command)
    elif view is None and not image:
        raise click.UsageError("name a view, or --image FILE")
    if interactive == bool(command):
        raise click.UsageError("name a program after --, or --interactive")
    if lightning and not resume:
        raise click.UsageError("--lightning needs --resume")
    from mlviews.jobs.job import JobRequest, plan_job
    from mlviews.jobs.render import job_files, main_name
    from mlviews.jobs.submit import interactive_line, submit

    usual: System = next(iter(app.site.batch), "slurm")
    chosen = usual if system is None else system
    request = JobRequest(
        command=command, nodes=nodes, gpus=gpus, cores=cores, megabytes=memory, seconds=seconds, queue=queue,
        array=array or 0, resume=resume, tries=tries, check_first=check_first, lightning=lightning,
    )  # fmt: skip
    entry = _by_file(image, chosen) if image else _entry(app, view or "", chosen, via)
    planned = plan_job(request, entry, chosen, app.site.batch.get(chosen))
    if interactive:
        line = interactive_line(planned)
        return Outcome(_result(planned, line=line), _write)
    path = output or Path(main_name(planned))
    files = job_files(planned, path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    path = path.absolute()
    written = path if output or submits else None
    absent = _absent(app, planned, path.parent if chosen == "panda" else Path(), submits=submits)
    if written:
        _write_files(files, path.parent)
    elif len(files) > 1:
        app.remark(f"-o FILE also writes {', '.join(list(files)[1:])}, without which this job cannot run")
    if written and planned.to_fill_in and not submits:
        app.remark(f"to fill in, in {path.name}: {'; '.join(planned.to_fill_in)}")
    submitted = submit(chosen, path) if submits else None
    return Outcome(_result(planned, path=written, files=files, submitted=submitted, absent=absent), _write)


def _entry(app: App, view: str, system: System, via: Literal["launch", "image"] | None) -> Entry:
    from mlviews.errors import BadInputError
    from mlviews.formats import render_input
    from mlviews.jobs.job import by_image, by_launch
    from mlviews.store.launcher import release_here

    if via == "launch" and system == "panda":
        raise BadInputError(
            "job-request", "PanDA's nodes cannot read this root", "Leave --via out: PanDA takes the image."
        )
    if via == "image" or system == "panda":
        name, release = named(view)
        it = render_input(name, app.site, recipe=lambda: app.view(name), release=release)
        return by_image(it.image.container, system)
    _, found = release_here(app.root, view)
    return by_launch(found)


def _absent(app: App, planned: Job, folder: Path, *, submits: bool) -> Path | None:
    """Return the script that a job is to run, if it is not there, and say so: the job would, after its time in a queue.

    An image may hold files that are nowhere here.

    Args:
        folder: where the job is submitted.

    Raises:
        RefusedError: it is not there, and the job would be submitted now.
    """
    from mlviews.errors import RefusedError, nearest

    script = planned.request.script
    if script is None or (folder / script).exists() or (script.is_absolute() and planned.entry.image):
        return None
    beside = (path.name for path in (folder / script).parent.glob(f"*{script.suffix}"))
    place = "here" if folder == Path() else f"in {folder}, the folder of the job's file"
    missing = f"there is no {script} {place}{nearest(script.name, beside)}"
    if submits:
        raise RefusedError("script-missing", missing, "If it comes later, write the job with -o FILE, and submit that.")
    app.remark(missing)
    return script


def _by_file(image: Path, system: System) -> Entry:
    from mlviews.errors import BadInputError, RefusedError
    from mlviews.files.reading import is_file
    from mlviews.jobs.job import by_file
    from mlviews.pack.squashfs import image_launch, image_release

    if system == "panda":
        raise BadInputError("job-request", "PanDA's nodes cannot read this file", "Leave out --image, name the view.")
    release = image_release(image)
    launch = image_launch(image)
    if not is_file(launch):
        hint = "`mlviews pack VIEW -o FILE` writes both: keep them in one folder."
        raise RefusedError("image-launch-missing", f"there is no {launch}, which starts programs in the image", hint)
    return by_file(release, launch)


def _result(
    planned: Job,
    *,
    path: Path | None = None,
    files: Mapping[str, str] | None = None,
    submitted: str | None = None,
    line: str | None = None,
    absent: Path | None = None,
) -> JobResult:
    from mlviews.results import JobResult

    release = planned.entry.view
    return JobResult(
        view=planned.name, system=planned.system, release=release.release, lock=release.lock_digest,
        image=planned.entry.image, nodes=planned.request.nodes, gpus=planned.gpus, queue=planned.queue,
        serves=planned.kinds, path=path, files=files or {}, submitted=submitted, line=line,
        to_fill_in=planned.to_fill_in, absent=absent,
    )  # fmt: skip


def _write_files(files: Mapping[str, str], folder: Path) -> None:
    from mlviews.files.writing import write_atomically

    for name, text in files.items():
        write_atomically(folder / name, text, executable=text.startswith("#!"))


def _write(console: Console, result: JobResult) -> None:
    if result.line:
        write_stdout(f"{result.line}\n")
    elif not result.path:
        write_stdout(next(iter(result.files.values())))
    else:
        for name in result.files:
            console.say(str(result.path.parent / name))
    if result.submitted:
        console.say(result.submitted)
