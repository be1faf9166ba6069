"""Build a view, and run a program in one."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlviews.cli.app import PATH, App, ProgramVerb, complete_release, complete_view, named, verb
from mlviews.cli.output import STATUS_STYLES, Outcome, tell_unreadable, write_changes
from mlviews.cli.table import Column
from mlviews.progress import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.build import BuildResult
    from mlviews.cli.terminal import Console
    from mlviews.provenance.stamp import Stamp
    from mlviews.recipe.view import ViewSpec
    from mlviews.release import LinkScripts


@verb("build")
@click.argument("view", shell_complete=complete_view)
@click.option("--rebuild", is_flag=True, help="Make a new release even if nothing has changed.")
@click.option(
    "--variant",
    metavar="NAME",
    help="Build this variant; `own` is the recipe itself.  [default: the one for this host]",
)
@click.option("--all-variants", "every", is_flag=True, help="Build the recipe itself and each of its variants.")
def build(app: App, view: str, *, rebuild: bool, variant: str | None, every: bool) -> Outcome:
    """Build a view: lock if there is none, install, check, and make it the default."""
    from mlviews.build import build as build_view
    from mlviews.errors import MlviewsError
    from mlviews.site.spec import for_site

    if variant and every:
        raise click.UsageError("give --variant or --all-variants, not both")
    specs, chosen = _variants(app, view, variant, every=every)
    built: list[BuildResult] = []
    errors: list[MlviewsError] = []
    for spec in specs:
        try:
            built.append(build_view(for_site(spec, app.site), app.site, rebuild=rebuild, progress=app.progress))
        except MlviewsError as error:
            errors.append(error)
    if not built:
        raise errors[0]
    others = {other.view: other.release for other in built[1:]}
    result = replace(built[0], chosen=chosen, others=others)

    def show(console: Console, result: BuildResult) -> None:
        for one in (result, *built[1:]):
            write_built(console, one, app)

    return Outcome(result, show, errors=errors)


def _variants(app: App, view: str, variant: str | None, *, every: bool) -> tuple[Sequence[ViewSpec], str]:
    """Return what is built, and why it is this variant where nobody named one.

    A variant that this host would take needs a lock here: else the recipe's own is built, as it always was.
    """
    from mlviews.lock.status import lock_status
    from mlviews.site.spec import for_site
    from mlviews.variants import choose, named, read_driver

    family = app.family(view)
    if every or (len(family) == 1 and not variant):
        return family, ""
    if variant:
        return (named(family, variant),), ""
    choice = choose(family, read_driver())
    best = next(spec for spec in family if spec.name == choice.takes)
    if best is family[0]:
        return (best,), choice.why
    found = lock_status(for_site(best, app.site), app.site)
    if found.lock or (app.site.packages == "wheels" and found.state == "none"):
        return (best,), choice.why
    return family[:1], f"{best.name} would suit this host ({choice.why}), and has no lock: `mlviews lock {best.name}`"


def write_built(console: Console, built: BuildResult, app: App) -> None:
    """Write what a build gave, for people, and how to use it."""
    from mlviews.release import served_in_words

    name = f"{built.view}/{built.release}"
    if built.chosen:
        console.say(("variant", "yellow"), f" {built.view}: {built.chosen}")
    if built.status == "unchanged":
        what = "checks of its recipe ran" if built.checks else "nothing to do"
        console.say(f"{name} is there already, from the same lock: {what}")
    else:
        console.say(("built", "bold green"), f" {name}: {counted(built.packages, 'package')} for {built.platform}")
    if built.base_changes:
        console.say(f"the base is now {built.base}; it differs from the base of the build before:")
        write_changes(console, built.base_changes)
    checks = (
        ((check.status, STATUS_STYLES[check.status]), check.name, f"{check.seconds:.1f} s", check.reason)
        for check in built.checks
    )
    console.table((Column(), Column(), Column(rank=1, right=True), Column(folds=30)), checks, header=False)
    if built.served:
        console.say(f"serves {served_in_words(built.served)}")
    for gpu in built.left_out:
        console.say(("leaves out", "yellow"), f" {gpu}, which the recipe names: `mlviews gpus {built.view}` says why")
    _tell_limits(console, built)
    _tell_link_scripts(console, built.link_scripts)
    for clobber in built.clobbers:
        console.say(
            ("lost", "yellow"),
            f" {clobber.path} of {clobber.lost}: the file of {clobber.kept} has replaced it",
        )
    for package, why in built.pip_check_waivers.items():
        console.say(("waived", "yellow"), f" a requirement of {package}: {why}")
    tell_unreadable(console, built.unreadable)
    if not built.default:
        now, lost = app.store.default(built.view), app.store.lost_default(built.view)
        which = f"{now}{', a release that is not there any more' if lost else ''}"
        state = f"not the default, which is {which}" if now else f"not the default: {built.view} has none yet"
        console.say((f"It is {state}. `mlviews promote {name}` makes it that.", "yellow"))
    _next(console, built, app)


def _tell_limits(console: Console, built: BuildResult) -> None:
    """Write in what the release is not what its recipe, its packages or their scripts may lead one to expect."""
    for what, instead in built.differs.items():
        console.say(("differs", "yellow"), f" {what}: here {instead}")
    for package, why in {**built.absent, **built.gaps}.items():
        console.say(("lacks", "yellow"), f" {package}: {why}")
    for loosened in built.overrides:
        console.say(("loosened", "yellow"), f" {loosened}")
    for folder in built.editable:
        console.say(("editable", "yellow"), f" {folder}: read where it lies; what changes there changes the view")
    for package, versions in built.replaced.items():
        console.say(("replaced", "yellow"), f" {package}: {versions}")
    for package, asked in built.broken.items():
        console.say(("breaks", "bold red"), f" {package}, which asks for {asked}")
    if built.sdists:
        console.say(("built from source", "yellow"), f" where there is no wheel: {', '.join(built.sdists)}")
    for note in built.notes:
        console.say(("note", "yellow"), f" {note}")


def _tell_link_scripts(console: Console, scripts: LinkScripts) -> None:
    for title, packages in (
        ("the link scripts ran of", scripts.run),
        ("the link scripts did not run, since the recipe does not name them, of", scripts.skipped),
        ("the recipe names link scripts that are not there, of", scripts.without),
    ):
        if packages:
            console.say(("note", "yellow"), f" {title} {', '.join(packages)}")
    for note in scripts.notes:
        console.say(("note", "yellow"), f" link script of {note}")


def _next(console: Console, built: BuildResult, app: App) -> None:
    from mlviews.jupyter import holds_ipykernel

    version = "" if built.default else f"/{built.release}"
    options = app.place(anew=True)
    baked = app.site.prefix / built.folder.relative_to(app.site.root)
    undone = ""
    if baked != built.folder and not baked.exists():
        console.say(("\nIt can be loaded once it is published. Next:", "bold"))
        lines = [f"{_program()} publish {built.view}/{built.release}{options} --plan --tar FILE"]
        if not built.default:
            lines.insert(0, f"{_program()} promote {built.view}/{built.release}{options}")
    else:
        console.say(("\nNext, one of:", "bold"))
        undone = f"`mlviews_deactivate` undoes the first, `module unload {built.module}` the second."
        python = (built.folder / "bin/python").exists()
        lines = [
            f"source {shlex.quote(f'{baked}/setup.sh')}",
            f"module use {shlex.quote(str(app.site.prefix / 'modulefiles'))}; module load {built.module}{version}",
            f"{_program()} run {built.view}{version}{options} -- {'python' if python else 'PROGRAM'}",
        ]
        if holds_ipykernel(app.store.entry(built.view, built.release).release):
            which = "" if built.default else f" --release {built.release}"
            lines.append(f"{_program()} kernel add {built.view}{which}{options}")
    for line in lines:
        console.say(f"  {line}", folds=False)
    if undone:
        console.say((undone, "dim"))


def _program() -> str:
    """Return what starts this mlviews in a new shell: its name where that will be on PATH, else its path."""
    program = Path(sys.argv[0]).absolute()
    if program.name == "__main__.py":
        found = Path(shutil.which("mlviews") or "/nowhere")
        if found.parent.parent.name == "commands":  # the module's: `write_command_loaders`
            return found.name
        return f"{shlex.quote(sys.executable)} -m mlviews"
    found = Path(shutil.which(program.name) or "/nowhere").absolute()
    # A virtual environment's folder is on PATH only until this shell ends.
    passing = sys.prefix != sys.base_prefix and found.parent == Path(sys.prefix) / "bin"
    if not passing and found.exists() and program.exists() and found.samefile(program):
        return program.name
    return shlex.quote(str(program))


@verb("run", cls=ProgramVerb)
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] CMD...")
@click.option(
    "--image",
    type=PATH,
    metavar="FILE",
    help="Run from this file, which `pack` wrote, in place of a view.",
)
@click.option(
    "--like", type=PATH, metavar="FILE",
    help="Run with the release that FILE was made with, in place of a view.",
)  # fmt: skip
def run(app: App, view: str, command: tuple[str, ...], *, image: Path | None, like: Path | None) -> Outcome | None:
    """Run a program in a view. It replaces the process of mlviews."""
    if image and like:
        raise click.UsageError("name one of --image and --like")
    if image:
        from mlviews.pack.squashfs import image_command

        program = image_command(image, (view, *command))
        os.execvp(program[0], program)  # noqa: S606  (no shell)
    from mlviews.store.launcher import launcher

    name, release = named(view)
    if like:
        from mlviews.provenance.stamp import read_stamp

        stamp, command = read_stamp(like), (view, *command)
        name, release = stamp.view, _release_like(app, stamp)
    if not command:
        raise click.UsageError("Missing argument '[--] CMD...'.")
    launch = launcher(app.root, name, release)
    os.execv(launch, [str(launch), *command])  # noqa: S606  (no shell)


def _release_like(app: App, stamp: Stamp) -> str:
    """Return the release of the lock that a stamp names."""
    from mlviews.store.locksource import release_of_lock, whence

    release = release_of_lock(app.root, stamp.view, stamp.lock)
    if release is None:
        raise whence(stamp, app.site, app.recipes)
    return release


@verb("shell")
@click.argument("view", metavar="VIEW[/RELEASE]", shell_complete=complete_release)
def shell(app: App, view: str) -> Outcome | None:
    """Start your shell with a view loaded: `exit` leaves it."""
    from mlviews.shell import enter
    from mlviews.store.launcher import launcher

    name, release = named(view)
    prefix = launcher(app.root, name, release).parent
    if app.verbosity >= 0:
        app.console(stderr=True).say(f"{name}/{prefix.parent.name} is loaded here; `exit` leaves it")
    enter(prefix, os.environ)
