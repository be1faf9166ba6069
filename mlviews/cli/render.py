from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_view, verb

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from rich.console import Console

    from mlviews.results.builds import RenderResult

__all__ = ["render"]


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
    from mlviews.formats import FORMATS
    from mlviews.recipe.model import nearest
    from mlviews.rendering import subject
    from mlviews.results.builds import RenderResult

    if form not in FORMATS:
        raise BadInputError(
            "format-unknown", f"there is no format {form!r}{nearest(form, FORMATS)}", f"There are {', '.join(FORMATS)}."
        )
    name, _, release = view.partition("/")
    it = subject(name, app.site, recipe=lambda: app.catalogue.view(name), release=release or None, platform=platform)
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
