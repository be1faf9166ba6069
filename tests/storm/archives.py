"""Install every archive of a folder, and compare each with what somebody else reads out of it.

    python tests/storm/archives.py --archives FOLDER [--json] [--folder DIR]

FOLDER holds conda packages, ``.conda`` and ``.tar.bz2``, in folders of any depth: some that conda-forge published, for
example. Each is installed into an empty prefix as a build installs it, with a small ``python`` where its modules need
one. Then the prefix is compared with a reading of the archive that shares no code with that: zipfile, tarfile, zstd,
and conda's rules for what becomes of a file (`placed`). Every byte and link must be as packed, but for the prefix that
is written into it; every permission 0644 or 0755; every program of an entry point must start its function; and nothing
else may be there. Ends with status 1 where anything differs, is refused or is no package.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import hashlib
import json
import os
import posixpath
import re
import stat
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collections.abc import Iterator, Mapping

from shelf import SITE_PACKAGES, Shelf

from mlviews.errors import MlviewsError
from mlviews.hardware import host_platform
from mlviews.lock.lockfile import LockedPackage
from mlviews.prefix.install import Prefix, install

_OLD_PLACEHOLDER = "/opt/anaconda1anaconda2" + "anaconda3"  # what a line of has_prefix means that names none
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Packed:
    """What an archive holds at a path.

    Attributes:
        content: sha256 of a file's bytes, the text of a link.
        in_prefix: the same, with the prefix written into it where that is to be.
    """

    kind: Literal["file", "link", "program"]
    content: str
    in_prefix: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """What a package's list says of a path; without a placeholder nothing is written into it."""

    placeholder: str = ""
    binary: bool = False
    no_link: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One thing that does not lie in the prefix as the archive has it."""

    path: str
    kind: Literal["bytes", "link", "mode", "missing", "extra", "program", "record"]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one archive.

    Attributes:
        archive: below the folder.
        files: files, links and programs that should be in the prefix.
        verdict: unreadable: it is no conda package.
        reason: why it was refused, or cannot be read.
    """

    archive: str
    files: int
    differences: tuple[Difference, ...]
    verdict: Literal["same", "differs", "refused", "unreadable"]
    reason: str = ""


# Reading


@contextmanager
def _tar(archive: Path, part: Literal["info", "pkg"]) -> Iterator[tarfile.TarFile]:
    """Open the part of an archive that tells of the package, or the one that holds its files."""
    with ExitStack() as stack:
        if archive.suffix == ".conda":
            packed = stack.enter_context(zipfile.ZipFile(archive))
            name = next(name for name in packed.namelist() if name.startswith(f"{part}-") and name.endswith(".tar.zst"))
            stream: IO[bytes] = stack.enter_context(zstd.open(stack.enter_context(packed.open(name))))
            yield stack.enter_context(tarfile.open(fileobj=stream, mode="r|"))
        else:
            yield stack.enter_context(tarfile.open(archive, mode="r|bz2"))


def information(archive: Path) -> dict[str, bytes]:
    """Return the files below ``info/``, by their names there."""
    with _tar(archive, "info") as tar:
        return {
            member.name.removeprefix("info/"): tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar
            if member.isfile() and member.name.startswith("info/")
        }


def listed(info: Mapping[str, bytes]) -> dict[str, Listed]:
    """Return what a package says that it puts into a prefix: in ``paths.json``, or in the lists of before 2017."""
    if "paths.json" in info:
        return {
            entry["_path"]: Listed(
                entry.get("prefix_placeholder") or "", entry.get("file_mode") == "binary", bool(entry.get("no_link"))
            )
            for entry in json.loads(info["paths.json"])["paths"]
            if entry["path_type"] != "directory"
        }
    found = dict.fromkeys(info["files"].decode().splitlines(), Listed())
    for path in info.get("no_link", b"").decode().splitlines():
        found[path] = Listed(no_link=True)
    for line in info.get("has_prefix", b"").decode().splitlines():
        words = re.findall(r'"[^"]*"|\S+', line)
        placeholder, mode, path = words if len(words) == 3 else (_OLD_PLACEHOLDER, "text", line)
        found[path.strip('"')] = Listed(placeholder.strip('"'), mode == "binary")
    return found


def with_prefix(content: bytes, how: Listed, prefix: str) -> bytes:
    """Return a file's bytes as conda writes them into a prefix: a binary keeps its length, string by string."""
    old, new = how.placeholder.encode(), prefix.encode()
    if not old:
        return content
    if not how.binary:
        return content.replace(old, new)
    strings = content.split(b"\0")
    for number, text in enumerate(strings):
        changed = text.replace(old, new)
        strings[number] = changed + b"\0" * (len(text) - len(changed))
    return b"\0".join(strings)


