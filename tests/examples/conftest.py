"""What the tests of examples share: the lines of a tutorial are typed into a shell, in a folder with the examples."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def lines(page: Path) -> str:
    """Return what a page tells to type, but for what is not run."""
    text = re.sub(r"^<!-- not run: [^\n]* -->\n```sh\n.*?^```\n", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.fixture
def run_page(tmp_path: Path) -> Callable[[Path], str]:
    """Return a function that types what a page tells to type, and gives back what was said. HOME is tmp_path/home."""

    def run(page: Path) -> str:
        shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
        (tmp_path / ".venv").symlink_to(sys.prefix)
        home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "2"}
        (tmp_path / "home").mkdir()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MLVIEWS", "XDG", "JUPYTER"))
        }
        done = subprocess.run(
            ["bash", "-e", "-c", lines(page)],
            capture_output=True, text=True, check=False, cwd=tmp_path, env={**environment, **home},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
