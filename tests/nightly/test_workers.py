"""Work in processes of its own: results, crashes, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mlviews.errors import FailedError, MlviewsError, RefusedError
from mlviews.nightly.workers import each


def double(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 4:
        raise RuntimeError("of its own")
    return number * 2


def test_one_that_crashes_or_raises_takes_no_other_with_it(capfd):
    found = dict(each(double, [1, 2, 3, 4, 5], 2))

    assert {key: found[key] for key in (1, 2, 5)} == {1: 2, 2: 4, 5: 10}
    assert isinstance(found[3], FailedError)
    assert "SIGSEGV" in str(found[3])
    assert "RuntimeError: of its own" in str(found[4])


@pytest.mark.parametrize("kind", [RefusedError, FailedError])
def test_errors_travel_whole(kind):
    import pickle

    error = kind("some-code", "message", "hint", faults=("one", "two"), detail="more")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, MlviewsError)
    assert (type(again), str(again), again.hint, again.detail, again.exit_code) == (
        kind, str(error), "hint", "more", error.exit_code,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_processes_too(tmp_path, number):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, pathlib, signal, sys, time\n"
        "from mlviews.nightly.workers import each\n"
        "def wait(path):\n"
        "    pathlib.Path(path).write_text(str(os.getpid()))\n"
        "    try:\n        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n        pathlib.Path(path + '.ended').touch()\n        raise\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "    try:\n        list(each(wait, [sys.argv[1] + '/a', sys.argv[1] + '/b', sys.argv[1] + '/c'], 2))\n"
        "    except KeyboardInterrupt:\n        sys.exit(130)\n"
    )
    running = subprocess.Popen([sys.executable, str(program), str(tmp_path)], start_new_session=True)
    files = [tmp_path / "a", tmp_path / "b"]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not all(path.is_file() and path.read_text() for path in files):
        time.sleep(0.05)

    running.send_signal(number)  # to it alone, as a batch system does

    assert running.wait(10) == 130
    assert (tmp_path / "a.ended").exists()
    assert (tmp_path / "b.ended").exists()
    assert not (tmp_path / "c").exists()
