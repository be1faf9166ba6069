"""Build a view, and run a program in one."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import App, Outcome, complete_release, complete_view, verb

if TYPE_CHECKING:
    from rich.console import Console

    from mlviews.build import Built
    from mlviews.cli.app import App
    from mlviews.results import BuildResult

__all__ = ["build", "run"]


@verb("build")
@click.argument("view", shell_complete=complete_view)
def build(app: App, view: str) -> Outcome:
    """Build a view: lock if there is none, install, check, and make it the default."""
    from mlviews.build import build as build_view

    built = build_view(app.site_spec(view), app.site, progress=app.progress)
    result = _result(built)
    return Outcome(result, lambda console: _write(console, result, app))


def _result(built: Built) -> BuildResult:
    from mlviews.results import BuildResult

    release = built.release
    return BuildResult(
        view=built.view,
        release=release.release,
        platform=release.platform,
        status=built.status,
        default=built.default,
        folder=str(built.folder),
        module=release.module,
        lock=release.lock_digest,
        packages=len(release.packages),
        gaps=release.gaps,
        absent=release.absent,
        checks=list(built.checks),
    )


def _write(console: Console, result: BuildResult, app: App) -> None:
    from rich.markup import escape
    from rich.table import Table

    from mlviews.cli.terminal import STATUS_STYLES

    name = f"{result.view}/{result.release}"
    if result.status == "unchanged":
        console.print(f"{name} is there already, from the same lock: nothing to do", markup=False)
    else:
        console.print(f"[bold green]built[/] {name}: {result.packages} packages for {result.platform}")
    checks = Table(box=None, show_header=False, pad_edge=False)
    for check in result.checks:
        style = STATUS_STYLES[check.status]
        checks.add_row(f"[{style}]{check.status}[/]", check.name, f"{check.seconds:.1f} s", escape(check.reason))
    if result.checks:
        console.print(checks)
    for package, why in {**result.absent, **result.gaps}.items():
        console.print(f"[yellow]lacks[/] {escape(package)}: {escape(why)}")
    if not result.default:
        console.print("It is not the default; a plain load gives another release.", style="yellow")
    _next(console, result, app)


def _next(console: Console, result: BuildResult, app: App) -> None:
    version = "" if result.default else f"/{result.release}"
    # What brought the user here brings them there again.
    given = [(name, app.options[name]) for name in ("site", "root") if app.options.get(name)]
    options = "".join(f" --{name} {shlex.quote(value)}" for name, value in given)
    console.print("\nNext, one of:", style="bold")
    lines = [
        f"source {shlex.quote(f'{result.folder}/setup.sh')}",
        f"module use {shlex.quote(str(app.site.prefix / 'modulefiles'))}; module load {result.module}{version}",
        f"{_program()} run {result.view}{version}{options} -- python",
    ]
    for line in lines:
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _program() -> str:
    """Return what starts this mlviews in a new shell: its name where that will be on PATH, else its path."""
    program = Path(sys.argv[0]).absolute()
    if program.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m mlviews"
    found = Path(shutil.which(program.name) or "/nowhere").absolute()
    # A virtual environment's folder is on PATH only until this shell ends.
    passing = sys.prefix != sys.base_prefix and found.parent == Path(sys.prefix) / "bin"
    if not passing and found.exists() and program.exists() and found.samefile(program):
        return program.name
    return shlex.quote(str(program))


@verb("run")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def run(app: App, view: str, command: tuple[str, ...]) -> Outcome | None:
    """Run a program in a view; it takes this process's place."""
    from mlviews.store.launcher import launcher

    name, _, release = view.partition("/")
    launch = launcher(app.root, name, release or None)
    os.execv(launch, [str(launch), *command])  # noqa: S606  (no shell)
