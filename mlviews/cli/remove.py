from __future__ import annotations

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_release, split_release, verb

__all__ = ["remove"]


@verb("remove")
@click.argument("release", metavar="VIEW/RELEASE", shell_complete=complete_release)
def remove(app: App, release: str) -> Outcome:
    """Remove a release; never the default or a pinned one. Who still asks for it is told."""
    from mlviews.cli.text import size
    from mlviews.results.releases import RemoveResult
    from mlviews.store.disk import Store
    from mlviews.store.releases import remove as remove_release

    view, name = split_release(release)
    freed = remove_release(Store(app.site.root, app.site.prefix), view, name, progress=app.progress)
    result = RemoveResult(view=view, release=name, bytes=freed)
    text = f"removed {view}/{name}: {size(freed)} free; what other releases or the cache share stays (`mlviews gc`)"
    return Outcome(result, lambda console: console.print(text, markup=False))
