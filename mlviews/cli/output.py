"""How results and errors leave the program: text for people, one envelope for machines."""

from __future__ import annotations

import json
import sys
import traceback
from typing import TYPE_CHECKING, Any

from mlviews.values import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlviews.cli.app import App, Outcome
    from mlviews.cli.terminal import Console
    from mlviews.errors import MlviewsError

ENVELOPE_VERSION = 1


def distinct(errors: Iterable[MlviewsError]) -> tuple[MlviewsError, ...]:
    """Say once what is wrong with a channel: every view meets the same error, and one of them tells most of it."""
    seen: dict[tuple[str, str], MlviewsError] = {}
    for error in errors:
        shared = error.code in {"channel-unreachable", "repodata-invalid"}
        key = (error.code, error.hint if shared else str(error))
        seen[key] = max(seen.get(key, error), error, key=lambda known: len(known.detail))
    return tuple(seen.values())


def write_outcome(app: App, outcome: Outcome) -> None:
    """Print a verb's result to stdout; errors of parts of the work go to stderr, or into the envelope."""
    if app.json:
        status = "ok" if outcome.exit_code == 0 else "failed"
        _envelope(app, status, to_json(outcome.data), outcome.errors)
        return
    console = app.console()
    outcome.show(console)
    write_stdout("")
    _people(app, outcome.errors)


def write_errors(app: App, errors: Sequence[MlviewsError]) -> None:
    """Print the errors that ended a verb."""
    if app.json:
        _envelope(app, "failed", None, errors)
    else:
        _people(app, errors)


def _envelope(app: App, status: str, data: Any, errors: Sequence[MlviewsError]) -> None:
    envelope = {
        "mlviews": ENVELOPE_VERSION,
        "command": app.command,
        "status": status,
        "data": data,
        "errors": [entry for error in errors for entry in _entries(error)],
    }
    write_stdout(json.dumps(envelope, indent=2) + "\n")


def _entries(error: MlviewsError) -> list[dict[str, str]]:
    messages = [f"{error.message}: {fault}" for fault in error.faults] or [error.message]
    return [{"code": error.code, "message": message, "hint": error.hint} for message in messages]


def _people(app: App, errors: Sequence[MlviewsError]) -> None:
    if not errors:
        return
    console = app.console(stderr=True)
    for error in errors:
        _one(console, error, app.verbosity)


def _one(console: Console, error: MlviewsError, verbosity: int) -> None:
    from mlviews.cli.terminal import say

    say(console, ("error: ", "bold red"), error.message)
    for fault in error.faults:
        say(console, f"  {fault}")
    if error.hint:
        say(console, ("hint: ", "bold cyan"), error.hint)
    if error.detail and verbosity > 0:
        say(console, error.detail, folds=False)
    if verbosity > 1:
        say(console, "".join(traceback.format_exception(error)), folds=False)


def write_stdout(text: str) -> None:
    """Write to stdout as it is, and at once: a reader that has gone must be noticed here."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise BrokenPipeError from None  # without its number, by which click knows it and ends the process
