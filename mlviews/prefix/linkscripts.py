"""Post-link scripts: those of the packages that a recipe names run, and what they write is part of the prefix.

The scripts are other people's, and the prefix's files are the cache's and other releases' too (hard links): while they
run, each file is the prefix's own. What none of them touched is linked again.

Source: https://docs.conda.io/projects/conda-build/en/stable/resources/link-scripts.html.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlviews.conda.records import (
    CondaRecord,
    conda_record,
    conda_record_files,
    link_script,
    load_conda_record,
    write_conda_record,
)
from mlviews.errors import FailedError
from mlviews.files.writing import file_sha256, walk, write_failure
from mlviews.lock.lockfile import LockedPackage, in_order
from mlviews.prefix.scripts import HOST_PATH, one_line, started
from mlviews.release import LinkScripts

if TYPE_CHECKING:
    from mlviews.prefix.install import Prefix

_MESSAGES = ".messages.txt"  # where scripts leave what they have to say: stdout is conda's
_SHOWN = 2000  # characters of what a script printed
_UMASK = 0o022

_State = tuple[int, ...]


def run_link_scripts(
    prefix: Path,
    packages: Sequence[LockedPackage],
    records: tuple[CondaRecord, ...],
    named: Collection[str],
    *,
    timeout: float = 600.0,
) -> tuple[LinkScripts, tuple[CondaRecord, ...]]:
    """Run the scripts of the packages that a recipe names, each after those of the packages that it depends on.

    Args:
        prefix: the installed prefix, which programs in it must find where it lies.
        timeout: seconds that one script may take.

    Returns:
        What became of them, and the conda records as they are then.

    Raises:
        FailedError: ``link-script-failed``, with what the script printed; or the disk failed.
    """
    by_name = {record.name: record for record in records}
    with_script = [name for name in in_order(packages) if link_script(name) in by_name[name].files]
    wanted = [name for name in with_script if name in named]
    skipped = tuple(sorted({*with_script} - {*wanted}))
    without = tuple(sorted({*named} - {*wanted}))
    if not wanted:
        return LinkScripts(skipped=skipped, without=without), records
    said = []
    try:
        with _unshared(prefix):
            before = _states(prefix)
            for name in wanted:
                said += _run(prefix, name, load_conda_record(by_name[name].file), timeout=timeout)
            after = _states(prefix)
        changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
        records = _note(prefix, changed)
    except OSError as error:
        raise write_failure(f"{prefix} cannot be changed by link scripts", error) from error
    done = LinkScripts(
        run=tuple(wanted),
        skipped=skipped,
        without=without,
        written=tuple(path for path in changed if path in after),
        removed=tuple(path for path in changed if path not in after),
        notes=tuple(said),
    )
    return done, records


def carry_over(scripts: LinkScripts, source: Prefix, target: Prefix) -> tuple[CondaRecord, ...]:
    """Put what link scripts wrote in one prefix into another one of the same packages, as if they had run there.

    The conda records of the other one are returned.

    Raises:
        FailedError: ``link-script-path``: they wrote the path into a file that is no text; or the disk failed.
    """
    try:
        for path in scripts.removed:
            (target.folder / path).unlink(missing_ok=True)
        for path in scripts.written:
            _carry(source.folder / path, str(source.baked), target.folder / path, str(target.baked))
        return _note(target.folder, (*scripts.written, *scripts.removed))
    except OSError as error:
        raise write_failure(f"what link scripts wrote cannot be put into {target.folder}", error) from error


def _carry(source: Path, old: str, target: Path, new: str) -> None:
    if source.is_dir() and not source.is_symlink():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # the old file's bytes may be the cache's
    if source.is_symlink():
        target.symlink_to(str(source.readlink()).replace(old, new))
        return
    content = source.read_bytes()
    if old != new and old.encode() in content:
        if b"\0" in content:
            raise FailedError(
                "link-script-path",
                f"a link script wrote {old} into {source}, which is not text: mlviews cannot change it to {new}",
                "Take the package out of link-scripts, or build in the folder where the view will be used.",
            )
        content = content.replace(old.encode(), new.encode())
    target.write_bytes(content)
    target.chmod(stat.S_IMODE(source.stat().st_mode))


@contextmanager
def _unshared(prefix: Path) -> Iterator[None]:
    """Give a prefix copies of the files that it shares; afterwards it shares those again that nobody changed."""
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=".shared-") as folder:
        kept: dict[str, tuple[Path, _State]] = {}
        for number, (path, status) in enumerate(list(walk(prefix))):
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                own, shared = prefix / path, Path(folder) / str(number)
                own.rename(shared)
                shutil.copy2(shared, own)
                kept[path] = (shared, _state(own.lstat()))
        yield
        for path, (shared, state) in kept.items():
            with suppress(FileNotFoundError):
                if _state((prefix / path).lstat()) == state:
                    shared.replace(prefix / path)


def _states(prefix: Path) -> dict[str, _State]:
    return {path: _state(status) for path, status in walk(prefix)}


def _state(status: os.stat_result) -> _State:
    """Return what tells a file that was written, replaced or only touched; nobody can set its time of change."""
    if stat.S_ISDIR(status.st_mode):
        return (stat.S_IFMT(status.st_mode),)
    return (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _run(prefix: Path, name: str, record: Mapping[str, Any], *, timeout: float) -> list[str]:
    """Run one script as conda does: bash, in the script's folder; return what it says."""
    bash = shutil.which("bash")
    if bash is None:
        raise FailedError("link-script-failed", "Link scripts need bash, which is not on PATH.", "Install bash.")
    script = prefix / link_script(name)
    with tempfile.TemporaryDirectory(prefix="mlviews-link-") as home:
        environment = {
            "PREFIX": str(prefix),
            "PKG_NAME": name,
            "PKG_VERSION": str(record["version"]),
            "PKG_BUILDNUM": str(record["build_number"]),
            "CONDA_PREFIX": str(prefix),
            "PATH": ":".join([f"{prefix}/bin", *HOST_PATH]),
            "HOME": home,
            "TMPDIR": home,
            "LANG": "C.UTF-8",
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # its own compiler makes byte code, once for all releases
        }
        output = Path(home) / ".output"
        status = None
        with (
            suppress(subprocess.TimeoutExpired),
            started([bash, str(script)], environment, script.parent, output, umask=_UMASK) as process,
        ):
            status = process.wait(timeout)
        printed = one_line(output.read_text(encoding="utf-8", errors="replace")[-_SHOWN:])
    messages = prefix / _MESSAGES
    told = one_line(messages.read_text(encoding="utf-8", errors="replace")[:_SHOWN]) if messages.is_file() else ""
    messages.unlink(missing_ok=True)
    if status != 0:
        why = f"failed with status {status}" if status is not None else f"did not end within {timeout:g} seconds"
        said = " ".join(part for part in (told, printed) if part)
        raise FailedError(
            "link-script-failed",
            f"the post-link script of {name} {why}{f': {said}' if said else ''}",
            "Take the package out of link-scripts in the recipe, or report it there.",
        )
    return [f"{name}: {said}" for said in (told, printed) if said]


def _note(prefix: Path, changed: Iterable[str]) -> tuple[CondaRecord, ...]:
    """Make the conda records true of files that changed; what no package brought, the inventory lists."""
    changed, records = {*changed}, []
    for file in conda_record_files(prefix):
        record = load_conda_record(file)
        if not changed.isdisjoint(record["files"]):
            entries = record["paths_data"]["paths"]
            record["paths_data"]["paths"] = [
                new for entry in entries if (new := _entry(prefix, entry) if entry["_path"] in changed else entry)
            ]
            record["files"] = [path for path in record["files"] if path not in changed or _is_file(prefix / path)]
            write_conda_record(file, record)
        records.append(conda_record(file, record))
    return tuple(records)


def _entry(prefix: Path, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    path = prefix / entry["_path"]
    if not _is_file(path):
        return None
    if path.is_symlink():
        text = str(path.readlink()).encode(errors="surrogateescape")
        return {**entry, "path_type": "softlink", "sha256_in_prefix": hashlib.sha256(text).hexdigest()}
    return {**entry, "path_type": "hardlink", "sha256_in_prefix": file_sha256(path)}


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()
