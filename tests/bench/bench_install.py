"""How long installing and a whole `mlviews build` take beside bare `rattler.install`, and what `run` adds.

    python tests/bench/bench_install.py [--packages 80] [--files 20000] [--megabytes 300] [--rounds 3] [--before DIR]
                                        [--conda PATH]
    python tests/bench/bench_install.py --view plotting [--rounds 3]

Makes a channel of that size, installs it from a folder and from a server of its own, with a cold and a warm cache, and
prints the best of some rounds side by side. Both sides check the cache in full (`ValidationMode.full`). A whole build
is a process from its start to its end, and so is the bare install beside it. In turn with them mlviews builds without
what keeps a release safe (`UNSAFE`), which tells what that costs; with `--before`, an earlier mlviews builds too; with
`--conda`, `conda create --file` installs the same archives, and so does conda-workspaces if conda has it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Process, SimpleQueue
from pathlib import Path

from peers import Conda, write_workspace
from rattler import BuildString, Client, PackageRecord, RepoDataRecord
from rattler import install as rattler_install
from rattler.package_cache import PackageCache, ValidationMode

from mlviews.lock.lockfile import LockedPackage
from mlviews.loop import run
from mlviews.prefix.install import Prefix, install
from mlviews.wheels.archive import File, write_conda

PLATFORM = "linux-64"
HOLDER = "/opt/placehold" + "_placehold" * 24
CHANNEL = "https://conda.anaconda.org/conda-forge"


@dataclass(frozen=True)
class Size:
    packages: int
    files: int
    megabytes: int


def make_channel(folder: Path, size: Size) -> list[LockedPackage]:
    """Write archives whose files are as compressible as programs are: about three to one."""
    draw = random.Random(1)
    words = [draw.randbytes(12) for _ in range(500)]

    def text(length: int) -> bytes:
        return b"".join(draw.choices(words, k=length // 12))

    each = size.megabytes * 1_000_000 // size.files
    locked = []
    for number in range(size.packages):
        name = f"package{number}"
        count = size.files // size.packages
        files = [
            File(path=f"lib/{name}/{n // 100}/{n}.dat", source=draw.randbytes(each // 5) + text(each * 4 // 5))
            for n in range(count)
        ]
        scripts = [
            File(
                path=f"bin/{name}-{n}", source=f"#!{HOLDER}/bin/python\n".encode(), executable=True, placeholder=HOLDER
            )
            for n in range(3)
        ]
        index = {"name": name, "version": "1.0", "build": "h0_0", "build_number": 0, "depends": [], "subdir": PLATFORM}
        content = write_conda(folder, index=index, members=[*files, *scripts]).read_bytes()
        locked.append(
            LockedPackage(
                name=name,
                version="1.0",
                build="h0_0",
                platform=PLATFORM,
                url=f"{CHANNEL}/{PLATFORM}/{name}-1.0-h0_0.conda",
                md5=hashlib.md5(content).hexdigest(),
                sha256=hashlib.sha256(content).hexdigest(),
                size=len(content),
                dependencies={},
            )
        )
    return locked


def bare(packages: Sequence[LockedPackage], prefix: Path, *, cache: Path, place: str) -> None:
    """Install with rattler alone, as its documentation shows it, with the cache checked in full."""
    base = Path(place).as_uri() if place.startswith("/") else place
    records = []
    for package in packages:
        record = PackageRecord(
            package.name, package.version, BuildString(package.build), 0, PLATFORM,
            sha256=bytes.fromhex(package.sha256), md5=bytes.fromhex(package.md5), size=package.size,
        )  # fmt: skip
        records.append(RepoDataRecord(record, package.archive, f"{base}/{PLATFORM}/{package.archive}", base))

    async def work() -> None:
        await rattler_install(
            records, prefix, client=Client.default_client(), show_progress=False, execute_link_scripts=False,
            package_cache=PackageCache.new_layered([cache / "pkgs"], validation_mode=ValidationMode.full()),
        )  # fmt: skip
        await asyncio.sleep(0.02)

    asyncio.run(work())


def ours(packages: Sequence[LockedPackage], prefix: Path, *, cache: Path, place: str) -> None:
    """Install as `mlviews build` does."""
    install(packages, Prefix.in_place(prefix, PLATFORM), cache=cache, mirrors={"conda-forge": place})


def _timed(work: Callable[[], None], answer: SimpleQueue[tuple[float, float]]) -> None:
    began, used = time.perf_counter(), time.process_time()
    work()
    answer.put((time.perf_counter() - began, time.process_time() - used))
    os._exit(0)


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Return wall and CPU seconds, taken in a process of its own: neither side finds the other's threads."""
    answer: SimpleQueue[tuple[float, float]] = SimpleQueue()
    process = Process(target=_timed, args=(work, answer))
    process.start()
    seconds = answer.get()
    process.join()
    return seconds


