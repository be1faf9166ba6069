"""A console for text that anyone may have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["SafeConsole"]

_PLAIN = "\n\t"


class SafeConsole(Console):
    """A console on which a text cannot steer the terminal, turn into an emoji, or be beyond the terminal's letters.

    Markup is interpreted where the caller allows it; that is for the caller's own words.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(emoji=False, highlight=False, **settings)

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the caller that the reader has gone; rich would end the process."""
        raise BrokenPipeError

    def render_str(self, text: str, **settings: Any) -> Text:
        """Render what `print` and tables are given, with control characters written as escapes."""
        safe = "".join(
            character if character.isprintable() or character in _PLAIN else ascii(character)[1:-1]
            for character in text
        )
        return super().render_str(safe.encode(self.encoding, "backslashreplace").decode(self.encoding), **settings)
