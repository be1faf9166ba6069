"""Makes the channel for one view: resolve, download, convert, and keep its ``repodata.json``.

rattler's indexer is not used: it hashes at 80 MB/s, writes in place where a solver may be reading, and dates every
record with the moment of indexing, which hides the package from a solve as of an earlier day.
"""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

from mlviews.errors import FailedError, RefusedError
from mlviews.files.filelock import LOCK, announce, hold
from mlviews.files.writing import aged, make_folder, write_atomically
from mlviews.progress import Progress, silent
from mlviews.wheels.archive import read_index, write_conda
from mlviews.wheels.convert import PackagePlan, plan_alias, plan_cuda, plan_extra, plan_python_abi, requirements_for
from mlviews.wheels.cuda import is_cuda_project
from mlviews.wheels.elf import glibc_key
from mlviews.wheels.host_python import write_host_python
from mlviews.wheels.loosen import Overrides, loosened_wheel
from mlviews.wheels.made import place_of
from mlviews.wheels.obtain import Converted, obtain
from mlviews.wheels.offers import Index
from mlviews.wheels.pip import Found, resolve
from mlviews.wheels.requirements import EXTRA, WheelRequest, limits_of, requests_of
from mlviews.wheels.target import Target, host_target


@dataclass(frozen=True, kw_only=True, slots=True)
class WheelChannel:
    """A conda channel of wheels and the host's CPython, and what a solve on it has to be given.

    Attributes:
        folder: root of the channel; it serves every view and only grows.
        constraints: match specs ``name ==version build``: exactly what was resolved for this view.
        python: the host's Python, such as ``3.11.7``.
        glibc: the newest glibc that any of the packages needs, such as ``2.36``.
    """

    folder: Path
    constraints: tuple[str, ...]
    python: str
    glibc: str


