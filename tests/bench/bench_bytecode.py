"""What byte code costs and saves: making it, its bytes, and starts without it and with each kind of it (PEP 552).

    python tests/bench/bench_bytecode.py PREFIX [--module torch] [--rounds 5]

PREFIX is the folder of a release; for cold starts, on a file system that lets go of its pages. Byte code is made in a
copy of hard links, with an empty cache and then with a full one. Each kind holds the same code behind another header,
in a folder that `PYTHONPYCACHEPREFIX` names. Rounds go through all kinds in any order; the best counts.
"""

from __future__ import annotations

import _imp
import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlviews.conda.records import read_conda_records
from mlviews.files.writing import is_folder, walk
from mlviews.hardware import host_platform
from mlviews.prefix.bytecode import compile_modules, module_of

COUNTING = """
import os, sys
opened = []
sys.addaudithook(lambda event, told: opened.append(str(told[0])) if event == "open" else None)
import {module}
opened = [path for path in opened if os.path.exists(path)]
print(sum(path.endswith(".py") for path in opened), sum(path.endswith(".pyc") for path in opened))
"""
_HEADER = 16


@dataclass
class Times:
    """The best of the rounds, in seconds."""

    wall: float = field(default=float("inf"))
    cpu: float = field(default=float("inf"))

    def add(self, work: Callable[[], object]) -> None:
        before, began = _used(), time.perf_counter()
        work()
        self.wall = min(self.wall, time.perf_counter() - began)
        self.cpu = min(self.cpu, _used() - before)

    def __str__(self) -> str:
        return f"{self.wall:6.2f} {self.cpu:6.2f}"


def _used() -> float:
    """Return the seconds of processor that this process and those that it waited for have taken."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


def codes(prefix: Path) -> tuple[str, ...]:
    """Return the byte code that the records of a release note."""
    records = [json.loads(path.read_bytes()) for path in (prefix / "conda-meta").glob("*.json")]
    entries = [entry for record in records for entry in record["paths_data"]["paths"]]
    return tuple(entry["_path"] for entry in entries if entry["path_type"] == "pyc_file")


def copy_without(prefix: Path, target: Path, left_out: frozenset[str]) -> None:
    """Copy a prefix by hard links, without its byte code and what its records say of that."""
    for path, status in walk(prefix):
        if is_folder(status):
            (target / path).mkdir(parents=True)
        elif path.startswith("conda-meta/") and path.endswith(".json"):
            record = json.loads((prefix / path).read_bytes())
            paths = record["paths_data"]["paths"]
            record["paths_data"]["paths"] = [entry for entry in paths if entry["_path"] not in left_out]
            record["files"] = [file for file in record["files"] if file not in left_out]
            (target / path).write_text(json.dumps(record))
        elif path not in left_out:
            os.link(prefix / path, target / path, follow_symlinks=False)


def making(prefix: Path, scratch: Path, known: frozenset[str]) -> None:
    for label in ("an empty cache", "a full cache"):
        copy_without(prefix, scratch / "copy", known)
        times = Times()
        times.add(
            lambda: compile_modules(
                scratch / "copy",
                read_conda_records(scratch / "copy"),
                platform=host_platform(),
                cache=scratch / "cache",
            )
        )
        assert {*codes(scratch / "copy")} == known, {*codes(scratch / "copy")} ^ known
        shutil.rmtree(scratch / "copy")
        print(f"making it, {label}: {times.wall:.1f} s, {times.cpu:.1f} s of processor", flush=True)


def kinds(prefix: Path, scratch: Path, known: frozenset[str]) -> Mapping[str, Path]:
    """Write each kind of byte code into a folder of its own."""
    folders = {name: scratch / name for name in ("none", "timestamp", "checked hash", "unchecked hash")}
    for path in known:
        code = (prefix / path).read_bytes()
        module = prefix / str(module_of(path))
        for name, header in _headers(code[:4], module):
            target = Path(f"{folders[name]}{module.with_name(Path(path).name)}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(code[:4] + header + code[_HEADER:])
    return folders


def _headers(magic: bytes, module: Path) -> Iterator[tuple[str, bytes]]:
    source, status = module.read_bytes(), module.stat()
    digest = _imp.source_hash(int.from_bytes(magic, "little"), source)
    words = [number.to_bytes(4, "little") for number in (0, int(status.st_mtime), status.st_size)]
    yield "timestamp", b"".join(words)
    yield "checked hash", (3).to_bytes(4, "little") + digest
    yield "unchecked hash", (1).to_bytes(4, "little") + digest


def drop(folder: Path) -> None:
    """Have the system forget the files below a folder."""
    for path, status in walk(folder):
        if not is_folder(status) and status.st_size:
            descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW) if not (folder / path).is_symlink() else -1
            if descriptor >= 0:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def starts(prefix: Path, module: str, folders: Mapping[str, Path], rounds: int) -> None:
    def start(folder: Path, code: str) -> str:
        command = [prefix / "launch", "python", "-B", "-c", code]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPYCACHEPREFIX": str(folder)}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    warm, cold = ({name: Times() for name in folders} for _ in range(2))
    for _ in range(rounds):
        for name, folder in random.sample([*folders.items()], len(folders)):
            drop(prefix)
            drop(folder) if folder.is_dir() else None
            cold[name].add(lambda folder=folder: start(folder, f"import {module}"))
            warm[name].add(lambda folder=folder: start(folder, f"import {module}"))
    print(f"import {module}; the best of {rounds}, in seconds and seconds of processor")
    for name, folder in folders.items():
        modules, byte_code = start(folder, COUNTING.format(module=module)).split()
        print(f"  {name:14} warm {warm[name]}, cold {cold[name]}; opens {modules} modules, {byte_code} of byte code")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", type=Path)
    parser.add_argument("--module", default="torch")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    prefix = given.prefix.resolve()
    known = frozenset(codes(prefix))
    size = sum((prefix / path).stat().st_size for path in known)
    total = sum(status.st_size for _, status in walk(prefix) if not is_folder(status))
    more = f"{size / (total - size):.0%} more"
    print(f"{len(known)} files of byte code, {size / 1e6:.0f} MB of {total / 1e6:.0f} MB, {more}")
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=".bench-") as name:
        making(prefix, Path(name), known)
        starts(prefix, given.module, kinds(prefix, Path(name), known), given.rounds)


if __name__ == "__main__":
    main()
