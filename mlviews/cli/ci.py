from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlviews.cli.app import App, shared_options, verb
from mlviews.cli.output import Outcome, write_stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlviews.ci.github import Settings
    from mlviews.cli.terminal import Console

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")
_CRON = re.compile(r"[\d*,/-]+( [\dA-Za-z*,/-]+){4}")


def _labels(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    del context, parameter
    if bad := [label for label in value if not _LABEL.fullmatch(label)]:
        raise click.BadParameter(f"{bad[0]!r} is not a label of a runner")
    return value


def _cron(context: click.Context, parameter: click.Parameter, value: str) -> str:
    del context, parameter
    if not _CRON.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not a time for cron, such as '17 3 * * *'")
    return value


@click.group("ci")
@shared_options(environment=False)
def ci() -> None:
    """Write a workflow that runs mlviews in a CI system."""


def _options(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
    for add in (
        click.option("--install", metavar="REQUIREMENT", help="Where pip gets mlviews from.  [default: as here]"),
        click.option(
            "--ready-made", is_flag=True, help="Build, prove, pack and push views for a tag or a changed lock."
        ),
        click.option("--check-locks", is_flag=True, help="Also check each pull or merge request for stale locks."),
        click.option(
            "--gpu-label", "labels", callback=_labels, metavar="LABEL", multiple=True, default=("gpu",),
            show_default=True, help="Label or tag of the runners with GPUs.",
        ),
        click.option("--cron", callback=_cron, default="17 3 * * *", show_default=True, help="When it runs (UTC)."),
        click.option(
            "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write to FILE.",
        ),
    ):  # fmt: skip
        function = add(function)
    return function


@verb("github")
@_options
def github(app: App, *, output: Path | None, **given: Any) -> Outcome:
    """Write a GitHub workflow that tests every view each night, and publishes the report.

    With --ready-made: another workflow, which makes views ready for use when a push asks for it.
    """
    from mlviews.ci.github import ready_workflow, workflow
    from mlviews.results import CiGithubResult

    settings = _settings(app, **given)
    text = (ready_workflow if settings.ready else workflow)(app.catalogue.views(), settings)
    return _outcome(CiGithubResult(path=str(output) if output else None, workflow=text), text, output)


@verb("gitlab")
@_options
def gitlab(app: App, *, output: Path | None, **given: Any) -> Outcome:
    """Write a GitLab pipeline that tests every view each night, and publishes the report."""
    from mlviews.ci.gitlab import pipeline
    from mlviews.results import CiGitlabResult

    text = pipeline(app.catalogue.views(), _settings(app, **given))
    return _outcome(CiGitlabResult(path=str(output) if output else None, pipeline=text), text, output)


ci.add_command(github)
ci.add_command(gitlab)


def _settings(
    app: App, *, cron: str, labels: tuple[str, ...], install: str | None, check_locks: bool, ready_made: bool
) -> Settings:
    from mlviews.ci.github import Settings
    from mlviews.site.file import SHIPPED_SITES, site_path

    if check_locks and app.site.packages == "wheels":
        raise click.UsageError(
            f"--check-locks finds no lock: those of site {app.site.name} lie in its root, not in Git"
        )
    path = site_path(app.site.name)
    if path and path.parent != SHIPPED_SITES:
        app.remark(f"site {app.site.name} is your own: runners need its file, as ~/.config/mlviews/sites/{path.name}")
    return Settings(
        site=app.site.name,
        cron=cron,
        gpu_labels=labels,
        requirement=install or _requirement(app),
        recipes=_inside(app.recipes),
        lockfiles=_inside(app.site.lockfiles) or "lockfiles",
        locks=check_locks,
        ready=ready_made,
    )


def _outcome(result: Any, text: str, output: Path | None) -> Outcome:
    from mlviews.files.writing import write_atomically

    if output:
        write_atomically(output.absolute(), text)

    def write(console: Console, _: Any) -> None:
        if output:
            console.say(f"wrote {output}")
        else:
            write_stdout(text)

    return Outcome(result, write)


def _requirement(app: App) -> str:
    """Return what gives a runner this mlviews: the checkout if it is mlviews, else where pip got it (PEP 610)."""
    from importlib.metadata import distribution

    from mlviews import __version__
    from mlviews.credentials import hide, open_server

    if Path("mlviews/__init__.py").is_file():
        return ".[report]"
    stated = distribution("mlviews").read_text("direct_url.json")
    origin = json.loads(stated) if stated else {}
    url = open_server(str(origin.get("url", ""))).url
    if "dir_info" in origin or url.startswith("file:") or hide(url) != url:
        app.remark(
            f"this mlviews was installed from {hide(url)}, which no runner can read, so the file installs version "
            f"{__version__} from the index; if the index lacks it, give --install 'mlviews[report] @ git+https://...'"
        )
        url = ""
    if not url:
        return f"mlviews[report]=={__version__}"
    vcs = origin.get("vcs_info")
    return f"mlviews[report] @ {vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else f"mlviews[report] @ {url}"


def _inside(folder: Path) -> str | None:
    """Return a folder as the repository's checkout names it; None for one that is not in it."""
    try:
        return folder.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return None
