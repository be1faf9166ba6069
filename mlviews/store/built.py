"""The one release of a view that counts, in a line: for those who list views, and read no release.

What its files say is kept; see `mlviews.files.kept`. Then nobody waits for pydantic.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mlviews.files.kept import Kept, state_of
from mlviews.files.reading import RELEASE_FILE, content, names_in, paths_in, status
from mlviews.store.layout import is_removed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlviews.store.disk import Store


@dataclass(frozen=True, slots=True)
class BuiltView:
    """What there is of a view.

    Attributes:
        release: its default release, else its newest.
        default: whether that is the default.
        passed: how many checks its lock passed, by the last record of each.
        failed: how many it failed.
    """

    release: str
    default: bool
    passed: int
    failed: int


def built_view(store: Store, view: str) -> BuiltView | None:
    """Return what there is of a view; None where it has no release."""
    default = store.default(view)
    if not default:
        return _built(store, view, default)
    kept = Kept("built", view, _state(store, view, default))
    built = kept.recall(lambda said: BuiltView(**said))
    if built is None:
        built = _built(store, view, default)
        if built and _state(store, view, default) == kept.state:
            kept.keep(asdict(built))
    return built


def _built(store: Store, view: str, default: str | None) -> BuiltView | None:
    names = [entry.name for entry in store.entries(view) if default in {None, entry.name}]
    if not names:
        return None
    from mlviews.smoke.records import last_results, read_records  # noqa: PLC0415

    entry = store.existing(view, names[-1])
    results = last_results(read_records(store.root, view, entry.lock_digest)).values()
    return BuiltView(entry.name, entry.name == default, sum(results), len(results) - sum(results))


def _state(store: Store, view: str, release: str) -> str:
    """Return the state of a release's files, and of the records of its lock, which never change once they are there."""
    folder = store.view_folder(view) / release
    said = {path: content(path) for path in _release_files(folder)}
    folders = {store.root / "records" / view / _lock_digest(text or b"") for text in said.values()}
    records = [(path, status(path, follow=True)) for folder in sorted(folders) for path in paths_in(folder, ".json")]
    seen = [(path.name, found and (found.st_ino, found.st_size, found.st_ctime_ns)) for path, found in records]
    parts = [bytes(folder), repr([bool(is_removed(folder.parent, release)), seen]).encode()]
    return state_of([*parts, *(text or b"" for text in said.values())], rooms=["", "files", "store", "smoke"])


def _release_files(folder: Path) -> Iterator[Path]:
    return (folder / name / RELEASE_FILE for name in names_in(folder) if not name.startswith("."))


def _lock_digest(text: bytes) -> str:
    """Return the digest that a ``release.json`` states; only to know where to look: whoever reads it checks it."""
    found = re.search(rb'"lock_digest": "([0-9a-f]{64})"', text)
    return found[1].decode() if found else "none"
