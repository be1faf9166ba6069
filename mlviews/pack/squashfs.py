"""A release as one file: a squashfs image, which a program is run from where the release's files say that it lies.

See https://docs.kernel.org/filesystems/squashfs.html. Byte code of releases is unchecked, so that the times of its
modules do not matter.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError, FailedError, RefusedError
from mlviews.files.reading import RELEASE_FILE, DamagedError, is_file
from mlviews.files.storefile import parse
from mlviews.files.writing import file_sha256, forget_parts, make_folder, replacing, write_atomically, write_failure
from mlviews.pack.mounting import APPTAINER, AS_ROOT, AS_USER, SCRIPT, entering
from mlviews.release import Release
from mlviews.render import escape

if TYPE_CHECKING:
    from mlviews.progress import Progress

_FIXED = (
    *("-comp", "zstd", "-Xcompression-level", "3", "-noappend", "-all-root", "-no-xattrs", "-no-exports"),
    *("-mkfs-time", "0", "-reproducible", "-quiet", "-no-progress"),
)
_TOLD = 3


@dataclass(frozen=True, slots=True)
class PackedImage:
    """A release as one file.

    Attributes:
        lock: the lock's digest.
        path: the image.
        sha256: of the image.
        launch: the program beside it that runs others from it, without mlviews.
        bytes: its size.
        place: where a program that runs from it finds the release.
    """

    view: str
    release: str
    platform: str
    lock: str
    path: Path
    sha256: str
    launch: Path
    bytes: int
    place: str


def pack(prefix: Path, release: Release, path: Path, *, progress: Progress) -> PackedImage:
    """Write a release's prefix as a squashfs image, whole or not at all; the same release gives the same bytes.

    Beside it a program is written that runs others from the image on hosts without mlviews.
    """
    _refuse_missing("mksquashfs")
    make_folder(path.parent)
    forget_parts(path, than=timedelta(days=1))
    moment = str(int(release.created.timestamp()))
    try:
        with progress(f"Packing {release.label}"), replacing(path) as part:
            _call(["mksquashfs", str(prefix), str(part), *_FIXED, "-all-time", moment])
            part.chmod(0o644)
    except OSError as error:
        raise write_failure(f"{path} cannot be written", error) from error
    size, sha256, launch = path.stat().st_size, file_sha256(path), image_launch(path)
    write_atomically(launch, _launch_text(release, size, sha256), executable=True)
    return PackedImage(
        release.view, release.release, release.platform, release.lock_digest, path, sha256, launch, size, release.prefix
    )


def _launch_text(release: Release, size: int, sha256: str) -> str:
    return escape.render(
        "image.launch",
        "sh",
        {
            "name": f"{release.label}, lock {release.lock_digest}",
            "place": release.prefix,
            "bytes": str(size),
            "sha256": sha256,
            "script": SCRIPT,
            "root": AS_ROOT,
            "user": AS_USER,
            "apptainer": APPTAINER,
        },
    )


def image_launch(image: Path) -> Path:
    """Return the program beside an image that runs others from it."""
    return image.with_name(f"{image.name}.launch")


def image_release(image: Path) -> Release:
    """Return which release an image holds.

    Raises:
        RefusedError: there is no such file.
        BadInputError: it is not an image of a release.
    """
    if not is_file(image):
        raise RefusedError("image-missing", f"there is no image {image}", "`mlviews pack VIEW -o FILE` writes one.")
    _refuse_missing("unsquashfs")
    hint = "Name an image that `mlviews pack` wrote."
    try:
        return parse(Release, _call(["unsquashfs", "-cat", str(image), RELEASE_FILE]), image)
    except (DamagedError, FailedError) as error:
        raise BadInputError(
            "image-invalid", f"{image} is not an image of a release", hint, detail=str(error)
        ) from error


def image_command(image: Path, command: tuple[str, ...]) -> tuple[str, ...]:
    """Return what runs a program from an image, mounted for it alone at the path that its files have.

    Raises:
        RefusedError, BadInputError: as for `image_release`.
        FailedError: it cannot be mounted here; its faults say why.
    """
    place = Path(image_release(image).prefix)
    return (*entering(image, place), str(place / "launch"), *command)


def _refuse_missing(program: str) -> None:
    if shutil.which(program) is None:
        hint = "Install squashfs-tools; a base system of Debian and of Red Hat has a package of that name."
        raise FailedError("squashfs-missing", f"there is no {program} on this host", hint)


def _call(command: list[str]) -> bytes:
    done = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise FailedError(
            "squashfs-failed",
            f"{command[0]} ended with status {done.returncode}",
            "Read its message; the usual cause is a full disk.",
            faults=tuple(said[-_TOLD:]),
        )
    return done.stdout
