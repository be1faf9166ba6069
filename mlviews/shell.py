"""Start a user's own shell with a view in it: loaded after all that the shell reads of theirs, so that it wins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from mlviews.render import escape


def enter(prefix: Path, environment: Mapping[str, str]) -> NoReturn:
    """Become the user's shell (``SHELL``, else ``/bin/sh``), with a view loaded.

    bash, zsh and fish read what is the user's own, then load the view as ``setup.sh`` does. Others cannot be told so:
    they are started in the view, by ``launch``.

    Args:
        environment: the user's.

    Raises:
        OSError: there is no such shell, or no room for a file of a few lines.
    """
    shell = environment.get("SHELL") or "/bin/sh"
    name = Path(shell).name
    command = [f"{prefix}/launch", shell]
    changed = dict(environment)
    if name == "fish":
        command = [shell, "--interactive", "--init-command", f"source {escape.quote('fish', f'{prefix}/setup.fish')}"]
    elif name in {"bash", "zsh"}:
        folder = Path(tempfile.mkdtemp(prefix="mlviews-shell-"))
        load = f". {escape.quote('sh', f'{prefix}/setup.sh')}\ncommand rm -r -- {escape.quote('sh', str(folder))}\n"
        if name == "bash":
            (folder / "rc").write_text(f"[ ! -f ~/.bashrc ] || . ~/.bashrc\n{load}")
            command = [shell, "--rcfile", str(folder / "rc"), "-i"]
        else:
            for file, text in _zsh(environment.get("ZDOTDIR"), str(folder), load).items():
                (folder / file).write_text(text)
            command = [shell, "-i"]
            changed["ZDOTDIR"] = str(folder)
    os.execve(command[0], command, changed)  # noqa: S606  (no shell)


def _zsh(own: str | None, folder: str, load: str) -> Mapping[str, str]:
    """Return what zsh reads in place of the user's files, from the folder that ``ZDOTDIR`` names meanwhile."""
    back = "unset ZDOTDIR\n" if own is None else f"export ZDOTDIR={escape.quote('sh', own)}\n"
    read = '[ ! -f "${ZDOTDIR:-$HOME}/%s" ] || . "${ZDOTDIR:-$HOME}/%s"\n'
    return {
        ".zshenv": back + read.replace("%s", ".zshenv") + f"export ZDOTDIR={escape.quote('sh', folder)}\n",
        ".zshrc": back + read.replace("%s", ".zshrc") + load,
    }
