"""Errors for people: a stable code, one message, one hint.

Three kinds, one for each exit code that a failed command can give. ``code`` is what scripts may rely on; messages and
hints may change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from mlviews.credentials import hide


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


class NotBuiltError(RefusedError):
    """A view has no release in any place that is known; whether there is such a view at all, recipes tell."""

    def __init__(
        self, code: str, message: str, hint: str = "", *, view: str = "", built: Iterable[str] = (), **more: Any
    ) -> None:
        super().__init__(code, message, hint, **more)
        self.view = view
        self.built = tuple(built)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes whole, as its base does."""
        again, told, named = super().__reduce__()
        return again, told, {**named, "view": self.view, "built": self.built}

    def among(self, recipes: Iterable[str]) -> RefusedError:
        """Return the error for who knows the names of all recipes: none of them may be this view's.

        Args:
            recipes: those names; none where nobody knows.
        """
        names = {*recipes}
        if not names or self.view in names:
            return self
        meant = nearest(self.view, {*names, *self.built})
        return RefusedError("view-unknown", f"there is no view {self.view!r}{meant}", "`mlviews list` shows all views.")


class BadInputError(MlviewsError):
    """What a person wrote cannot be used: wrong usage, recipe, site file or lock."""

    exit_code = 2


class FailedError(MlviewsError):
    """It could not be done: network, disk, a missing tool."""

    exit_code = 3


def nearest(word: str, known: Any) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word nearest to ``word``, or nothing."""
    from difflib import get_close_matches  # noqa: PLC0415  (only a mistake needs it)

    small = {name.lower(): name for name in known}
    # Letters that changed places leave little that is alike in a short word: pipy, pypi.
    found = [name for name in small if sorted(name) == sorted(word.lower())]
    found = found or get_close_matches(word.lower(), list(small), n=1, cutoff=0.6)
    return f"; did you mean {small[found[0]]!r}?" if found else ""


def last_line(said: str, otherwise: str = "") -> str:
    """Return the last line that a program printed, which tells most; ``otherwise`` where it printed none."""
    return (said.strip().splitlines() or [otherwise])[-1]
