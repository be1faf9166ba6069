"""What a store of a hundred releases costs to look at, and how long `verify` takes beside `sha256sum` of all files.

    python tests/bench/bench_store.py [--releases 100] [--packages 250] [--scratch DIR] [--rounds 3]

The releases are written as builds write them, with records, notes of what they take and the packages' files as hard
links; whole processes are timed. What is verified is an installed prefix of 20,000 files, and with `--large` 400 MB in
a few large ones; cold, the system is told to forget each file before. One `sha256sum` runs on each processor.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from collections.abc import Callable

from bench_install import PLATFORM, Size, make_channel

from mlviews.files.writing import is_folder, walk
from mlviews.prefix import inventory, usage
from mlviews.prefix.install import Prefix, install
from mlviews.prefix.inventory import read_tree
from mlviews.prefix.verify import verify
from mlviews.release import Activation, Release, ReleasePackage
from mlviews.store.disk import Store
from mlviews.store.loaders import write_default_loaders, write_release_loaders

VIEW = "demo"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def release(store: Store, name: str, packages: list[ReleasePackage], **keys: str) -> Release:
    prefix = store.platform_folder(VIEW, name, PLATFORM)
    return Release(
        mlviews="0", view=VIEW, release=name, platform=PLATFORM, summary="", module="bench/demo", site="local",
        prefix=str(prefix), lock_digest=keys.pop("lock", "0" * 64), created=START, packages=tuple(packages),
        activation=Activation(prepend={"PATH": (f"{prefix}/bin",)}, set={}, unset=()), **keys,
    )  # fmt: skip


def many(root: Path, releases: int, packages: int) -> None:
    """Write releases of which each changes a tenth of its packages, with one file for each."""
    store = Store(root, root)
    for number in range(releases):
        name = (START + timedelta(days=number)).strftime("%Y.%m.%d")
        prefix = store.platform_folder(VIEW, name, PLATFORM)
        (prefix / "conda-meta").mkdir(parents=True)
        linked = {}
        held = []
        for package in range(packages):
            version = (number + package) // 10
            held.append(ReleasePackage(name=f"package{package}", version=f"1.{version}", build="h0_0"))
            cached = root / f"cache/pkgs/package{package}-1.{version}-h0_0/file"
            if not cached.exists():
                cached.parent.mkdir(parents=True)
                cached.write_bytes(b"x" * 1000)
            (prefix / f"file{package}").hardlink_to(cached)
            linked[f"package{package}-1.{version}-h0_0"] = usage.Linked(file=f"file{package}", bytes=1000)
        usage.write(prefix, usage.Usage(own=0, linked=linked))
        store.write_release(release(store, name, held, lock=f"{number:064}"))
        write_release_loaders(store, VIEW, store.existing(VIEW, name))
        store.promote(VIEW, name)
    write_default_loaders(store, VIEW, store.existing(VIEW, name))


def best(rounds: int, work: Callable[[], object], before: Callable[[], object] = lambda: None) -> tuple[float, float]:
    """Return the shortest time, and the least processor time, of some rounds."""
    seconds = []
    for _ in range(rounds):
        before()
        began, used = time.perf_counter(), _processor()
        work()
        seconds.append((time.perf_counter() - began, _processor() - used))
    return min(taken for taken, _ in seconds), min(used for _, used in seconds)


def _processor() -> float:
    return sum(
        spent.ru_utime + spent.ru_stime
        for spent in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def command(root: Path, *arguments: str) -> Callable[[], object]:
    call = [sys.executable, "-m", "mlviews", "--root", str(root), *arguments]
    return lambda: subprocess.run(call, check=True, stdout=subprocess.DEVNULL)


def commands(scratch: Path, releases: int, packages: int, rounds: int) -> None:
    root = scratch / "many"
    many(root, releases, packages)
    print(f"{releases} releases of {packages} packages; the best of {rounds}, in seconds and seconds of processor")
    for arguments in (("list",), ("releases", VIEW), ("gc", "--dry-run"), ("gc", "--dry-run", "--keep-days", "0")):
        seconds, used = best(rounds, command(root, *arguments))
        print(f"  {' '.join(arguments):34}{seconds:.2f}  {used:.2f}")


def reading(prefix: Path) -> None:
    for path, status in walk(prefix):
        if not is_folder(status):
            with open(f"{prefix}/{path}", "rb") as file:  # noqa: PTH123  (no more than reading)
                while file.read(1 << 20):
                    pass


def sha256sum(prefix: Path) -> None:
    paths = "\0".join(f"{prefix}/{path}" for path, status in walk(prefix) if stat.S_ISREG(status.st_mode))
    command = ["xargs", "-0", "-P", str(os.cpu_count()), "-n", "500", "sha256sum"]
    subprocess.run(command, input=paths.encode(), check=True, stdout=subprocess.DEVNULL)


def forget(prefix: Path) -> None:
    """Have the system drop what it holds of each file."""
    for path, status in walk(prefix):
        if not is_folder(status):
            descriptor = os.open(f"{prefix}/{path}", os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def bytes_(scratch: Path, size: Size, rounds: int) -> None:
    channel, root = scratch / "channel", scratch / "one"
    store = Store(root, root)
    prefix = store.platform_folder(VIEW, "2026.01.01", PLATFORM)
    packages = make_channel(channel, size)
    install(packages, Prefix.in_place(prefix, PLATFORM), cache=root / "cache", mirrors={"conda-forge": str(channel)})
    store.write_release(
        release(store, "2026.01.01", [], files=inventory.write(prefix, inventory.take(read_tree(prefix))))
    )
    os.sync()
    found = verify(prefix)
    assert found.faults == (), found.faults
    print(f"{found.files} files, {found.bytes / 1e6:.0f} MB; the best of {rounds}, in seconds and seconds of processor")
    for state, before in (("warm", lambda: None), ("cold", lambda: forget(prefix))):
        read, least = best(rounds, lambda: reading(prefix), before)
        peer, spent = best(rounds, lambda: sha256sum(prefix), before)
        hashed, used = best(rounds, lambda: verify(prefix), before)
        print(
            f"  {state}: reading {read:.2f} {least:.2f}, sha256sum {peer:.2f} {spent:.2f},"
            f" verify {hashed:.2f} {used:.2f}, ratio {hashed / peer:.2f} {used / spent:.2f}"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--releases", type=int, default=100)
    options.add_argument("--packages", type=int, default=250)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--large", action="store_true", help="verify large files, too")
    options.add_argument("--scratch", type=Path, help="where the stores are made")
    given = options.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="bench-store-", dir=given.scratch))
    try:
        commands(scratch, given.releases, given.packages, given.rounds)
        bytes_(scratch / "small", Size(80, 20_000, 300), given.rounds)
        if given.large:
            bytes_(scratch / "large", Size(10, 40, 400), given.rounds)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
