"""Ctrl-C and SIGTERM at any moment of a build: at once, quietly, and the next build finishes the work."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SECONDS = 2.0  # one is promised; test machines are shared
SEED = int(os.environ.get("MLVIEWS_SEED") or time.time_ns() % 1_000_000)


@pytest.fixture
def interrupted(builder: Any) -> Callable[..., None]:
    """Return a function that starts a build, interrupts it when its stderr says so, and sees it end well.

    As in a terminal, the signal goes to the whole process group.
    """

    def run(at: str, *, delay: float = 0, number: int = signal.SIGINT, options: tuple[str, ...] = ()) -> None:
        process = builder.start("build", "demo", *options)
        said = ""
        while at and at not in said:
            line = process.stderr.readline()
            assert line, (process.wait(), said)
            said += line
        time.sleep(delay)
        began = time.perf_counter()
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pytest.fail("the build was over before it could be interrupted")
        out, err = process.communicate(timeout=30)
        took = time.perf_counter() - began
        said += err
        case = f"{signal.Signals(number).name} {delay:.3f} s after {at!r}, MLVIEWS_SEED={SEED}: {took:.3f} s, {said}"
        assert process.returncode == 130, (process.returncode, case)
        assert said.count("interrupted") == 1, case
        assert "Traceback" not in said, case
        assert out == "", case
        assert took < SECONDS, case
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)  # nothing is left running

    return run


@pytest.fixture
def finishes(builder: Any) -> Callable[[], None]:
    """Return a function that sees that nothing counts as a release, and that the next build makes one."""

    def check() -> None:
        assert builder("releases", "demo", "--json").data["releases"] == []
        assert not (builder.root / "envs/demo/default").is_symlink()
        assert not list((builder.root / "modulefiles").rglob("*.lua"))
        built = builder("build", "demo", "--json")
        assert built.code == 0, built.out
        assert builder.process("run", "demo", "--", "greet").out.startswith("hello from")

    return check


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def number(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def heavy(builder: Any, shelf: Any) -> Any:
    """A view whose every step takes a while."""
    shelf.add("slow", modules={"slow": "import time\ntime.sleep(9)\n"})
    noise = random.Random(1).randbytes(1 << 20)
    for part in range(4):
        shelf.add(f"bulk{part}", files={f"share/bulk{part}/{n}": noise[n * 100 : n * 100 + 2000] for n in range(2000)})
    builder.recipes.recipe("demo", "python", "slow", *(f"bulk{part}" for part in range(4)))
    return builder


def test_while_solving(builder, server, faults, interrupted, finishes, number):
    builder.recipes.recipe("demo", "python", "greet")
    server.faults["repodata.json"] = faults["drips"](400)

    interrupted("Solving", delay=0.3, number=number, options=("--mirror", f"conda-forge={server.url}"))

    assert not builder.lock("demo").exists()
    finishes()


def test_while_downloading(builder, server, faults, interrupted, finishes, number):
    builder.recipes.recipe("demo", "python", "greet")
    builder("lock", "demo")
    server.faults["greet"] = faults["drips"](100)

    interrupted("Downloading", delay=0.5, number=number, options=("--mirror", f"conda-forge={server.url}"))

    finishes()


def test_at_any_moment_from_hashing_to_the_first_checks(heavy, interrupted, finishes):
    heavy("lock", "demo")
    draw = random.Random(SEED)
    for at in ("Checking", *["Unpacking"] * 3):  # what an interrupted build has unpacked is not hashed again
        interrupted(at, delay=draw.uniform(0, 1.5))

    heavy.recipes.recipe("demo", "python", "greet", "bulk0")  # without the module that makes the checks last
    heavy("lock", "demo")
    finishes()


def test_while_the_first_checks_run(heavy, interrupted, finishes, number):
    heavy.recipes.recipe("demo", "python", "slow")
    heavy("lock", "demo")

    interrupted("Testing", delay=0.3, number=number)

    heavy.recipes.recipe("demo", "python", "greet")
    heavy("lock", "demo")
    finishes()


def test_while_waiting_for_another_build(builder, interrupted, number):
    import fcntl

    builder.recipes.recipe("demo", "python", "greet")
    builder("lock", "demo")
    folder = builder.root / "envs/demo"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        interrupted("Waiting", number=number)


def test_while_the_program_starts(builder, number):
    draw = random.Random(SEED)
    for _ in range(5):
        delay = draw.uniform(0.01, 0.05)  # by then, `list` is at work
        process = builder.start("list")
        while not looks_at_signals(process.pid):  # until then, they are Python's own business
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(number)
        err = process.communicate(timeout=30)[1]
        # The signal's own status: Python had given it back already, at its end.
        assert process.returncode in {0, 130, -number}, (delay, process.returncode, err, SEED)
        assert "Traceback" not in err, (delay, err, SEED)


def looks_at_signals(number: int) -> bool:
    """Tell whether a process catches SIGTERM, which mlviews does first of all, or has ended."""
    told = Path(f"/proc/{number}/status").read_text()
    caught = int(told.partition("SigCgt:")[2].split()[0], 16) if "SigCgt:" in told else -1
    return "State:\tZ" in told or bool(caught >> (signal.SIGTERM - 1) & 1)


def test_an_interrupt_that_python_wrapped_is_one_all_the_same(cli, monkeypatch):
    class Interrupts:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    def names(catalogue: object) -> None:
        type("Made", (), {"field": Interrupts()})

    monkeypatch.setattr("mlviews.recipe.catalogue.Catalogue.names", property(names))

    done = cli("list")

    assert (done.code, done.out) == (130, "")
    assert done.err == "interrupted. To go on, type the same command again: what was downloaded stays.\n"


def test_a_program_in_a_view_gets_the_signal_itself(builder):
    builder.recipes.recipe("demo", "python", "greet")
    assert builder("build", "demo").code == 0
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *a: sys.exit(7))\n"
        "print('ready', flush=True)\ntime.sleep(20)"
    )
    process = subprocess.Popen(
        builder.command("run", "demo", "--", "python", "-c", program), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 7
    process.stdout.close()
