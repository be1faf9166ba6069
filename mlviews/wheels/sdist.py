"""Source distributions -> wheels, for the few pure projects of which an index has no wheel, and a recipe names them.

A build runs code of the project: it may do so only shut in (`build_program`), without a network and with nothing of the
user's in sight. It is given what the sources require for it and nothing else, dates are fixed, and its wheel is only
taken if it is for every platform. pip finds and fetches sources and never runs any of them (`said_program`).
Sources: PEP 517 and 518 (the build), PEP 625 and 643 (sources), https://reproducible-builds.org/specs/source-date-epoch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from mlviews.errors import FailedError
from mlviews.files.writing import is_intact
from mlviews.progress import Advance, Progress, silent
from mlviews.wheels.made import Made, Tool, keep_made, making, place_of, pure_wheel
from mlviews.wheels.pip import Found, fetch, install, resolve
from mlviews.wheels.wheel import Stated, open_wheel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib
from collections.abc import Sequence

_PROGRAM = Path(__file__).with_name("build_program.py")
_REQUIRES = ["setuptools >=40.8.0"]  # of sources that do not say: PEP 518
_BACKEND = "setuptools.build_meta:__legacy__"  # PEP 517
DATE = "315532800"  # 1980-01-01, the first that a wheel can state
_TIME = 600  # seconds
_MAX_SOURCES = 1 << 30  # bytes, unpacked
_MAX_WHEEL = 256 << 20  # bytes
_LINES = 15
_LATER = "Take the project out of `sdists`, or another version of it. Tell its maintainers that a wheel is missing."


def built_before(cache: Path, made: Made) -> Path | None:
    """Return the wheel that was built here before; None where it is not there as it was."""
    path = place_of(cache, made.sha256, made.wheel)
    return path if is_intact(path, made.sha256) else None


def rebuilt(sdist: Found, made: Made, cache: Path, *, progress: Progress = silent) -> Path:
    """Return the wheel that a lock says sources give: the one that is there, or built again.

    Raises:
        FailedError: as `build_wheel`; or ``sdist-differs``: they give another one now.
    """
    path = built_before(cache, made)
    if path is None:
        tools = [
            Found(name=canonicalize_name(one.name), version=one.version, url=one.url, sha256=one.sha256)
            for one in made.tools
        ]
        path, now, _ = build_wheel(sdist, cache, tools=tools, progress=progress)
        if now.sha256 != made.sha256:
            raise FailedError(
                "sdist-differs",
                f"{sdist.file_name} builds another wheel on this host than the lock names: its sha256 is {now.sha256}, "
                f"and not {made.sha256}",
                "Its build is not reproducible, or depends on the host. Lock here: `mlviews lock VIEW "
                f"--upgrade-package {sdist.name}`; or take the wheel's file from where it was locked.",
            )
    return path


def build_wheel(
    sdist: Found, cache: Path, *, tools: Sequence[Found] | None = None, progress: Progress = silent
) -> tuple[Path, Made, Stated]:
    """Build the wheel of a source distribution, and keep it.

    Args:
        cache: the folder whose ``made`` keeps wheels by their sha256.
        tools: what it is built with; None for the newest that the index has of what the sources require.

    Returns:
        The wheel, what a lock says of it, and its metadata.

    Raises:
        FailedError: ``network``, ``hash-mismatch``, ``sdist-invalid``, ``sdist-failed``, ``sdist-not-pure``,
            ``bad-wheel``, ``write-failed``.
    """
    with progress(f"Building {sdist.name} from its sources") as advance, making(cache) as folder:
        sources = _unpacked(sdist, folder, advance)
        used = resolve(sources.requires, (), advance) if tools is None else tuple(tools)
        install(used, folder / "tools", advance)
        content, name = _built(sources, folder, sdist, advance)
        made = Made(
            wheel=name,
            sha256=hashlib.sha256(content).hexdigest(),
            tools=tuple(Tool(str(one.name), one.version, one.url, one.sha256) for one in used),
        )
        kept = folder / name
        kept.write_bytes(content)
        said = _checked(kept, made, sdist)
        return keep_made(kept, made.sha256, cache), made, said


@dataclass(frozen=True, slots=True)
class Sources:
    """Unpacked sources, and what they say of their build.

    Attributes:
        backend: ``module:object`` that builds.
        paths: folders in them where that may be, as they name them.
    """

    folder: Path
    requires: tuple[Requirement, ...]
    backend: str
    paths: tuple[str, ...]


def _unpacked(sdist: Found, scratch: Path, advance: Advance) -> Sources:
    (scratch / "sdist").mkdir()
    fetch([sdist], scratch / "sdist", advance, sources=True)
    try:
        return read_sources(_unpack(scratch / "sdist" / sdist.file_name, scratch / "build" / "src"))
    except (tarfile.TarError, OSError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise FailedError("sdist-invalid", f"{sdist.file_name} cannot be built: {error}", _LATER) from error


def read_sources(folder: Path) -> Sources:
    """Read what unpacked sources say of their build.

    Raises:
        ValueError, TypeError, AttributeError: ``pyproject.toml`` is none, or not as PEP 518 has it.
    """
    project = folder / "pyproject.toml"
    system: Any = {}
    if project.is_file():
        system = tomllib.loads(project.read_text(encoding="utf-8")).get("build-system", {})
    requires = [Requirement(line) for line in system.get("requires", _REQUIRES)]
    paths = tuple(map(str, system.get("backend-path", ())))
    if any(path.startswith("/") or not (folder / path).resolve().is_relative_to(folder.resolve()) for path in paths):
        raise ValueError("its backend-path leads out of it")
    held = tuple(line for line in requires if line.marker is None or line.marker.evaluate())
    return Sources(folder, held, str(system.get("build-backend", _BACKEND)), paths)


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive of sources, which hold one folder; nothing of it may lie elsewhere.

    Raises:
        ValueError: it is too large, or holds another thing than one folder.
        TarError: it is damaged, or a member would lie elsewhere.
    """
    folder.mkdir(parents=True)
    with tarfile.open(archive, "r:gz") as packed:
        size = 0
        for member in packed:
            size += member.size
            if size > _MAX_SOURCES:
                raise ValueError(f"it unpacks to more than {_MAX_SOURCES} bytes")
            _extract(packed, member, folder)
    top = [*folder.iterdir()]
    if len(top) != 1 or not top[0].is_dir() or top[0].is_symlink():
        raise ValueError("it does not hold one folder")
    return top[0].resolve()


