"""Every module named on the command line can be imported, each into a process of its own.

In one process modules answer for each other: on Python below 3.12, ``setuptools`` cannot be imported after ``pip``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _protocol import Check, SkipCheck, run

DONE = "imported"
AT_ONCE = 4  # frameworks take a gigabyte each
TAIL = 300
# A file of its own takes the answer, whatever the module does to what is open; without one, Python itself ended.
IMPORT_ONE = """
import importlib, sys, warnings
name, answer, done = sys.argv[1:]
del sys.argv[1:]
sys.path[:] = [path for path in sys.path if path]
warnings.simplefilter("ignore")
try:
    importlib.import_module(name)
    said = done
except BaseException as error:
    while isinstance(error, ImportError) and error.__cause__:  # before it, some put pages of advice
        error = error.__cause__
    said = f"{type(error).__name__}: {error}"
with open(answer, "w", encoding="utf-8", errors="replace") as file:
    file.write(said)
"""


def main(check: Check) -> str:
    if not check.arguments:
        raise SkipCheck("no module was named")
    with ThreadPoolExecutor(min(AT_ONCE, len(os.sched_getaffinity(0)))) as pool:
        failed = [fault for fault in pool.map(fault_of, check.arguments) if fault]
    check.expect(not failed, "; ".join(failed))
    count = len(check.arguments)
    return f"{count} module{'' if count == 1 else 's'}: {', '.join(check.arguments)}"


def fault_of(name: str) -> str:
    """Import a module in a new process; return what is wrong with it, empty where nothing is."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        answer = Path(folder) / "answer"
        command = [sys.executable, "-c", IMPORT_ONE, name, str(answer), DONE]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False).returncode
        said = answer.read_text(encoding="utf-8") if answer.is_file() else ""
        if said and said != DONE:
            return f"{name}: {said}"
        if said and not code:
            return ""
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        output.seek(max(0, os.fstat(output.fileno()).st_size - TAIL))
        printed = " ".join(output.read().decode(errors="replace").split())
        return f"{name}: Python ended {how}{' after the import' if said else ''}{f': {printed}' if printed else ''}"


if __name__ == "__main__":
    run(main)
