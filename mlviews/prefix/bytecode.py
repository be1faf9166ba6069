"""Byte code beside the modules of a prefix, made once for each package and shared as its files are.

Python reads it without a look at the module (PEP 552, unchecked): a release never changes, may lie where nobody writes,
and its files' times may be lost on the way there. What is made stands in the conda records, as conda notes it, so
that whatever reads those (verify, repair, sizes, layers of images) knows whose it is.

In the cache it has a folder for each Python and package, there whole or not at all. A process compiles a few modules,
with nothing of the caller's environment and one seed for hashes: the same modules in the same order give the same
bytes. What a process compiled before can show in them: which constants are marked as shared.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mlviews.conda.records import CondaRecord, conda_record, load_conda_record, write_conda_record
from mlviews.errors import FailedError
from mlviews.files.permissions import settle, settle_one, shared_group
from mlviews.files.reading import content
from mlviews.files.writing import file_sha256, make_folder, write_failure
from mlviews.hardware import host_platform
from mlviews.loop import run
from mlviews.progress import Advance, Progress, silent

BYTECODE = "bytecode"
"""The cache's folder of byte code: in it one of each Python, in that one of each package."""


def compile_modules(
    prefix: Path, records: tuple[CondaRecord, ...], *, platform: str, cache: Path, progress: Progress = silent
) -> tuple[CondaRecord, ...]:
    """Put byte code beside the modules of an installed prefix that holds Python, and note it in the conda records.

    A module that does not compile is left as it is, as are tests and files that bear the prefix. The same packages
    always get the same bytes.

    Args:
        platform: its conda subdir; one that is not this host's gets nothing, since its Python cannot run here.
        cache: folder in which byte code is kept, and from which it is hard-linked after a check of every byte.

    Returns:
        The records, which tell of the byte code then.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was kept until then is whole.
    """
    if platform != host_platform() or not any(record.name == "python" for record in records):
        return records
    found = find_modules(records)
    python = next(modules for modules in found if modules.record.name == "python")
    shelf = cache / BYTECODE / python.record.stem
    # The standard library first: what compiles the others imports it.
    groups = [[python], [modules for modules in found if modules is not python]]
    changed: dict[Path, CondaRecord] = {}
    with progress("Compiling", total=sum(len(modules.sources) for modules in found)) as advance:
        try:
            for group in groups:
                changed |= _compile([modules for modules in group if modules.sources], prefix, shelf, advance)
        except OSError as error:
            raise write_failure(f"byte code in {shelf} or {prefix} cannot be read or written", error) from error
    return tuple(changed.get(record.file, record) for record in records)


def _compile(group: Sequence[Modules], prefix: Path, shelf: Path, advance: Advance) -> dict[Path, CondaRecord]:
    with ThreadPoolExecutor() as pool:
        there = dict(zip(group, pool.map(partial(_read_kept, shelf), group), strict=True))
    missing = [modules for modules, kept in there.items() if kept is None]
    advance(sum(len(modules.sources) for modules, kept in there.items() if kept))
    if missing:
        make_folder(shelf)
        # Beside what is kept; a process that dies leaves it behind, by a name that starts with a dot.
        with tempfile.TemporaryDirectory(prefix=".", dir=shelf) as scratch:
            run(_compile_chunks(missing, prefix, Path(scratch), advance))
            there |= {modules: _keep(Path(scratch), shelf, modules) for modules in missing}
    noted = {}
    for modules, kept in there.items():
        assert kept
        _link(kept, prefix)
        noted[modules.record.file] = _note(modules, kept.files, kept.folder)
    return noted


def _link(kept: Kept, prefix: Path) -> None:
    for folder in {os.path.dirname(path) for path in kept.files}:  # noqa: PTH120  (of thousands)
        make_folder(prefix / folder)
    for path in kept.files:
        source, target = f"{kept.folder}/{path}", f"{prefix}/{path}"
        with suppress(FileNotFoundError):
            os.unlink(target)  # noqa: PTH108  (of an installation that was interrupted)
        try:
            os.link(source, target)
        except OSError:  # the cache lies on another file system, or on one without hard links
            shutil.copy(source, target)


