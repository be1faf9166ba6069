"""Kill builds at random moments, and see each time that the store is whole.

    python tests/storm/storm.py --kills 300 [--seed N] [--folder DIR]

A build is measured; then builds are ended by SIGKILL at random moments within 1.1 times that. Kills that come after the
end do not count. Most stages are too short to be met by chance: then one build is killed at the start of each. After
each kill: the default is what it was, or the new release, and runs; `verify` finds every
release intact; the next build succeeds; `gc` leaves no debris, and what is left is intact still.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from collections.abc import Callable

from place import Fork, Place, add_small, fork, import_all, mlviews, size, timed

VIEW = "demo"
STAGES = (
    *("starting", "checking", "unpacking", "linking", "compiling", "capturing", "writing", "testing"),
    *("listing files", "recording", "publishing", "promoting", "default's files", "leaving"),
)
_LABELS = {"Checking": "checking", "Unpacking": "unpacking", "Compiling": "compiling", "Testing": "testing"}
_MEASURED = 3
_COLD_EVERY = 4


def build(place: Place, step: int, *, until: str = "") -> Fork:
    """Start a build that tells each stage that it enters, and kills itself when it enters ``until``."""
    place.choose(VIEW, step)

    def work(pipe: int) -> int:
        def tell(stage: str) -> None:
            os.write(pipe, f"<{stage}>".encode())
            if stage == until:
                os.kill(os.getpid(), signal.SIGKILL)

        _tell_stages(tell)
        return mlviews(pipe, "build", VIEW)

    return fork(work)


def _tell_stages(tell: Callable[[str], object]) -> None:
    import mlviews.newrelease as module
    from mlviews.cli.app import App
    from mlviews.cli.terminal import Bars
    from mlviews.prefix import assemble, install, inventory
    from mlviews.store import loaders
    from mlviews.store.disk import Store

    def wrap(owner: Any, name: str, stage: str) -> None:
        function = getattr(owner, name)

        def telling(*arguments: Any, **keys: Any) -> Any:
            tell(stage)
            return function(*arguments, **keys)

        setattr(owner, name, telling)

    told: set[str] = set()

    def linking(watcher: Any, index: int) -> None:
        if not told:
            told.add("linking")
            tell("linking")
        watcher.linked += 1

    opened = Bars.__call__
    install._Watcher.on_link_complete = linking
    Bars.__call__ = lambda self, label, **keys: (  # type: ignore[method-assign]
        tell(_LABELS[label]) if label in _LABELS else None,
        opened(self, label, **keys),
    )[1]
    wrap(assemble, "capture", "capturing")
    wrap(assemble, "write_prefix_files", "writing")
    wrap(inventory, "write", "listing files")
    wrap(Store, "write_release", "recording")
    wrap(module, "write_release_loaders", "publishing")
    wrap(Store, "promote", "promoting")
    wrap(loaders, "write_default_loaders", "default's files")
    wrap(App, "give", "leaving")


def measure(place: Place, steps: range) -> float:
    """Return what a build takes, the median of a few."""
    seconds = []
    for step in steps:
        with timed() as passed:
            code, said = build(place, step).end()
            seconds.append(passed())
        assert code == 0, said
    return statistics.median(seconds)


def strike(place: Place, step: int, delay: float | str) -> str | None:
    """Kill a build after a delay or at a stage; return the stage that it was in, None if it had ended."""
    if isinstance(delay, str):
        running = build(place, step, until=delay)
    else:
        running = build(place, step)
        time.sleep(delay)
        running.kill()
    code, said = running.end()
    if code is not None:
        assert code == 0, said
        return None
    return said.rpartition("<")[2].partition(">")[0] or "starting"


def examine(place: Place, step: int, before: str | None) -> None:
    """See that the store is whole after a kill, and that what comes next works.

    Raises:
        AssertionError: it is not, or does not.
    """
    default = place.default(VIEW)
    newest = place.call("releases", VIEW)["releases"][-1:]
    assert default in {before, *(line["release"] for line in newest)}, (before, default, newest)
    _runs(place, default)
    _intact(place)
    place.choose(VIEW, step)
    built = place.call("build", VIEW)
    assert built["default"], built
    _runs(place, built["release"])
    assert f'"{built["release"]}"' in (place.root / f"modulefiles/storm/{VIEW}/.version").read_text()
    place.call("gc", "--keep", "2", "--keep-days", "0")
    left = place.call("gc", "--keep", "2", "--keep-days", "0", "--dry-run")
    assert (left["debris"], left["cache"], left["removed"]) == ([], [], []), left
    assert not _hidden(place.root), _hidden(place.root)
    _intact(place)
    _runs(place, built["release"])


def _runs(place: Place, release: str | None) -> None:
    assert place.default(VIEW) == release
    if release is None:
        return
    launch = place.root / "envs" / VIEW / "default/linux-64/launch"
    done = subprocess.run([launch, "greet"], capture_output=True, text=True, check=False)
    assert done.stdout == f"hello from {place.root}/envs/{VIEW}/{release}/linux-64\n", done


def _intact(place: Place) -> None:
    faults = [fault for line in place.call("verify", VIEW)["releases"] for fault in line["faults"]]
    assert faults == [], faults


def _hidden(root: Path) -> list[Path]:
    """Return temporary names, which start with a dot, by no rule of mlviews' own."""
    known = {".lock", ".cache.lock", ".history.json", ".unpacked", ".version"}
    return [path for path in root.rglob(".*") if path.name not in known]


def storm(folder: Path, kills: int, seed: int, say: Callable[[str], object], *, small: bool) -> Counter[str]:
    """Kill builds until so many kills counted; return how many fell into each stage."""
    import_all()
    draw = random.Random(seed)
    place = Place(folder, draw, **size(small=small))
    steps = _MEASURED + 1 + kills * 4 + len(STAGES)  # on a busy machine most kills may come after the end
    place.make((VIEW,), steps)
    code, said = build(place, 0).end()
    assert code == 0, said
    seconds = measure(place, range(1, _MEASURED + 1))
    say(f"seed {seed}; a build takes {seconds:.2f} s")
    found: Counter[str] = Counter()
    late = 0
    ahead = iter(range(_MEASURED + 1, steps))
    while found.total() < kills:
        stage = _one(place, next(ahead), draw.uniform(0, 1.1 * seconds), f"seed {seed}, kill {found.total() + 1}")
        late += stage is None
        found.update([stage] if stage else [])
    say(f"{found.total()} kills counted, {late} came after the end; after each the store was whole")
    for stage in STAGES:
        say(f"  {stage:16} {found[stage]:4}")
    for stage in STAGES[1:]:
        met = _one(place, next(ahead), stage, "on purpose")
        assert met == stage, (met, stage)
    say(f"{len(STAGES) - 1} more, one at the start of each stage; after each the store was whole")
    return found


def _one(place: Place, step: int, delay: float | str, what: str) -> str | None:
    if step % _COLD_EVERY == 0 and (place.root / "cache").exists():
        shutil.rmtree(place.root / "cache")
    before = place.default(VIEW)
    stage = strike(place, step, delay)
    if stage is not None:
        try:
            examine(place, step, before)
        except AssertionError as error:
            raise AssertionError(f"{what}: {delay} s, {stage}") from error
    return stage


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=300)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options.add_argument("--folder", type=Path, help="where the store is made; a temporary folder otherwise")
    add_small(options)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="storm-", dir=given.folder) as folder, timed() as passed:
        storm(Path(folder), given.kills, given.seed, print, small=given.small)
        print(f"{passed():.0f} s")


if __name__ == "__main__":
    main()
