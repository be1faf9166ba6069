"""How long `mlviews container build` takes from a warm cache.

    python tests/bench/bench_container.py --view plotting --site pypi --root ROOT --base oci-archive:FILE

ROOT holds a release of the view. Whole processes; the first fills the file system's cache and does not count. On a busy
machine CPU seconds are steadier.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--view", default="plotting")
    parser.add_argument("--site", default="pypi")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--base", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "image.oci.tar"
        command = [
            sys.executable,
            "-m",
            "mlviews",
            "container",
            "build",
            options.view,
            "--json",
            "-q",
            "-o",
            str(output),
        ]
        command += ["--site", options.site, "--root", str(options.root), "--base", options.base]
        seconds, digests = [], set()
        before = cpu()
        for _ in range(RUNS + 1):
            start = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds.append(time.perf_counter() - start)
            digests.add(json.loads(done.stdout)["data"]["digest"])
        size = json.loads(done.stdout)["data"]["bytes"]
    counted, spent = seconds[1:], (cpu() - before) / len(seconds)
    print(f"container build {options.view}: {size / 1e6:.0f} MB compressed, {len(digests)} digest(s)")
    print(
        f"median {statistics.median(counted):.1f} s, {min(counted):.1f} to {max(counted):.1f}; first {seconds[0]:.1f}"
    )
    print(f"CPU {spent:.1f} s a run")


if __name__ == "__main__":
    main()
