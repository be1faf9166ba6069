#!/usr/bin/env python3
"""Time ``mlviews lock`` as a whole process, beside ``conda-lock`` and conda-workspaces where there is a conda for them.

    python tests/bench/bench_lock.py --slice FOLDER [--conda PATH] [--repeats 7] [--growth]

FOLDER holds ``linux-64/repodata.json`` and its like, as a mirror of conda-forge does. Without ``--conda`` the
peers are not run, and no figure is written for them. All get the same specs, virtual packages and channel; each time is
wall time from the start of the process to its end, each figure the median after one run that does not count; beside it
the CPU time, which is steadier on a busy machine, and the most memory that one took. ``--growth`` adds rows with more
views and packages, and with ten times the metadata.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench_install import keep_bytecode
from peers import Conda, conda_lock, write_workspace

from mlviews.files.writing import folder
from mlviews.lock.lockfile import LOCK_SUFFIX
from mlviews.lock.parse import read_lock
from mlviews.recipe.catalogue import open_catalogue
from mlviews.recipe.compose import compose
from mlviews.recipe.model import Recipe, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlviews.recipe.view import ViewSpec

ONE = """\
schema: 1
name: one
summary: A GPU view of 246 packages
module: bench/one
platforms: [linux-64]
hardware: {glibc: "2.34", cuda: "12.9", archspec: x86_64_v3}
dependencies: [python=3.11, pytorch-gpu, lightning, scikit-learn, matplotlib, uproot, awkward, onnx, ipykernel]
"""

WIDE = """\
schema: 1
name: wide
summary: One package after another
module: bench/wide
platforms: [linux-64]
hardware: {{glibc: "2.34"}}
dependencies: [{}]
"""


@dataclass(frozen=True)
class Bench:
    """One run of the benchmark: where things lie, and how often each command is run."""

    slice: Path
    work: Path
    repeats: int
    conda: Path | None

    def median(
        self,
        label: str,
        command: Sequence[str | Path],
        before: Callable[[], object] = lambda: None,
        cwd: Path | None = None,
    ) -> float:
        """Return the median of the wall times in seconds and print it with its extremes."""
        times, spent, memory = [], [], 0
        for _ in range(self.repeats + 1):
            before()
            with tempfile.TemporaryFile("w+") as said:
                began = time.perf_counter()
                process = subprocess.Popen([str(part) for part in command], stdout=said, stderr=said, cwd=cwd)
                _, status, used = os.wait4(process.pid, 0)  # what it and those that it waited for have used
                process.returncode = os.waitstatus_to_exitcode(status)
                times.append(time.perf_counter() - began)
                spent.append(used.ru_utime + used.ru_stime)
                memory = max(memory, used.ru_maxrss)
                if process.returncode != 0:
                    said.seek(0)
                    sys.exit(f"{label}: {' '.join(map(str, command))}\n{said.read()}")
        counted = sorted(times[1:])
        median = statistics.median(counted)
        cpu = statistics.median(spent[1:])
        print(
            f"  {label:<62} {median:7.3f} s   ({counted[0]:.3f} to {counted[-1]:.3f})   CPU {cpu:.3f} s"
            f"   {memory / 1024:.0f} MB",
            flush=True,
        )
        return median

    def mlviews(self, *arguments: str | Path, recipes: Path) -> list[str | Path]:
        options = ["--recipes", recipes, "--lockfiles", self.locks, "--root", self.work / "root"]
        return [sys.executable, "-m", "mlviews", *arguments, *options, "--mirror", f"conda-forge={self.slice}"]

    @property
    def locks(self) -> Path:
        return self.work / "locks"

    def forget(self) -> None:
        shutil.rmtree(self.locks, ignore_errors=True)

    def forget_all(self) -> None:
        self.forget()
        shutil.rmtree(self.work / "root", ignore_errors=True)


BARE = """
import asyncio, sys
from pathlib import Path
from rattler import Channel, GenericVirtualPackage, MatchSpec, PackageName, SparseRepoData, Version, BuildString, solve

