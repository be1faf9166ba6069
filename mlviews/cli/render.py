"""Write what a view is loaded by, and its image."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, complete_view, shared_options, verb

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from rich.console import Console

    from mlviews.container.build import Image
    from mlviews.release import Release
    from mlviews.results import ContainerBuildResult, RenderResult

__all__ = ["container", "render"]


def _complete_format(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    del context, parameter
    from mlviews.formats import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


@verb("render")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_view)
@click.argument("form", metavar="FORMAT", shell_complete=_complete_format)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PATH", help="Write there, not to stdout.")
@click.option("--platform", metavar="SUBDIR", help="Platform to render for.  [default: this host's]")
def render(app: App, view: str, form: str, *, output: Path | None, platform: str | None) -> Outcome:
    """Write one of the files that a view is loaded or installed by.

    \b
    lmod tcl        modulefile for Lmod, for environment-modules
    sh csh fish     setup script for bash, zsh and sh; for tcsh; for fish
    kernel          kernel.json for Jupyter
    explicit        list of archives for conda and mamba, from the lock
    dockerfile      with -o a folder to build an image in; without, the Dockerfile alone
    apptainer       the same for Apptainer, in view.def
    batch           how jobs use the image: Apptainer, CVMFS, PanDA, HTCondor
    sbom            bill of materials, CycloneDX, from the lock
    """  # noqa: D301  (click wants the character, not its escape)
    from mlviews.errors import BadInputError
    from mlviews.formats import FORMATS, render_input
    from mlviews.recipe.model import nearest
    from mlviews.results import RenderResult

    if form not in FORMATS:
        raise BadInputError(
            "format-unknown", f"there is no format {form!r}{nearest(form, FORMATS)}", f"There are {', '.join(FORMATS)}."
        )
    name, _, release = view.partition("/")
    it = render_input(
        name, app.site, recipe=lambda: app.catalogue.view(name), release=release or None, platform=platform
    )
    files, remarks = FORMATS[form].files(it), FORMATS[form].remarks(it)
    if output:
        _write_files(files, FORMATS[form].programs, output.absolute())
    for remark in remarks:
        app.remark(remark)
    result = RenderResult(
        view=name,
        format=form,
        platform=it.platform,
        path=str(output.absolute()) if output else None,
        files=dict(files),
        remarks=list(remarks),
    )
    return Outcome(result, lambda console: _write(console, result))


def _write_files(files: Mapping[str, str], programs: Container[str], output: Path) -> None:
    from mlviews.files import write_atomically

    if len(files) == 1:
        write_atomically(output, next(iter(files.values())))
        return
    for name, text in files.items():
        write_atomically(output / name, text, executable=name in programs)


def _write(console: Console, result: RenderResult) -> None:
    from mlviews.cli.output import write_stdout

    if result.path:
        console.print(result.path, markup=False, soft_wrap=True)
    else:
        write_stdout(next(iter(result.files.values())))


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
    from mlviews.container.describe import lock_tag
    from mlviews.container.images import check_tools, push, write_sif
    from mlviews.files import make_folder
    from mlviews.store.launcher import release_here

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
    return Outcome(result, lambda console: _write_image(console, result))


container.add_command(build)


def _result(
    image: Image, release: Release, archive: Path | None, reference: str | None, sif: Path | None
) -> ContainerBuildResult:
    from mlviews.results import ContainerBuildResult, LayerLine

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


def _write_image(console: Console, result: ContainerBuildResult) -> None:
    from rich.table import Table

    from mlviews.cli.terminal import size

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
