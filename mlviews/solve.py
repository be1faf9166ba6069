"""Spec -> packages: one solve for a view on a platform, the rule that keeps CUDA where it belongs, and whom to blame.

Any set of requests that a solver refuses holds a smallest one that it already refuses. It is found without looking
into the solver: ask it about sets. Source: A. Ignatiev et al., "Smallest MUS Extraction with Minimal Hitting Set
Dualization", CP 2015.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import combinations
from typing import TYPE_CHECKING

from rattler import BuildString, GenericVirtualPackage, MatchSpec, PackageName, RepoDataRecord, Version
from rattler import solve as rattler_solve
from rattler.exceptions import SolverError

from mlviews.conda.channels import is_cuda_build, record_fault
from mlviews.errors import FailedError, RefusedError
from mlviews.recipe.compose import Origin, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from mlviews.conda.channels import Sources
    from mlviews.hardware import VirtualPackage
    from mlviews.recipe.compose import ViewSpec

__all__ = ["Solution", "smallest_conflict", "solve"]


_Set = frozenset[int]


async def smallest_conflict(count: int, solvable: Callable[[_Set], Awaitable[bool]]) -> tuple[int, ...]:
    """Return the numbers of the fewest requests that are refused together.

    Args:
        count: how many requests there are, numbered from 0; all together they are refused.
        solvable: asks the solver about a set of requests. It must be monotone: part of a solvable set is solvable.
    """
    everything = frozenset(range(count))
    known: dict[_Set, bool] = {everything: False}

    async def ask(chosen: _Set) -> bool:
        if chosen not in known:
            known[chosen] = await solvable(chosen)
        return known[chosen]

    async def absorb(base: _Set, more: Sequence[int]) -> _Set:
        """Grow a solvable set to one that bears no further request."""
        if not more or await ask(base | frozenset(more)):
            return base | frozenset(more)
        if len(more) == 1:
            return base
        half = len(more) // 2
        return await absorb(await absorb(base, more[:half]), more[half:])

    # Every refused set holds at least one request of each correction. So the smallest set that hits them all is either
    # the answer or solvable, and then shows a further correction.
    corrections: list[_Set] = []
    while True:
        candidate = _smallest_hitting_set(corrections)
        if not await ask(candidate):
            return tuple(sorted(candidate))
        corrections.append(everything - await absorb(candidate, sorted(everything - candidate)))


def _smallest_hitting_set(sets: Sequence[_Set]) -> _Set:
    elements = sorted(frozenset[int]().union(*sets))
    for size in range(len(elements) + 1):
        for chosen in combinations(elements, size):
            if all(not group.isdisjoint(chosen) for group in sets):
                return frozenset(chosen)
    raise ValueError("an empty set cannot be hit")


_CUDA_PATTERN = re.compile(r' ?\[build="\^\([^"]*\)\$"\]')
_TREE_LINES = 40


@dataclass(frozen=True, slots=True)
class _Task:
    """Everything that one solve reads, as rattler's own solver task holds it.

    Attributes:
        specs: packages that must be there.
        constraints: limits on packages that others pull in.
        locked: packages to keep wherever that is possible.
        as_of: leave out what was built later than this (UTC).
    """

    view: str
    platform: str
    hardware: tuple[VirtualPackage, ...]
    specs: tuple[Request, ...]
    constraints: tuple[Request, ...]
    locked: tuple[RepoDataRecord, ...] = ()
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """The packages of one view on one platform, sorted by name."""

    platform: str
    packages: tuple[RepoDataRecord, ...]


async def solve(
    spec: ViewSpec,
    platform: str,
    sources: Sources,
    *,
    locked: Iterable[RepoDataRecord] = (),
    as_of: datetime | None = None,
    blame: bool = True,
) -> Solution:
    """Find the packages of a view for one platform.

    With ``hardware.cuda``, every package of which the channel has CUDA builds gets one, unless ``cpu-only`` names it
    (with ``*`` for any letters); without, none does.

    Args:
        spec: the view.
        platform: the conda subdir to solve for.
        sources: where packages are looked up.
        locked: packages to keep wherever that is possible.
        as_of: leave out what was built later than this (UTC).
        blame: where there is no solution, look for the smallest set of requests in conflict, by many more solves.

    Raises:
        RefusedError: no set of packages fits; the message names the requests in conflict and who made them.
        FailedError: a channel cannot be read.
    """
    cuda = spec.hardware.cuda is not None
    task = _Task(
        view=spec.name,
        platform=platform,
        hardware=spec.hardware.virtual_packages(platform),
        specs=spec.dependencies,
        constraints=spec.constraints if cuda else (*spec.constraints, *_no_cuda(spec)),
        locked=tuple(locked),
        as_of=as_of,
    )
    records = await _solve_or_refuse(task, sources, blame=blame)
    if cuda:
        # Choosing a CUDA build can bring in further packages that have CUDA builds too.
        while more := await _cuda_constraints(spec, records, task, sources):
            task = replace(task, constraints=(*task.constraints, *more))
            records = await _solve_or_refuse(task, sources, blame=blame)
    elif found := [record.name.normalized for record in records if is_cuda_build(record)]:
        raise RefusedError(
            "cuda-in-cpu-view",
            f"view {spec.name} states no hardware.cuda, but would lock CUDA builds of {', '.join(sorted(found))}",
            "Constrain them to CPU builds, or state hardware.cuda.",
        )
    return Solution(platform, tuple(sorted(records, key=lambda record: record.name.normalized)))


def _no_cuda(spec: ViewSpec) -> tuple[Request, ...]:
    """Return constraints that no CUDA build can meet: conda-forge ties each to one of these two."""
    why = Origin("rule", f"{spec.name} states no hardware.cuda, so it holds no CUDA build")
    return tuple(Request(f"{name} <0", (why,)) for name in ("cuda-version", "cudatoolkit"))


async def _cuda_constraints(
    spec: ViewSpec, records: Sequence[RepoDataRecord], task: _Task, sources: Sources
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


async def _solve(task: _Task, sources: Sources) -> list[RepoDataRecord]:
    """Solve; where a record is in the way that is malformed or that no lock can hold, once more without such."""
    sifted = sources.sifted
    try:
        found = await _solve_once(task, sources)
        if sifted or not any(map(record_fault, found)):
            return found
    except FailedError as error:
        if error.code != "repodata-invalid" or sifted:
            raise
    await sources.sift()
    return await _solve_once(task, sources)


async def _solve_once(task: _Task, sources: Sources) -> list[RepoDataRecord]:
    with sources.reading():
        return await rattler_solve(
            sources.on(task.platform),
            [MatchSpec(request.text) for request in task.specs],
            gateway=sources.gateway,
            platforms=[task.platform, "noarch"],  # type: ignore[list-item]
            virtual_packages=[_virtual(package) for package in task.hardware],
            constraints=[MatchSpec(request.text) for request in task.constraints],
            locked_packages=task.locked,
            exclude_newer=task.as_of,
        )


def _virtual(package: VirtualPackage) -> GenericVirtualPackage:
    return GenericVirtualPackage(PackageName(package.name), Version(package.version), BuildString(package.build))


async def _solve_or_refuse(task: _Task, sources: Sources, *, blame: bool) -> list[RepoDataRecord]:
    try:
        return await _solve(task, sources)
    except SolverError as error:
        tree = str(error).strip()
    if not blame:
        raise RefusedError("unsolvable", "\n".join(_cut(_readable(tree))))
    await _refuse_unknown_names(task, sources)
    raise await _blame(task, sources, tree)


async def _refuse_unknown_names(task: _Task, sources: Sources) -> None:
    """Name all of them: rattler names the first package without any candidate."""
    known = await sources.names(task.platform)
    unknown = [request for request in task.specs if request.name not in known]
    if not unknown:
        return
    faults = []
    for request in unknown:
        near = get_close_matches(request.name, known, n=3)
        hint = f"; near are {', '.join(near)}" if near else ""
        faults.append(f"{request.text!r}, asked for by {_askers(request)}{hint}")
    raise RefusedError(
        "package-unknown",
        f"view {task.view} on {task.platform}: {', '.join(sources.places)} has no such package",
        "Correct the name, or take the package out and name it under `gaps` with the reason.",
        faults=tuple(faults),
    )


async def _blame(task: _Task, sources: Sources, tree: str) -> RefusedError:
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
    return _refusal(task, found, trees.get(frozenset(smallest), tree), sources.left_out)


def _refusal(task: _Task, smallest: Sequence[Request], tree: str, left_out: Mapping[str, str]) -> RefusedError:
    readable = _readable(tree)
    involved = [
        request
        for request in (*task.specs, *task.constraints)
        if request not in smallest and re.search(rf"(?<![\w.-]){re.escape(request.name)}(?![\w.-])", tree)
    ]
    hardware = ", ".join(f"{package.name[2:]} {_figure(package)}" for package in task.hardware[2:])
    day = f", as of {task.as_of:%Y-%m-%d}" if task.as_of else ""
    lines = [
        f"view {task.view} cannot be solved for {task.platform} with {hardware}{day}",
        "",
        *_explain(smallest),
        "",
        *_cut(readable),
    ]
    if involved:
        lines += ["", "Of the packages above, also asked for:", *(f"  {_asked(request)}" for request in involved)]
    if left_out:
        lines += ["", "Left out of the channel:", *(f"  {archive}: {why}" for archive, why in sorted(left_out.items()))]
    return RefusedError("unsolvable", "\n".join(lines), _way_out(smallest), detail="\n".join(readable))


def _figure(package: VirtualPackage) -> str:
    return package.build if package.name == "__archspec" else package.version


def _readable(tree: str) -> list[str]:
    """Write the tree's lines for people: no line twice in a row, no pattern of fifty builds."""
    lines: list[str] = []
    for line in tree.splitlines():
        short = _CUDA_PATTERN.sub(" with CUDA", line)
        if not lines or short.replace("└", "├") != lines[-1].replace("└", "├"):
            lines.append(short)
    return lines


def _cut(lines: Sequence[str]) -> Sequence[str]:
    if len(lines) <= _TREE_LINES:
        return lines
    return [*lines[:_TREE_LINES], f"... {len(lines) - _TREE_LINES} more lines; -v shows them"]


def _way_out(smallest: Sequence[Request]) -> str:
    ruled = [request.name for request in smallest if _CUDA_PATTERN.search(request.text)]
    if not ruled:
        return "Loosen or take out one of these requests."
    return f"Name {' or '.join(ruled)} under cpu-only, with the reason, or loosen one of the other requests."


def _explain(smallest: Sequence[Request]) -> list[str]:
    if len(smallest) == 1:
        return ["This request cannot be met, whatever else the view holds:", f"  {_asked(smallest[0])}"]
    return [
        f"These {len(smallest)} requests cannot stand together; no smaller set of the view's requests is in conflict:",
        *(f"  {_asked(request)}" for request in smallest),
    ]


def _asked(request: Request) -> str:
    return f"{_CUDA_PATTERN.sub(' with CUDA', request.text)}  <-  {_askers(request)}"


def _askers(request: Request) -> str:
    return " and ".join(str(origin) for origin in request.origins)
