"""Take a view along: a release as one file, or what its lock names as a channel."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, complete_release, verb

if TYPE_CHECKING:
    from mlviews.cli.terminal import Console
    from mlviews.offline import OfflineChannel
    from mlviews.squashfs import PackedImage

__all__ = ["pack"]


@verb("pack")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="A release as an image.")
@click.option(
    "--offline", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="The archives of the view's lock as a channel: elsewhere `build --mirror` needs no network.",
)  # fmt: skip
def pack(app: App, view: str, *, output: Path | None, offline: Path | None) -> Outcome:
    """Take a view along: a release as one squashfs file, or the archives that its lock names.

    `mlviews run --image FILE -- CMD...` runs a program from such a file.
    """
    from mlviews.results import PackResult

    if (output is None) == (offline is None):
        raise click.UsageError("name one of -o FILE and --offline FOLDER")
    if output:
        image = _image(app, view, output.absolute())
        return Outcome(PackResult(image=image), lambda console: _write_image(console, image))
    assert offline
    channel = _channel(app, view, offline.absolute())
    return Outcome(PackResult(channel=channel), lambda console: _write_channel(console, channel))


def _image(app: App, view: str, path: Path) -> PackedImage:
    from mlviews.errors import RefusedError
    from mlviews.prefix.verify import verify
    from mlviews.squashfs import pack as write_image
    from mlviews.store.launcher import release_here

    prefix, release = release_here(app.root, view)
    name = f"{release.view}/{release.release}"
    if verify(prefix, shared=app.site.group is not None, progress=app.progress).faults:
        raise RefusedError(
            "not-intact", f"{name} is not as it was built", f"`mlviews verify {name}` names what is not."
        )
    return write_image(prefix, release, path, progress=app.progress)


def _channel(app: App, view: str, folder: Path) -> OfflineChannel:
    from mlviews.lock.status import lock_status
    from mlviews.offline import pack_offline

    if "/" in view:
        raise click.UsageError(f"--offline packs what a build needs, so name the view alone: {view.partition('/')[0]}")
    found = lock_status(app.site_spec(view), app.site)
    if found.error:
        raise found.error
    assert found.path
    return pack_offline(found.path, folder, site=app.site, progress=app.progress)


def _write_image(console: Console, image: PackedImage) -> None:
    from mlviews.cli.terminal import say, size

    name = f"{image.view}/{image.release}"
    say(console, f"{name}: {size(image.bytes)} in {image.path}; its programs find it at {image.place}")


def _write_channel(console: Console, channel: OfflineChannel) -> None:
    from mlviews.cli.terminal import say, size

    new = f"{channel.fetched} of them new" if channel.fetched else "all of them there already"
    what = f"{channel.archives} archives, {size(channel.bytes)}, {new}"
    say(console, f"{channel.view}: {what}, for {', '.join(channel.platforms)} in {channel.folder}")
    if channel.removed:
        say(console, f"removed {len(channel.removed)} of an earlier lock")
    say(console, ("\nWhere FOLDER lies then, without a network:", "bold"))
    mirrors = " ".join(f"--mirror {shlex.quote(name)}=FOLDER" for name in channel.channels)
    say(console, f"  mlviews build {channel.view} --lockfiles FOLDER/{channel.lockfile.parent.name} {mirrors}")
