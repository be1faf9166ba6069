from __future__ import annotations

import click

from mlviews.cli.app import App, Outcome
from mlviews.cli.verb import complete_release, split_release, verb

__all__ = ["pin"]


@verb("pin")
@click.argument("release", metavar="VIEW/RELEASE", shell_complete=complete_release)
@click.option("--undo", is_flag=True, help="Let it be removed again.")
def pin(app: App, release: str, *, undo: bool) -> Outcome:
    """Keep a release, whatever `gc` and `remove` are told."""
    from mlviews.results.releases import PinResult
    from mlviews.store.disk import Store
    from mlviews.store.releases import pin as pin_release

    view, name = split_release(release)
    pin_release(Store(app.site.root, app.site.prefix), view, name, pinned=not undo, progress=app.progress)
    result = PinResult(view=view, release=name, pinned=not undo)
    text = f"{view}/{name} is {'no longer pinned' if undo else 'pinned: nothing removes it'}"
    return Outcome(result, lambda console: console.print(text, markup=False))
