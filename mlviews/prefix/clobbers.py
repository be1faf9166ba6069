"""Two packages with one path: what becomes of the file that does not lie there, and what rattler must be kept from.

Of two archives with one path, rattler puts the file of one into ``__clobbers__/<package>/`` and notes it there. Of the
programs that it writes itself for noarch packages (entry points) it does not know: it writes into what lies there, and
that is, by its hard link, the cache's file and every release's. So a package that would write such a program is
installed after the others, and its program is put aside as rattler does with files.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic_core import from_json
from rattler.exceptions import InstallerError, LinkError, TransactionError

from mlviews.conda.records import CondaRecord, conda_record_path, load_conda_record, write_conda_record
from mlviews.errors import RefusedError
from mlviews.files.writing import make_folder
from mlviews.prefix.archives import listed_paths
from mlviews.release import Clobber

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from rattler import RepoDataRecord


LINKING_FAILED = (InstallerError, LinkError, TransactionError)
"""What rattler raises where it cannot link."""
CLOBBERS = "__clobbers__"
"""rattler's folder in a prefix."""
NOT_MODULES = frozenset({"benchmarks", "conftest", "docs", "examples", "setup", "test", "testing", "tests"})
"""Top-level folders and files that packages leave beside their modules; nobody imports them."""

_FILE = re.compile(rb'"_path"\s*:\s*"((?:bin|python-scripts)/[^"/\\]+)"')
_LISTED = re.compile(rb"(?m)^((?:bin|python-scripts)/[^/\n]+)$")
_MODULE = re.compile(r"lib/python3\.\d+t?/site-packages/(?P<top>[^/.]+)(/.*|\.[\w-]+)?\.(py|so)")
_STARTS = re.compile(rb"^\s*from (\S+) import (\w+)", re.MULTILINE)  # what a program of an entry point does
_LONGEST = 1 << 16


@dataclass(slots=True)
class Programs:
    """Which package brings or makes each program, as far as packages were looked at.

    Attributes:
        later: packages that make a program which another one brings or makes too -> all programs that they make.
    """

    later: dict[str, frozenset[str]] = field(default_factory=dict)
    _makes: dict[str, frozenset[str]] = field(default_factory=dict)
    _owners: dict[str, str] = field(default_factory=dict)
    _hidden: dict[Path, Path] = field(default_factory=dict)

    def look(self, name: str, unpacked: Path) -> None:
        """Look at an unpacked package that is about to be linked; hide it, so that it cannot be, where it must not."""
        if name not in self.later and self._clashes(name, unpacked):
            self._hidden[unpacked] = unpacked.rename(unpacked.with_name(f".hidden-{unpacked.name}"))

    def show(self) -> None:
        """Put packages that were hidden back."""
        while self._hidden:
            unpacked, hidden = self._hidden.popitem()
            hidden.rename(unpacked)

    def _clashes(self, name: str, unpacked: Path) -> bool:
        made = self._makes[name] = frozenset(_entry_points(unpacked))
        for program in {*_brought(unpacked), *made}:
            if self._owners.get(program, name) in {name, *self.later}:
                self._owners[program] = name
            elif makers := [one for one in (self._owners[program], name) if program in self._makes[one]]:
                late = max(makers)  # whose program is written, not brought; of two such, the last by name
                self.later[late] = self._makes[late]
                return True
        return False


async def link_all(
    records: Sequence[RepoDataRecord],
    link: Callable[[Sequence[RepoDataRecord]], Awaitable[None]],
    programs: Programs,
    prefix: Path,
    *,
    clear: Callable[[], Awaitable[None]],
) -> None:
    """Link packages; after all others, and each by itself, those that would write into another one's program.

    Args:
        link: makes the prefix hold such packages, and has ``programs`` look at each before.
        programs: knows which would.
        clear: empties it after an error, when all is at rest.
    """
    while True:
        known = len(programs.later)
        try:
            await link([record for record in records if record.name.normalized not in programs.later])
            break
        except LINKING_FAILED:
            if len(programs.later) == known:
                raise
            await clear()
        finally:
            programs.show()
    there = [record for record in records if record.name.normalized not in programs.later]
    for record in sorted((one for one in records if one not in there), key=lambda one: one.name.normalized):
        there.append(record)
        name = record.name.normalized
        with _put_aside(prefix, name, f"{name}-{record.version}-{record.build}", programs.later[name]):
            await link(there)


