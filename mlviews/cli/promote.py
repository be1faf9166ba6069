from __future__ import annotations

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_release, split_release, verb

__all__ = ["promote"]


@verb("promote")
@click.argument("release", metavar="VIEW/RELEASE", shell_complete=complete_release)
def promote(app: App, release: str) -> Outcome:
    """Make a release the default: what a plain `module load` gives."""
    from mlviews.results.releases import PromoteResult
    from mlviews.store.disk import Store
    from mlviews.store.releases import promote as promote_release

    view, name = split_release(release)
    before = promote_release(Store(app.site.root, app.site.prefix), view, name, progress=app.progress)
    result = PromoteResult(view=view, release=name, before=before)
    was = "it was that already" if before == name else f"before it was {before or 'none'}"
    return Outcome(result, lambda console: console.print(f"{view}: the default is {name}; {was}", markup=False))
