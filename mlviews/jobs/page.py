"""The page on how jobs use a view's image: the files of all three systems, as `mlviews job` makes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlviews.container.definitions import unpacked
from mlviews.jobs.job import JobRequest, by_image, plan_job
from mlviews.jobs.render import job_files, main_name
from mlviews.jobs.submit import SUBMITTERS, TITLES
from mlviews.render import escape
from mlviews.site.batch import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.container.describe import Container
    from mlviews.site.batch import BatchSystem, System


def render_page(container: Container, batch: Mapping[System, BatchSystem]) -> str:
    """Return the page; every line of it in a code block works once the image is pushed."""
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