@contextmanager
def _put_aside(prefix: Path, name: str, stem: str, makes: Iterable[str]) -> Iterator[None]:
    """Keep away, while a package is installed, the programs that lie where it makes its own; then put its own aside."""
    kept = {}
    for program in makes:
        if os.path.lexists(path := prefix / program):
            kept[program] = path.rename(path.with_name(f".{path.name}.mlviews"))
    yield
    if not kept:
        return
    record = load_conda_record(prefix / conda_record_path(stem))
    for program, path in kept.items():
        aside = f"{CLOBBERS}/{name}/{program}"
        make_folder((prefix / aside).parent)
        (prefix / program).rename(prefix / aside)
        path.rename(prefix / program)
        record["files"] = [aside if file == program else file for file in record["files"]]
        for entry in record["paths_data"]["paths"]:
            entry.update({"_path": aside, "original_path": program} if entry["_path"] == program else {})
    write_conda_record(prefix / conda_record_path(stem), record)


def _brought(unpacked: Path) -> Iterator[str]:
    found = listed_paths(unpacked, _FILE, _LISTED)
    return (f"bin/{os.fsdecode(path).rpartition('/')[2]}" for path in found)


def _entry_points(unpacked: Path) -> Iterator[str]:
    """Yield the programs that rattler makes for a noarch package."""
    try:
        entries = from_json((unpacked / "info/link.json").read_bytes())["noarch"].get("entry_points") or ()
        yield from (f"bin/{entry.partition('=')[0].strip()}" for entry in entries)
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return  # rattler, which reads it too, says what is wrong


def find_clobbers(prefix: Path, records: Sequence[CondaRecord]) -> tuple[Clobber, ...]:
    """Return the files that packages lost to others, sorted; where both have the same content, nothing is lost."""
    if not (prefix / CLOBBERS).is_dir():
        return ()
    there = {path.path: path for record in records for path in record.paths}
    names = {record.stem: record.name for record in records}
    found = []
    for record in records:
        for aside, path in _lost(record):
            kept = there.get(path)
            if kept and kept.sha256 != there[aside].sha256 and not _start_the_same(prefix / path, prefix / aside):
                found.append(Clobber(path=path, kept=names[kept.package], lost=record.name))
    return tuple(sorted(found, key=lambda clobber: (clobber.path, clobber.lost)))


def _lost(record: CondaRecord) -> Iterator[tuple[str, str]]:
    start = f"{CLOBBERS}/{record.name}/"
    yield from ((path, path.removeprefix(start)) for path in record.files if path.startswith(start))


def _start_the_same(one: Path, other: Path) -> bool:
    """Tell whether two programs start the same function: what pip makes and what conda makes differ in words."""
    found = []
    for path in (one, other):
        if path.parent.name != "bin" or path.is_symlink() or path.stat().st_size > _LONGEST:
            return False
        text = path.read_bytes()
        found.append({(module, name) for module, name in _STARTS.findall(text) if text.startswith(b"#!")})
    return bool(found[0]) and found[0] == found[1]


def refuse_lost(clobbers: Iterable[Clobber], requested: Iterable[str]) -> None:
    """Refuse a prefix in which packages lost files that are needed.

    Raises:
        RefusedError: one that the recipe asks for lost a module or a program.
    """
    asked = {*requested}
    faults = [
        f"{clobber.path} of {clobber.lost}: the file of {clobber.kept} would replace it"
        for clobber in clobbers
        if clobber.lost in asked and _is_used(clobber.path)
    ]
    if faults:
        raise RefusedError(
            "package-clobbered",
            "packages have files of the same name, and one that the recipe asks for would lose a module or a program",
            "Take one of the two out of the recipe, or constrain one to a version without that file.",
            faults=tuple(faults),
        )


def _is_used(path: str) -> bool:
    module = _MODULE.fullmatch(path)
    return path.startswith("bin/") or (module is not None and module["top"] not in NOT_MODULES)
