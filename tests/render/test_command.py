"""The program that a module puts on PATH."""

from __future__ import annotations

import subprocess

import pytest

from mlviews.render import modulefile


@pytest.fixture
def program(tmp_path):
    """Return the program, for a Python that says how it was started."""
    python = tmp_path / "a b's $(touch pwned)/python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nenv\n')
    python.chmod(0o755)
    path = tmp_path / "mlviews"
    path.write_text(modulefile.render_command_program(str(python)))
    path.chmod(0o755)
    return path


def test_it_starts_its_own_python_alone(program, hostile, tmp_path):
    environment = {"PYTHONHOME": "/lcg", "PYTHONPATH": "/lcg/lib", "KEPT": "yes", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([program, *hostile, ""], env=environment, capture_output=True, text=True, check=True)
    said = done.stdout.split("\n")
    # -I: neither the folder where one stands nor the user site; and what it starts in turn inherits nothing.
    assert said[: len(hostile) + 4] == ["-I", "-m", "mlviews", *hostile, ""]
    assert "KEPT=yes" in said
    assert not any(line.startswith("PYTHON") for line in said)
    assert not list(tmp_path.rglob("pwned"))


def test_a_host_without_that_python_is_told(program):
    program.write_text(modulefile.render_command_program("/nowhere/it's python"))
    done = subprocess.run([program, "list"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "mlviews: this host has no /nowhere/it's python, with which it was installed\n"
