"""Spec -> packages: one solve for a view on a platform, and the rule that keeps CUDA where it belongs."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING

from rattler import BuildString, GenericVirtualPackage, MatchSpec, PackageName, PackageRecord, RepoDataRecord, Version
from rattler import solve as rattler_solve
from rattler.exceptions import SolverError

from mlviews.conda.channels import Sources, record_fault
from mlviews.conda.cuda import is_cuda_build
from mlviews.conda.servers import channel_url
from mlviews.errors import FailedError, RefusedError
from mlviews.recipe.view import Origin, Request, ViewSpec
from mlviews.solve.conflict import NO_CUDA, Base, Task, askers, cut, readable, refusal, smallest_conflict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from packaging.utils import NormalizedName

    from mlviews.hardware import VirtualPackage
    from mlviews.wheels.convert import Offer
    from mlviews.wheels.offers import Index, Offers, Taken

_STEPS_BACK = 6  # older wheels that are tried where the newest one is in the way
_NOWHERE = "file:///wheels"  # the channel of wheels where no channel is: nothing is fetched from there


@dataclass(frozen=True, slots=True)
class Solution:
    """What one view holds on one platform besides its base, sorted by name.

    Attributes:
        packages: those of channels.
        wheels: those of an index.
    """

    platform: str
    packages: tuple[RepoDataRecord, ...]
    wheels: tuple[Taken, ...] = ()


async def solve(
    spec: ViewSpec,
    platform: str,
    sources: Sources,
    *,
    locked: Iterable[RepoDataRecord] = (),
    as_of: datetime | None = None,
    blame: bool = True,
    base: Base | None = None,
    index: Index | None = None,
    kept: Mapping[str, str] = MappingProxyType({}),
    editable: Sequence[Offer] = (),
) -> Solution:
    """Find the packages of a view for one platform.

    With ``hardware.cuda``, every package of which the channel has CUDA builds gets one, unless ``cpu-only`` names it
    (with ``*`` for any letters); without, none does.

    Args:
        locked: packages to keep wherever that is possible.
        as_of: leave out what was built later than this (UTC).
        blame: where there is no solution, look for the smallest set of requests in conflict, by many more solves.
        base: what the view extends; its packages stay as they are, and are no part of the solution.
        index: where wheels are looked up; a view with ``pypi`` needs one.
        kept: URL -> sha256 of wheels to keep wherever that is possible.
        editable: wheels that stand for folders of projects: these are in the view, and no other of their name.

    Raises:
        RefusedError: no set of packages fits, or there is no wheel of what the view asks for; the message names the
            requests in conflict and who made them.
    """
    cuda = spec.hardware.cuda is not None
    task = Task(
        view=spec.name,
        platform=platform,
        hardware=spec.hardware.virtual_packages(platform),
        specs=spec.dependencies,
        constraints=spec.constraints if cuda else (*spec.constraints, *_no_cuda(spec)),
        locked=tuple(locked),
        as_of=as_of,
        base=base,
    )
    if spec.pypi or editable:
        assert index
        task = await _with_wheels(task, spec, sources, index, kept=kept, editable=editable, blame=blame)
    if not cuda:
        return _solution(task, await _solve_for_cpu(task, sources, blame=blame))
    if base is None:
        return _solution(*await _solve_for_cuda(task, spec, sources, blame=blame))
    return _solution(task, await _solve_or_refuse(task, sources, blame=blame))  # which builds a base has is settled


async def _solve_for_cpu(task: Task, sources: Sources, *, blame: bool) -> list[RepoDataRecord]:
    records = await _solve_or_refuse(task, sources, blame=blame)
    if found := sorted(record.name.normalized for record in records if is_cuda_build(record)):
        raise RefusedError(
            "cuda-in-cpu-view",
            f"view {task.view} states no hardware.cuda, but would lock CUDA builds of {', '.join(found)}",
            "Constrain them to CPU builds, or state hardware.cuda.",
        )
    return records


async def _solve_for_cuda(
    task: Task, spec: ViewSpec, sources: Sources, *, blame: bool
) -> tuple[Task, list[RepoDataRecord]]:
    """Solve until every package of which there are CUDA builds is one; return what was asked for that, too."""
    solving = _solve_or_refuse(task, sources, blame=blame)
    records, _ = await asyncio.gather(solving, asyncio.to_thread(sources.recall_cuda, task.platform))
    # Choosing a CUDA build can bring in further packages that have CUDA builds too.
    while more := await _cuda_constraints(spec, records, task, sources):
        task = replace(task, constraints=(*task.constraints, *more))
        records = await _solve_or_refuse(task, sources, blame=blame)
    return task, records


def _solution(task: Task, records: Iterable[RepoDataRecord]) -> Solution:
    there = task.there
    new = sorted((r for r in records if r.name.normalized not in there), key=lambda record: record.name.normalized)
    if task.offers is None:
        return Solution(task.platform, tuple(new))
    from mlviews.wheels.offers import is_stand_in  # noqa: PLC0415  (only views with wheels need it)

    wheels = task.offers.taken(new)
    of_index = {wheel.offer.url for wheel in wheels}
    packages = tuple(record for record in new if record.url not in of_index and not is_stand_in(record))
    return Solution(task.platform, packages, wheels)


async def _with_wheels(
    task: Task,
    spec: ViewSpec,
    sources: Sources,
    index: Index,
    *,
    kept: Mapping[str, str],
    editable: Sequence[Offer],
    blame: bool,
) -> Task:
    """Return the task with what `pypi` asks for, and the wheels that may serve: those for the Python of the solve.

    Which that is, the base says, or the earlier lock if it has all that channels are asked for, or a solve without
    wheels.
    """
    from packaging.requirements import Requirement  # noqa: PLC0415  (only views with wheels need these)
    from packaging.utils import canonicalize_name  # noqa: PLC0415

    from mlviews.wheels.requirements import conda_depends  # noqa: PLC0415

    if task.as_of:
        raise RefusedError(
            "as-of-wheels", f"view {spec.name} has no --as-of: wheels carry no date", "Leave --as-of out."
        )
    python = await _python(task, sources, blame=blame)
    offers = offers_for(
        spec,
        task.platform,
        (str(python.version), str(python.build)),
        index,
        _lacking(task, python, sources),
        channel=next(map(channel_url, sources.places), _NOWHERE),
        kept=kept,
    )
    own = [
        Request(text, (Origin("editable", folder),))
        for text, folder in zip(offers.give(editable), spec.editable, strict=True)
    ]
    asked = [(Requirement(request.text), request) for request in (*spec.pypi, *own)]
    held = [
        (line, request) for line, request in asked if line.marker is None or line.marker.evaluate(offers.target.markers)
    ]
    await offers.look_up(line for line, _ in held)
    specs = tuple(Request(text, request.origins) for line, request in held for text in conda_depends(line))
    rule = Origin("rule", "wheels were looked up for this Python")
    fixed = Request(f"python {offers.target.minor}.*", (rule,))
    task = replace(task, specs=(*task.specs, *specs), constraints=(*task.constraints, fixed), offers=offers)
    _refuse_unknown_wheels(task, [(canonicalize_name(line.name), request) for line, request in held])
    return task


def offers_for(
    spec: ViewSpec,
    platform: str,
    python: tuple[str, str],
    index: Index,
    lacks: Callable[[str, str], Awaitable[bool]],
    *,
    channel: str = _NOWHERE,
    kept: Mapping[str, str] = MappingProxyType({}),
) -> Offers:
    """Return the wheels that may be in a view, none of which is looked up yet; see `Offers`.

    Args:
        python: version and build of the view's.
    """
    from packaging.utils import canonicalize_name  # noqa: PLC0415  (only views with wheels need these)

    from mlviews.wheels.offers import Offers  # noqa: PLC0415
    from mlviews.wheels.target import target_of  # noqa: PLC0415

    return Offers(
        target=target_of(platform, *python, glibc=spec.hardware.glibc),
        index=index,
        lacks=lacks,
        channel=channel,
        overrides=spec.loosened,
        kept=[offer for url, sha256 in kept.items() if (offer := index.kept(url, sha256))],
        sdists=frozenset(map(canonicalize_name, spec.sdists)),
    )


async def _python(task: Task, sources: Sources, *, blame: bool) -> RepoDataRecord:
    given = {record.name.normalized: record for record in (task.base.records if task.base else task.locked)}
    if "python" in given and (task.base or _answered(task, given)):
        return given["python"]
    records = await _solve_or_refuse(task, sources, blame=blame)
    found = next((record for record in records if record.name.normalized == "python"), None)
    if found is None:
        raise RefusedError(
            "python-missing",
            f"view {task.view} asks for wheels, but holds no Python to run them",
            "Add python to its dependencies.",
        )
    return found


def _answered(task: Task, given: Mapping[str, RepoDataRecord]) -> bool:
    """Tell whether packages are all that is asked of channels: else their Python may be too new for what is new."""
    there = all(request.name in given for request in task.specs)
    asked = [request for request in (*task.specs, *task.constraints) if request.name in given]
    return there and all(MatchSpec(request.text).matches(given[request.name]) for request in asked)


def _lacking(task: Task, python: RepoDataRecord, sources: Sources) -> Callable[[str, str], Awaitable[bool]]:
    """Return what tells whether a wheel may stand for a package: no channel has one that fits Python and versions.

    A base has what it has: of such a package there is no second one.
    """
    there = task.there
    minor = ".".join(str(python.version).split(".")[:2])
    abi = f"0_cp{minor.replace('.', '')}{'t' if str(python.build).endswith('t') else ''}"
    tied = {"python": python, "python_abi": PackageRecord("python_abi", minor, BuildString(abi), 0, "noarch")}

    def fits(record: RepoDataRecord) -> bool:
        needed = [text for text in record.depends if text.split()[0] in tied]
        return all(MatchSpec(text).matches(tied[text.split()[0]]) for text in needed)

    async def lacking(name: str, version: str) -> bool:
        if name in there:
            return False
        wanted = MatchSpec(f"{name} {version}".rstrip())
        return not any(wanted.matches(one) and fits(one) for one in await sources.repodata(task.platform, [name]))

    return lacking


def _refuse_unknown_wheels(task: Task, asked: Iterable[tuple[NormalizedName, Request]]) -> None:
    assert task.offers
    faults = [
        f"{request.text!r}, asked for by {askers(request)}: {task.offers.missing[project]}"
        for project, request in asked
        if project in task.offers.missing
    ]
    if faults:
        raise RefusedError(
            "wheel-unknown",
            f"view {task.view} on {task.platform}: no channel and no index has what it asks for under pypi",
            "Correct the name or the range of versions. A project without a wheel needs a line under `sdists` in the "
            "recipe, and must be pure Python: a build runs the code of its sources, without a network.",
            faults=tuple(faults),
        )


def _no_cuda(spec: ViewSpec) -> tuple[Request, ...]:
    why = Origin("rule", f"{spec.name} states no hardware.cuda, so it holds no CUDA build")
    return tuple(Request(text, (why,)) for text in NO_CUDA)


async def _cuda_constraints(
    spec: ViewSpec, records: Sequence[RepoDataRecord], task: Task, sources: Sources
) -> tuple[Request, ...]:
    """Return a constraint for each package that locked a CPU build although there are CUDA builds of it."""
    exempt = [reason.package for reason in spec.cpu_only]
    plain = [
        record.name.normalized
        for record in records
        if not is_cuda_build(record) and not any(fnmatchcase(record.name.normalized, name) for name in exempt)
    ]
    why = Origin("rule", f"{spec.name} states hardware.cuda, and cpu-only does not name the package")
    builds = await sources.cuda_builds(task.platform, plain, as_of=task.as_of)
    return tuple(
        Request(f'{name}[build="^({"|".join(map(re.escape, found))})$"]', (why,)) for name, found in builds.items()
    )


async def _solve(task: Task, sources: Sources) -> list[RepoDataRecord]:
    """Solve; where a record is in the way that is malformed or that no lock can hold, once more without such."""
    sifted = sources.sifted
    given = task.given
    ours = {record.url for record in given}
    try:
        found = await _solve_once(task, sources, given)
        if sifted or not any(record_fault(record) for record in found if record.url not in ours):
            return found
    except FailedError as error:
        if error.code != "repodata-invalid" or sifted:
            raise
    await sources.sift()
    return await _solve_once(task, sources, given)


async def _solve_once(task: Task, sources: Sources, given: Sequence[RepoDataRecord]) -> list[RepoDataRecord]:
    everything = sources.beside(given) if given else sources
    with sources.reading():
        return await rattler_solve(
            everything.on(task.platform),
            [MatchSpec(text) for text in (*(request.text for request in task.specs), *task.there)],
            gateway=sources.gateway,
            platforms=[task.platform, "noarch"],  # type: ignore[list-item]
            virtual_packages=[_virtual(package) for package in task.hardware],
            constraints=[MatchSpec(request.text) for request in task.constraints],
            locked_packages=task.locked,
            pinned_packages=[*task.there.values()],
            exclude_newer=task.as_of,
        )


def _virtual(package: VirtualPackage) -> GenericVirtualPackage:
    return GenericVirtualPackage(PackageName(package.name), Version(package.version), BuildString(package.build))


async def _solve_or_refuse(task: Task, sources: Sources, *, blame: bool) -> list[RepoDataRecord]:
    for _ in range(_STEPS_BACK):
        try:
            return await _solve(task, sources)
        except SolverError as error:
            tree = str(error).strip()
        offers, named = task.offers, set(re.findall(r"[\w.-]+", tree))
        # Where a project has no wheel at all, an older wheel may only be one that forgot to require it.
        if offers is None or named & {*offers.missing} or not await offers.older(named):
            break
    if not blame:
        raise RefusedError("unsolvable", "\n".join(cut(readable(tree))))
    await _refuse_unknown_names(task, sources)
    raise await _blame(task, sources, tree)


async def _refuse_unknown_names(task: Task, sources: Sources) -> None:
    """Name all of them: rattler names the first package without any candidate."""
    given = task.given
    known = await (sources.beside(given) if given else sources).names(task.platform)
    unknown = [request for request in task.specs if request.name not in known]
    if not unknown:
        return
    faults = []
    for request in unknown:
        near = get_close_matches(request.name, known, n=3)
        hint = f"; near are {', '.join(near)}" if near else ""
        faults.append(f"{request.text!r}, asked for by {askers(request)}{hint}")
    raise RefusedError(
        "package-unknown",
        f"view {task.view} on {task.platform}: {', '.join(sources.places)} has no such package",
        "Correct the name; or put it under `pypi`, if PyPI has it; or take it out and say so under `gaps`.",
        faults=tuple(faults),
    )


async def _blame(task: Task, sources: Sources, tree: str) -> RefusedError:
    requests = (*task.specs, *task.constraints)
    trees: dict[frozenset[int], str] = {}

    async def solvable(chosen: frozenset[int]) -> bool:
        part = replace(
            task,
            specs=tuple(request for number, request in enumerate(task.specs) if number in chosen),
            constraints=tuple(
                request for number, request in enumerate(task.constraints, len(task.specs)) if number in chosen
            ),
            locked=(),
        )
        try:
            await _solve(part, sources)
        except SolverError as error:
            trees[chosen] = str(error).strip()
            return False
        return True

    smallest = await smallest_conflict(len(requests), solvable)
    found = [requests[number] for number in smallest]
    return refusal(task, found, trees.get(frozenset(smallest), tree), sources.left_out)
