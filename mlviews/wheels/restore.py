"""Lost archives of the wheel channel, made again and proved to be what a lock says; and what it holds of nobody's."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, parse_wheel_filename

from mlviews.errors import FailedError, RefusedError
from mlviews.files.writing import aged, is_intact, make_folder
from mlviews.progress import Progress, silent
from mlviews.wheels.archive import is_safe_path
from mlviews.wheels.channel import open_cache, update_index, write_empty
from mlviews.wheels.convert import PackagePlan, plan_alias, plan_cuda, plan_extra, plan_python_abi
from mlviews.wheels.host_python import write_host_python
from mlviews.wheels.obtain import Converted, known, obtain
from mlviews.wheels.pip import Found, resolve
from mlviews.wheels.requirements import EXTRA, conda_name, conda_version, project_of
from mlviews.wheels.target import Target, host_target

_ARCHIVE = re.compile(r"[^/]+/[^/]+-[^/-]+-[^/-]+\.conda")
_NO_WHEELS = {"python", "python_abi", "cuda-version"}
_HINT = "Lock the view again: `mlviews lock VIEW`."


def restore_archives(
    archives: Mapping[str, str], *, cache: Path, unread: Container[str] = (), progress: Progress = silent
) -> None:
    """See to it that the channel holds every archive of a lock, byte for byte.

    Those that are missing or damaged are made again of the same wheels, from the cache or the index, and of the host's
    Python. Nothing is changed unless all of them come out as the lock says.

    Args:
        archives: path in the channel (``noarch/hist-2.12.1-pyh1a2b3c4d_0.conda``) to sha256.
        cache: the folder that `make_channel` was given.
        unread: those that need only be there.

    Raises:
        FailedError: ``archive-lost``: one cannot be made again; and as `make_channel`.
    """
    for archive in archives:
        if not _ARCHIVE.fullmatch(archive) or not is_safe_path(archive):  # a lock is what somebody wrote
            raise FailedError("archive-lost", f"{archive!r} was not made from a wheel", _HINT)
    with open_cache(cache) as folder:
        lost = _lost(folder, archives, unread, progress)
        if not lost:
            return
        with tempfile.TemporaryDirectory(dir=cache, prefix=".restore-") as scratch:
            _remake(lost, Path(scratch), cache, progress)
            for archive in sorted(lost):
                _prove(Path(scratch) / archive, archives[archive])
            for archive in lost:
                make_folder((folder / archive).parent)
                (Path(scratch) / archive).replace(folder / archive)
        update_index(folder, archives, changed=lost, progress=progress)


def _lost(folder: Path, archives: Mapping[str, str], unread: Container[str], progress: Progress) -> set[str]:
    def check(archive: str) -> bool:
        advance()
        path = folder / archive
        return path.is_file() if archive in unread else is_intact(path, archives[archive])

    with progress("Checking the channel", total=len(archives)) as advance, ThreadPoolExecutor() as pool:
        intact = list(pool.map(check, archives))
    return {archive for archive, there in zip(archives, intact, strict=True) if not there}


def _prove(path: Path, sha256: str) -> None:
    if is_intact(path, sha256):
        return
    gone = "has no source any more: a wheel, the host's Python or mlviews changed"
    why = "comes out with other bytes" if path.is_file() else gone
    raise FailedError("archive-lost", f"{path.name} cannot be made again as the lock has it; it {why}", _HINT)


def _remake(lost: Collection[str], scratch: Path, cache: Path, progress: Progress) -> None:
    target = host_target()
    names = {archive: archive.rpartition("/")[2].rsplit("-", 2)[:2] for archive in lost}
    if any(name == "python" for name, _ in names.values()):
        write_host_python(scratch, target)
    cuda = [plan_cuda(version, target) for name, version in names.values() if name == "cuda-version"]
    tied = [plan_python_abi(target), *cuda]
    write_empty(scratch, [plan for plan in tied if plan.archive in lost])
    for source in (partial(known, cache), partial(_from_index, progress)):
        missing = [names[archive] for archive in sorted(lost) if not (scratch / archive).exists()]
        projects = {
            project_of(name.partition(EXTRA)[0])[0]: version for name, version in missing if name not in _NO_WHEELS
        }
        if not projects:
            return
        converted = obtain(source(projects), cache, scratch, target, progress, wanted=lost)
        plans = [plan for name, _ in missing for plan in _empty(name, converted, target)]
        write_empty(scratch, [plan for plan in plans if plan.archive in lost])


def _from_index(progress: Progress, projects: Mapping[NormalizedName, str]) -> Sequence[Found]:
    requirements = [Requirement(f"{name}=={version}") for name, version in projects.items()]
    with progress("Resolving") as advance, suppress(RefusedError):
        return resolve(requirements, (), advance, dependencies=False)
    return ()  # the index has it no longer, which `_prove` tells


def _empty(name: str, converted: Sequence[Converted], target: Target) -> Iterator[PackagePlan]:
    """Plan a package without files, an extra or another name, of every wheel that it may have been made of."""
    base, _, extra = name.partition(EXTRA)
    project, through = project_of(base)
    for item in (item for item in converted if item.said.name == project):
        wanted = extra or through
        plan = plan_extra(item.said, target, wanted) if wanted else None
        if extra and plan:
            yield plan
        elif name != item.plan.index["name"]:
            yield plan_alias(name, item.plan, plan, target)


def unused_archives(cache: Path, stems: Collection[str]) -> Iterator[Path]:
    """Yield the archives in the channel that are not needed; none of the last day, which a lock may be about to name.

    Args:
        cache: the folder that `make_channel` was given.
        stems: ``name-version-build`` of the packages that are needed.
    """
    return aged(path for path in cache.glob("channel/*/*.conda") if path.stem not in stems)


def unused_wheels(cache: Path, versions: Collection[tuple[str, str]]) -> Iterator[Path]:
    """Yield what is kept of wheels that no needed package was made of; none of the last day.

    Args:
        cache: the folder that `make_channel` was given.
        versions: name and version of the conda packages that are needed.
    """
    yield from (path.parent for path in aged(cache.glob("wheels/*/*.whl")))  # it was never converted
    for path in aged(cache.glob("made/*/*.whl")):
        name, version, *_ = parse_wheel_filename(path.name)
        if (conda_name(name), conda_version(version)) not in versions:
            yield path.parent
    for path in aged(cache.glob("wheels/*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            index = json.loads(path.read_bytes())["index"]
            if (index["name"], index["version"]) not in versions:
                yield path
