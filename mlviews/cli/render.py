"""Write what a view is loaded by, and its image."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import FILE, PATH, App, complete_view, named, shared_options, verb
from mlviews.cli.output import Outcome, write_stdout
from mlviews.cli.table import Column

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from mlviews.cli.terminal import Console
    from mlviews.container.build import ContainerBuildResult
    from mlviews.results import RenderResult


def _complete_format(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    del context, parameter
    from mlviews.formats import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


@verb("render")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_view)
@click.argument("form", metavar="FORMAT", shell_complete=_complete_format)
@click.option("-o", "--output", type=PATH, metavar="PATH", help="Write there, not to stdout.")
@click.option("--platform", metavar="SUBDIR", help="Platform to render for.  [default: this host's]")
def render(app: App, view: str, form: str, *, output: Path | None, platform: str | None) -> Outcome:
    """Write one file that loads or installs a view.

    \b
    lmod tcl        modulefile for Lmod, for environment-modules
    sh csh fish     setup script for bash, zsh and sh; for tcsh; for fish
    kernel          kernel.json for Jupyter
    vscode          settings.json for a folder in VS Code: its Python, its terminals
    explicit        list of archives for conda and mamba, from the lock
    environment     environment.yml, from the lock: versions and builds, no hashes
    pixi            pixi.lock, from the lock
    pylock          pylock.toml, from the lock: the wheels alone
    constraints     versions of a release, for pip install -c: pip leaves them as they are
    dockerfile      with -o a folder to build an image in; without, the Dockerfile alone
    apptainer       the same for Apptainer, in view.def
    batch           how jobs use the image: Apptainer, CVMFS, Slurm, HTCondor, PanDA
    sbom            bill of materials, CycloneDX, from the lock
    """  # noqa: D301  (click wants the character, not its escape)
    from mlviews.errors import BadInputError, nearest
    from mlviews.formats import FORMATS, render_input
    from mlviews.results import RenderResult

    if form not in FORMATS:
        raise BadInputError(
            "format-unknown", f"there is no format {form!r}{nearest(form, FORMATS)}", f"There are {', '.join(FORMATS)}."
        )
    name, release = named(view)
    it = render_input(name, app.site, recipe=lambda: app.view(name), release=release, platform=platform)
    files, remarks = FORMATS[form].files(it), FORMATS[form].remarks(it)
    if output:
        _write_files(files, FORMATS[form].programs, output)
    for remark in remarks:
        app.remark(remark)
    result = RenderResult(
        view=name,
        format=form,
        platform=it.platform,
        path=output,
        files=files,
        remarks=remarks,
    )
    return Outcome(result, _write)


def _write_files(files: Mapping[str, str], programs: Container[str], output: Path) -> None:
    from mlviews.files.writing import write_atomically

    if len(files) == 1:
        write_atomically(output, next(iter(files.values())))
        return
    for name, text in files.items():
        write_atomically(output / name, text, executable=name in programs)


def _write(console: Console, result: RenderResult) -> None:
    if result.path:
        console.say(str(result.path))
    else:
        write_stdout(next(iter(result.files.values())))


@click.group("container")
@shared_options(environment=False)
def container() -> None:
    """Make images of views, for the grid and for Apptainer."""


@verb("build")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_view)
@click.option("-o", "--output", type=FILE, metavar="FILE", help="The OCI archive to write.")
@click.option("--push", "reference", metavar="REF", help="Push the image to a registry, such as docker.io/me/view:1.")
@click.option("--base", metavar="IMAGE", help="Base image: a name, an OCI archive or a layout.  [default: the site's]")
@click.option("--apptainer", is_flag=True, help="Also make an Apptainer image.")
def build(
    app: App, view: str, *, output: Path | None, reference: str | None, base: str | None, apptainer: bool
) -> Outcome:
    """Make the OCI image of a release, from the packages in the cache.

    The same lock on the same base gives the same image.
    """
    from mlviews.container.build import build_image
    from mlviews.container.images import check_tools, push, write_sif
    from mlviews.files.writing import make_folder
    from mlviews.lock.lockfile import lock_tag
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
    image = replace(image, archive=archive if kept else None, pushed=reference, sif=sif)
    for remark in image.remarks:
        app.remark(remark)
    return Outcome(image, _write_image)


container.add_command(build)


def _write_image(console: Console, image: ContainerBuildResult) -> None:
    from mlviews.progress import size

    console.say(("built", "bold green"), f" the image of {image.view}/{image.release} for {image.platform}")
    base = image.bytes - sum(layer.bytes for layer in image.layers)
    rows = [("base", size(base)), *((layer.holds, size(layer.bytes)) for layer in image.layers)]
    console.table((Column("Layer", folds=20), Column("Size", right=True)), [*rows, ("all", size(image.bytes))])
    facts = {
        "digest": image.digest, "image id": image.config, "base": f"{image.base} {image.base_digest}",
        "archive": image.archive, "pushed to": image.pushed, "Apptainer": image.sif,
    }  # fmt: skip
    for name, value in facts.items():
        if value:
            console.say(f"{name}: {value}")