def files_of(archive: Path, paths: Mapping[str, Listed], prefix: str) -> dict[str, Packed]:
    """Return what the archive holds at each path, listed or not."""
    found: dict[str, Packed] = {}
    with _tar(archive, "pkg") as tar:
        for member in tar:
            path = posixpath.normpath(member.name)
            if member.issym():
                found[path] = Packed("link", member.linkname, member.linkname)
            elif member.islnk():
                found[path] = found[posixpath.normpath(member.linkname)]
            elif member.isfile():
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                written = with_prefix(content, paths.get(path, Listed()), prefix)
                sums = (hashlib.sha256(each).hexdigest() for each in (content, written))
                found[path] = Packed("file", *sums, executable=bool(member.mode & 0o111))
    return found


def placed(archive: Path, info: Mapping[str, bytes], prefix: str) -> dict[str, Packed | None]:
    """Return what should lie where in a prefix that an archive was installed into; None: the archive lacks it."""
    paths = listed(info)
    packed = files_of(archive, paths, prefix)
    noarch = json.loads(info.get("link.json", b"{}")).get("noarch", {})
    found: dict[str, Packed | None] = {}
    for path, how in paths.items():
        here = packed.get(path)
        if here and here.kind == "link" and how.no_link:  # what it leads to is copied
            here = packed.get(posixpath.normpath(posixpath.join(posixpath.dirname(path), here.content)))
        found[_in_prefix(path) if noarch.get("type") == "python" else path] = here
    for entry in noarch.get("entry_points") or ():
        name, _, start = entry.partition("=")
        found[f"bin/{name.strip()}"] = Packed("program", start.strip(), start.strip(), executable=True)
    return found


def _in_prefix(path: str) -> str:
    """Return where a path of a noarch package of modules lies (CEP 34)."""
    for packed, there in (("site-packages/", f"{SITE_PACKAGES}/"), ("python-scripts/", "bin/")):
        if path.startswith(packed):
            return there + path.removeprefix(packed)
    return path


# Comparing


def differences(expected: Mapping[str, Packed | None], prefix: Path) -> Iterator[Difference]:
    """Yield what does not lie in a prefix as it should, or should not."""
    there = dict(_walk(prefix))
    for path, packed in expected.items():
        if packed is None or path not in there:
            yield Difference(path, "missing")
        elif kind := _unlike(packed, prefix / path, prefix):
            yield Difference(path, kind)
    for path, status in there.items():
        here = expected.get(path)
        usual = 0o755 if stat.S_ISDIR(status.st_mode) or (here and here.executable) else 0o644
        if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) != usual:
            yield Difference(path, "mode")
        if path not in expected and not stat.S_ISDIR(status.st_mode) and not path.startswith("conda-meta/"):
            yield Difference(path, "extra")


def _walk(prefix: Path) -> Iterator[tuple[str, os.stat_result]]:
    yield ".", prefix.lstat()
    for folder, folders, names in os.walk(prefix):
        for name in (*folders, *names):
            path = Path(folder, name)
            yield str(path.relative_to(prefix)), path.lstat()


def _unlike(packed: Packed, path: Path, prefix: Path) -> Literal["bytes", "link", "program"] | None:
    """Return how a file, a link or a program is not what it should be; None where it is."""
    if packed.kind == "link" or path.is_symlink():
        return None if path.is_symlink() and str(path.readlink()) == packed.in_prefix else "link"
    content = path.read_bytes()
    if packed.kind == "program":
        return None if _starts(content.decode(), packed.content, prefix) else "program"
    return None if hashlib.sha256(content).hexdigest() == packed.in_prefix else "bytes"


def _starts(program: str, start: str, prefix: Path) -> bool:
    """Tell whether a program imports the function of an entry point (``module:function``) and calls it."""
    module, _, function = (part.strip() for part in start.partition(":"))
    nodes = list(ast.walk(ast.parse(program)))
    imported = {(node.module, name.name) for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}
    called = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    found = (module, function.partition(".")[0]) in imported and function in called
    return found and program.startswith(f"#!{prefix}/bin/python")


def records(prefix: Path, stated: Mapping[str, Mapping[str, Packed | None]]) -> Iterator[Difference]:
    """Yield the conda records that do not list what their packages put into the prefix, and those of nobody."""
    names = {path.name for path in (prefix / "conda-meta").iterdir()} - {"history"}
    for stem, expected in stated.items():
        path = prefix / f"conda-meta/{stem}.json"
        if not path.is_file() or sorted(json.loads(path.read_bytes())["files"]) != sorted(expected):
            yield Difference(f"conda-meta/{stem}.json", "record")
    for name in names - {f"{stem}.json" for stem in stated}:
        yield Difference(f"conda-meta/{name}", "extra")


# Trying


