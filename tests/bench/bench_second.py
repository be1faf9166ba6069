"""What a second view takes at the `pypi` site, when a first one is there: bytes, whose they are, and seconds.

    python tests/bench/bench_second.py --root DIR training-gpu jax-gpu tensorflow-gpu ...

Each view is built in one root; the catalogue's take 19 GB of disk. Bytes are those of blocks on the
disk, hard links counted once: archives, the cache's unpacked packages, and releases with their folders. What a view
adds is what the first one has not, whatever was built in between. A view that is there is measured as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_Blocks = dict[int, int]  # bytes by inode


@dataclass(frozen=True)
class View:
    """A view on the disk: what it takes, in all and by package, and files that no package has."""

    packages: dict[str, _Blocks]
    rest: _Blocks

    @property
    def all(self) -> _Blocks:
        return {inode: size for blocks in (*self.packages.values(), self.rest) for inode, size in blocks.items()}


def blocks_of(*paths: Path) -> _Blocks:
    """Return what files and folders take, and all that lies in those."""
    found = {}
    for path in paths:
        for folder, _, files in os.walk(path):
            for one in (Path(folder), *(Path(folder, file) for file in files)):
                status = one.lstat()
                found[status.st_ino] = status.st_blocks * 512
        if path.is_file() or path.is_symlink():
            found[path.lstat().st_ino] = path.lstat().st_blocks * 512
    return found


def read(root: Path, name: str) -> View:
    """Look at a view's newest release, and at what the cache holds of its packages."""
    envs = root / "envs" / name
    prefix = max(envs.glob("2*/*-*/conda-meta")).parent
    packages = {}
    for file in (prefix / "conda-meta").glob("*.json"):
        record: dict[str, Any] = json.loads(file.read_bytes())
        package = f"{record['name']}-{record['version']}-{record['build']}"
        archives = (root / "cache/channel").glob(f"*/{package}.conda")
        owned = (prefix / path for path in record["files"])
        packages[package] = blocks_of(root / "cache/pkgs" / package, *archives, *owned)
    rest = blocks_of(envs)
    for blocks in packages.values():
        rest = {inode: size for inode, size in rest.items() if inode not in blocks}
    return View(packages, rest)


def build(root: Path, name: str) -> tuple[float, float]:
    """Build a view; return the seconds and CPU seconds of it."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "mlviews", "build", name, "--site", "pypi", "--root", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="the view that is there")
    parser.add_argument("views", nargs="+", metavar="second", help="a view that is built after it")
    parser.add_argument("--root", type=Path, required=True, help="where they are built")
    options = parser.parse_args()
    root: Path = options.root.absolute()
    seconds = {name: build(root, name) for name in (options.first, *options.views)}
    first = read(root, options.first)
    has = first.all
    whole = sum(has.values())
    took, cpu = seconds[options.first]
    print(f"{options.first}: {whole / 1e6:,.0f} MB, {took:.0f} s ({cpu:.0f} CPU seconds)\n")
    print(
        "| after it | MB alone | adds, MB | of its size | own packages | files of shared ones | rest | seconds | CPU |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in options.views:
        view = read(root, name)

        def added(*parts: _Blocks) -> float:
            new = {inode: size for blocks in parts for inode, size in blocks.items() if inode not in has}
            return sum(new.values()) / 1e6

        alone, adds = sum(view.all.values()) / 1e6, added(view.all)
        own = [blocks for package, blocks in view.packages.items() if package not in first.packages]
        again = [blocks for package, blocks in view.packages.items() if package in first.packages]
        took, cpu = seconds[name]
        print(
            f"| {name} | {alone:,.0f} | {adds:,.0f} | {adds / alone:.1%} | {added(*own):,.1f} | {added(*again):,.1f} "
            f"| {added(view.rest):,.1f} | {took:.0f} | {cpu:.0f} |"
        )
        largest = sorted(((added(blocks), name) for name, blocks in view.packages.items()), reverse=True)[:5]
        print(f"    {', '.join(f'{name} {size:,.0f}' for size, name in largest if size > 1)}", file=sys.stderr)


if __name__ == "__main__":
    main()
