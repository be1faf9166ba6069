"""What becomes of an image: a file, a name in a registry, an Apptainer image."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from mlviews.container.base import copy_image, need_skopeo
from mlviews.errors import FailedError
from mlviews.progress import silent

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.progress import Progress

__all__ = ["check_tools", "push", "write_sif"]


def check_tools(*, pushes: bool, sif: bool) -> None:
    """Look for what is needed at the end before anything is begun.

    Raises:
        FailedError: ``tool-missing``.
    """
    if pushes:
        need_skopeo("an image cannot be pushed")
    if sif and shutil.which("apptainer") is None:
        raise FailedError(
            "tool-missing",
            "an Apptainer image cannot be made: there is no apptainer on this host",
            "Leave --apptainer out, and run `apptainer build IMAGE.sif oci-archive:FILE` where it is.",
        )


def push(archive: Path, reference: str, *, progress: Progress = silent) -> None:
    """Push an archive's image to a registry, as ``reference``.

    Raises:
        FailedError: there is no skopeo, or the registry does not take it.
    """
    target = reference if "://" in reference or reference.startswith(("oci:", "dir:")) else f"docker://{reference}"
    with progress(f"Pushing to {reference}"):
        copy_image(f"oci-archive:{archive}", target)


def write_sif(archive: Path, sif: Path, *, progress: Progress = silent) -> None:
    """Make an Apptainer image of an archive's.

    Raises:
        FailedError: Apptainer cannot.
    """
    command = ["apptainer", "build", "--force", str(sif), f"oci-archive:{archive}"]
    with progress("Making an Apptainer image"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [""]
        raise FailedError("apptainer-failed", f"apptainer cannot make {sif}: {lines[-1]}", detail=done.stderr)
