"""Take a view along: as one file, as a channel, as its lock's name in a result, as signed statements of it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import FILE, FOLDER, PATH, App, complete_release, verb
from mlviews.cli.output import Outcome
from mlviews.progress import counted, size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.cli.terminal import Console
    from mlviews.pack.offline import OfflineChannel
    from mlviews.pack.squashfs import PackedImage
    from mlviews.provenance.stamp import StampResult
    from mlviews.release import Release


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
        return Outcome(PackResult(image=image), lambda console, _: _write_image(console, image))
    assert offline
    channel = _channel(app, view, offline)
    return Outcome(PackResult(channel=channel), lambda console, _: _write_channel(console, channel))


def _intact_release(app: App, view: str) -> tuple[Path, Release]:
    """Return the prefix and the release that a view's name means, to be taken elsewhere.

    Raises:
        RefusedError: there is none, or its files are not as they were built.
    """
    from mlviews.errors import RefusedError
    from mlviews.prefix.verify import verify as verify_prefix
    from mlviews.store.launcher import release_here

    prefix, release = release_here(app.site.root, view)
    if verify_prefix(prefix, shared=app.site.group is not None, progress=app.progress).faults:
        raise RefusedError(
            "not-intact",
            f"{release.label} is not as it was built",
            f"`mlviews verify {release.label}` lists the changed files.",
        )
    return prefix, release


def _image(app: App, view: str, path: Path) -> PackedImage:
    from mlviews.pack.squashfs import pack as write_image

    prefix, release = _intact_release(app, view)
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
    return Outcome(StampResult(file, written, made.view, made.release, made.lock, made.source), _write_stamp)


def _told_by(app: App, view: str) -> Mapping[str, str]:
    """Return what loading a release would tell."""
    from mlviews.release import loading
    from mlviews.store.launcher import release_here

    return loading(release_here(app.root, view)[1]).activation.set


def _write_stamp(console: Console, result: StampResult) -> None:
    console.say(f"{result.written} says {result.view}/{result.release}, lock {result.lock[:12]}")


@verb("attest")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.option("--key", type=PATH, required=True, metavar="FILE", help="Your private ed25519 key (PEM).")
@click.option("--builder", metavar="URI", help="Name of the builder in the provenance.  [default: the site]")
@click.option(
    "-o", "--output", type=FILE, metavar="FILE",
    help="The file to write.  [default: VIEW-RELEASE-PLATFORM.intoto.jsonl here]",
)  # fmt: skip
def attest(app: App, view: str, *, key: Path, builder: str | None, output: Path | None) -> Outcome:
    """Sign what a release was made of and which checks it passed, as in-toto statements with SLSA provenance.

    `mlviews verify VIEW --attestation FILE --key PUBLIC` checks them, without a network.
    """
    from mlviews.files.writing import write_atomically
    from mlviews.provenance.attest import AttestResult, read_signer, sign, statements
    from mlviews.smoke.records import read_records

    signer = read_signer(key)  # before all files are read
    prefix, release = _intact_release(app, view)
    records = read_records(app.site.root, release.view, release.lock_digest)
    found = statements(prefix, release, records, builder=builder)
    text, keyid = sign(found, signer)
    path = (output or Path(f"{release.view}-{release.release}-{release.platform}.intoto.jsonl")).absolute()
    write_atomically(path, text)
    result = AttestResult(
        release.view, release.release, release.platform, release.lock_digest, path, len(found), keyid
    )  # fmt: skip
    told = f"{release.label}: {counted(len(found), 'statement')} in {path}, signed by {keyid[:12]}"
    return Outcome(result, lambda console, _: console.say(told))
