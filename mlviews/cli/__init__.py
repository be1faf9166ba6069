"""The command line: one verb a file, in groups by who needs it."""

from __future__ import annotations

import re

import click

from mlviews import __version__
from mlviews.cli.app import Verb, shared_options
from mlviews.cli.bisect import bisect
from mlviews.cli.build import build, run, shell
from mlviews.cli.catalogue import checks, layers, list_views
from mlviews.cli.ci import ci
from mlviews.cli.doctor import doctor, use
from mlviews.cli.extend import extend
from mlviews.cli.gpus import gpus
from mlviews.cli.job import job
from mlviews.cli.kernel import kernel
from mlviews.cli.locks import diff, lock
from mlviews.cli.new import new
from mlviews.cli.nightly import nightly
from mlviews.cli.pack import pack, stamp
from mlviews.cli.packages import catalogue, packages, search
from mlviews.cli.publish import publish
from mlviews.cli.records import records
from mlviews.cli.releases import pin, promote, releases, remove, rollback, uninstall
from mlviews.cli.render import container, render
from mlviews.cli.show import show
from mlviews.cli.smoke import smoke
from mlviews.cli.startup import startup
from mlviews.cli.store import attest, gc, verify

GROUPS: dict[str, dict[click.Command, str]] = {
    "Use views": {
        list_views: "mlviews list",
        show: "mlviews show plotting",
        packages: "mlviews packages plotting",
        search: "mlviews search xgboost",
        doctor: "mlviews doctor",
        use: "mlviews use pypi",
        build: "mlviews build plotting",
        extend: 'mlviews extend plotting "seaborn >=0.13"',
        run: "mlviews run plotting python plot.py",
        shell: "mlviews shell plotting",
        job: "mlviews job training-gpu --time 12h -- python train.py",
        pack: "mlviews pack plotting -o FILE",
        stamp: "mlviews stamp model.onnx",
        kernel: "mlviews kernel add plotting",
        smoke: "mlviews smoke plotting",
        startup: "mlviews startup training-cpu",
        gpus: "mlviews gpus training-gpu",
    },
    "Make views": {
        new: "mlviews new my-view --from environment.yml",
        layers: "mlviews layers",
        checks: "mlviews checks",
        lock: "mlviews lock my-view",
        diff: "mlviews diff my-view --from HEAD",
        render: "mlviews render my-view dockerfile -o DIR",
        container: "mlviews container build my-view",
        nightly: "mlviews nightly",
        bisect: "mlviews bisect my-view --good A --bad B",
        ci: "mlviews ci github -o FILE",
    },
    "Keep a site": {
        releases: "mlviews releases plotting",
        promote: "mlviews promote plotting/2026.11.23",
        rollback: "mlviews rollback plotting",
        pin: "mlviews pin plotting/2026.11.23",
        remove: "mlviews remove plotting/2026.11.23",
        uninstall: "mlviews uninstall plotting",
        verify: "mlviews verify plotting",
        gc: "mlviews gc --dry-run",
        publish: "mlviews publish plotting --plan",
        catalogue: "mlviews catalogue -o FOLDER",
        attest: "mlviews attest plotting --key KEY",
        records: "mlviews records gather FILE",
    },
}
"""By who needs them: each command, and a call of it."""


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
    """The command itself: its help names the verbs first, then the options."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; for a word of another tool's say what does it here."""
        if here := _OTHERS_WORDS.get(args[0]):
            raise click.UsageError(f"No such command {args[0]!r}: {here}.", ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs by group, each as one calls it; then the options."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(call, _brief(command)) for command, call in commands.items()], col_max=42)
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


for _commands in GROUPS.values():
    for _command, _call in _commands.items():
        _command.epilog = f"Example: {_call}"
        cli.add_command(_command)
