"""Images on their way in and out, by skopeo: a base that is fetched once, a registry, an Apptainer image."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from mlviews.errors import BadInputError, FailedError, last_line
from mlviews.files.reading import is_file
from mlviews.files.writing import make_folder, replacing
from mlviews.progress import Progress, silent
from mlviews.site.model import IMAGE

_FILE = re.compile(r"(oci-archive|oci):(?P<path>.+)")


def base_file(base: str, cache: Path, architecture: str, *, progress: Progress = silent) -> Path:
    """Return the OCI archive or layout of a base image.

    A name is looked up in the host's own store of images, then in its registry, and kept in the cache: the next image
    has the same base, and needs no network.

    Args:
        base: a file, ``oci-archive:FILE``, ``oci:FOLDER``, or an image's name.
        architecture: as OCI names it.

    Raises:
        BadInputError: it is neither a file nor a name.
    """
    match = _FILE.fullmatch(base)
    path = Path(match["path"] if match else base).expanduser()
    if match or path.exists():
        if not path.exists():
            raise BadInputError("base-missing", f"there is no {path}", "Name an OCI archive, a layout or an image.")
        return path
    if not re.fullmatch(IMAGE, base):
        raise BadInputError(
            "base-invalid", f"{base!r} is neither a file nor an image's name", "Such as debian:12-slim."
        )
    kept = cache / "images" / f"{hashlib.sha256(f'{base} {architecture}'.encode()).hexdigest()}.oci.tar"
    if not is_file(kept):
        make_folder(kept.parent)
        with progress(f"Fetching {base}"), replacing(kept) as part:
            _fetch(base, part, architecture)
    return kept


def _fetch(image: str, target: Path, architecture: str) -> None:
    """Copy an image into an archive, from the host's own store if it is there."""
    options = (f"--override-arch={architecture}", "--override-os=linux")
    said = ""
    for source in (f"containers-storage:{image}", f"docker://{image}"):
        try:
            copy_image(source, f"oci-archive:{target}", *options)
            return
        except FailedError as error:
            if error.code == "tool-missing":
                raise
            target.unlink(missing_ok=True)
            said = error.detail
    raise FailedError(
        "base-unreachable",
        f"{image} is not in this host's image store, and its registry does not give it: {last_line(said)}",
        "Name another one with --base, or a file: --base oci-archive:FILE.",
        detail=said,
    )


def copy_image(source: str, target: str, *options: str) -> None:
    """Copy an image with skopeo, by its names for places.

    Raises:
        FailedError: ``tool-missing`` or ``image-copy-failed``.
    """
    need_skopeo(f"{source} cannot be copied to {target}")
    _run(
        ["skopeo", "copy", "--quiet", *options, source, target],
        "image-copy-failed",
        f"skopeo cannot copy {source} to {target}",
        "Perhaps you have to log in first: `skopeo login REGISTRY`.",
    )


def _run(command: list[str], code: str, otherwise: str, hint: str = "") -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FailedError(code, f"{otherwise}: {last_line(done.stderr)}", hint, detail=done.stderr)


def need_skopeo(otherwise: str) -> None:
    """Make sure that skopeo is there."""
    if shutil.which("skopeo") is None:
        raise FailedError(
            "tool-missing",
            f"{otherwise}: there is no skopeo on this host",
            "Install skopeo, or use files: --base oci-archive:FILE and -o FILE.",
        )


def check_tools(*, pushes: bool, sif: bool) -> None:
    """Look for what is needed at the end before anything is begun."""
    if pushes:
        need_skopeo("an image cannot be pushed")
    if sif and shutil.which("apptainer") is None:
        raise FailedError(
            "tool-missing",
            "an Apptainer image cannot be made: there is no apptainer on this host",
            "Leave --apptainer out, and run `apptainer build IMAGE.sif oci-archive:FILE` on a host that has it.",
        )


def push(archive: Path, reference: str, *, progress: Progress = silent) -> None:
    """Push an archive's image to a registry, as ``reference``."""
    target = reference if "://" in reference or reference.startswith(("oci:", "dir:")) else f"docker://{reference}"
    with progress(f"Pushing to {reference}"):
        copy_image(f"oci-archive:{archive}", target)


def write_sif(archive: Path, sif: Path, *, progress: Progress = silent) -> None:
    """Make an Apptainer image of an archive's."""
    command = ["apptainer", "build", "--force", str(sif), f"oci-archive:{archive}"]
    with progress("Making an Apptainer image"):
        _run(command, "apptainer-failed", f"apptainer cannot make {sif}")
