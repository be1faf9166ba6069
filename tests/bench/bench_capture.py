"""How long the capture of activation scripts takes beside sourcing them once, in an overlay and in a copy.

    python tests/bench/bench_capture.py [--files 34000] [--megabytes 390] [--gigabytes 7] [--rounds 3] [--scratch DIR]

Makes a prefix with so many small files, half of them byte code, libraries of so many bytes (sparse), and scripts like
those of gcc, gdal, proj and others (tests/render/test_feedstocks.py). Prints the best of some rounds, each taken in a
process of its own: seconds, and seconds of processor of it and of what it starts.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import Process, SimpleQueue
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "render"))

from test_feedstocks import SCRIPTS

from mlviews.prefix import scripts
from mlviews.prefix.activation import capture

LIBRARIES = 100


def make_prefix(prefix: Path, files: int, megabytes: int, gigabytes: float) -> None:
    """Write small files of one size, and libraries of which the disk holds nothing."""
    content = random.Random(1).randbytes(megabytes * 1_000_000 // files)
    for number in range(files // 2):
        folder = prefix / f"lib/python3.12/site-packages/package{number // 100}"
        (folder / "__pycache__").mkdir(parents=True, exist_ok=True)
        (folder / f"m{number}.py").write_bytes(content)
        (folder / f"__pycache__/m{number}.cpython-312.pyc").write_bytes(content)
    for number in range(LIBRARIES):
        with (prefix / f"lib/lib{number}.so").open("wb") as library:
            library.truncate(int(gigabytes * 1e9 / LIBRARIES))
    (prefix / "etc/conda/activate.d").mkdir(parents=True)
    (prefix / "lib/R/etc").mkdir(parents=True)
    (prefix / "lib/R/etc/Makeconf").write_text("as packed\n")
    for name, text in SCRIPTS.items():
        (prefix / f"etc/conda/activate.d/{name}.sh").write_text(text)


def source(prefix: Path) -> None:
    """Source the scripts once, as `conda activate` does; but for what writes into the prefix."""
    names = sorted(
        path for path in (prefix / "etc/conda/activate.d").iterdir() if path.stem not in {"libarrow", "r-base"}
    )
    lines = "\n".join(f". '{path}'" for path in names)
    environment = {"PATH": f"{prefix}/bin:/usr/bin:/bin", "CONDA_PREFIX": str(prefix)}
    subprocess.run(["bash", "--norc", "-c", lines], env=environment, check=True, capture_output=True)


def in_a_copy(prefix: Path) -> None:
    """Capture as where no overlay can be laid."""
    scripts._can_layer = lambda *_: False
    capture(prefix)


def taken(work: Callable[[Path], object], prefix: Path) -> tuple[float, float]:
    """Return seconds, and seconds of processor."""
    answer: SimpleQueue[tuple[float, float]] = SimpleQueue()

    def timed() -> None:
        began = time.perf_counter()
        work(prefix)
        seconds = time.perf_counter() - began
        spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        answer.put((seconds, sum(used.ru_utime + used.ru_stime for used in spent)))
        os._exit(0)

    process = Process(target=timed)
    process.start()
    found = answer.get()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("files", 34_000), ("megabytes", 390), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--gigabytes", type=float, default=7)
    parser.add_argument("--scratch", type=Path, help="folder for it all, on the disk to be measured")
    given = parser.parse_args()
    sides: dict[str, Callable[[Path], object]] = {
        "sourced once": source,
        "in an overlay": capture,
        "in a copy": in_a_copy,
    }
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory(dir=given.scratch) as name:
        prefix = Path(name) / "prefix"
        make_prefix(prefix, given.files, given.megabytes, given.gigabytes)
        for _ in range(given.rounds):
            for side, work in sides.items():
                found[side].append(taken(work, prefix))
    print(f"{given.files} files of {given.megabytes} MB, {LIBRARIES} libraries of {given.gigabytes:g} GB")
    for side, rounds in found.items():
        seconds, spent = (min(column) for column in zip(*rounds, strict=True))
        print(f"{side:14} {seconds:6.2f} s, {spent:6.2f} s of CPU")


if __name__ == "__main__":
    main()
