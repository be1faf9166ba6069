"""Let reads fail at random moments of every verb, and see each time that nothing is lost and somebody is told.

    python tests/storm/reads.py --faults 300 [--seed N] [--folder DIR]

A store is made and kept aside. Each verb runs once on it whole: that counts its reads (open, stat, scandir, listdir,
readlink of anything in the store, the recipes or the locks) and shows what it does. Then, again and again, a verb runs
on the store as it was, and one of its reads gives EIO, ESTALE or EACCES; half of the time every later read of the same
path does too, as of a disk's bad block or a token that expired. Afterwards: what is gone is nothing that the verb takes
away by itself; every release that is there is intact; and the fault was told (exit code 3, a note, or an error of a
part of the work), or the verb has done and said the same as without it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from collections.abc import Callable, Iterator, Sequence

from place import Place, fork, import_all, mlviews, size, timed

VIEW, OTHER = "demo", "other"
NUMBERS = (errno.EIO, errno.ESTALE, errno.EACCES)
_STEPS = 4
_CALLS = (
    *((os, "stat"), (os, "lstat"), (os, "scandir"), (os, "listdir"), (os, "readlink"), (os, "open")),
    (io, "open"),
)
# What a call finds of the time and of its own process says nothing of what it did.
_PASSING = ("seconds", "created", "record", "removed", "at", "now", "bytes")


@dataclass(frozen=True)
class Verb:
    """One call.

    Attributes:
        takes: parts of paths in the store that it may take away.
    """

    arguments: tuple[str, ...]
    step: int = 2
    takes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " ".join(part for part in self.arguments[:2] if not part.startswith(("demo", "other")))


@dataclass(frozen=True)
class Seen:
    """What a call did.

    Attributes:
        names: what lies in the store then.
        reads: how many there were, or the path of the one that failed.
    """

    code: int | None
    said: dict[str, Any]
    names: frozenset[str] = field(repr=False)
    reads: str


def verbs(first: str) -> tuple[Verb, ...]:
    """Return every verb that looks at a store, in one form or more."""
    kernels = ("--prefix", os.environ["MLVIEWS_STORM_JUPYTER"])
    gone = (f"envs/{VIEW}/{first}", f"{VIEW}-{first}")
    return (
        Verb(("list",)),
        Verb(("show", VIEW)),
        Verb(("releases", VIEW)),
        Verb(("verify", VIEW)),
        Verb(("verify", VIEW, "--repair")),
        Verb(("build", VIEW)),
        Verb(("build", VIEW), step=3),
        Verb(("build", VIEW, "--rebuild")),
        Verb(("promote", f"{VIEW}/{first}")),
        Verb(("rollback", VIEW)),
        Verb(("pin", f"{VIEW}/{first}")),
        Verb(("pin", f"{VIEW}/{first}.2", "--undo")),
        Verb(("remove", f"{VIEW}/{first}"), takes=gone),
        Verb(("gc", "--dry-run", "--keep", "0", "--keep-days", "0")),
        Verb(("gc", "--keep", "0", "--keep-days", "0"), takes=(*gone, "/cache/")),
        Verb(("gc", "--keep", "9")),
        Verb(("smoke", VIEW)),
        Verb(("diff", VIEW, "--from", first)),
        Verb(("render", VIEW, "lmod")),
        Verb(("render", VIEW, "sbom")),
        Verb(("render", VIEW, "dockerfile")),
        Verb(("gpus", VIEW)),
        Verb(("publish", VIEW, "--plan", "--prefix", "/cvmfs/views.example.org/storm")),
        Verb(("kernel", "add", VIEW, *kernels)),
        Verb(("kernel", "list", *kernels)),
        Verb(("kernel", "remove", OTHER, *kernels), takes=("/jupyter/",)),
        Verb(("lock", VIEW)),
        Verb(("run", VIEW, "--", "true")),
    )


class Faults:
    """Counts the reads of what lies in a folder, and lets one of them fail."""

    def __init__(self, folder: Path, at: int | None, number: int, *, stays: bool) -> None:
        self.count, self.path = 0, ""
        self._folder, self._at, self._number, self._stays = f"{folder}/", at, number, stays

    def watch(self) -> None:
        """Stand between Python and the system's calls from now on."""
        for owner, name in _CALLS:
            setattr(owner, name, self._watched(getattr(owner, name)))
        # Up to Python 3.10, pathlib keeps what it calls.
        if accessor := getattr(pathlib, "_NormalAccessor", None):
            for name in ("stat", "lstat", "scandir", "listdir", "readlink", "open"):
                setattr(accessor, name, staticmethod(getattr(io if name == "open" else os, name)))

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **keys: Any) -> Any:
            path = arguments[0] if arguments else keys.get("path", ".")
            if isinstance(path, (str, os.PathLike)) and not self._writes(call.__name__, arguments, keys):
                self._read(os.fspath(path))
            return call(*arguments, **keys)

        return watched

    @staticmethod
    def _writes(name: str, arguments: tuple[Any, ...], keys: dict[str, Any]) -> bool:
        if name != "open":
            return False
        how = arguments[1] if len(arguments) > 1 else keys.get("mode", keys.get("flags", "r"))
        return bool(how & (os.O_WRONLY | os.O_RDWR)) if isinstance(how, int) else bool({*how} & {*"wax+"})

    def _read(self, path: str) -> None:
        if not path.startswith(self._folder) or f"{self._folder}channel" in path:
            return
        self.count += 1
        if self.count == self._at or (self._stays and path == self.path):
            self.path = path
            raise OSError(self._number, os.strerror(self._number), path)


