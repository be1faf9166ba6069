from __future__ import annotations

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_view, verb

__all__ = ["rollback"]


@verb("rollback")
@click.argument("view", shell_complete=complete_view)
def rollback(app: App, view: str) -> Outcome:
    """Make the release the default that was it before; repeated, go back further."""
    from mlviews.results.releases import RollbackResult
    from mlviews.store.disk import Store
    from mlviews.store.releases import rollback as roll_back

    name, before = roll_back(Store(app.site.root, app.site.prefix), view, progress=app.progress)
    result = RollbackResult(view=view, release=name, before=before)
    text = f"{view}: the default is {name} again; {before} stays until `mlviews gc` or `mlviews remove` takes it"
    return Outcome(result, lambda console: console.print(text, markup=False))