def _extract(packed: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Unpack a member as the filter ``data`` of PEP 706 does, also with a Python that has none (Debian 12's 3.11.2).

    Such a Python unpacks no links, which few sources hold.
    """
    if hasattr(tarfile, "data_filter"):
        packed.extract(member, folder, filter="data")
        return
    path = folder / member.name.lstrip("/")
    if ".." in path.parts:
        raise tarfile.TarError(f"{member.name!r} would be extracted outside the destination")
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
    elif (source := packed.extractfile(member) if member.isfile() else None) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        mode = member.mode & 0o755 | 0o600
        path.chmod(mode if mode & 0o100 else mode & ~0o111)
    else:
        raise tarfile.TarError(f"{member.name!r} is a link, which this Python cannot unpack safely: take a newer one")


def _built(sources: Sources, scratch: Path, sdist: Found, advance: Advance) -> tuple[bytes, str]:
    """Let the sources build a wheel; return its content and its file's name."""
    out = scratch / "build" / "wheel"
    out.mkdir()
    (scratch / "build" / "tmp").mkdir()
    prefixes = {str(Path(prefix).resolve()) for prefix in (sys.prefix, sys.base_prefix)}
    paths = ":".join(str(sources.folder / path) for path in sources.paths)
    command = [sys.executable, "-S", str(_PROGRAM), str(scratch / "build"), str(scratch / "tools"), sources.backend]
    # Nothing of the user's environment: it may hold passwords.
    environment = {
        "HOME": str(scratch / "build" / "tmp"),
        "TMPDIR": str(scratch / "build" / "tmp"),
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": DATE,
    }
    with subprocess.Popen(
        [*command, paths, *sorted(prefixes)],
        cwd=sources.folder,
        env=environment,
        umask=0o022,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            words, _ = process.communicate(timeout=_TIME)
        except subprocess.TimeoutExpired:
            words = f"it ran for more than {_TIME} seconds"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if words.startswith("unguarded"):
        advance(note="this kernel cannot keep the build away from other files")
    found = [*out.iterdir()] if process.returncode == 0 else []
    if len(found) != 1 or not found[0].is_file() or found[0].is_symlink() or found[0].stat().st_size > _MAX_WHEEL:
        raise FailedError(
            "sdist-failed",
            f"the sources {sdist.file_name} do not build; they ran without network, in a folder of their own:\n"
            + last_lines(words),
            _LATER,
        )
    return found[0].read_bytes(), found[0].name


def last_lines(words: str) -> str:
    """Return the end of what a build says, which tells why it failed."""
    return "\n".join(words.splitlines()[-_LINES:])


def _checked(path: Path, made: Made, sdist: Found) -> Stated:
    """Return what a wheel says that was built, if it is of that project and pure."""
    try:
        pure_wheel(path.name)
        name, version, *_ = parse_wheel_filename(path.name)
        if (name, str(version)) != (canonicalize_name(sdist.name), sdist.version):
            raise ValueError(f"{path.name} is of another project")
        with open_wheel(path, made.sha256) as wheel, zipfile.ZipFile(path) as packed:
            for entry in wheel.entries:
                with packed.open(entry.path) as file:
                    if file.read(4) == b"\x7fELF" or ".data/platlib/" in entry.path:
                        raise ValueError(f"it holds {entry.path}, which is made for one platform")
            return wheel.said
    except (ValueError, InvalidWheelFilename) as error:
        raise FailedError("sdist-not-pure", f"what {sdist.file_name} builds is not taken: {error}", _LATER) from error
