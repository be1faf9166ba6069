#!/usr/bin/env python3
"""Time ``mlviews nightly --solve-only``: the whole catalogue, and how time grows with the number of cells.

    python tests/bench/bench_nightly.py --slice FOLDER [--cells 10 100 1000] [--repeats 3]

FOLDER holds ``linux-64/repodata.json`` and its like, as a mirror of conda-forge does. Cells beyond the catalogue's are
copies of its views under other names: each is solved, compared with a lock, kept in the history and given a page. Times
are of whole processes, the catalogue's the median of the repeats after one that does not count; the growth is run once,
and its CPU time is what to compare on a busy machine.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import yaml

from mlviews.files.writing import folder

MB = 1e6


def nightly(slice_folder: Path, recipes: Path, root: Path) -> tuple[float, float]:
    """Run one night and return its wall time and its CPU time."""
    options = ["--recipes", recipes, "--lockfiles", folder("lockfiles"), "--root", root, "--quiet"]
    command = [sys.executable, "-m", "mlviews", "nightly", "--solve-only", *options]
    began, used = time.perf_counter(), cpu_seconds()
    done = subprocess.run(
        [*map(str, command), "--mirror", f"conda-forge={slice_folder}"], check=False, capture_output=True, text=True
    )
    if done.returncode not in {0, 1}:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - began, cpu_seconds() - used


def cpu_seconds() -> float:
    """Return the CPU time of all processes that have been waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def copies(cells: int, work: Path) -> Path:
    """Write so many views of one platform each, by turns copies of the catalogue's."""
    made = work / f"recipes-{cells}"
    shutil.copytree(folder("recipes") / "layers", made / "layers")
    originals = [yaml.safe_load(path.read_text()) for path in sorted(folder("recipes").glob("*.yaml"))]
    for number in range(cells):
        recipe = originals[number % len(originals)]
        name = f"view-{number:04}"
        recipe = {**recipe, "name": name, "module": f"bench/{name}", "platforms": ["linux-64"]}
        (made / f"{name}.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return made


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", type=Path, required=True)
    parser.add_argument("--cells", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        roots = (work / f"root-{number}" for number in count())
        times = sorted([nightly(given.slice, folder("recipes"), next(roots))[0] for _ in range(given.repeats + 1)][1:])
        print(f"the whole catalogue: {statistics.median(times):.2f} s ({times[0]:.2f} to {times[-1]:.2f})")
        print(" cells        s    CPU s  CPU ms a cell  history MB  report MB  peak MB")
        for cells in given.cells:
            root = next(roots)
            seconds, used = nightly(given.slice, copies(cells, work), root)
            kept = (root / "nightly/history.sqlite").stat().st_size / MB
            pages = sum(path.stat().st_size for path in (root / "nightly/latest").resolve().rglob("*")) / MB
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MB
            per_cell = 1000 * used / cells
            print(
                f"{cells:6} {seconds:8.2f} {used:8.2f} {per_cell:14.0f} {kept:11.1f} {pages:10.1f} {peak:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
