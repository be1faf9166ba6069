"""Eight processes build four views in one empty store, with a gc, a rollback and readers among them.

    python tests/storm/crowd.py [--rounds N] [--seed N] [--folder DIR]

Each view is built by two processes at once, two releases of it one after the other. Then the same is done in the same
place by one process: the releases must be the same, file by file. Nobody may wait for ever, and no reader may at any
moment find a default that is not whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from collections.abc import Callable

from place import Fork, Place, add_small, fork, import_all, mlviews, size, timed

VIEWS = ("one", "two", "three", "four")
EACH = 2
STEPS = 2
PATIENCE = 300


def own_options(place: Place, view: str, step: int) -> list[str]:
    """Return the options with which a process sees one step of one view, whatever others are at."""
    folder = place.folder / f"steps/{view}-{step}"
    if not folder.exists():
        text, lock = place.versions[view, step]
        (folder / "recipes").mkdir(parents=True)
        (folder / "recipes" / f"{view}.yaml").write_text(text)
        (folder / f"{view}.conda-lock.yml").write_bytes(lock)
    return ["--recipes", str(folder / "recipes"), "--lockfiles", str(folder)]


def builder(place: Place, view: str) -> Callable[[int], int]:
    """Return the work of one that builds both steps of a view."""

    def work(pipe: int) -> int:
        return max(mlviews(pipe, "build", view, *own_options(place, view, step)) for step in range(STEPS))

    return work


def repeated(place: Place, *arguments: str) -> Callable[[int], int]:
    """Return the work of one that calls mlviews until the crowd is gone; some calls may be refused, none may fail."""

    def work(pipe: int) -> int:
        calls = 0
        while not (place.folder / "over").exists():
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            code = mlviews(writing, *arguments)
            said = os.read(reading, 1 << 20)
            os.close(reading)
            os.close(writing)
            if code not in {0, 1}:
                os.write(pipe, said)
                return code
            calls += code == 0
            time.sleep(0.02)
        os.write(pipe, str(calls).encode())
        return 0

    return work


def reader(place: Place) -> Callable[[int], int]:
    """Return the work of one that looks at every default, over and over."""

    def work(pipe: int) -> int:
        looks = 0
        while not (place.folder / "over").exists():
            for view in VIEWS:
                if name := place.default(view):
                    folder = place.root / "envs" / view / name / "linux-64"
                    assert json.loads((folder / "release.json").read_bytes())["release"] == name
                    assert f"/{name}/" in (folder / "launch").read_text()
                    looks += 1
            time.sleep(0.001)
        os.write(pipe, str(looks).encode())
        return 0

    return work


def crowd(place: Place, say: Callable[[str], object]) -> None:
    """Let them all loose at once.

    Raises:
        AssertionError: one failed, or they did not end.
    """
    builders = [fork(builder(place, view)) for view in VIEWS for _ in range(EACH)]
    others = {
        "gc": fork(repeated(place, "gc")),
        "rollback": fork(repeated(place, "rollback", "one")),
        "reader": fork(reader(place)),
    }
    signal.alarm(PATIENCE)  # ends this process, and says so by its status
    for one in builders:
        _end(one)
    (place.folder / "over").touch()
    done = {name: _end(one) for name, one in others.items()}
    signal.alarm(0)
    say(f"  gc ran {done['gc']} times, rollback {done['rollback']}; readers looked {done['reader']} times")


def _end(one: Fork) -> str:
    code, said = one.end()
    assert code == 0, said
    return said


def trees(place: Place) -> dict[str, Any]:
    """Return every file of every release: its hash or where it leads, and its permissions; not when it was made."""
    found = {}
    for view in VIEWS:
        for path in sorted((place.root / "envs" / view).glob("2*/linux-64/**/*")):
            if path.is_symlink():
                found[str(path)] = str(path.readlink())
            elif path.is_file():
                found[str(path)] = (_digest(path), path.stat().st_mode)
    return found


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "release.json":
        record = json.loads(content)
        content = json.dumps({**record, "created": "", "seal": ""}).encode()
    return hashlib.sha256(content).hexdigest()


def whole(place: Place) -> None:
    """See that every release is intact, and every default runs.

    Raises:
        AssertionError: it is not.
    """
    for view in VIEWS:
        checked = place.call("verify", view)["releases"]
        assert [line["faults"] for line in checked] == [[]] * STEPS, checked
        assert place.default(view) in {line["release"] for line in checked}
    left = place.call("gc", "--dry-run")
    assert (left["debris"], left["removed"]) == ([], []), left


def rounds(folder: Path, count: int, seed: int, say: Callable[[str], object], *, small: bool) -> None:
    """Compare a crowd's releases with those of one process, so many times."""
    import_all()
    place = Place(folder, random.Random(seed), **size(small=small))
    place.make(VIEWS, STEPS)
    say(f"seed {seed}; {EACH * len(VIEWS)} builders, {len(VIEWS)} views, {STEPS} releases of each")
    for view in VIEWS:
        for step in range(STEPS):
            place.call("build", view, *own_options(place, view, step))
    alone = trees(place)
    whole(place)
    for number in range(1, count + 1):
        shutil.rmtree(place.root)
        (place.folder / "over").unlink(missing_ok=True)
        with timed() as passed:
            crowd(place, say)
            seconds = passed()
        whole(place)
        together = trees(place)
        assert together == alone, sorted(together.items() ^ alone.items())[:10]
        say(f"  round {number}: {len(together)} files, the same as one after another; {seconds:.1f} s")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options.add_argument("--folder", type=Path, help="where the store is made; a temporary folder otherwise")
    add_small(options)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="crowd-", dir=given.folder) as folder:
        rounds(Path(folder), given.rounds, given.seed, print, small=given.small)


if __name__ == "__main__":
    main()