_MODULE = re.compile(r"lib/python3\.[0-9]+t?/(?P<inside>.*/)?[^/\0]+\.py")
# The name is as short as can be: what follows the tag is no part of it.
_CACHED = re.compile(r"(?P<folder>(?:.*/)?)__pycache__/(?P<name>[^/]+?)\.[a-z]+-[0-9]+t?(?:\.opt-[0-9a-z]+)?\.pyc")
# Nobody imports tests to work, and in a view of PyTorch they were a quarter of all byte code.
_LEFT_OUT = frozenset({"..", "test", "tests"})


@dataclass(frozen=True, slots=True, eq=False)
class Modules:
    """What of one installed package is compiled.

    Attributes:
        record: the package's.
        sources: modules by their path in the prefix, sorted.
        made_of: sha256 of all that their byte code depends on: the archives of Python and of the package, and which
            of its modules they are.
    """

    record: CondaRecord
    sources: tuple[str, ...]
    made_of: str


def find_modules(records: Sequence[CondaRecord]) -> tuple[Modules, ...]:
    """Return the modules of each package that no byte code lies beside yet.

    Only files that are as the package brought them: byte code of others could not be shared between prefixes. Where two
    packages bring the same one, rattler's records give it to one of them.

    Args:
        records: the conda records of all packages of a prefix.
    """
    python = next((record.sha256 for record in records if record.name == "python"), "")
    there = {path.path for record in records for path in record.paths}
    compiled = {module_of(path) for path in there}
    found = []
    for record in records:
        own = [path.path for path in record.paths if path.packed and _is_module(path.path)]
        # A package may bring a link where the folder of byte code would lie, which leads anywhere.
        sources = tuple(sorted(name for name in own if name not in compiled and _folder_of_code(name) not in there))
        made_of = hashlib.sha256("\0".join([python, record.sha256, *sources]).encode(errors="surrogateescape"))
        found.append(Modules(record, sources, made_of.hexdigest()))
    return tuple(found)


def module_of(path: str) -> str | None:
    """Return the module that a file of byte code was made of, by its name (PEP 3147); None for any other file."""
    match = _CACHED.fullmatch(path) if path.endswith(".pyc") else None
    return f"{match['folder']}{match['name']}.py" if match else None


def _note(modules: Modules, files: Mapping[str, str], folder: Path) -> CondaRecord:
    """Add byte code to the conda record of the package that it was made of; return what the record says then."""
    record = load_conda_record(modules.record.file)
    record["files"] += files
    record["paths_data"]["paths"] += [
        {
            "_path": path,
            "path_type": "pyc_file",
            "sha256": sha256,
            "sha256_in_prefix": sha256,
            "size_in_bytes": (folder / path).stat().st_size,
        }
        for path, sha256 in files.items()
    ]
    write_conda_record(modules.record.file, record)
    return conda_record(modules.record.file, record)


def _folder_of_code(module: str) -> str:
    return f"{module.rpartition('/')[0]}/__pycache__"


def _is_module(path: str) -> bool:
    match = _MODULE.fullmatch(path)
    return match is not None and _LEFT_OUT.isdisjoint((match["inside"] or "").split("/"))


_LIST = "kept.json"
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY}


@dataclass(frozen=True, slots=True)
class Kept:
    """The byte code of one package.

    Attributes:
        folder: where its files lie, by their paths in a prefix.
        files: those paths, sorted -> sha256.
    """

    folder: Path
    files: Mapping[str, str]


