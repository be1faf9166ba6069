"""Runs pip, which alone resolves and alone talks to package indexes.

So the machine's own pip configuration holds: its indexes, credentials, certificates and proxies. pip never builds:
only wheels count, and of sources no more than what they say of themselves (`said_program`). The report is pip's
installation report, version 1.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from mlviews.conda.servers import hint_of_clock
from mlviews.errors import FailedError, RefusedError
from mlviews.files.writing import DISK_FULL_HINT
from mlviews.wheels.cuda import asks_for_cuda
from mlviews.wheels.made import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mlviews.progress import Advance
    from mlviews.wheels.target import Target

_NETWORK = re.compile(
    r"connection broken by|Could not fetch URL|ConnectionError|ReadTimeout|HTTP error [45]\d\d|ProxyError|SSLError"
    r"|IncompleteRead|Network is unreachable|Name or service not known|Temporary failure in name resolution"
)
_DISK = re.compile(r"No space left on device|Read-only file system|Disk quota exceeded")
_CHATTER = re.compile(
    r"\s*(Collecting|Obtaining|Processing|Downloading|Progress|Using cached|Looking in|Would install|Saved"
    r"|Link requires|File was already"
    r"|INFO: pip is|WARNING: (Location|Cache entry|The directory|pip is using lazily)|\[notice\]|━|\r|$"
    # What pip advises: it knows command lines, and no recipes.
    r"|To fix this you could try to|\d\. (loosen|remove)|ERROR: ResolutionImpossible)"
)
# Which of several requirements has no wheel: pip names the first one.
_NO_WHEEL = re.compile(r"Could not find a version that satisfies the requirement (.+?) \(from")
_UNKNOWN = re.compile(r"\(from versions: none\)")
_LOADED = re.compile(r"\s*Progress (\d+) of (\d+)")
_KEPT_LINES = 60
_SILENT = 512 * 1024  # bytes of the largest file whose coming pip does not tell


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A wheel, or sources, that pip chose, and where it lies.

    Attributes:
        large: whether it has to do with CUDA.
    """

    name: NormalizedName
    version: str
    url: str
    sha256: str
    large: bool = False

    @property
    def file_name(self) -> str:
        """The file's own name."""
        return file_of(self.url)


def resolve(
    requirements: Sequence[Requirement],
    constraints: Iterable[Requirement],
    advance: Advance,
    *,
    dependencies: bool = True,
    more: Sequence[str] = (),
    folders: Sequence[Path] = (),
) -> tuple[Found, ...]:
    """Let pip choose one wheel for each project that ``requirements`` need.

    Args:
        constraints: limits on any project, asked for or not.
        dependencies: also choose what the chosen ones need.
        more: addresses of further indexes to look at.
        folders: further places where wheels lie.

    Raises:
        RefusedError: ``unsolvable``, in pip's own words.
        FailedError: ``network``, ``hash-mismatch``, ``no-hash``, ``disk-full``, ``write-failed`` or ``no-pip``.
    """
    if not requirements:
        return ()
    options = [] if dependencies else ["--no-deps"]
    options += [f"--extra-index-url={address}" for address in more]
    options += [f"--find-links={folder}" for folder in folders]
    report = _report(requirements, constraints, options, advance)
    return tuple(sorted(map(_found, report), key=lambda found: found.name))


def look_up(
    requirements: Sequence[Requirement], target: Target, advance: Advance
) -> tuple[tuple[Found, dict[str, Any]], ...]:
    """Return the newest wheel that meets each requirement on a target, and its metadata as pip's report has it.

    What they need is not looked at, and neither are markers. A project without such a wheel is left out.

    Args:
        requirements: one of a project at most.

    Raises:
        FailedError: as `resolve`.
    """
    options = [*_ALONE, *_for(target)]
    left = {canonicalize_name(requirement.name): requirement for requirement in requirements}
    while left:
        try:
            report = _report([*left.values()], (), options, advance)
        except RefusedError as error:
            missing = _NO_WHEEL.search(error.message)
            if not missing or left.pop(canonicalize_name(Requirement(missing[1].strip()).name), None) is None:
                raise
        else:
            return tuple((_found(item), item["metadata"]) for item in report)
    return ()