def _stem(index: Mapping[str, Any]) -> str:
    return f"{index['name']}-{index['version']}-{index['build']}"


def _subdir(index: Mapping[str, Any]) -> str:
    return str(index.get("subdir") or ("noarch" if index.get("noarch") else host_platform()))


def _locked(archive: Path, index: Mapping[str, Any], channel: Path) -> LockedPackage:
    """Return what a lock says of an archive, which lies in a channel's folder from now on."""
    subdir = _subdir(index)
    there = channel / subdir / f"{_stem(index)}{'.conda' if archive.suffix == '.conda' else '.tar.bz2'}"
    there.parent.mkdir(parents=True, exist_ok=True)
    there.symlink_to(archive.resolve())
    content = archive.read_bytes()
    return LockedPackage(
        name=index["name"],
        version=index["version"],
        build=index["build"],
        platform=host_platform() if subdir == "noarch" else subdir,
        url=there.as_uri(),
        md5=hashlib.md5(content).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        dependencies={},
    )


def put(archives: Mapping[str, Path], place: Path) -> Path:
    """Install archives, by their stems, as a build does; return the prefix.

    Raises:
        MlviewsError: one is refused.
    """
    packages = [
        _locked(path, json.loads(information(path)["index.json"]), place / "channel") for path in archives.values()
    ]
    prefix, platform = place / "prefix", packages[0].platform
    install(packages, Prefix.in_place(prefix, platform), cache=place / "cache", mirrors={})
    return prefix


def examine(archive: Path, name: str, python: Path, folder: Path | None) -> Tried:
    """Install one archive, compare, and throw it away.

    Args:
        archive: the file.
        name: what it is called in the table.
        python: the archive that is installed beside one of Python modules.
        folder: where that is done; a temporary folder where None.
    """
    with tempfile.TemporaryDirectory(prefix="tried-", dir=folder) as scratch:
        place = Path(scratch).resolve()
        try:
            info = information(archive)
            stem = _stem(json.loads(info["index.json"]))
            archives = {stem: archive}
            if "noarch" in json.loads(info.get("link.json", b"{}")):
                archives[python.name.removesuffix(".conda")] = python
            stated = {of: placed(path, information(path), str(place / "prefix")) for of, path in archives.items()}
        except (OSError, EOFError, LookupError, ValueError, StopIteration, *_BROKEN) as error:
            return Tried(name, 0, (), "unreadable", str(error) or type(error).__name__)
        files = len(stated[stem])
        try:
            prefix = put(archives, place)
        except MlviewsError as error:
            return Tried(name, files, (), "refused", f"{error.code}: {error.message}")
        expected = {path: packed for paths in stated.values() for path, packed in paths.items()}
        found = sorted({*differences(expected, prefix), *records(prefix, stated)})
        return Tried(name, files, tuple(found), "differs" if found else "same")


_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zstd.ZstdError)


def try_all(folder: Path, scratch: Path | None) -> Iterator[Tried]:
    """Try every archive below a folder, one after another."""
    with tempfile.TemporaryDirectory(prefix="python-", dir=scratch) as beside:
        shelf = Shelf(Path(beside))
        shelf.add_python()
        for archive in archives_in(folder):
            yield examine(archive, str(archive.relative_to(folder)), shelf.archive("python"), scratch)


def archives_in(folder: Path) -> list[Path]:
    """Return the archives below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.name.endswith((".conda", ".tar.bz2")) and path.is_file())


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--archives", type=Path, required=True, help="folder of conda packages")
    options.add_argument("--folder", type=Path, help="where prefixes are made; a temporary folder otherwise")
    options.add_argument("--json", action="store_true", help="print JSON, with every difference, in place of the table")
    given = options.parse_args()
    names = [str(path.relative_to(given.archives)) for path in archives_in(given.archives)]
    if not names:
        options.error(f"{given.archives} holds no .conda and no .tar.bz2")
    width = max(map(len, names))
    if not given.json:
        print(f"{'archive':{width}}  {'files':>6}  {'differences':>11}  verdict")
    tried = []
    for one in try_all(given.archives, given.folder):
        tried.append(one)
        if not given.json:
            print(
                f"{one.archive:{width}}  {one.files:6}  {len(one.differences):11}  {one.verdict} {one.reason}".rstrip()
            )
            print(*(f"  {each.kind}: {each.path}\n" for each in one.differences[:_SHOWN]), sep="", end="", flush=True)
    verdicts = Counter(one.verdict for one in tried)
    if given.json:
        print(json.dumps([dataclasses.asdict(one) for one in tried], indent=1))
    else:
        told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
        print(f"{len(tried)} archives, {sum(one.files for one in tried)} files: {told}")
    return int(verdicts.keys() != {"same"})


if __name__ == "__main__":
    sys.exit(main())