async def work(folder, virtual, specs):
    files = {subdir: Path(folder) / subdir / "repodata.json" for subdir in ("linux-64", "noarch")}
    sources = [SparseRepoData(Channel("conda-forge"), subdir, path) for subdir, path in files.items()]
    packages = [p.split("=") for p in virtual.split()]
    host = [GenericVirtualPackage(PackageName(n), Version(v), BuildString(b)) for n, v, b in packages]
    wanted = [MatchSpec(spec) for spec in specs]
    await solve(sources, wanted, platforms=["linux-64", "noarch"], virtual_packages=host)
    await asyncio.sleep(0.02)

asyncio.run(work(sys.argv[1], sys.argv[2], sys.argv[3:]))
"""


def bare(bench: Bench, spec: ViewSpec) -> list[str | Path]:
    """Return a process that solves a view once with rattler alone; it knows no rule for CUDA, and writes no lock."""
    host = " ".join(f"{p.name}={p.version}={p.build}" for p in spec.hardware.virtual_packages("linux-64"))
    return [sys.executable, "-c", BARE, bench.slice, host, *(request.text for request in spec.dependencies)]


def copied(recipes: Path, count: int) -> Path:
    """Return a folder with that many views: the catalogue's, again and again by other names."""
    shutil.copytree(folder("recipes") / "layers", recipes / "layers")
    own = sorted(folder("recipes").glob("*.yaml"))
    for number in range(count):
        path = own[number % len(own)]
        text = re.sub(r"^(name|module): (.*)", rf"\1: \2-{number}", path.read_text(), flags=re.MULTILINE)
        (recipes / f"{path.stem}-{number}.yaml").write_text(text)
    return recipes


def enlarged(source: Path, target: Path, times: int) -> Path:
    """Return metadata so many times as large: each package again, by other names that nothing depends on."""
    for subdir in ("linux-64", "linux-aarch64", "noarch"):
        whole = json.loads((source / subdir / "repodata.json").read_bytes())
        for key in ("packages", "packages.conda"):
            table = whole[key]
            for number in range(1, times):
                copies = {
                    f"again{number}-{file}": {**record, "name": f"again{number}-{record['name']}"}
                    for file, record in table.items()
                    if not file.startswith("again")
                }
                table |= copies
        (target / subdir).mkdir(parents=True)
        (target / subdir / "repodata.json").write_text(json.dumps(whole))
    return target


def wide(folder: Path, count: int) -> Path:
    """Return metadata of so many packages, each of which depends on the one before, and a recipe of the last."""
    names = [f"p{number}" for number in range(count)]
    records = {
        f"{name}-1.0-0.conda": {
            "name": name, "version": "1.0", "build": "0", "build_number": 0, "subdir": "noarch", "noarch": "generic",
            "depends": [f"{names[number - 1]} >=1"] if number else [],
            "md5": hashlib.md5(name.encode()).hexdigest(), "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "size": 1000,
        }
        for number, name in enumerate(names)
    }  # fmt: skip
    for subdir, found in (("linux-64", {}), ("noarch", records)):
        text = json.dumps({"info": {"subdir": subdir}, "packages": {}, "packages.conda": found, "repodata_version": 1})
        (folder / "channel" / subdir).mkdir(parents=True)
        (folder / "channel" / subdir / "repodata.json").write_text(text)
    (folder / "recipes").mkdir()
    (folder / "recipes/wide.yaml").write_text(WIDE.format(names[-1]))
    return folder


def growth(bench: Bench, recipes: Path) -> None:
    """Print how time and memory grow with views, packages and metadata: the first lock, and one with what that kept."""
    for count in (12, 50, 200):
        copies = copied(bench.work / f"recipes-{count}", count)
        every = bench.mlviews("lock", "--all", recipes=copies)
        replace(bench, repeats=1).median(f"mlviews lock --all, {count} views", every, bench.forget)
        replace(bench, repeats=3).median(f"mlviews list, {count} views", bench.mlviews("list", recipes=copies))
    for count in (100, 400, 1600):
        made = wide(bench.work / f"wide-{count}", count)
        small = replace(bench, slice=made / "channel", repeats=3)
        command = small.mlviews("lock", "wide", recipes=made / "recipes")
        small.median(f"mlviews lock, a view of {count} packages", command, small.forget)
        small.median(f"mlviews lock, a view of {count} packages, again", command)
    large = replace(bench, slice=enlarged(bench.slice, bench.work / "large", 10))
    command = large.mlviews("lock", "one", recipes=recipes)
    large.median("mlviews lock, one GPU view, 10 times the metadata, nothing kept", command, large.forget_all)
    large.median("mlviews lock, one GPU view, 10 times the metadata", command, large.forget)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", type=Path, default=os.environ.get("MLVIEWS_SLICE"), help="folder of repodata")
    parser.add_argument("--conda", type=Path, help="for conda-lock and conda-workspaces; without it no peer runs")
    parser.add_argument("--growth", action="store_true", help="time more views, and more metadata, too")
    parser.add_argument("--repeats", type=int, default=7, help="runs that count (default: 7)")
    given = parser.parse_args()
    if given.slice is None:
        parser.error("name the folder of repodata with --slice or in MLVIEWS_SLICE")
    with tempfile.TemporaryDirectory() as work:
        keep_bytecode(Path(work) / "bytecode")
        run(Bench(Path(given.slice).resolve(), Path(work), given.repeats, given.conda), grow=given.growth)


