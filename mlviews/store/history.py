"""What was the default, and until when: kept by a note of each change, corrected by what the link itself says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from mlviews.files.reading import DamagedError, content, status
from mlviews.files.storefile import StoreFile, StorePart, parse
from mlviews.files.writing import write_atomically
from mlviews.store.layout import HISTORY, default_of

_LONGEST = 500


class DefaultChange(StorePart):
    """One change of a view's default.

    Attributes:
        before: the default until then, if there was one.
        after: the default from then on.
        back: whether it was a way back; the release that was left is then none to come back to.
        override: why it was made although proofs were missing; empty where none were.
    """

    at: datetime
    before: str | None
    after: str
    back: bool = False
    override: str = ""


class _History(StoreFile):
    """``.history.json``."""

    changes: tuple[DefaultChange, ...]


def settle(changes: Sequence[DefaultChange], default: str | None, since: datetime) -> tuple[DefaultChange, ...]:
    """Return the changes that led to what is the default now.

    A change is noted before the link is swapped. One whose link never was, since its process died, is left out; one
    that somebody made with the link alone is added.

    Args:
        changes: as they were noted, oldest first.
        default: the release that the link names.
        since: when the link was made.
    """
    true = list(changes)
    if true and true[-1].after != default and true[-1].before == default:
        true.pop()
    last = true[-1].after if true else None
    if default is not None and last != default:
        true.append(DefaultChange(at=since, before=last, after=default))
    return tuple(true)


def former(changes: Sequence[DefaultChange]) -> tuple[str, ...]:
    """Return the releases to come back to, the next one last. A way back is no step forward: it takes steps away."""
    stack: list[str] = []
    for change in changes:
        if change.back and change.after in stack:
            while stack.pop() != change.after:
                pass
        elif change.before is not None:
            stack.append(change.before)
    return tuple(stack)


def left(changes: Sequence[DefaultChange]) -> dict[str, datetime]:
    """Return when each release stopped being the default."""
    return {change.before: change.at for change in changes if change.before is not None}


def overrides(changes: Sequence[DefaultChange]) -> dict[str, str]:
    """Return why each release became the default last although proofs were missing; empty where none were."""
    return {change.after: change.override for change in changes}


def read(view_folder: Path) -> tuple[DefaultChange, ...]:
    """Return the changes of a view's default.

    Raises:
        DamagedError: the notes are; `note` starts them anew.
        UnreadableError: they cannot be read, or a newer mlviews made them.
    """
    text = content(view_folder / HISTORY)
    return _settled(view_folder, () if text is None else parse(_History, text, view_folder / HISTORY).changes)


def _settled(view_folder: Path, noted: Sequence[DefaultChange]) -> tuple[DefaultChange, ...]:
    made = status(view_folder / "default")
    since = datetime.fromtimestamp(made.st_mtime if made else 0.0, timezone.utc)
    return settle(noted, default_of(view_folder), since)


def note(view_folder: Path, after: str, *, back: bool, override: str = "", now: datetime) -> None:
    """Note a change that is about to be made.

    Args:
        override: why proofs may be missing.
    """
    try:
        changes = read(view_folder)
    except DamagedError:
        changes = _settled(view_folder, ())  # it holds nothing that could be kept
    before = changes[-1].after if changes else None
    if before == after and not override:
        return
    changes = (*changes, DefaultChange(at=now, before=before, after=after, back=back, override=override))
    write_atomically(view_folder / HISTORY, _History(changes=changes[-_LONGEST:]).text(indent=1))
