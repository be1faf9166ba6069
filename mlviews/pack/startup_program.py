"""Import a module with the Python that runs this, and print what that took; it knows nothing of mlviews.

The import alone is counted: files that Python opens (the audit event ``open``, PEP 578), libraries that the loader maps
besides, bytes that ``read`` returned and bytes that came from a disk (``/proc/self/io``, see proc(5)), and page faults
that needed a disk.
"""

from __future__ import annotations

import json
import resource
import sys
import time

opened = 0


def listen(event: str, arguments: object) -> None:
    """Count what is opened."""
    global opened
    del arguments
    if event == "open":
        opened += 1


def counters() -> dict[str, int]:
    """Return the process's counters of input; none where a container forbids it."""
    try:
        with open("/proc/self/io", encoding="ascii") as file:
            return {key: int(value) for key, value in (line.split(": ") for line in file)}
    except OSError:
        return {}


def mapped() -> set[str]:
    """Return the files that are mapped."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return {line.split(None, 5)[5] for line in file if " /" in line}


def main(module: str) -> None:
    """Import it."""
    libraries, before = mapped(), counters()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    sys.addaudithook(listen)
    start = time.perf_counter()
    __import__(module)
    # The last is the host's clock, for all programs.
    seconds, opens, ended = time.perf_counter() - start, opened, time.monotonic_ns()
    after = counters()
    found = {
        "ended": ended,
        "importing": seconds,
        "opens": opens,
        "libraries": len(mapped() - libraries),
        "read_bytes": after["rchar"] - before["rchar"] if after else None,
        "disk_bytes": after["read_bytes"] - before["read_bytes"] if after else None,
        "faults": resource.getrusage(resource.RUSAGE_SELF).ru_majflt - faults,
    }
    print(json.dumps(found), flush=True)


main(sys.argv[1])