def look_up_sources(requirement: Requirement, target: Target, advance: Advance) -> Found | None:
    """Return the newest source distribution that meets a requirement on a target; None where there is none.

    Raises:
        FailedError: as `resolve`, or ``sdist-invalid``.
    """
    try:
        (item,) = _report([requirement], (), [*_ALONE, *_python_of(target)], advance, sources=True)
    except RefusedError as error:
        if _NO_WHEEL.search(error.message):
            return None
        words = error.message.partition("\n")[2]
        raise FailedError(
            "sdist-invalid",
            f"pip cannot read the sources of {requirement}:\n{words}",
            "Take another version. mlviews takes no sources that lack PKG-INFO or write outside their folder.",
        ) from error
    return _found(item)


def list_versions(project: str, target: Target, advance: Advance, *, sources: bool) -> tuple[str, ...]:
    """Return the released versions of a project for a target; none where no index has any.

    Args:
        sources: whether those count, too, of which there are sources alone.

    Raises:
        FailedError: as `resolve`.
    """
    kind = () if sources else _kind(sources=False)
    with tempfile.TemporaryDirectory(prefix="mlviews-pip-") as scratch:
        try:
            lines = _run(["index", "versions", project, "--json", *kind, *_for(target)], Path(scratch), advance)
        except RefusedError:
            return ()
    found: list[str] = json.loads(next(line for line in reversed(lines) if line.startswith("{")))["versions"]
    return tuple(found)


_ALONE = ("--no-deps", "--target=.")


def _for(target: Target) -> list[str]:
    platforms = (f"--platform={name}" for name in target.platforms)
    return [*_python_of(target), f"--abi={target.abi}", *platforms]


def _python_of(target: Target) -> list[str]:
    return ["--implementation=cp", f"--python-version={target.minor}"]


def _report(
    requirements: Iterable[object],
    constraints: Iterable[object],
    options: Sequence[str],
    advance: Advance,
    *,
    sources: bool = False,
) -> list[dict[str, Any]]:
    """Return what pip would install."""
    with tempfile.TemporaryDirectory(prefix="mlviews-pip-") as scratch:
        folder = Path(scratch)
        _write_lines(folder / "constraints.txt", constraints)
        _write_lines(folder / "requirements.txt", requirements)
        command = [
            *("install", "--dry-run", "--ignore-installed", *_kind(sources=sources), "--report", "report.json"),
            *("--requirement", "requirements.txt", "--constraint", "constraints.txt", *options),
        ]
        try:
            # Of a wheel on an index without metadata files (PEP 658) only the metadata is read; CUDA's are gigabytes.
            _run([*command, "--use-feature=fast-deps"], folder, advance, sources=sources)
        except _UnknownOptionError:
            _run(command, folder, advance, sources=sources)
        found: list[dict[str, Any]] = json.loads((folder / "report.json").read_bytes())["install"]
        return found


def _kind(*, sources: bool) -> list[str]:
    return ["--no-binary=:all:", "--no-build-isolation"] if sources else ["--only-binary=:all:"]


def fetch(
    wheels: Sequence[Found],
    folder: Path,
    advance: Advance,
    loaded: Callable[[int, int], None] | None = None,
    *,
    sources: bool = False,
) -> None:
    """Let pip download ``wheels`` into ``folder``, each checked against its sha256.

    Args:
        folder: an empty folder; pip's temporary files lie there too.
        loaded: told bytes that came, and bytes that a file which begins to come will have in all.
        sources: whether they are no wheels, but source distributions.

    Raises:
        FailedError: ``network``, ``hash-mismatch``, ``disk-full`` or ``write-failed``.
    """
    _write_lines(folder / "requirements.txt", _pinned(wheels))
    options = ["--no-deps", "--require-hashes", *_kind(sources=sources), "--dest", ".", "--progress-bar=raw"]
    _run(["download", *options, "--requirement", "requirements.txt"], folder, advance, loaded, sources=sources)
    (folder / "requirements.txt").unlink()


