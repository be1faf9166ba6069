"""The command line: the verbs in groups by who needs them, each imported when it is called."""

from __future__ import annotations

import re
from importlib import import_module

import click

from mlviews import __version__
from mlviews.cli.app import App, Verb, shared_options

GROUPS: dict[str, dict[str, str]] = {
    "Use views": {
        "mlviews list": "catalogue",
        "mlviews show plotting": "show",
        "mlviews packages plotting": "packages",
        "mlviews search xgboost": "packages",
        "mlviews doctor": "doctor",
        "mlviews use pypi": "doctor",
        "mlviews build plotting": "build",
        'mlviews extend plotting "seaborn >=0.13"': "new",
        "mlviews run plotting python plot.py": "build",
        "mlviews shell plotting": "build",
        "mlviews job training-gpu --time 12h -- python train.py": "job",
        "mlviews pack plotting -o FILE": "pack",
        "mlviews stamp model.onnx": "pack",
        "mlviews kernel add plotting": "kernel",
        "mlviews smoke plotting": "smoke",
        "mlviews startup training-cpu": "startup",
        "mlviews gpus training-gpu": "gpus",
    },
    "Make views": {
        "mlviews new my-view --from environment.yml": "new",
        "mlviews layers": "catalogue",
        "mlviews checks": "catalogue",
        "mlviews lock my-view": "locks",
        "mlviews diff my-view --from HEAD": "locks",
        "mlviews render my-view dockerfile -o DIR": "render",
        "mlviews container build my-view": "render",
        "mlviews nightly": "nightly",
        "mlviews bisect my-view --good A --bad B": "bisect",
        "mlviews ci github -o FILE": "ci",
    },
    "Keep a site": {
        "mlviews releases plotting": "releases",
        "mlviews promote plotting/2026.11.23": "releases",
        "mlviews rollback plotting": "releases",
        "mlviews pin plotting/2026.11.23": "releases",
        "mlviews remove plotting/2026.11.23": "releases",
        "mlviews uninstall plotting": "releases",
        "mlviews verify plotting": "store",
        "mlviews gc --dry-run": "store",
        "mlviews publish plotting --plan": "publish",
        "mlviews catalogue -o FOLDER": "catalogue",
        "mlviews attest plotting --key KEY": "pack",
        "mlviews records gather FILE": "store",
    },
}
"""By who needs them: a call of each verb, and the module here that has it."""
_PLACES = {call.split()[1]: (module, call) for calls in GROUPS.values() for call, module in calls.items()}


def _verb(name: str) -> click.Command:
    """Import a verb: importing all of them takes longer than most need to run."""
    module, call = _PLACES[name]
    values = vars(import_module(f"mlviews.cli.{module}")).values()
    command = next(value for value in values if isinstance(value, click.Command) and value.name == name)
    command.epilog = f"Example: {call}"
    return command


def _brief(command: click.Command) -> str:
    """Return what a command does, without what follows a colon or semicolon."""
    return re.split(r"[:;]|\.$", command.get_short_help_str(200))[0]


_OTHERS_WORDS = {
    "activate": "`mlviews shell VIEW` starts a shell in a view; `source .../setup.sh` loads it in this one",
    "clean": "`mlviews gc` removes what no release has",
    "create": "`mlviews new VIEW` starts a recipe, `mlviews build VIEW` builds it",
    "deactivate": "`exit` leaves `mlviews shell`, `mlviews_deactivate` undoes a setup script",
    "env": "`mlviews list` shows the views",
    "export": "`mlviews render VIEW environment` writes an environment.yml",
    "info": "`mlviews doctor` looks at this host, `mlviews show VIEW` at a view",
    "install": '`mlviews extend VIEW "PACKAGE"` puts packages on top of a view, `mlviews build VIEW` builds one',
    "load": "`module load` or `source .../setup.sh` loads a view: `mlviews build VIEW` says which line",
    "unload": "`mlviews_deactivate` undoes a setup script",
    "update": "`mlviews lock VIEW --upgrade` takes the newest packages, `mlviews build VIEW` builds them",
    "upgrade": "`mlviews lock VIEW --upgrade` takes the newest packages, `mlviews build VIEW` builds them",
}
"""What people type who know conda, pip or modules, and what does it here."""


class _Verbs(Verb, click.Group):
    """The command itself: imports the verb that is called, and its help names the verbs first, then the options."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs' names."""
        del ctx
        return sorted(_PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb; None where there is none of that name."""
        del ctx
        return _verb(cmd_name) if cmd_name in _PLACES else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; for a word of another tool's say what does it here."""
        if here := _OTHERS_WORDS.get(args[0]):
            raise click.UsageError(f"No such command {args[0]!r}: {here}.", ctx)
        if args[0] not in _PLACES:
            self.commands = {name: _verb(name) for name in _PLACES}  # click looks for a name that is like it
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs by group, each as one calls it; then the options."""
        bare = isinstance(ctx.obj, App) and ctx.obj.bare
        shown = dict([*GROUPS.items()][: 1 if bare else None])
        for title, calls in shown.items():
            with formatter.section(title):
                formatter.write_dl([(call, _brief(_verb(call.split()[1]))) for call in calls], col_max=42)
        if bare:
            more = len(_PLACES) - sum(map(len, shown.values()))
            formatter.write("\n")
            formatter.write_text(
                f"`mlviews --help` shows {more} verbs more, to make views and to keep a site, and all options."
            )
        else:
            Verb.format_options(self, ctx, formatter)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@shared_options(environment=True)
@click.version_option(__version__, prog_name="mlviews")
def cli() -> None:
    """Small, locked, GPU-ready machine-learning environments from short recipes.

    `mlviews VERB --help` tells more of each. Options stand before or after the verb.

    \b
    For completion with the TAB key put this line into ~/.bashrc,
    with zsh_source into ~/.zshrc, with fish_source and `| source` into fish's:
    eval "$(_MLVIEWS_COMPLETE=bash_source mlviews)"
    """  # noqa: D301  (click wants the character, not its escape)