def run(bench: Bench, *, grow: bool) -> None:
    recipes = bench.work / "recipes"
    recipes.mkdir()
    (recipes / "one.yaml").write_text(ONE)
    one = compose(parse(recipes / "one.yaml", Recipe), recipes / "layers")
    views = open_catalogue(folder("recipes")).views()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores; median of {bench.repeats} after 1 (min to max)")

    bench.median("mlviews --help", [sys.executable, "-m", "mlviews", "--help"])
    bench.median("mlviews list", bench.mlviews("list", recipes=folder("recipes")))
    alone = bench.median("rattler.solve alone, one GPU view", bare(bench, one))
    single = bench.median("mlviews lock, one GPU view", bench.mlviews("lock", "one", recipes=recipes), bench.forget)
    print(f"one view: mlviews takes {single / alone:.2f} times as long as a bare solve")
    bench.median("mlviews lock, again, nothing changed", bench.mlviews("lock", "one", recipes=recipes))
    bench.median("mlviews lock --check", bench.mlviews("lock", "one", "--check", recipes=recipes))
    print(f"  ({len(read_lock(bench.locks / 'one.conda-lock.yml').packages)} packages)")
    every = bench.mlviews("lock", "--all", recipes=folder("recipes"))
    bench.median(f"mlviews lock --all, {len(views)} views", every, bench.forget)
    bench.median("mlviews lock --all, again, nothing changed", every)

    if grow:
        growth(bench, recipes)
    if bench.conda is None:
        print("peers not run: no --conda PATH was given")
    else:
        peers(bench, one, single)


def peers(bench: Bench, one: ViewSpec, single: float) -> None:
    """Time conda-lock and conda-workspaces; of the catalogue, the views whose packages are all conda's.

    Args:
        one: the GPU view that mlviews has locked.
        single: seconds that this took.
    """
    assert bench.conda is not None
    conda = Conda(bench.conda, bench.work / "conda-packages", cuda=one.hardware.cuda or "")
    theirs = bench.median("conda-lock lock, one GPU view", conda_lock(bench.conda, one, bench.slice, bench.work))
    print(f"one view: mlviews takes {single / theirs:.2f} of conda-lock's time")
    if conda.has_workspaces():
        space = bench.work / "workspace"
        wanted = {request.name: request.text.removeprefix(request.name).strip() or "*" for request in one.dependencies}
        write_workspace(space, bench.slice, wanted)
        theirs = bench.median("conda workspace lock, one GPU view", conda("workspace", "lock"), cwd=space)
        print(f"one view: mlviews takes {single / theirs:.2f} of conda-workspaces' time")

    catalogue = open_catalogue(folder("recipes"))
    names = sorted(path.name.removesuffix(LOCK_SUFFIX) for path in folder("lockfiles").glob(f"*{LOCK_SUFFIX}"))
    ours = bench.median(
        f"mlviews lock, {len(names)} views", bench.mlviews("lock", *names, recipes=folder("recipes")), bench.forget
    )
    commands = {name: conda_lock(bench.conda, catalogue.view(name), bench.slice, bench.work) for name in names}
    theirs = sum(bench.median(f"conda-lock lock, {name}", command) for name, command in commands.items())
    print(f"{len(names)} views: mlviews takes {ours / theirs:.3f} of conda-lock's time for one after another")


if __name__ == "__main__":
    main()