def compare(packages: Sequence[LockedPackage], place: str, scratch: Path, rounds: int) -> None:
    """Print the best of all rounds: what else a machine does can only make a round longer."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    sides = {"bare": bare, "mlviews": ours}
    for number in range(rounds):
        for state in ("cold", "warm"):
            for side in sorted(sides, reverse=bool(number % 2)):
                prefix, cache = scratch / "prefix", scratch / f"cache-{side}"
                took = timed(partial(sides[side], packages, prefix, cache=cache, place=place))
                found.setdefault((side, state), []).append(took)
                shutil.rmtree(prefix)
        for side in sides:
            shutil.rmtree(scratch / f"cache-{side}")
    kind = "http" if place.startswith("http") else "folder"
    for state in ("cold", "warm"):
        for number, unit in enumerate(("s", "s of CPU")):
            rattler, mlviews = (min(times[number] for times in found[side, state]) for side in sides)
            ratio = f"ratio {mlviews / rattler:.2f}"
            print(f"install, {kind}, {state}: bare {rattler:.2f}, mlviews {mlviews:.2f} {unit}, {ratio}", flush=True)


def serve(folder: Path, answer: SimpleQueue[int]) -> None:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        # Python's own is 5: who asks for 50 archives at once would wait for seconds until the kernel tries again.
        request_queue_size = 512

    with Server(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        answer.put(server.server_port)
        server.serve_forever()


BARE = """
import asyncio, sys
from pathlib import Path
from rattler import Channel, SparseRepoData, install
from rattler.package_cache import PackageCache, ValidationMode

async def work(channel, prefix, cache):
    records = []
    for subdir in ("linux-64", "noarch"):
        data = SparseRepoData(Channel(channel.as_uri()), subdir, channel / subdir / "repodata.json")
        records += [record for name in data.package_names() for record in data.load_records(name)]
    kept = PackageCache.new_layered([cache], validation_mode=ValidationMode.full())
    await install(records, prefix, package_cache=kept, show_progress=False, execute_link_scripts=False)
    await asyncio.sleep(0.02)

asyncio.run(work(*map(Path, sys.argv[1:])))
"""


def index(channel: Path) -> None:
    """Add a package whose python is the one that runs this, and write the channel's metadata."""
    from rattler.index import index_fs

    index = {"name": "small", "version": "1.0", "build": "h0_0", "build_number": 0, "depends": [], "subdir": PLATFORM}
    shim = f'#!/bin/sh\nexec {sys.executable} "$@"\n'.encode()
    write_conda(channel, index=index, members=[File(path="bin/python", source=shim, executable=True)])
    (channel / "noarch").mkdir()
    run(index_fs(channel, write_zst=False, write_shards=False))


# What `mlviews` runs, without what keeps a release safe: each step gives what it gives where nothing is wrong.
UNSAFE = """
import sys
import mlviews.newrelease, mlviews.prefix.assemble, mlviews.prefix.install as install
from mlviews.__main__ import main

install.check_unpacked = lambda *a, **k: []
install.note_unpacked = install.settle = lambda *a, **k: None
mlviews.newrelease.verify_new = lambda *a, **k: ()
mlviews.prefix.assemble.find_clobbers = lambda *a: ()
sys.argv[0] = "mlviews"
main()
"""


@dataclass(frozen=True)
class Side:
    """One of those that take turns.

    Attributes:
        command: makes what is timed.
        kept: what is deleted before a cold run.
        made: what is deleted before each.
        folder: in which the command runs; None for today's.
    """

    command: Sequence[str | Path]
    kept: Sequence[Path]
    made: Path
    folder: Path | None = None


