from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_view, shared_options, verb

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.container.build import Image
    from mlviews.release import Release
    from mlviews.results.builds import ContainerBuildResult

__all__ = ["container"]


@click.group("container")
@shared_options(environment=False)
def container() -> None:
    """Make images of views, for the grid and for Apptainer."""


@verb("build")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_view)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="The OCI archive to write."
)
@click.option("--push", "reference", metavar="REF", help="Push the image to a registry, such as docker.io/me/view:1.")
@click.option("--base", metavar="IMAGE", help="Base image: a name, an OCI archive or a layout.  [default: the site's]")
@click.option("--apptainer", is_flag=True, help="Make an Apptainer image of it, too.")
def build(
    app: App, view: str, *, output: Path | None, reference: str | None, base: str | None, apptainer: bool
) -> Outcome:
    """Make the OCI image of a release, from its packages as they lie in the cache.

    The same lock on the same base gives the same image.
    """
    from mlviews.container.build import build_image
    from mlviews.container.deliver import check_tools, push, write_sif
    from mlviews.container.describe import lock_tag
    from mlviews.files import make_folder
    from mlviews.store.running import release_here

    check_tools(pushes=reference is not None, sif=apptainer)
    prefix, release = release_here(app.root, view)
    stem = f"{release.view}-{lock_tag(release.lock_digest)}"
    make_folder(app.site.cache)
    with tempfile.TemporaryDirectory(prefix=".push-", dir=app.site.cache) as scratch:
        kept = output or (None if reference and not apptainer else Path(f"{stem}.oci.tar"))
        archive = kept.absolute() if kept else Path(scratch) / "image.oci.tar"
        image = build_image(prefix, release, app.site, archive, base=base, progress=app.progress)
        if reference:
            push(archive, reference, progress=app.progress)
    sif = archive.with_name(f"{archive.name.removesuffix('.tar').removesuffix('.oci')}.sif") if apptainer else None
    if sif:
        write_sif(archive, sif, progress=app.progress)
    result = _result(image, release, archive if kept else None, reference, sif)
    for remark in result.remarks:
        app.remark(remark)
    return Outcome(result, lambda console: _write(console, result))


container.add_command(build)


def _result(
    image: Image, release: Release, archive: Path | None, reference: str | None, sif: Path | None
) -> ContainerBuildResult:
    from mlviews.results.builds import ContainerBuildResult, LayerLine

    return ContainerBuildResult(
        view=release.view,
        release=release.release,
        lock=release.lock_digest,
        platform=release.platform,
        digest=image.digest,
        config=image.config_digest,
        base=image.base,
        base_digest=image.base_digest,
        bytes=image.size,
        layers=[
            LayerLine(holds=layer.title, digest=layer.blob.digest, bytes=layer.blob.size) for layer in image.layers
        ],
        archive=str(archive) if archive else None,
        pushed=reference,
        sif=str(sif) if sif else None,
        remarks=list(image.remarks),
    )


def _write(console: Console, result: ContainerBuildResult) -> None:
    from rich.table import Table

    from mlviews.cli.text import size

    console.print(f"[bold green]built[/] the image of {result.view}/{result.release} for {result.platform}")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("Layer", no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    base = result.bytes - sum(layer.bytes for layer in result.layers)
    for holds, count in (("base", base), *((layer.holds, layer.bytes) for layer in result.layers)):
        table.add_row(holds, size(count))
    table.add_row("all", size(result.bytes), style="bold")
    console.print(table)
    facts = {"digest": result.digest, "image id": result.config, "base": f"{result.base} {result.base_digest}"}
    facts |= {"archive": result.archive or "", "pushed to": result.pushed or "", "Apptainer": result.sif or ""}
    for name, value in facts.items():
        if value:
            console.print(f"{name}: {value}", markup=False, soft_wrap=True)