def install(wheels: Sequence[Found], folder: Path, advance: Advance) -> None:
    """Let pip unpack ``wheels``, each checked against its sha256, into ``folder``, which is not there yet.

    Raises:
        FailedError: as `fetch`.
    """
    folder.mkdir()
    if not wheels:
        return
    with tempfile.TemporaryDirectory(prefix="mlviews-pip-") as scratch:
        _write_lines(Path(scratch) / "requirements.txt", _pinned(wheels))
        options = ["--no-deps", "--require-hashes", *_kind(sources=False), "--no-compile", f"--target={folder}"]
        _run(["install", *options, "--requirement", "requirements.txt"], Path(scratch), advance)


def _found(item: dict[str, Any]) -> Found:
    info = item["download_info"]
    found = Found(
        name=canonicalize_name(item["metadata"]["name"], validate=True),
        version=item["metadata"]["version"],
        url=info["url"],
        sha256=info.get("archive_info", {}).get("hashes", {}).get("sha256", ""),
        large=asks_for_cuda(item["metadata"]["name"], _requirements(item["metadata"])),
    )
    if not re.fullmatch(r"[0-9a-f]{64}", found.sha256):
        raise FailedError("no-hash", f"the index gives no sha256 for {found.file_name}", "Use an index that does.")
    return found


def _requirements(metadata: dict[str, Any]) -> list[Requirement]:
    try:
        return [Requirement(line) for line in metadata.get("requires_dist", ())]
    except InvalidRequirement:
        return []  # opening the wheel tells


def _pinned(wheels: Iterable[Found]) -> Iterator[str]:
    return (f"{wheel.name} @ {wheel.url} --hash=sha256:{wheel.sha256}" for wheel in wheels)


