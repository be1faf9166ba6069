"""The wheels that a solve may take beside a channel's packages: looked up as far as they are needed, none fetched.

A channel's package goes before a wheel wherever one fits: whoever solves says whether one does (`Lacks`). Each wheel
becomes repodata as its package will be (`mlviews.wheels.convert`), and what it requires is looked up in turn. pip alone
talks to indexes, and says of each project which wheel is the newest that fits; an older one is looked up where the
newer one is in the way of a solution. What an index said of a wheel is kept by the wheel's sha256. Of a few projects
that have no wheel, and that the recipe names, one is built of their sources (`mlviews.wheels.sdist`).
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pydantic_core import to_json
from rattler import BuildString, PackageRecord, RepoDataRecord

from mlviews.errors import FailedError
from mlviews.files.reading import content
from mlviews.files.writing import make_folder, write_atomically
from mlviews.progress import Progress, silent
from mlviews.wheels.convert import Offer, PackagePlan, plan_extra, plan_package, plan_wheel, requirements_for
from mlviews.wheels.cuda import is_cuda_project
from mlviews.wheels.loosen import loosened
from mlviews.wheels.made import Made, file_of, made_text, read_made
from mlviews.wheels.pip import Found, list_versions, look_up, look_up_sources
from mlviews.wheels.requirements import EXTRA, conda_depends, conda_name, conda_version, extra_name
from mlviews.wheels.wheel import BadWheelError, Stated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.metadata import RawMetadata

    from mlviews.wheels.target import Target

    Lacks = Callable[[str, str], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Required:
    """A requirement and who has it: ``puma-hep 0.5.3``; empty where it is the recipe."""

    requirement: Requirement
    of: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """A wheel of a solution, and what it requires there: markers that do not hold and extras of nobody are left out."""

    offer: Offer
    requires: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """The indexes that pip is configured for, and what is kept of what they said.

    Attributes:
        folder: what was said of each wheel, by its sha256.
        cache: the site's, which keeps wheels that were built.
    """

    folder: Path
    cache: Path
    progress: Progress = silent

    def newest(self, requirements: Sequence[Requirement], target: Target) -> tuple[Offer, ...]:
        """Return the newest wheel of each project that there is for the target.

        Raises:
            FailedError: as `mlviews.wheels.pip.look_up`, or ``bad-wheel``.
        """
        with self.progress("Looking up wheels") as advance:
            found = look_up(requirements, target, advance)
        return tuple(self._keep(wheel, metadata) for wheel, metadata in found)

    def versions(self, project: str, target: Target, *, sources: bool = False) -> tuple[Version, ...]:
        """Return the versions of a project that the target can have, pre-releases left out.

        Args:
            sources: whether those count, too, of which there are sources alone.

        Raises:
            FailedError: as `mlviews.wheels.pip.list_versions`.
        """
        with self.progress("Looking up wheels") as advance:
            return tuple(map(Version, list_versions(project, target, advance, sources=sources)))

    def built(self, requirement: Requirement, target: Target) -> Offer | None:
        """Return the newest sources that meet a requirement, with what the wheel says that is built of them.

        Raises:
            FailedError: as `mlviews.wheels.pip.look_up_sources` and `mlviews.wheels.sdist.build_wheel`.
        """
        from mlviews.wheels.sdist import build_wheel, built_before  # noqa: PLC0415  (few views need it)

        with self.progress("Looking up sources") as advance:
            sdist = look_up_sources(requirement, target, advance)
        if sdist is None:
            return None
        kept = self.kept(sdist.url, sdist.sha256)
        if kept and kept.made and built_before(self.cache, kept.made):
            return kept
        _, made, said = build_wheel(sdist, self.cache, progress=self.progress)
        return self._keep(sdist, said.raw, made)

    def kept(self, url: str, sha256: str) -> Offer | None:
        """Return a wheel of which is known what it says; None where it is not."""
        text = content(self.folder / f"{sha256}.json")
        try:
            return None if text is None else _offer(url, sha256, json.loads(text))
        except (ValueError, TypeError, AttributeError, FailedError):
            return None  # it is looked up again

    def _keep(self, wheel: Found, metadata: Mapping[str, Any], made: Made | None = None) -> Offer:
        more = {"made": made_text({"": made})} if made else {}
        offer = _offer(wheel.url, wheel.sha256, {**metadata, **more})
        make_folder(self.folder)
        write_atomically(self.folder / f"{wheel.sha256}.json", to_json({**offer.said.raw, **more}).decode())
        return offer


def _offer(url: str, sha256: str, said: Mapping[str, Any]) -> Offer:
    file = file_of(url)
    try:
        made = read_made(said.get("made")).get("")
        name, version, _, tags = parse_wheel_filename(made.wheel if made else file)
        stated = Stated.read(cast("RawMetadata", said), name, version)
    except (BadWheelError, InvalidWheelFilename) as error:
        raise FailedError("bad-wheel", f"{file} cannot be used: {error}", "Choose another version.") from error
    return Offer(url=url, sha256=sha256, said=stated, tags=tags, made=made)


@dataclass(slots=True)
class Offers:
    """What was looked up for one solve.

    Attributes:
        target: what the wheels must fit.
        index: where they are looked up.
        lacks: tells of a conda package and a range of versions whether a wheel may stand for it: none there fits.
        channel: URL of the channel whose priority the wheels share.
        overrides: (project, wheel that requires it) -> the versions that serve.
        kept: wheels of an earlier lock: nothing newer is looked up where one of these fits.
        sdists: projects that are built of their sources where they have no wheel.
        missing: projects of which no wheel may be taken, and why.
    """

    target: Target
    index: Index
    lacks: Lacks
    channel: str
    overrides: Mapping[tuple[NormalizedName, NormalizedName], SpecifierSet] = field(default_factory=dict)
    kept: Sequence[Offer] = ()
    sdists: frozenset[NormalizedName] = frozenset()
    missing: dict[NormalizedName, str] = field(default_factory=dict)
    _offers: dict[NormalizedName, list[Offer]] = field(default_factory=dict)
    _asked: dict[NormalizedName, SpecifierSet] = field(default_factory=dict)
    _required: dict[Required, None] = field(default_factory=dict)
    _read: set[tuple[str, str]] = field(default_factory=set)
    _of_channel: dict[tuple[NormalizedName, str], Offer | None] = field(default_factory=dict)

    def give(self, offers: Sequence[Offer]) -> tuple[str, ...]:
        """Offer wheels that are there, and no others of these projects; return what asks for them."""
        self._offers |= {offer.name: [offer] for offer in offers}
        return tuple(f"{offer.name}=={offer.version}" for offer in offers)

    async def look_up(self, requirements: Iterable[Requirement]) -> None:
        """Look up what these need and what that needs, where the channel has none that fits.

        Raises:
            FailedError: as for `Index.newest`.
        """
        new = [Required(requirement=requirement) for requirement in requirements]
        while new:
            new = [one for one in dict.fromkeys(new) if one not in self._required]
            self._required |= dict.fromkeys(new)
            wanted: dict[NormalizedName, SpecifierSet] = {}
            for one in new:
                if not self._has(one.requirement) and await self._lacks(one.requirement):
                    name = canonicalize_name(one.requirement.name)
                    wanted[name] = wanted.get(name, SpecifierSet()) & one.requirement.specifier
            await self._take(wanted)
            await self._look_up_extras_of_channel(new)
            new = [*self._unread()]

    async def older(self, names: Iterable[str]) -> bool:
        """Look up the next older wheel of each of these conda packages, and what it needs; tell whether there is any.

        Raises:
            FailedError: as for `Index.newest`.
        """
        named = {*names}
        wanted = {
            name: self._asked[name] & SpecifierSet(f"<{min(offer.version for offer in offers)}")
            for name, offers in self._offers.items()
            if offers and conda_name(name) in named
        }
        before = self._count()
        await self._take(wanted)
        unread = [*self._unread()]
        await self.look_up(one.requirement for one in unread)
        return self._count() > before

    @property
    def required(self) -> tuple[Required, ...]:
        """Every requirement that was looked at, for whoever has to say why there is no solution."""
        return tuple(self._required)

    def records(self) -> tuple[RepoDataRecord, ...]:
        """Return the wheels as repodata, and packages without files that stand for extras."""
        offers = [offer for found in self._offers.values() for offer in found]
        wheels = [(plan_wheel(offer, self.target), offer.url) for offer in offers]
        extras = [plan_extra(offer.said, self.target, extra) for offer in offers for extra in self._extras(offer.name)]
        extras += [self._plan_of_channel(name, extra, offer) for (name, extra), offer in self._of_channel.items()]
        return tuple(_record(plan, url, self.channel) for plan, url in (*wheels, *((plan, "") for plan in extras)))

    def taken(self, records: Iterable[RepoDataRecord]) -> tuple[Taken, ...]:
        """Return the wheels among the packages of a solution."""
        by_url = {offer.url: offer for offers in self._offers.values() for offer in offers}
        chosen = (by_url[record.url] for record in records if record.url in by_url)
        return tuple(Taken(offer=offer, requires=self._all_needed(offer)) for offer in chosen)

    def _count(self) -> int:
        return sum(map(len, self._offers.values()))

    def _has(self, requirement: Requirement) -> bool:
        offers = self._offers.get(canonicalize_name(requirement.name), ())
        return any(requirement.specifier.contains(offer.version, prereleases=True) for offer in offers)

    async def _lacks(self, requirement: Requirement) -> bool:
        return await self.lacks(conda_name(requirement.name), conda_depends(requirement)[0].partition(" ")[2])

    async def _take(self, wanted: dict[NormalizedName, SpecifierSet]) -> None:
        """Offer the newest wheel of each project in a range of versions, or the one that is kept."""
        for name, asked in wanted.items():
            self._asked.setdefault(name, asked)
        kept = {
            offer.name: offer
            for offer in self.kept
            if offer.name in wanted
            and offer.tags & self.target.tags
            and wanted[offer.name].contains(offer.version, prereleases=True)
        }
        lines = [Requirement(f"{name}{asked}") for name, asked in wanted.items() if name not in kept]
        # pip is a process: other views go on meanwhile.
        found = await asyncio.to_thread(self.index.newest, lines, self.target) if lines else ()
        found += await self._built([line for line in lines if line.name not in {offer.name for offer in found}])
        for line in lines:
            name = canonicalize_name(line.name)
            if name not in self._offers and name not in {offer.name for offer in found}:
                fits = f"for Python {self.target.minor} on {self.target.subdir}"
                self.missing[name] = f"the index has no wheel of {line} {fits}"
        for offer in (*kept.values(), *found):
            known = self._offers.setdefault(offer.name, [])
            if self._brings_cuda(offer):
                self.missing[offer.name] = f"the wheel of {offer.name} {offer.version} brings a CUDA of its own"
            elif offer.sha256 not in {one.sha256 for one in known}:
                known.append(self._loosened(offer))

    async def _built(self, lines: Iterable[Requirement]) -> tuple[Offer, ...]:
        sources = (line for line in lines if line.name in self.sdists)
        found = [await asyncio.to_thread(self.index.built, line, self.target) for line in sources]
        return tuple(offer for offer in found if offer)

    def _brings_cuda(self, offer: Offer) -> bool:
        """Tell whether a wheel is a part of CUDA, or asks for one; what an extra asks for is judged by itself."""
        needed = requirements_for(offer.said, self.target)
        return is_cuda_project(offer.name) or any(is_cuda_project(line.name) for line in needed)

    def _loosened(self, offer: Offer) -> Offer:
        requires = tuple(loosened(line, offer.name, self.overrides) for line in offer.said.requires)
        return replace(offer, said=replace(offer.said, requires=requires))

    def _unread(self) -> Iterator[Required]:
        """Yield what wheels need that were not looked at so far, and what those extras add that something asks for."""
        for offers in [*self._offers.values()]:
            for offer in offers:
                for extra in ("", *self._extras(offer.name)):
                    if (offer.sha256, extra) not in self._read:
                        self._read.add((offer.sha256, extra))
                        yield from self._needed(offer, extra)
        for (_, extra), said in self._of_channel.items():
            if said and (said.sha256, extra) not in self._read:
                self._read.add((said.sha256, extra))
                yield from self._needed(said, extra)

    def _extras(self, name: NormalizedName) -> tuple[str, ...]:
        asked = (one.requirement for one in self._required if canonicalize_name(one.requirement.name) == name)
        return tuple(dict.fromkeys(str(canonicalize_name(extra)) for line in asked for extra in sorted(line.extras)))

    def _needed(self, offer: Offer, extra: str = "") -> tuple[Required, ...]:
        of = f"{offer.name} {offer.version}"
        return tuple(Required(requirement=line, of=of) for line in requirements_for(offer.said, self.target, extra))

    async def _look_up_extras_of_channel(self, required: Sequence[Required]) -> None:
        """Conda has no extras: what one of a package of the channel needs, the newest wheel of it says."""
        for one in required:
            name = canonicalize_name(one.requirement.name)
            for extra in map(canonicalize_name, sorted(one.requirement.extras)):
                if name not in self._offers and (name, extra) not in self._of_channel:
                    line = Requirement(f"{name}{one.requirement.specifier}")
                    found = await asyncio.to_thread(self.index.newest, [line], self.target)
                    self._of_channel[name, extra] = self._loosened(found[0]) if found else None

    def _plan_of_channel(self, name: NormalizedName, extra: str, offer: Offer | None) -> PackagePlan:
        own = conda_name(name)
        depends = plan_extra(offer.said, self.target, extra).index["depends"] if offer else []
        index = {
            "name": extra_name(name, extra),
            "version": conda_version(offer.version) if offer else "0",
            "subdir": self.target.subdir,
            "depends": [own, *(text for text in depends if text.split()[0] != own)],
        }
        return plan_package(index, build="", content="")

    def _all_needed(self, offer: Offer) -> tuple[Requirement, ...]:
        needed = (one for extra in ("", *self._extras(offer.name)) for one in self._needed(offer, extra))
        return tuple(dict.fromkeys(one.requirement for one in needed))


def is_stand_in(record: RepoDataRecord) -> bool:
    """Tell whether a package stands for an extra: it has no files, and no lock holds it."""
    return EXTRA in record.name.normalized


def _record(plan: PackagePlan, url: str, channel: str) -> RepoDataRecord:
    index = plan.index
    record = PackageRecord(
        index["name"], index["version"], BuildString(index["build"]), 0, index["subdir"], depends=list(index["depends"])
    )
    file = plan.archive.rpartition("/")[2]
    return RepoDataRecord(record, file, url or f"{channel}/{plan.archive}", channel)
