"""What a verb gives back, and how it leaves the program: text for people, one envelope for machines."""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING, Any, TypeVar

from mlviews.cli.table import Column
from mlviews.progress import size
from mlviews.values import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mlviews.cli.terminal import Console
    from mlviews.errors import MlviewsError
    from mlviews.files.reading import Unreadable
    from mlviews.lock.diff import PackageChange
    from mlviews.variants import VariantChoice

ENVELOPE_VERSION = 1
_T = TypeVar("_T")
STATUS_STYLES = {"pass": "green", "fail": "red", "error": "red", "skip": "yellow"}
_CHANGE_STYLES = {"added": "green", "removed": "red", "up": "cyan", "down": "yellow", "rebuilt": "dim"}


class Outcome:
    """What a verb gives back.

    Attributes:
        data: the result; with ``--json`` it is the envelope's ``data``.
        show: writes the same for people.
        errors: what went wrong with parts of the work that did not stop the rest.
        exit_code: the process's.
    """

    def __init__(
        self,
        data: _T,
        show: Callable[[Console, _T], None],
        stated: int | None = None,
        errors: Sequence[MlviewsError] = (),
    ) -> None:
        """Give a result back.

        Args:
            show: writes it for people.
            stated: the exit code, 1 where the answer is no; None for that of the worst error.
        """
        self.data: Any = data
        self.show: Callable[[Console], None] = lambda console: show(console, data)
        self.errors = errors
        worst = max((error.exit_code for error in errors), default=0)
        self.exit_code = worst if stated is None else stated


def distinct(errors: Iterable[MlviewsError]) -> tuple[MlviewsError, ...]:
    """Say once what is wrong with a channel: every view meets the same error, and one of them tells most of it."""
    seen: dict[tuple[str, str], MlviewsError] = {}
    for error in errors:
        shared = error.code in {"channel-unreachable", "repodata-invalid"}
        key = (error.code, error.hint if shared else str(error))
        seen[key] = max(seen.get(key, error), error, key=lambda known: len(known.detail))
    return tuple(seen.values())


def write_envelope(command: str, data: Any, errors: Sequence[MlviewsError], *, ok: bool) -> None:
    """Print one JSON object to stdout.

    Args:
        command: the verb, with its group.
        data: the result; None where an error ended the verb.
    """
    envelope = {
        "mlviews": ENVELOPE_VERSION,
        "command": command,
        "status": "ok" if ok else "failed",
        "data": to_json(data),
        "errors": [entry for error in errors for entry in _entries(error)],
    }
    write_stdout(json.dumps(envelope, indent=2) + "\n")


def _entries(error: MlviewsError) -> list[dict[str, str]]:
    messages = [f"{error.message}: {fault}" for fault in error.faults] or [error.message]
    return [{"code": error.code, "message": message, "hint": error.hint} for message in messages]


def write_error(console: Console, error: MlviewsError, verbosity: int) -> None:
    """Write an error for people: its detail from verbosity 1 on, from 2 on where it was raised."""
    console.say(("error: ", "bold red"), error.message)
    for fault in error.faults:
        console.say(f"  {fault}")
    if error.hint:
        console.say(("hint: ", "bold cyan"), error.hint)
    if error.detail and verbosity > 0:
        console.say(error.detail, folds=False)
    if verbosity > 1:
        console.say("".join(traceback.format_exception(error)), folds=False)


def write_stdout(text: str) -> None:
    """Write to stdout as it is, and at once: a reader that has gone must be noticed here."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise BrokenPipeError from None  # without its number, by which click knows it and ends the process


def write_changes(console: Console, changes: Iterable[PackageChange]) -> None:
    """Write what differs between two locks as a table."""
    columns = (
        Column("Change"), Column("Package", folds=16), Column("Platform", rank=1), Column("Before", folds=24),
        Column("After", folds=24), Column("Size", right=True),
    )  # fmt: skip
    rows = (
        (
            (c.kind, _CHANGE_STYLES[c.kind]),
            c.name,
            c.platform,
            c.before or "-",
            c.after or "-",
            size(c.bytes, sign=True),
        )
        for c in changes
    )
    console.table(columns, rows)


def tell_unreadable(console: Console, found: Iterable[Unreadable]) -> None:
    """Say what cannot be read, and so was left as it is."""
    for item in found:
        console.say(("cannot be read", "bold red"), f" and stays: {item.path}: {item.why}")


def tell_variants(console: Console, found: Iterable[VariantChoice]) -> None:
    """Say which variant this host takes of each view that has some, and why; one line for all with the same reason."""
    by_reason: dict[str, list[str]] = {}
    for choice in found:
        by_reason.setdefault(choice.why, []).append(choice.takes)
    for why, takes in by_reason.items():
        console.say("variants for this host: ", (", ".join(takes), "bold"), f"; {why}")