def bare_side(channel: Path, scratch: Path) -> Side:
    cache, prefix = scratch / "bare-cache", scratch / "bare-prefix"
    return Side([sys.executable, "-c", BARE, str(channel), str(prefix), str(cache)], [cache], prefix)


def conda_sides(conda: Conda, channel: Path, names: Iterable[str], scratch: Path) -> dict[str, Side]:
    """Return what conda does with all archives of a channel, and conda-workspaces where conda has it.

    Both read a list or a lock, so none of them solves. Neither hashes what is in its cache.
    """
    prefix, space = scratch / "conda-prefix", scratch / "workspace"
    archives = sorted(path for path in channel.glob("*/*") if path.name.endswith((".conda", ".tar.bz2")))
    sides = {"conda": Side(conda.create(archives, scratch / "explicit.txt", prefix), [conda.packages], prefix)}
    if conda.has_workspaces():
        write_workspace(space, channel, dict.fromkeys(names, "*"))
        subprocess.run(conda("workspace", "lock"), cwd=space, check=True, capture_output=True)
        install = conda("workspace", "install", "--frozen", "--yes")
        sides["conda-workspaces"] = Side(install, [conda.packages], space / ".conda", space)
    return sides


def whole_builds(channel: Path, scratch: Path, rounds: int, before: Path | None, conda: Path | None) -> None:
    """Time `mlviews build` of all packages of a channel beside a process that does no more than install them.

    Args:
        channel: its folder, with metadata.
        scratch: for all that is made.
        rounds: of which the best counts.
        before: a checkout of an earlier mlviews, whose build is timed too.
        conda: that is timed too.
    """
    recipes = scratch / "all-recipes"
    recipes.mkdir()
    tables = [json.loads((channel / subdir / "repodata.json").read_bytes()) for subdir in ("linux-64", "noarch")]
    records = [record for table in tables for key in ("packages", "packages.conda") for record in table[key].values()]
    names = sorted({record["name"] for record in records})
    head = "schema: 1\nname: all\nsummary: All of the channel\nmodule: bench/all\nplatforms: [linux-64]\n"
    (recipes / "all.yaml").write_text(f'{head}hardware: {{glibc: "2.36"}}\ndependencies: [{", ".join(names)}]\n')
    sides = {"bare": bare_side(channel, scratch)}
    if conda:
        sides |= conda_sides(Conda(conda, scratch / "conda-packages"), channel, names, scratch)
    programs = {
        "mlviews": ["-m", "mlviews"],
        "unsafe": ["-c", UNSAFE],
        **({"before": ["-m", "mlviews"]} if before else {}),
    }
    for name, program in programs.items():
        checkout = before if name == "before" else None
        root, locks = scratch / f"root-{name}", scratch / f"locks-{name}"
        options = ["--root", str(root), "--recipes", str(recipes), "--lockfiles", str(locks), "-q"]
        mlviews = [sys.executable, *program, *options, "--mirror", f"conda-forge={channel}"]
        subprocess.run([*mlviews, "lock", "all"], cwd=checkout, check=True, capture_output=True)
        sides[name] = Side([*mlviews, "build", "all"], [root / "cache"], root / "envs", checkout)
    race("whole build", sides, rounds)


def view_of_wheels(view: str, scratch: Path, rounds: int) -> None:
    """Time `mlviews build` of a view of the catalogue, all checks of its recipe included, as a site of wheels has it.

    Both sides install the same archives. What is fetched and made of wheels is there before; a cold run unpacks it, and
    compiles.
    """
    root = scratch / "root"
    command = [sys.executable, "-m", "mlviews", "--root", str(root), "-q", "build", view, "--site", "pypi"]
    subprocess.run(command, check=True, capture_output=True)
    ours = Side(command, [root / "cache/pkgs", root / "cache/bytecode"], root / "envs")
    race(f"whole build of {view}", {"bare": bare_side(root / "cache/channel", scratch), "mlviews": ours}, rounds)


