"""Take a view along: a release as one file, what its lock names as a channel, or the lock's name in a result."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import FOLDER, PATH, App, complete_release, verb
from mlviews.cli.output import Outcome
from mlviews.cli.store import intact_release
from mlviews.progress import counted, size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.cli.terminal import Console
    from mlviews.pack.offline import OfflineChannel
    from mlviews.pack.squashfs import PackedImage
    from mlviews.provenance.stamp import StampResult


@verb("pack")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Write the release as an image to FILE.")
@click.option(
    "--offline", type=FOLDER, metavar="FOLDER",
    help="Write the archives of the view's lock as a channel: `build --mirror` then needs no network.",
)  # fmt: skip
def pack(app: App, view: str, *, output: Path | None, offline: Path | None) -> Outcome:
    """Pack a view for another place: a release as one squashfs file, or all archives of its lock.

    `mlviews run --image FILE -- CMD...` runs a program from such a file.
    """
    from mlviews.results import PackResult

    if (output is None) == (offline is None):
        raise click.UsageError("name one of -o FILE and --offline FOLDER")
    if output:
        image = _image(app, view, output)
        return Outcome(PackResult(image=image), lambda console: _write_image(console, image))
    assert offline
    channel = _channel(app, view, offline)
    return Outcome(PackResult(channel=channel), lambda console: _write_channel(console, channel))


def _image(app: App, view: str, path: Path) -> PackedImage:
    from mlviews.pack.squashfs import pack as write_image

    prefix, release = intact_release(app, view)
    return write_image(prefix, release, path, progress=app.progress)


def _channel(app: App, view: str, folder: Path) -> OfflineChannel:
    from mlviews.lock.status import lock_status
    from mlviews.pack.offline import pack_offline

    if "/" in view:
        raise click.UsageError(f"--offline takes a view without its release: {view.partition('/')[0]}")
    found = lock_status(app.site_spec(view), app.site)
    if found.error:
        raise found.error
    assert found.path
    return pack_offline(found.path, folder, site=app.site, progress=app.progress)


def _write_image(console: Console, image: PackedImage) -> None:

    name = f"{image.view}/{image.release}"
    console.say(f"{name}: {size(image.bytes)} in {image.path}; `mlviews run --image` mounts it at {image.place}")


def _write_channel(console: Console, channel: OfflineChannel) -> None:

    new = f"{channel.fetched} of them new" if channel.fetched else "all of them there already"
    what = f"{channel.archives} archives, {size(channel.bytes)}, {new}"
    console.say(f"{channel.view}: {what}, for {', '.join(channel.platforms)} in {channel.folder}")
    if channel.removed:
        console.say(f"removed {counted(len(channel.removed), 'package')} of an earlier lock")
    console.say(("\nWithout a network, where FOLDER is a copy of that folder:", "bold"))
    mirrors = " ".join(f"--mirror {shlex.quote(name)}=FOLDER" for name in channel.channels)
    lockfiles = f"FOLDER/{channel.lockfile.parent.name}"
    console.say(f"  mlviews build {channel.view} --lockfiles {lockfiles} {mirrors}", folds=False)


@verb("stamp")
@click.argument("file", type=PATH)
@click.option(
    "--view",
    metavar="VIEW[/RELEASE]",
    shell_complete=complete_release,
    help="The view that made it.  [default: the loaded view]",
)
def stamp(app: App, file: Path, view: str | None) -> Outcome:
    """Write into an ONNX model, or next to another file, which view made it.

    `mlviews run --like FILE -- CMD...` runs a program with the same packages again.
    """
    from mlviews.provenance.stamp import StampResult, stamp_of, write_stamp

    environment = _told_by(app, view) if view else os.environ
    made = stamp_of(environment, source=app.site.container.source or "")
    written = write_stamp(file, made)
    result = StampResult(file, written, made.view, made.release, made.lock, made.source)
    return Outcome(result, lambda console: _write_stamp(console, result))


def _told_by(app: App, view: str) -> Mapping[str, str]:
    """Return what loading a release would tell."""
    from mlviews.release import loading
    from mlviews.store.launcher import release_here

    return loading(release_here(app.root, view)[1]).activation.set


def _write_stamp(console: Console, result: StampResult) -> None:

    console.say(f"{result.written} says {result.view}/{result.release}, lock {result.lock[:12]}")
