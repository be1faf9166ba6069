"""Errors for people: a stable code, one message, one hint.

Three kinds, one for each exit code that a failed command can give. ``code`` is what scripts may rely on; messages and
hints may change.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mlviews.credentials import hide

__all__ = ["BadInputError", "FailedError", "MlviewsError", "RefusedError", "nearest"]


class MlviewsError(Exception):
    """Base of every error that mlviews raises on purpose.

    Passwords and tokens in URLs are hidden in all of its texts.

    Args:
        code: stable, kebab-case name of what went wrong, such as ``lock-stale``.
        message: what happened, to what; may hold several lines.
        hint: what to do next; empty only where there is nothing to do.
        faults: where one file holds several faults, a line for each; ``message`` is then their heading.
        detail: what only a closer look needs; shown with ``-v``.
    """

    exit_code: ClassVar[int] = 3

    def __init__(
        self, code: str, message: str, hint: str = "", *, faults: tuple[str, ...] = (), detail: str = ""
    ) -> None:
        self.code = code
        self.message = hide(message)
        self.hint = hide(hint)
        self.faults = tuple(map(hide, faults))
        self.detail = hide(detail)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel between processes whole; by themselves they would be called with the message alone."""
        named = {"faults": self.faults, "detail": self.detail}
        return _again, (type(self), (self.code, self.message, self.hint), named)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {fault}" for fault in self.faults)])


def _again(kind: type[MlviewsError], told: tuple[str, str, str], named: dict[str, Any]) -> MlviewsError:
    return kind(*told, **named)


class RefusedError(MlviewsError):
    """The answer is no: a stale lock, an unsolvable view, a failed check."""

    exit_code = 1


class BadInputError(MlviewsError):
    """What a person wrote cannot be used: wrong usage, recipe, site file or lock."""

    exit_code = 2


class FailedError(MlviewsError):
    """It could not be done: network, disk, a missing tool."""

    exit_code = 3


def nearest(word: str, known: Any) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word nearest to ``word``, or nothing."""
    from difflib import get_close_matches  # noqa: PLC0415  (only a mistake needs it)

    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""
