"""`mlviews shell`: the user's own shell, with what it reads, and the view before all of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def demo(builder: Any, same_place: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def build() -> None:
        builder.recipes.recipe("demo", "python", "greet")
        assert builder("build", "demo").code == 0

    same_place.once(build)
    monkeypatch.delenv("ZDOTDIR", raising=False)
    return builder


def start(
    demo: Any, shell: str, *lines: str, view: str = "demo", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Type lines into the shell that `mlviews shell` starts."""
    program = shutil.which(shell)
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{shell} is missing: run .ci/system-packages")
    return subprocess.run(
        demo.command("shell", view), input="".join(f"{line}\n" for line in lines), check=False, capture_output=True,
        text=True, timeout=60,
        env={**os.environ, "SHELL": program, "TERM": "dumb", "TMPDIR": str(demo.root), **environment},
    )  # fmt: skip


RCS = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}


@pytest.mark.parametrize("shell", RCS)
def test_the_users_own_file_is_read_and_the_view_wins(demo, shell, tmp_path):
    home = Path(os.environ["HOME"])
    (tmp_path / "mine").mkdir()
    greet = tmp_path / "mine/greet"
    greet.write_text("#!/bin/sh\necho mine\n")
    greet.chmod(0o755)
    path = "set -gx PATH %s $PATH" if shell == "fish" else "export PATH=%s:$PATH"
    rc = home / RCS[shell]
    rc.parent.mkdir(parents=True, exist_ok=True)
    rc.write_text(f"{path % greet.parent}\nalias greet='echo hidden'\nalias own='echo own'\n")

    done = start(demo, shell, "greet; own; mlviews_deactivate", "greet", "exit 3")

    assert done.returncode == 3
    said = [line for line in done.stdout.splitlines() if line.startswith(("hello", "own", "hidden"))]
    assert said[0].startswith(f"hello from {demo.root}/envs/demo/")
    assert said[1:] == ["own", "hidden"]
    assert "demo/2" in done.stderr
    assert "is loaded here; `exit` leaves it" in done.stderr
    assert list(demo.root.glob("mlviews-shell-*")) == []


def test_zsh_reads_all_of_its_files_from_where_they_are(demo, tmp_path):
    folder = tmp_path / "it's zsh"
    folder.mkdir()
    (folder / ".zshenv").write_text("ENV_READ=yes\n")
    (folder / ".zshrc").write_text("RC_READ=yes\n")

    done = start(demo, "zsh", 'print "read $ENV_READ $RC_READ $ZDOTDIR"', ZDOTDIR=str(folder))

    assert f"read yes yes {folder}\n" in done.stdout


@pytest.mark.parametrize("shell", ["tcsh", "dash", "mksh"])
def test_another_shell_is_started_in_the_view(demo, shell):
    done = start(demo, shell, "greet", "exit 4")
    assert done.returncode == 4
    assert f"hello from {demo.root}/envs/demo/" in done.stdout


def test_a_release_is_named_and_one_that_is_not_there_is_refused(demo):
    (release,) = demo("releases", "demo", "--json").data["releases"]
    assert "hello from" in start(demo, "bash", "greet", view=f"demo/{release['release']}").stdout
    refused = start(demo, "bash", "echo started", view="dmo")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "did you mean 'demo'?" in refused.stderr
