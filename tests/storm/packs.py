"""Kill `pack` at random moments, and see each time that what it wrote is whole, and the store too.

    python tests/storm/packs.py --kills 50 [--seed N] [--folder DIR]

Both ways of packing take turns: the image of a release, and the channel of a lock, each between two versions. After
each kill: the image is the old one or the new one, byte for byte, and a program runs from it; of the channel every
archive that is there is the lock's, and the next call makes it exact; `verify` finds the store intact.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from collections.abc import Callable

from place import Fork, Place, fork, import_all, mlviews, timed

VIEW = "demo"


def pack(place: Place, way: str, release: str) -> Fork:
    target = place.folder / ("view.sqfs" if way == "image" else "carried")
    arguments = ("-o", str(target)) if way == "image" else ("--offline", str(target))
    name = f"{VIEW}/{release}" if way == "image" else VIEW
    return fork(lambda pipe: mlviews(pipe, "pack", name, *arguments))


def whole_image(place: Place, known: dict[str, bytes]) -> None:
    """See that the image is one of the known, and that its program starts others from it."""
    image = (place.folder / "view.sqfs").read_bytes()
    assert hashlib.sha256(image).digest() in known.values()
    launch = place.folder / "view.sqfs.launch"
    done = subprocess.run([launch, "greet"], capture_output=True, text=True, check=False)
    # A kill between the two files leaves the program of the other image, which says so.
    fits = done.stdout.startswith("hello from ") or "is not the image that" in done.stderr
    assert fits, done


def whole_channel(place: Place, *, exact: bool) -> None:
    """See that every archive is the channel's own, and that nothing else is there where the call has ended."""
    channel, carried = place.folder / "channel", place.folder / "carried"
    found = [*carried.glob("*/*.conda"), *carried.glob("*/*.tar.bz2")]
    for path in found:
        assert path.read_bytes() == (channel / path.relative_to(carried)).read_bytes(), path
    if exact:
        listed = {
            f"{subdir.parent.name}/{name}"
            for subdir in carried.glob("*/repodata.json")
            for key in ("packages", "packages.conda")
            for name in json.loads(subdir.read_text())[key]
        }
        assert listed == {str(path.relative_to(carried)) for path in found}
        hidden = [path for path in carried.rglob(".*") if path.name != ".lock"]
        assert not hidden, hidden


def storm(folder: Path, kills: int, seed: int, say: Callable[[str], object]) -> Counter[str]:
    """Kill until so many kills counted; return how many fell on each way."""
    import_all()
    draw = random.Random(seed)
    place = Place(folder, draw)
    place.make((VIEW,), 2)
    releases = []
    for step in range(2):
        place.choose(VIEW, step)
        releases.append(place.call("build", VIEW)["release"])
    known, seconds = {}, {}
    for way in ("image", "channel"):
        for step, release in enumerate(releases):
            place.choose(VIEW, step)
            with timed() as passed:
                code, said = pack(place, way, release).end()
                seconds[way] = passed()
            assert code == 0, said
            if way == "image":
                known[release] = hashlib.sha256((folder / "view.sqfs").read_bytes()).digest()
    assert len({*known.values()}) == 2
    say(f"seed {seed}; an image takes {seconds['image']:.2f} s, a channel {seconds['channel']:.2f} s")
    found: Counter[str] = Counter()
    late = turn = 0
    while found.total() < kills:
        turn += 1
        way, step = ("image", "channel")[turn % 2], (turn // 2) % 2
        place.choose(VIEW, step)
        running = pack(place, way, releases[step])
        time.sleep(draw.uniform(0, 1.1 * seconds[way]))
        running.kill()
        code, said = running.end()
        try:
            _examine(place, way, releases[step], known, killed=code is None)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, kill {found.total() + 1}, {way}") from error
        assert code in {None, 0}, said
        late += code is not None
        found.update([way] if code is None else [])
    say(f"{found.total()} kills counted, {late} came after the end; after each all was whole")
    for way, count in sorted(found.items()):
        say(f"  {way:16} {count:4}")
    return found


def _examine(place: Place, way: str, release: str, known: dict[str, bytes], *, killed: bool) -> None:
    if way == "image":
        whole_image(place, known)
    else:
        whole_channel(place, exact=not killed)
    code, said = pack(place, way, release).end()
    assert code == 0, said
    if way == "image":
        assert hashlib.sha256((place.folder / "view.sqfs").read_bytes()).digest() == known[release]
        whole_image(place, known)
    else:
        whole_channel(place, exact=True)
    assert [fault for line in place.call("verify", VIEW)["releases"] for fault in line["faults"]] == []


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options.add_argument("--folder", type=Path, help="where the store is made; a temporary folder otherwise")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="packs-", dir=given.folder) as folder, timed() as passed:
        storm(Path(folder), given.kills, given.seed, print)
        print(f"{passed():.0f} s")


if __name__ == "__main__":
    main()
