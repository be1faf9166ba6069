#!/usr/bin/env python3
"""What it costs to send the solves of a night to workers that are jobs of Slurm, beside one process.

    python tests/bench/bench_cluster.py --slice FOLDER [--cells 12 120] [--workers 1 2 4] [--rounds 2]

FOLDER is a slice of conda-forge's metadata as for ``bench_nightly.py``; cells are copies of the catalogue's views. A
real Slurm of two nodes runs on loopback (``.ci/system-packages`` installs it). A round runs everything once, by turns.
Wall times are from an empty process, or an empty Slurm, to the last answer; CPU times are those of all processes that
did it: with workers, of this process, of the workers and of what watches them, but for Slurm's own daemons.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]


@dataclass(frozen=True)
class Cells:
    """What is to be solved; it travels to workers."""

    slice_folder: Path
    recipes: Path
    root: Path


def solve(job: tuple[Cells, tuple[str, ...]]) -> int:
    """Solve some views as a night does; returns how many have a solution."""
    from datetime import datetime, timezone

    from mlviews.lock.make import index_of
    from mlviews.loop import run
    from mlviews.nightly.cell import solve_all

    cells, names = job
    site, catalogue, sources = opened(cells)
    from mlviews.site.spec import for_site

    site_specs = [for_site(catalogue.view(name), site) for name in names]
    now = datetime.now(timezone.utc)
    found = run(solve_all(site_specs, sources, now=now, as_of=None, index=index_of(site), done=lambda _: None))
    return sum(one.lock is not None for one in found)


@cache
def opened(cells: Cells) -> tuple[Any, Any, Any]:
    """Open recipes and metadata, once a process."""
    from mlviews.conda.channels import open_sources
    from mlviews.recipe.catalogue import open_catalogue
    from mlviews.site.profile import open_site

    site = open_site("local", root=cells.root, mirrors={"conda-forge": str(cells.slice_folder)})
    sources = open_sources(site.channels, ["linux-64"], mirrors=site.mirrors, cache=site.cache)
    return site, open_catalogue(cells.recipes), sources


def names(cells: Cells) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in cells.recipes.glob("*.yaml")))


def used() -> float:
    """Return the CPU seconds of this process and of all that it has waited for."""
    return sum(
        found.ru_utime + found.ru_stime
        for found in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def worker_used() -> float:
    """Return those of a worker, and of what watches it."""
    import psutil

    both = [psutil.Process(), psutil.Process(os.getppid())]
    return sum(process.cpu_times().user + process.cpu_times().system for process in both)


def in_one_process(cells: Cells) -> tuple[float, float]:
    began, before = time.perf_counter(), used()
    command = [sys.executable, __file__, "--alone", *map(str, (cells.slice_folder, cells.recipes, cells.root))]
    subprocess.run(command, check=True)
    return time.perf_counter() - began, used() - before


def on_workers(cells: Cells, count: int, folder: Path) -> tuple[float, float]:
    import bench_cluster  # by this name workers find it, and not as the program that runs

    from mlviews.jobs.cluster import plan_workers, workers_on
    from mlviews.nightly.workers import each_of
    from mlviews.site.batch import BatchSystem

    folder.mkdir()
    began, before = time.perf_counter(), used()
    planned = plan_workers({"slurm": BatchSystem()}, count, folder, gpu=False)
    with workers_on(planned, folder) as workers:
        jobs = [(bench_cluster.Cells(*astuple(cells)), (name,)) for name in names(cells)]
        found = [result for _, result in each_of(workers.client, bench_cluster.solve, jobs, trouble=workers.trouble)]
        seconds = time.perf_counter() - began
        if failed := [result for result in found if not isinstance(result, int)]:
            sys.exit(f"{failed[0]}\n" + "".join(path.read_text() for path in folder.glob("*.err")))
        cpu = sum(workers.client.run(bench_cluster.worker_used).values())
    return seconds, used() - before + cpu


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", type=Path)
    parser.add_argument("--cells", type=int, nargs="+", default=[12, 120])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--alone", type=Path, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        cells = Cells(*given.alone)
        print(solve((cells, names(cells))), "solved", file=sys.stderr)
        return
    from bench_nightly import copies
    from slurm import Slurm

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "slurm").mkdir()
        slurm = Slurm(work / "slurm")
        slurm.start()
        os.environ.update(slurm.environment, DASK_JOBQUEUE__SLURM__INTERFACE="lo", PYTHONPATH=str(HERE.parent))
        figures: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
        try:
            for number in given.cells:
                made = copies(number, work)
                for turn in range(given.rounds):
                    for count in (0, *given.workers):
                        cells = Cells(given.slice.absolute(), made, work / f"root-{number}-{turn}-{count}")
                        folder = work / f"workers-{number}-{turn}-{count}"
                        figures[number, count].append(
                            on_workers(cells, count, folder) if count else in_one_process(cells)
                        )
        finally:
            slurm.stop()
        print(" cells  workers        s    CPU s")
        for (number, count), found in figures.items():
            seconds, cpu = (statistics.median(values) for values in zip(*found, strict=True))
            print(f"{number:6} {count or 'none':>8} {seconds:8.1f} {cpu:8.1f}")


if __name__ == "__main__":
    main()
