"""What was the default, and until when: kept by a note of each change, corrected by what the link itself says."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mlviews.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["FILE", "DefaultChange", "former", "left", "note", "read", "settle"]

FILE = ".history.json"
_LONGEST = 500


class DefaultChange(BaseModel):
    """One change of a view's default.

    Attributes:
        at: when.
        before: the default until then, if there was one.
        after: the default from then on.
        back: whether it was a way back; the release that was left is then none to come back to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: datetime
    before: str | None
    after: str
    back: bool = False


_Changes = TypeAdapter(tuple[DefaultChange, ...])


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


def read(view_folder: Path) -> tuple[DefaultChange, ...]:
    """Return the changes of a view's default; what cannot be read counts as none."""
    link = view_folder / "default"
    try:
        default, made = link.readlink().name, link.lstat().st_mtime
    except OSError:
        default, made = None, 0.0
    try:
        noted = _Changes.validate_json((view_folder / FILE).read_bytes())
    except (OSError, ValidationError):
        noted = ()
    return settle(noted, default, datetime.fromtimestamp(made, timezone.utc))


def note(view_folder: Path, after: str, *, back: bool, now: datetime) -> None:
    """Note a change that is about to be made.

    Raises:
        FailedError: it cannot be written.
    """
    changes = read(view_folder)
    before = changes[-1].after if changes else None
    if before == after:
        return
    changes = (*changes, DefaultChange(at=now, before=before, after=after, back=back))
    write_atomically(view_folder / FILE, _Changes.dump_json(changes[-_LONGEST:], indent=1).decode() + "\n")
