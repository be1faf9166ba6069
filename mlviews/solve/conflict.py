"""What a solve reads, and why there is no solution: the fewest requests in conflict, in words for people.

Any set of requests that a solver refuses holds a smallest one that it already refuses. It is found without looking
into the solver: ask it about sets. Source: A. Ignatiev et al., "Smallest MUS Extraction with Minimal Hitting Set
Dualization", CP 2015.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from mlviews.errors import RefusedError
from mlviews.recipe.view import Origin, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from rattler import RepoDataRecord

    from mlviews.hardware import VirtualPackage
    from mlviews.wheels.offers import Offers


@dataclass(frozen=True, slots=True)
class Base:
    """The packages of a release that a view extends.

    Attributes:
        release: its view and name.
    """

    release: str
    records: tuple[RepoDataRecord, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that one solve reads, as rattler's own solver task holds it.

    Attributes:
        specs: packages that must be there.
        constraints: limits on packages that others pull in.
        locked: packages to keep wherever that is possible.
        as_of: leave out what was built later than this (UTC).
        base: what is there already, and stays as it is.
        offers: the wheels that may stand for what no channel has.
    """

    view: str
    platform: str
    hardware: tuple[VirtualPackage, ...]
    specs: tuple[Request, ...]
    constraints: tuple[Request, ...]
    locked: tuple[RepoDataRecord, ...] = ()
    as_of: datetime | None = None
    base: Base | None = None
    offers: Offers | None = None

    @property
    def there(self) -> dict[str, RepoDataRecord]:
        """The base's packages, by their names."""
        return {record.name.normalized: record for record in self.base.records} if self.base else {}

    @property
    def given(self) -> tuple[RepoDataRecord, ...]:
        """What may be taken besides the packages of channels: those of the base, and wheels."""
        return (*self.there.values(), *(self.offers.records() if self.offers else ()))


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


def refusal(task: Task, smallest: Sequence[Request], tree: str, left_out: Mapping[str, str]) -> RefusedError:
    """Return the error that names the requests in conflict, and who made them.

    Args:
        smallest: the fewest of its requests that are refused together.
        tree: what the solver says of these.
        left_out: archives of the channel that were left out, and why.
    """
    lines_of_tree = readable(tree)
    involved = [
        request
        for request in (*task.specs, *task.constraints)
        if request not in smallest and _stands_in(request.name, tree)
    ]
    hardware = ", ".join(f"{package.name[2:]} {_figure(package)}" for package in task.hardware[2:])
    day = f", as of {task.as_of:%Y-%m-%d}" if task.as_of else ""
    lines = [
        f"view {task.view} cannot be solved for {task.platform} with {hardware}{day}",
        "",
        *_explain(smallest),
        "",
        *cut(lines_of_tree),
    ]
    involved += _of_wheels(task, tree) + _of_base(task, tree)
    if involved:
        lines += ["", "Of the packages above, also asked for:", *(f"  {_asked(request)}" for request in involved)]
    if task.offers and (named := [why for name, why in task.offers.missing.items() if _stands_in(name, tree)]):
        lines += ["", "No wheel can stand for these:", *(f"  {why}" for why in named)]
    if left_out:
        lines += ["", "Left out of the channel:", *(f"  {archive}: {why}" for archive, why in sorted(left_out.items()))]
    return RefusedError("unsolvable", "\n".join(lines), _way_out(task, smallest, tree), detail="\n".join(lines_of_tree))


def _stands_in(name: str, tree: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", tree) is not None


def _of_wheels(task: Task, tree: str) -> list[Request]:
    """Return what wheels that the solver speaks of require of packages that it speaks of."""
    if task.offers is None:
        return []
    from mlviews.wheels.requirements import conda_depends, conda_name  # noqa: PLC0415  (only views with wheels need it)

    found: dict[str, tuple[Origin, ...]] = {}
    for one in task.offers.required:
        wheel, _, version = one.of.partition(" ")
        text = conda_depends(one.requirement)[0]
        if wheel and _stands_in(conda_name(wheel), tree) and _stands_in(text.split()[0], tree):
            found[text] = (*found.get(text, ()), Origin("wheel", f"{wheel} {version}"))
    return [Request(text, origins) for text, origins in found.items()]


def _of_base(task: Task, tree: str) -> list[Request]:
    origins = (Origin("base", task.base.release),) if task.base else ()
    named = {name: record for name, record in task.there.items() if _stands_in(name, tree)}
    return [Request(f"{name} =={record.version}", origins) for name, record in named.items()]


def _figure(package: VirtualPackage) -> str:
    return package.build if package.name == "__archspec" else package.version


def readable(tree: str) -> list[str]:
    """Write the tree's lines for people: no line twice in a row, no pattern of fifty builds."""
    lines: list[str] = []
    for line in tree.splitlines():
        short = _CUDA_PATTERN.sub(" with CUDA", line)
        if not lines or short.replace("└", "├") != lines[-1].replace("└", "├"):
            lines.append(short)
    return lines


def cut(lines: Sequence[str]) -> Sequence[str]:
    """Return as many lines as a person reads."""
    if len(lines) <= _TREE_LINES:
        return lines
    return [*lines[:_TREE_LINES], f"... {len(lines) - _TREE_LINES} more lines; -v shows them"]


NO_CUDA = ("cuda-version <0", "cudatoolkit <0")
"""Constraints that no CUDA build can meet: conda-forge ties each to one of these two."""


def _way_out(task: Task, smallest: Sequence[Request], tree: str) -> str:
    there = task.there
    if task.base and (held := [there[request.name] for request in smallest if request.name in there]):
        has = ", ".join(f"{record.name.normalized} {record.version}" for record in held)
        view = task.base.release.partition("/")[0]
        names = " ".join(f"--replace {record.name.normalized}" for record in held)
        return (
            f"{task.base.release} has {has}, which stays. Ask for another range, or take another release of {view}; "
            f"or use another version in your view only: {names}."
        )
    for_cpu = all(package.name != "__cuda" for package in task.hardware)
    if for_cpu and ("__cuda" in tree or any(request.text in NO_CUDA for request in smallest)):
        return "A package that is asked for needs a GPU: state hardware.cuda in the recipe, or ask for its CPU build."
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
    return f"{_CUDA_PATTERN.sub(' with CUDA', request.text)}  <-  {askers(request)}"


def askers(request: Request) -> str:
    """Return who asks for something, in words."""
    return " and ".join(str(origin) for origin in request.origins)