def call(place: Place, verb: Verb, at: int | None = None, number: int = 0, *, stays: bool = False) -> Seen:
    """Run a verb in a fork; with ``at``, that read of it fails."""
    place.choose(VIEW, verb.step)
    note = place.folder.parent / f"{place.folder.name}.reads"

    def work(pipe: int) -> int:
        faults = Faults(place.folder, at, number, stays=stays)
        os.execv = _started  # type: ignore[assignment]
        faults.watch()
        try:
            return mlviews(pipe, *verb.arguments)
        except _Started as started:
            os.write(pipe, json.dumps({"data": str(started), "errors": []}).encode())
            return 0
        finally:
            faults.count, count = -(10**9), faults.count
            note.write_text(faults.path if at else str(count))

    code, said = fork(work).end()
    try:
        stated = json.loads(said)
    except ValueError:
        stated = {"data": None, "errors": [], "said": said}
    return Seen(code, stated, _names(place.folder), note.read_text())


class _Started(BaseException):
    """A program would have taken this process's place."""


def _started(path: object, arguments: Sequence[str]) -> None:
    raise _Started(path, arguments)


def _names(folder: Path) -> frozenset[str]:
    return frozenset(str(path.relative_to(folder)) for path in folder.rglob("*"))


def judge(verb: Verb, whole: Seen, before: frozenset[str], seen: Seen) -> str:
    """Return how a fault ended: ``told`` or ``harmless``.

    Raises:
        AssertionError: something was lost, or the fault went by in silence.
    """
    lost = {name for name in before - seen.names if "envs/" in name and not any(part in name for part in verb.takes)}
    lost -= before - whole.names  # what it replaces without any fault
    assert not lost, sorted(lost)[:5]
    data = seen.said["data"]
    noted = isinstance(data, dict) and (data.get("unread") or _unreadable(data))
    if seen.code == 3 or seen.said["errors"] or noted:
        return "told"
    assert seen.code == whole.code, (seen.code, whole.code, seen.said)
    assert _lasting(data) == _lasting(whole.said["data"]), (data, whole.said["data"])
    return "harmless"


def _unreadable(data: Any) -> bool:
    """Tell whether `verify` has found that something cannot be read, or a plan says it."""
    text = json.dumps(data)
    return '"unreadable"' in text.replace('"unreadable": []', "") or "files cannot be read" in text


def _lasting(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _lasting(part) for key, part in data.items() if not any(word in key for word in _PASSING)}
    return [_lasting(part) for part in data] if isinstance(data, list) else data


@contextlib.contextmanager
def as_it_was(place: Place, kept: Path) -> Iterator[None]:
    """Put the store back when the context ends."""
    try:
        yield
    finally:
        shutil.rmtree(place.folder)
        _copy(kept, place.folder)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with its links and hard links, as the store needs them."""
    if os.spawnlp(os.P_WAIT, "cp", "cp", "-a", str(source), str(target)):
        raise OSError(f"{source} cannot be copied")


def _make(place: Place) -> str:
    """Build three releases of a view and one of another; return the name of the first."""
    place.make((VIEW, OTHER), _STEPS)
    for step in range(3):
        place.choose(VIEW, step)
        place.call("build", VIEW)
    place.choose(OTHER, 0)
    place.call("build", OTHER)
    first = place.call("releases", VIEW)["releases"][0]["release"]
    place.call("pin", f"{VIEW}/{first}.2")
    place.call("kernel", "add", OTHER, "--prefix", os.environ["MLVIEWS_STORM_JUPYTER"])
    return str(first)


def storm(folder: Path, count: int, seed: int, say: Callable[[str], object]) -> Counter[str]:
    """Let so many reads fail; return how each fault ended."""
    import_all()
    draw = random.Random(seed)
    place = Place(folder / "place", draw, **size(small=True))
    place.folder.mkdir()
    os.environ["MLVIEWS_STORM_JUPYTER"] = str(place.folder / "jupyter")
    first, kept = _make(place), folder / "kept"
    _copy(place.folder, kept)
    before = _names(place.folder)
    whole = {}
    for verb in verbs(first):
        with as_it_was(place, kept):
            whole[verb] = call(place, verb)
            assert whole[verb].code in {0, 1, 2}, (verb, whole[verb].said)
    say(f"seed {seed}; {len(whole)} calls, {sum(int(seen.reads) for seen in whole.values())} reads")
    found: Counter[str] = Counter()
    wrong: list[str] = []
    for turn in range(count):
        verb = list(whole)[turn % len(whole)]
        at, number, stays = draw.randint(1, int(whole[verb].reads)), draw.choice(NUMBERS), draw.random() < 0.5
        with as_it_was(place, kept):
            seen = call(place, verb, at, number, stays=stays)
            what = f"seed {seed}, {' '.join(verb.arguments)}, read {at}: {errno.errorcode[number]} of {seen.reads}"
            try:
                found[judge(verb, whole[verb], before, seen)] += 1
                _intact(place)
            except AssertionError as error:
                wrong.append(f"{what}{', and ever after' if stays else ''}: {error}")
    assert not wrong, "\n".join(wrong)
    say(f"{count} faults: {found['told']} told, {found['harmless']} harmless; 0 releases lost")
    return found


def _intact(place: Place) -> None:
    for view in (VIEW, OTHER):
        faults = [fault for line in place.call("verify", view)["releases"] for fault in line["faults"]]
        assert faults == [], faults
        assert place.default(view)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--faults", type=int, default=300)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options.add_argument("--folder", type=Path, help="where the store is made; a temporary folder otherwise")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="reads-", dir=given.folder) as folder, timed() as passed:
        storm(Path(folder), given.faults, given.seed, print)
        print(f"{passed():.0f} s")


if __name__ == "__main__":
    main()
