"""Runs pip, which alone resolves and alone talks to package indexes; keeps the wheels by sha256 and converts them.

So the machine's own pip configuration holds: its indexes, credentials, certificates and proxies. Nothing is ever built:
only wheels count. The report is pip's installation report, version 1.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mlviews.errors import FailedError, RefusedError
from mlviews.files import file_sha256, make_folder
from mlviews.wheels.convert import plan_wheel, write_wheel
from mlviews.wheels.wheel import open_wheel

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.utils import NormalizedName

    from mlviews.progress import Advance, Progress
    from mlviews.wheels.convert import PackagePlan
    from mlviews.wheels.target import Target
    from mlviews.wheels.wheel import Wheel

__all__ = ["Converted", "Found", "cached", "collect", "convert", "fetch", "resolve"]


_NETWORK = re.compile(
    r"connection broken by|Could not fetch URL|ConnectionError|ReadTimeout|HTTP error [45]\d\d|ProxyError|SSLError"
    r"|IncompleteRead|Network is unreachable|Name or service not known|Temporary failure in name resolution"
)
_DISK = re.compile(r"No space left on device|Read-only file system|Disk quota exceeded")
_CHATTER = re.compile(
    r"\s*(Collecting|Processing|Downloading|Using cached|Looking in|Would install|Saved|Link requires|File was already"
    r"|INFO: pip is|WARNING: (Location|Cache entry|The directory)|\[notice\]|━|\r|$)"
)
_KEPT_LINES = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A wheel that pip chose, and where it lies."""

    name: NormalizedName
    version: str
    url: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The wheel's own name."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]