def race(label: str, sides: dict[str, Side], rounds: int) -> None:
    """Run all sides in turns, with a cold and a warm cache; print the best of each."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(rounds):
        for state in ("cold", "warm"):
            for name in sorted(sides, reverse=bool(number % 2)):
                side = sides[name]
                for path in side.kept if state == "cold" else ():
                    shutil.rmtree(path, ignore_errors=True)
                shutil.rmtree(side.made, ignore_errors=True)
                began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run(side.command, cwd=side.folder, check=True, capture_output=True)
                wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
                spent = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
                found.setdefault((name, state), []).append((wall, spent))
    for state in ("cold", "warm"):
        for number, unit in enumerate(("s", "s of CPU")):
            best = {name: min(times[number] for times in found[name, state]) for name in sides}
            for other in [name for name in sides if name != "mlviews"]:
                ratio = f"ratio {best['mlviews'] / best[other]:.2f}"
                print(f"{label}, {state}: {other} {best[other]:.2f}, mlviews {best['mlviews']:.2f} {unit}, {ratio}")


def whole_processes(scratch: Path, rounds: int) -> None:
    """Time `mlviews build` with nothing to do, and what `mlviews run` adds to the program that it runs."""
    channel, recipes = scratch / "small", scratch / "recipes"
    recipes.mkdir()
    (recipes / "demo.yaml").write_text(
        textwrap.dedent("""\
            schema: 1
            name: demo
            summary: One small package
            module: bench/demo
            platforms: [linux-64]
            hardware: {glibc: "2.17"}
            dependencies: [small]
            """)
    )
    index(channel)
    options = ["--root", str(scratch / "root"), "--recipes", str(recipes), "--lockfiles", str(scratch / "locks")]
    mlviews = [sys.executable, "-m", "mlviews", *options, "--mirror", f"conda-forge={channel}"]
    subprocess.run([*mlviews, "-q", "build", "demo"], check=True, capture_output=True)

    def best(command: Sequence[str]) -> tuple[float, float]:
        found = []
        for _ in range(rounds * 5):
            began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True)
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            found.append((wall, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime))
        walls, spent = zip(*found, strict=True)
        return min(walls), min(spent)

    again, cpu = best([*mlviews, "build", "demo"])
    print(f"build, the same lock again: {again:.2f} s, {cpu:.2f} s of CPU")
    (without, _), (with_run, _) = best(["/bin/true"]), best([*mlviews, "run", "demo", "--", "/bin/true"])
    print(f"run: {with_run:.3f} s for a program that takes {without:.3f} s alone, adds {with_run - without:.3f} s")


def keep_bytecode(folder: Path) -> None:
    """Let the processes that are timed find byte code, as pip leaves it: else a checkout is compiled at each start."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("packages", 80), ("files", 20_000), ("megabytes", 300), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--scratch", type=Path, help="folder for it all, on the disk to be measured")
    parser.add_argument(
        "--channel", type=Path, help="time whole builds alone, of all packages in this channel's folder"
    )
    parser.add_argument("--view", help="time whole builds of this view alone, as the site pypi has it")
    parser.add_argument("--before", type=Path, help="checkout of an earlier mlviews, to be timed beside this one")
    parser.add_argument("--conda", type=Path, help="conda, to be timed beside whole builds")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.scratch) as name:
        scratch = Path(name)
        keep_bytecode(scratch / "bytecode")
        if given.view:
            view_of_wheels(given.view, scratch, given.rounds)
            return
        if given.channel:
            whole_builds(given.channel, scratch, given.rounds, given.before, given.conda)
            return
        packages = make_channel(scratch / "channel", Size(given.packages, given.files, given.megabytes))
        total = sum(package.size for package in packages) / 1e6
        print(f"{len(packages)} packages, {given.files} files, {given.megabytes} MB, {total:.0f} MB of archives")
        compare(packages, str(scratch / "channel"), scratch, given.rounds)
        port: SimpleQueue[int] = SimpleQueue()
        server = Process(target=serve, args=(scratch / "channel", port), daemon=True)
        server.start()
        compare(packages, f"http://127.0.0.1:{port.get()}", scratch, given.rounds)
        server.terminate()
        server.join()
        index(scratch / "channel")
        whole_builds(scratch / "channel", scratch, given.rounds, given.before, given.conda)
        whole_processes(scratch, given.rounds)


if __name__ == "__main__":
    main()
