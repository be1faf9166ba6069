"""Take pictures of what commands print: ``python tests/captures.py FOLDER "mlviews list" "mlviews doctor" ...``.

Each command runs in a pseudo-terminal of each width, with colours. FOLDER gets, for each width, a text file and two
pictures of all commands, on white and on black: look at them after each change of a table. Lines that are longer than
the terminal are folded as a terminal folds them. With ``--page FILE.html`` it takes pictures of a page instead: as a
phone and as a desk show it, light and dark. It needs chromium.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import shlex
import struct
import subprocess
import sys
import termios
from collections.abc import Iterable
from pathlib import Path

import rich.console
from browser import QUIET
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, TerminalTheme
from rich.text import Text

WIDTHS = (60, 80, 100, 200)
SIXTEEN = [tuple(colour) for colour in DEFAULT_TERMINAL_THEME.ansi_colors._colors]
THEMES = {
    "light": DEFAULT_TERMINAL_THEME,
    "dark": TerminalTheme((0, 0, 0), (220, 220, 220), SIXTEEN[:8], SIXTEEN[8:]),
}
LINE, LETTER = 18, 8
"""The height of a line and the width of a letter, in pixels."""
PICTURE = 80
"""How many lines one picture shows."""


def run(command: str, width: int) -> str:
    """Return what a command writes to a terminal of a width, with its escapes."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR", "CI"}}
    with subprocess.Popen(
        shlex.split(command), stdin=slave, stdout=slave, stderr=slave, env={**kept, "TERM": "xterm-256color"}
    ):
        os.close(slave)
        written = io.BytesIO()
        try:
            while part := os.read(master, 65536):
                written.write(part)
        except OSError:  # the last writer has gone
            pass
        os.close(master)
    return written.getvalue().decode(errors="replace").replace("\r\n", "\n")


def folded(text: str, width: int) -> Text:
    """Return the lines as a terminal shows them: it starts a new one after the last column, in mid-word."""
    lines: list[Text] = []
    for line in Text.from_ansi(text).split(allow_blank=True):
        lines += line.divide(range(width, len(line), width)) if len(line) > width else [line]
    return Text("\n").join(lines)


def photograph(page: Path, picture: Path, width: int, height: int, *options: str) -> None:
    """Take a picture of a page in a window of this size."""
    made = [f"--screenshot={picture}", f"--window-size={width},{height}", "--hide-scrollbars", *options]
    subprocess.run(["chromium", *QUIET, *made, page.absolute().as_uri()], check=True, capture_output=True)


def of_commands(folder: Path, commands: Iterable[str], widths: Iterable[int]) -> None:
    """Write text and pictures of all commands at each width."""
    for width in widths:
        shown = Text("\n").join(folded(f"\x1b[1m$ {one}\x1b[0m\n{run(one, width)}", width) for one in commands)
        (folder / f"{width}.txt").write_text(shown.plain)
        lines = shown.split(allow_blank=True)
        for number, first in enumerate(range(0, len(lines), PICTURE)):
            for name, theme in THEMES.items():
                page = folder / f"{width}-{name}-{number}.html"
                page.write_text(as_page(Text("\n").join(lines[first : first + PICTURE]), theme))
                photograph(page, page.with_suffix(".png"), LETTER * width + 30, LINE * PICTURE)
                page.unlink()


def as_page(shown: Text, theme: TerminalTheme) -> str:
    console = rich.console.Console(record=True, file=io.StringIO(), width=1000, color_system="truecolor")
    console.print(shown, soft_wrap=True)
    style = f"font: 13px/{LINE}px 'DejaVu Sans Mono', monospace; margin: 8px;"
    return console.export_html(theme=theme, inline_styles=True).replace('<pre style="', f'<pre style="{style}')


def of_page(folder: Path, page: Path) -> None:
    """Write pictures of a page, light and dark."""
    for name, width in (("phone", 500), ("desk", 1280)):  # chromium has no narrower window
        for scheme in ("light", "dark"):
            dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
            photograph(page, folder / f"{page.stem}-{name}-{scheme}.png", width, 2000, *dark)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("commands", nargs="*")
    parser.add_argument("--width", type=int, action="append")
    parser.add_argument("--page", type=Path, action="append", default=[])
    options = parser.parse_intermixed_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if options.commands:
        of_commands(options.folder, options.commands, options.width or WIDTHS)
    for page in options.page:
        of_page(options.folder, page)


if __name__ == "__main__":
    main()