def make_channel(
    specs: Iterable[str],
    *,
    pins: Mapping[str, str],
    cache: Path,
    cuda: str | None = None,
    cpu_index: str | None = None,
    constraints: Iterable[str] = (),
    keep: Mapping[str, str] | None = None,
    sdists: Collection[str] = (),
    overrides: Overrides | None = None,
    askers: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> WheelChannel:
    """Make the channel that a view with these specs can be solved and installed from.

    Several processes may do so in one cache at once.

    Args:
        specs: the view's conda match specs. The host's Python stands for what they say about ``python``.
        pins: conda name to the one version to use, asked for or not.
        cache: folder of the channel and the wheels; it may be deleted.
        cuda: the CUDA that the view's wheels are for, such as ``12.8``; None for a view without.
        cpu_index: address of an index that is looked at, too, where pip's own have only CUDA builds for a view without.
        constraints: match specs that limit packages which others pull in.
        keep: conda name to the version to keep, as an older lock has it, if all of them can stay.
        sdists: projects that are built of their newest sources where they have no wheel.
        overrides: what of the newest wheels is loosened.
        askers: who asks for a spec, in words, for the message where pip finds nothing that fits.

    Raises:
        BadInputError: ``bad-spec``.
        RefusedError: ``unsolvable``, ``no-wheel``, ``cuda-wheels``.
        FailedError: ``network``, ``hash-mismatch``, ``no-hash``, ``write-failed``, ``bad-wheel``, ``name-clash``,
            ``host-python``, ``no-pip``; or as `mlviews.wheels.sdist.build_wheel`.
    """
    asked = _asked(specs, pins, constraints, keep or {}, askers or {})
    target = host_target()
    with open_cache(cache) as folder:
        index = Index(cache / "index", cache, progress)
        made = [*_built(sdists, asked, target, index), *_loosened(overrides or {}, asked, target, index)]
        found = _resolve(asked, made, progress) if cuda else _resolve_for_cpu(asked, made, cpu_index, progress)
        converted = obtain(found, cache, folder, target, progress)
        plans = [*(item.plan for item in converted), *_write_others(folder, asked.requests, converted, target, cuda)]
        _refuse_clashes(plans)
        with progress("Indexing"):
            known = {item.plan.archive: item.sha256 for item in converted}
            update_index(folder, [plan.archive for plan in plans], known=known, progress=progress)
    return _channel(folder, plans, target)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What pip is asked for.

    Attributes:
        kept: versions to stay at, if all of them can.
        askers: spec -> who asks for it, in words.
    """

    requests: tuple[WheelRequest, ...]
    limits: tuple[Requirement, ...]
    kept: tuple[Requirement, ...]
    askers: Mapping[str, str]

    def on(self, project: NormalizedName) -> Requirement:
        """Return all that is asked of a project, and the version that it is to stay at."""
        lines = (*(request.requirement for request in self.requests), *self.limits, *self.kept)
        ranges = [line.specifier for line in lines if canonicalize_name(line.name) == project]
        return Requirement(f"{project}{functools.reduce(operator.and_, ranges, SpecifierSet())}")


def _asked(
    specs: Iterable[str],
    pins: Mapping[str, str],
    constraints: Iterable[str],
    keep: Mapping[str, str],
    askers: Mapping[str, str],
) -> _Asked:
    limits = (*(f"{name} =={version}" for name, version in pins.items()), *constraints)
    kept = (f"{name} =={version}" for name, version in keep.items() if name not in pins and EXTRA not in name)
    return _Asked(requests_of(specs), limits_of(limits), limits_of(kept), askers)


@contextmanager
def open_cache(cache: Path) -> Iterator[Path]:
    """Give the channel's folder in ``cache``; what killed processes left behind is removed.

    Raises:
        FailedError: ``write-failed``, also for every `OSError` inside.
    """
    try:
        folder = cache / "channel"
        make_folder(folder)
        for debris in aged(
            [
                *cache.glob(".restore-*"),
                *cache.glob("wheels/.new-*"),
                *cache.glob("made/.new-*"),
                *folder.glob("*/.*.conda.*"),
                *folder.glob(".new-*"),
            ]
        ):
            shutil.rmtree(debris) if debris.is_dir() else debris.unlink()
        yield folder
    except OSError as error:
        raise FailedError(
            "write-failed",
            f"the channel in {cache} cannot be written: {error}",
            "Check the free space, the quota and the permissions of that folder; what is done is kept.",
        ) from error


def _built(sdists: Iterable[str], asked: _Asked, target: Target, index: Index) -> Iterator[Path]:
    """Yield folders with wheels that are built, of projects that have none: of the version that is kept, or newest."""
    for wanted in map(asked.on, map(canonicalize_name, sdists)):
        offer = None if index.newest([wanted], target) else index.built(wanted, target)
        if offer and offer.made:
            yield place_of(index.cache, offer.made.sha256, offer.made.wheel).parent


def _loosened(overrides: Overrides, asked: _Asked, target: Target, index: Index) -> Iterator[Path]:
    """Yield folders with those wheels that overrides name, loosened: of the version that is kept, or newest."""
    names = dict.fromkeys(of for _, of in overrides)
    offers = index.newest([asked.on(name) for name in names], target) if names else ()
    for offer in offers:
        with index.progress("Loosening") as advance:
            found = Found(name=offer.name, version=str(offer.version), url=offer.url, sha256=offer.sha256)
            yield loosened_wheel(found, overrides, index.cache, advance).parent


def _resolve(asked: _Asked, folders: Sequence[Path], progress: Progress, *indexes: str) -> tuple[Found, ...]:
    """Let pip choose; it knows no preferences, so that either all versions are kept or none has to be.

    Args:
        folders: where wheels that were made here lie.
        indexes: addresses of further ones.
    """
    wanted = [request.requirement for request in asked.requests]
    with progress("Resolving") as advance:
        for constraints in [(*asked.limits, *asked.kept), asked.limits] if asked.kept else [asked.limits]:
            try:
                return resolve(wanted, constraints, advance, more=indexes, folders=folders)
            except RefusedError as error:
                refusal = error
    said = refusal.message.partition("\n")[2]  # the first line is ours, and names pip
    named = [r.spec for r in asked.requests if re.search(rf"\b{re.escape(r.requirement.name)}\b", said)]
    lines = [f"\n  {spec}" + (f"  <-  {asked.askers[spec]}" if spec in asked.askers else "") for spec in named]
    told = f"\nThe view asks for:{''.join(lines)}" if lines else ""
    raise RefusedError(refusal.code, refusal.message + told, refusal.hint)


def _resolve_for_cpu(
    asked: _Asked, folders: Sequence[Path], cpu_index: str | None, progress: Progress
) -> tuple[Found, ...]:
    """Let pip choose where no build for CUDA may be, with a further index if its own have nothing else."""
    found = _resolve(asked, folders, progress)
    if cpu_index and _cuda_projects(found):
        found = _resolve(asked, folders, progress, cpu_index)
    if cuda := _cuda_projects(found):
        raise _cuda_refusal(found, cuda, cpu_index)
    return found


def _channel(folder: Path, plans: Sequence[PackagePlan], target: Target) -> WheelChannel:
    return WheelChannel(
        folder=folder,
        constraints=tuple(sorted(plan.spec for plan in plans)),
        python=target.python,
        glibc=max((plan.glibc for plan in plans), key=glibc_key),
    )


def _write_others(
    folder: Path, requests: Sequence[WheelRequest], converted: Sequence[Converted], target: Target, cuda: str | None
) -> list[PackagePlan]:
    """Write the packages that are no wheel: extras, other names, what ties all to a Python and a CUDA, and Python."""
    tied = [plan_python_abi(target), *([plan_cuda(cuda, target)] if cuda else [])]
    empty = write_empty(folder, [*_further(requests, converted, target), *tied])
    return [*empty, write_host_python(folder, target)]


def write_empty(folder: Path, plans: Iterable[PackagePlan]) -> list[PackagePlan]:
    """Write the packages without files that are not there yet."""
    planned = list(plans)
    for plan in planned:
        if not (folder / plan.archive).exists():
            write_conda(folder, index=plan.index)
    return planned


def _further(requests: Sequence[WheelRequest], converted: Sequence[Converted], target: Target) -> Iterator[PackagePlan]:
    """Plan packages without files: the extras that something asks for, and other names that the view uses."""
    projects = {item.said.name: item for item in converted}
    extras = {
        (name, extra): plan_extra(projects[name].said, target, extra)
        for name, extra in _extras(requests, projects, target)
    }
    yield from extras.values()
    for request in requests:
        name = canonicalize_name(request.requirement.name)
        provider = projects[name].plan
        if request.name != provider.index["name"] and EXTRA not in request.name:
            extra = next((canonicalize_name(extra) for extra in request.requirement.extras), None)
            yield plan_alias(request.name, provider, extras[name, extra] if extra else None, target)


def _extras(
    requests: Sequence[WheelRequest], projects: Mapping[NormalizedName, Converted], target: Target
) -> set[tuple[NormalizedName, NormalizedName]]:
    lines = [request.requirement for request in requests]
    for item in projects.values():
        lines += requirements_for(item.said, target)
    seen: set[tuple[NormalizedName, NormalizedName]] = set()
    while lines:
        line = lines.pop()
        name = canonicalize_name(line.name)
        for extra in {canonicalize_name(extra) for extra in line.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                lines += requirements_for(projects[name].said, target, extra)
    return seen


def _cuda_projects(found: Iterable[Found]) -> tuple[Found, ...]:
    return tuple(wheel for wheel in found if is_cuda_project(wheel.name))


def _cuda_refusal(found: Iterable[Found], cuda: Sequence[Found], cpu_index: str | None) -> RefusedError:
    # What asks for CUDA itself and is not CUDA's: of these a CPU build is wanted.
    makers = [wheel for wheel in found if wheel.large and wheel not in cuda] or cuda
    named = " ".join(f"{wheel.name}=={wheel.version}" for wheel in makers)
    places = f" --index-url {cpu_index}" if cpu_index else " --index-url INDEX"
    where = "pytorch.org gives INDEX under Get started, CPU; `cpu-index` in the site's file names it for good. "
    looked = f"; {cpu_index} has no others" if cpu_index else ""
    return RefusedError(
        "cuda-wheels",
        f"this view is for the CPU, but pip finds only builds for CUDA of {named}; they bring {len(cuda)} "
        f"more packages ({', '.join(wheel.name for wheel in cuda)}){looked}",
        f"On a host that reaches an index with CPU builds: pip download --no-deps --dest wheels{places} {named}\n"
        "Then, with that folder here: PIP_FIND_LINKS=$PWD/wheels mlviews build VIEW. "
        f"{'' if cpu_index else where}Or take a view for GPUs, which runs on a CPU too and needs some 5 GB more.",
    )


def _refuse_clashes(plans: Iterable[PackagePlan]) -> None:
    seen: dict[str, PackagePlan] = {}
    for plan in plans:
        if seen.setdefault(plan.index["name"], plan).spec != plan.spec:
            raise FailedError(
                "name-clash",
                f"two wheels would both be the conda package {plan.index['name']}",
                "Leave one of them out of the recipe.",
            )


_CHUNK = 1 << 20


def update_index(
    channel: Path,
    archives: Collection[str],
    *,
    changed: Collection[str] = (),
    known: Mapping[str, str] = MappingProxyType({}),
    progress: Progress = silent,
) -> None:
    """Make the index hold archives that lie in the channel. What it holds already is not read again.

    Args:
        archives: paths in the channel.
        changed: those that are read again.
        known: sha256 that were taken before: what is no longer as it was then is found out when it is installed.

    Raises:
        FailedError: ``write-failed``: the disk is full or read-only; or it has no locks.
    """
    with hold(channel / LOCK, waiting=announce(progress, "the channel's index")):
        for subdir in sorted({"noarch", *(archive.partition("/")[0] for archive in archives)}):
            _update(channel / subdir, _inside(subdir, archives), _inside(subdir, changed), known)


def _inside(subdir: str, archives: Collection[str]) -> set[str]:
    return {archive.removeprefix(f"{subdir}/") for archive in archives if archive.startswith(f"{subdir}/")}


def _update(folder: Path, names: Collection[str], changed: Collection[str], sums: Mapping[str, str]) -> None:
    file = folder / "repodata.json"
    known = _records(file)
    if known is None:
        known, names = {}, {path.name for path in folder.glob("[!.]*.conda")}
    new = sorted(set(names) - known.keys() | set(changed))
    if not new and file.exists():
        return
    with ThreadPoolExecutor() as pool:
        records = pool.map(lambda name: _record(folder / name, sums.get(f"{folder.name}/{name}", "")), new)
        added = dict(zip(new, records, strict=True))
    kept = {name: record for name, record in known.items() if (folder / name).exists()}
    data = {
        "info": {"subdir": folder.name},
        "packages": {},
        "packages.conda": kept | added,
        "removed": [],
        "repodata_version": 1,
    }
    write_atomically(file, json.dumps(data, sort_keys=True, separators=(",", ":")))


def _records(file: Path) -> dict[str, Any] | None:
    """Return what the index holds, or None if there is none or it was cut: all of it can be read from the archives."""
    try:
        return dict(json.loads(file.read_bytes())["packages.conda"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _record(path: Path, sha256: str) -> dict[str, Any]:
    try:
        index = read_index(path)
    except ValueError as error:  # the machine went down before the disk had it all
        path.unlink()
        raise FailedError(
            "archive-damaged", f"{path.name} is damaged and was removed", "Run the command again: it is made again."
        ) from error
    return {**index, **_hashes(path, sha256), "size": path.stat().st_size}


def _hashes(path: Path, sha256: str) -> dict[str, str]:
    wanted = ("md5",) if sha256 else ("md5", "sha256")
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in wanted}
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            for total in sums.values():
                total.update(chunk)
    return {"sha256": sha256} | {name: total.hexdigest() for name, total in sums.items()}