def _write_lines(file: Path, lines: Iterable[object]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class _UnknownOptionError(Exception):
    """This pip does not know an option, which newer or older ones do."""


def _run(
    arguments: Sequence[str],
    folder: Path,
    advance: Advance,
    loaded: Callable[[int, int], None] | None = None,
    *,
    sources: bool = False,
) -> Sequence[str]:
    """Return the last lines that pip says."""
    # In a folder of our own: `-m` looks there first, and a file pip.py of the user's would be run. `-E`: nor one of
    # PYTHONPATH's.
    pip = ["-c", _AS_PYTHON, _write_said(folder)] if sources else ["-m", "pip"]
    command = [sys.executable, "-E", *pip, "--disable-pip-version-check", "--no-input", *arguments]
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    watch = _Watch(advance, loaded)
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**environment(), "TMPDIR": str(folder)},  # the disk that holds the cache has room for a wheel
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                watch.read(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        words = "\n".join(line for line in lines if not _CHATTER.match(line))
        if "invalid choice: 'fast-deps'" in words:
            raise _UnknownOptionError
        # Where a connection was cut before, pip (26) takes a full disk for the network's fault, too.
        if arguments[0] == "download" and not _has_room(folder, max(watch.size, _SILENT)):
            message = f"there is no room for the wheels: {folder.parent} is full, or your quota is"
            raise FailedError("disk-full", message, DISK_FULL_HINT)
        _fail(words, arguments[0], folder.parent)
    return lines


def environment() -> dict[str, str]:
    """Return what pip runs in: a user's default for installing makes no sense here.

    pip crashes where a user has no home folder, as in some batch jobs and containers: there it gets one, and no cache.
    """
    here = {**os.environ, "PIP_USER": "0"}
    homeless = os.path.expanduser("~") == "~"  # noqa: PTH111  (never raises)
    return {**here, "HOME": "/nonexistent", "PIP_NO_CACHE_DIR": "1"} if homeless else here


# pip prepares sources with what `sys.executable` says; code of theirs would run, and with the network.
_AS_PYTHON = "import runpy, sys; sys.executable = sys.argv.pop(1); runpy.run_module('pip', run_name='__main__')"


def _write_said(folder: Path) -> str:
    """Write the program that stands for Python where pip prepares sources; return its path."""
    path = folder / "python"
    words = shlex.join([sys.executable, "-I", str(Path(__file__).with_name("said_program.py"))])
    path.write_text(f'#!/bin/sh\nexec {words} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return str(path)


class _Watch:
    """Reads what pip says of its work."""

    def __init__(self, advance: Advance, loaded: Callable[[int, int], None] | None) -> None:
        self._advance, self._loaded = advance, loaded
        self._came: int | None = None  # bytes of the file that comes now; None before pip has said its size
        self.size = 0  # that it will have

    def read(self, line: str) -> None:
        word, _, rest = line.strip().partition(" ")
        if word in {"Collecting", "Processing"} and rest:
            self._came = None
            self._advance(note=Path(rest.split()[0]).name.rstrip("@"))
        elif self._loaded and (match := _LOADED.match(line)):
            came, self.size = map(int, match.groups())
            self._loaded(came - (self._came or 0), self.size if self._came is None else 0)
            self._came = came


def _has_room(folder: Path, size: int) -> bool:
    """Tell whether a file of ``size`` bytes has room in a folder; only an attempt knows of quotas."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        return error.errno not in {errno.ENOSPC, errno.EDQUOT}
    return True


def _given_up(words: str) -> str:
    """Return what a connection failed by that pip gave up, once: of each try it says so, and then of each project."""
    found = re.findall(r"Retrying \(Retry\(total=0,.* broken by '(.*)': ", words)
    if not found:
        return f"\n{words}"
    return " " + re.sub(r"^.*(Connection\([^)]*\)|object at \w+>): |[\"']\)$", "", found[-1])


def _fail(words: str, verb: str, folder: Path) -> NoReturn:
    if "No module named pip" in words:
        raise FailedError(
            "no-pip",
            f"{sys.executable} has no pip, which finds and downloads wheels",
            "Install mlviews again, with its dependencies.",
        )
    if line := next((line for line in reversed(words.splitlines()) if _DISK.search(line)), None):
        code = "write-failed" if "Read-only" in line else "disk-full"
        # Wheels are fetched below the root; all else of pip's lies in TMPDIR.
        where = "choose another folder with --root" if verb == "download" else "set TMPDIR to another folder"
        raise FailedError(code, f"pip could not write in {folder}: {line.strip()}", f"Free some space, or {where}.")
    if "DO NOT MATCH THE HASHES" in words:
        raise FailedError(
            "hash-mismatch",
            f"pip received other bytes than the index promises:\n{words}",
            "Tell the people who run the index.",
        )
    if _NETWORK.search(words):
        hint = "Check the network; `pip config debug` shows which indexes and proxies it uses."
        why = f"pip could not reach a package index:{_given_up(words)}"
        raise FailedError("network", why, hint_of_clock(words, hint))
    if re.search(r"^Traceback \(most recent call last\):$", words, re.MULTILINE):
        why = words.rpartition("\n")[2]
        hint = "Install mlviews again, with its dependencies; -v shows all that pip said."
        raise FailedError("pip-crashed", f"pip crashed: {why}", hint, detail=words)
    if verb == "download":
        raise FailedError("network", f"pip could not download:\n{words}", "Run the command again.")
    hint = "Loosen one of these requests. If `pins` of the site's file hold the version, change it there."
    if _UNKNOWN.search(words):
        hint = "Correct the name, or take it out and say so under `gaps`."
    raise RefusedError("unsolvable", f"pip finds no set of wheels for this:\n{words}", hint)