def resolve(
    requirements: Sequence[Requirement],
    constraints: Iterable[Requirement],
    advance: Advance,
    *,
    dependencies: bool = True,
) -> tuple[Found, ...]:
    """Let pip choose one wheel for each project that ``requirements`` need.

    Args:
        requirements: what is asked for.
        constraints: limits on any project, asked for or not.
        advance: told what pip looks at.
        dependencies: also choose what the chosen ones need.

    Raises:
        RefusedError: ``unsolvable``, in pip's own words.
        FailedError: ``network``, ``hash-mismatch``, ``no-hash``, ``write-failed`` or ``no-pip``.
    """
    with tempfile.TemporaryDirectory(prefix="mlviews-pip-") as scratch:
        folder = Path(scratch)
        _write_lines(folder / "constraints.txt", constraints)
        _write_lines(folder / "requirements.txt", requirements)
        _run(
            [
                *("install", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--report", "report.json"),
                *("--requirement", "requirements.txt", "--constraint", "constraints.txt"),
                *([] if dependencies else ["--no-deps"]),
            ],
            folder,
            advance,
        )
        report = json.loads((folder / "report.json").read_bytes())
    return tuple(sorted(map(_found, report["install"]), key=lambda found: found.name))


def fetch(wheels: Sequence[Found], folder: Path, advance: Advance) -> None:
    """Let pip download ``wheels`` into ``folder``, each checked against its sha256.

    Raises:
        FailedError: ``network``, ``hash-mismatch`` or ``write-failed``.
    """
    if wheels:
        lines = [f"{wheel.name} @ {wheel.url} --hash=sha256:{wheel.sha256}" for wheel in wheels]
        _write_lines(folder / "requirements.txt", lines)
        options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", "."]
        _run(["download", *options, "--requirement", "requirements.txt"], folder, advance)
        (folder / "requirements.txt").unlink()


def _found(item: dict[str, Any]) -> Found:
    info = item["download_info"]
    found = Found(
        name=canonicalize_name(item["metadata"]["name"], validate=True),
        version=item["metadata"]["version"],
        url=info["url"],
        sha256=info.get("archive_info", {}).get("hashes", {}).get("sha256", ""),
    )
    if not re.fullmatch(r"[0-9a-f]{64}", found.sha256):
        raise FailedError("no-hash", f"the index gives no sha256 for {found.file_name}", "Use an index that does.")
    return found


def _write_lines(file: Path, lines: Iterable[object]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _run(arguments: Sequence[str], folder: Path, advance: Advance) -> None:
    # In a folder of our own: `-m` looks there first, and a file pip.py of the user's would be run.
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PIP_USER": "0"},  # a user's default that makes no sense here
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
                word, _, rest = line.strip().partition(" ")
                if word in {"Collecting", "Processing"} and rest:
                    advance(note=Path(rest.split()[0]).name.rstrip("@"))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        _fail("\n".join(line for line in lines if not _CHATTER.match(line)), arguments[0])


def _fail(words: str, verb: str) -> NoReturn:
    if "No module named pip" in words:
        raise FailedError(
            "no-pip",
            f"{sys.executable} has no pip, which finds and downloads wheels",
            "Install mlviews anew, with its dependencies.",
        )
    if _DISK.search(words):
        raise FailedError("write-failed", f"pip could not write:\n{words}", "Make room, or point TMPDIR elsewhere.")
    if "DO NOT MATCH THE HASHES" in words:
        raise FailedError(
            "hash-mismatch", f"pip was given other bytes than the index promises:\n{words}", "Tell who runs the index."
        )
    if _NETWORK.search(words):
        raise FailedError(
            "network",
            f"pip could not reach a package index:\n{words}",
            "Check the network; `pip config debug` shows which indexes and proxies it uses.",
        )
    if verb == "download":
        raise FailedError("network", f"pip could not download:\n{words}", "Run the command again.")
    raise RefusedError(
        "unsolvable",
        f"pip finds no set of wheels for this:\n{words}",
        "Loosen what the recipe asks for, or change `pins` and `absent` in the site's file.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """A wheel, closed again, and the plan of the package that was made of it."""

    wheel: Wheel
    plan: PackagePlan


class _Stopped(Exception):  # noqa: N818  (no error: the work was called off)
    pass


def collect(found: Sequence[Found], folder: Path, progress: Progress) -> list[Path]:
    """Return the files of the wheels; those that ``folder`` does not hold yet are downloaded.

    Raises:
        FailedError: ``network``, ``write-failed``.
    """
    make_folder(folder)
    paths = {wheel: folder / wheel.sha256 / wheel.file_name for wheel in found}
    with ThreadPoolExecutor() as pool:
        intact = list(pool.map(_is_intact, paths.values()))
    missing = [wheel for wheel, there in zip(paths, intact, strict=True) if not there]
    if missing:
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as scratch,
            progress("Downloading wheels", total=len(missing)) as advance,
        ):
            fetch(missing, Path(scratch), advance)
            for wheel in missing:
                paths[wheel].parent.mkdir(exist_ok=True)
                (Path(scratch) / wheel.file_name).replace(paths[wheel])
    return list(paths.values())


def cached(folder: Path, projects: Mapping[NormalizedName, str], target: Target) -> list[Path]:
    """Return the intact wheels in ``folder`` of these projects at these versions, local ones too, for the target."""
    found = []
    for path in sorted(folder.glob("*/*.whl")):
        with suppress(InvalidWheelFilename):
            name, version, _, tags = parse_wheel_filename(path.name)
            if projects.get(name) == version.public and tags & target.tags and _is_intact(path):
                found.append(path)
    return found


def convert(
    paths: Sequence[Path],
    channel: Path,
    target: Target,
    progress: Progress,
    *,
    wanted: Container[str] | None = None,
) -> list[Converted]:
    """Make a package of each wheel that has none in the channel yet.

    Args:
        paths: wheels as `collect` returns them.
        channel: root folder of the channel.
        target: where the packages will run.
        progress: told of each wheel.
        wanted: write only these archives (paths in the channel); all if None.

    Raises:
        FailedError: ``bad-wheel``.
        OSError: the disk.
    """
    stop = threading.Event()

    def watch() -> None:
        if stop.is_set():
            raise _Stopped

    def one(path: Path) -> Converted:
        with open_wheel(path, path.parent.name, watch) as wheel:
            plan = plan_wheel(wheel, target)
            if (wanted is None or plan.archive in wanted) and not (channel / plan.archive).exists():
                write_wheel(channel, plan, wheel, target)
        advance(note=wheel.name)
        return Converted(wheel=wheel, plan=plan)

    # The largest first, so that no core is left with it at the end. Threads do: inflating, hashing and packing release
    # the interpreter's lock.
    ordered = sorted(paths, key=lambda path: path.stat().st_size, reverse=True)
    with progress("Converting wheels", total=len(paths)) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            return list(pool.map(one, ordered))
        except BaseException:
            stop.set()
            raise


def _is_intact(path: Path) -> bool:
    return path.is_file() and file_sha256(path) == path.parent.name