class _List(BaseModel):
    """``kept.json``: what `Modules.made_of` was, and the files with their sha256."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    made_of: str
    files: dict[str, str]


def _read_kept(shelf: Path, modules: Modules) -> Kept | None:
    """Return a package's byte code; None where there is none, or not of these modules, or a byte of it is damaged."""
    folder = shelf / modules.record.stem
    if (text := content(folder / _LIST)) is None:
        return None
    try:
        known = _List.model_validate_json(text)
        group = shared_group(shelf)
        for path in known.files:
            settle_one(f"{folder}/{path}", os.lstat(f"{folder}/{path}"), group, executable=False)
        whole = known.made_of == modules.made_of and all(
            file_sha256(f"{folder}/{path}") == sha256 for path, sha256 in known.files.items()
        )
    except (FileNotFoundError, ValidationError):
        return None
    return Kept(folder, known.files) if whole else None


def _keep(scratch: Path, shelf: Path, modules: Modules) -> Kept:
    """Move what was compiled to where it is kept, in one step."""
    made, folder = scratch / modules.record.stem, shelf / modules.record.stem
    made.mkdir(exist_ok=True)
    files = {path.relative_to(made).as_posix(): path for path in sorted(made.rglob("*.pyc"))}
    known = _List(made_of=modules.made_of, files={name: file_sha256(path) for name, path in files.items()})
    (made / _LIST).write_text(known.model_dump_json() + "\n", encoding="utf-8")
    settle(made, shared_group(shelf))
    try:
        made.rename(folder)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        if (kept := _read_kept(shelf, modules)) is not None:
            return kept  # another process was faster
        folder.rename(scratch / f"damaged-{modules.record.stem}")  # releases that share its files keep them
        made.rename(folder)
    return Kept(folder, known.files)


_CHUNK = 256  # modules a process: about a second, beside which a start of Python counts little
_PROGRAM = Path(__file__).with_name("compile_program.py")
_SHOWN = 2000  # characters of what Python said
_HINT = "Run the same command again. If the error stays, report it: the view's Python could not compile its modules."


async def _compile_chunks(wanted: Iterable[Modules], prefix: Path, scratch: Path, advance: Advance) -> None:
    """Compile modules into folders named as their packages."""
    free = asyncio.Semaphore(len(os.sched_getaffinity(0)))
    chunks = [
        (modules.record.stem, modules.sources[start : start + _CHUNK])
        for modules in wanted
        for start in range(0, len(modules.sources), _CHUNK)
    ]

    async def work(package: str, sources: Sequence[str]) -> None:
        async with free:
            await _compile_chunk(prefix, scratch / package, sources, advance)

    # The largest first, so that no one waits for it at the end.
    tasks = [asyncio.ensure_future(work(*chunk)) for chunk in sorted(chunks, key=lambda chunk: -len(chunk[1]))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _compile_chunk(prefix: Path, target: Path, sources: Sequence[str], advance: Advance) -> None:
    python = prefix / "bin/python"
    try:
        process = await asyncio.create_subprocess_exec(
            *(python, "-s", "-S", "-B", "-W", "ignore", _PROGRAM, prefix, target),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONHASHSEED": "0"},  # `-I` would have it ignored
            start_new_session=True,  # Ctrl-C is the caller's to handle
        )
    except OSError as error:
        raise FailedError("bytecode-failed", f"{python} cannot be run: {error.strerror}", _HINT) from error
    try:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"\0".join(map(os.fsencode, sources)))
        process.stdin.close()
        said = asyncio.ensure_future(process.stderr.read())
        async for _ in process.stdout:
            advance()
        _judge(await process.wait(), (await said).decode(errors="replace"), python)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _judge(code: int, said: str, python: Path) -> None:
    if code == os.EX_IOERR:
        number, _, path = said.partition(" ")
        raise OSError(int(number), os.strerror(int(number)), path)
    if code:
        raise FailedError("bytecode-failed", f"{python} ended with {code}: {said[-_SHOWN:]}".strip(), _HINT)
