"""What people and programs see of a build: bars on a terminal, lines elsewhere, one envelope with --json."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from importlib import resources
from typing import Any

import jsonschema
import pytest

SCHEMAS = resources.files("mlviews") / "schemas"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.schema.json").read_text())


@pytest.fixture
def demo(builder: Any) -> Any:
    builder.recipes.recipe("demo", "python", "greet")
    assert builder("lock", "demo").code == 0
    return builder


def test_every_answer_is_what_its_schema_says(demo):
    for command in (("build", "demo"), ("build", "demo"), ("releases", "demo"), ("releases", "other")):
        done = demo(*command, "--json")
        assert done.code == 0
        jsonschema.validate(done.json, schema("envelope"))
        jsonschema.validate(done.data, schema(f"result-{command[0]}"))


def test_every_error_is_an_envelope_too(demo):
    demo.recipes.recipe("stale", "python")
    demo("lock", "stale")
    demo.recipes.recipe("stale", "plain")
    cases = {
        ("build", "stale"): (1, "lock-stale"),
        ("build", "no-such-view"): (2, "view-unknown"),
        ("run", "demo"): (2, "usage"),
        ("releases", "../demo"): (2, "view-invalid"),
        ("doctor", "--site", "nowhere"): (2, "site-unknown"),
    }
    for command, (code, error) in cases.items():
        done = demo(*command, "--json")
        jsonschema.validate(done.json, schema("envelope"))
        assert (done.code, done.codes[:1], done.json["status"]) == (code, [error], "failed"), command
        assert done.err == ""


def test_quiet_is_quiet(demo):
    assert demo("build", "demo", "-q").err == ""


def test_without_a_terminal_each_piece_of_work_is_one_line(demo):
    assert (
        demo("build", "demo").err
        == "Checking ...\nUnpacking ...\nLinking ...\nCompiling ...\nTesting ...\nVerifying ...\n"
    )


def test_bars_on_a_terminal_leave_nothing_behind(demo):
    screen = on_a_terminal(demo.command("build", "demo"))

    for label in ("Checking", "Unpacking", "Linking", "Testing"):
        assert label in screen
    # A bar is taken back by moving up over its lines and clearing them; the cursor comes back at the end.
    assert screen.count("\x1b[?25l") == screen.count("\x1b[?25h") > 0
    shown = rendered(screen)
    assert "━" not in shown
    assert shown.startswith("built demo/")
    assert "Next, one of:" in shown


def test_an_interrupt_gives_the_terminal_back(demo, server, faults):
    server.faults["greet"] = faults["drips"](50)
    command = demo.command("build", "demo", "--mirror", f"conda-forge={server.url}")

    screen = on_a_terminal(command, interrupt_at="Downloading")

    assert screen.count("\x1b[?25l") == screen.count("\x1b[?25h") > 0
    assert rendered(screen).strip().splitlines()[-1] == (
        "interrupted. To go on, type the same command again: what was downloaded stays."
    )


def on_a_terminal(command: list[str], *, interrupt_at: str = "") -> str:
    """Run a command on a terminal of its own and return all that it wrote; Ctrl-C is typed where wanted."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command],
        stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True, env=environment,
    )  # fmt: skip
    os.close(theirs)
    screen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                read = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            screen += read
        if interrupt_at and interrupt_at.encode() in screen:
            time.sleep(0.3)
            os.write(ours, b"\x03")
            interrupt_at = ""
    os.close(ours)
    process.wait(10)
    return screen.decode()


def rendered(screen: str) -> str:
    """Return what is left on the screen, by the few control sequences that rich writes."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\].*?(?:\x07|\x1b\\)|[\r\n]|[^\x1b\r\n]+", screen):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token.startswith("\x1b["):
            amount = int(re.sub(r"\D", "", token) or 1) if token[-1] == "A" else 0
            row = max(0, row - amount)
            if token == "\x1b[2K":
                lines[row] = ""
        elif not token.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token) :]
            column += len(token)
    return "\n".join(line.rstrip() for line in lines).strip("\n")
