"""Conda channels, opened for solving: a folder of repodata, a server, or a mirror that stands for one.

Repodata always carry the channel's own URLs, wherever they were read: a lock made against a mirror is everybody's lock.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from rattler import Channel, Gateway, PackageName, RepoDataRecord, SparseRepoData, Subdir, fetch_repo_data
from rattler.exceptions import FetchRepoDataError, GatewayError
from rattler.repo_data.gateway import SourceConfig

from mlviews.conda.cuda import Builds, SeenBuilds, cuda_builds
from mlviews.conda.records import site_packages_fault
from mlviews.conda.servers import (
    CERTIFICATE_HINT,
    PORTAL_HINT,
    UNKNOWN_CERTIFICATE,
    channel_folder,
    channel_url,
    hint_of_clock,
    http_client,
    mirror_servers,
)
from mlviews.errors import BadInputError, FailedError, nearest
from mlviews.files.permissions import own_part
from mlviews.files.writing import make_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from rattler.networking import Client


NOARCH = "noarch"
# What decompressing and parsing say of a page in HTML.
_NO_REPODATA = r"Unknown frame descriptor|expected value at line 1 column 1\b|bz2 header missing"
_FETCH_AGAIN = "Fetch it again; a mirror must hold whole repodata.json files."


@dataclass(frozen=True, slots=True)
class Sources:
    """Opened channels, read once and shared by every solve.

    Attributes:
        places: channel, as the site names it -> where it is read from.
        gateway: fetches what is not in a folder.
        subdirs: the conda subdirs that were opened.
        client: asks servers.
        fetched: folder for whole repodata of servers.
        left_out: archives whose records were left out, and why; see `sift`.
    """

    places: Mapping[str, str]
    gateway: Gateway
    subdirs: tuple[str, ...]
    client: Client
    fetched: Path
    _opened: dict[str, tuple[_Part, ...]]
    left_out: dict[str, str] = field(default_factory=dict)
    _seen: SeenBuilds | None = None
    _repodata: dict[tuple[str, str], list[RepoDataRecord]] = field(default_factory=dict)
    _cuda: dict[str, dict[str, Builds]] = field(default_factory=dict)

    def only(self, records: Iterable[RepoDataRecord]) -> Sources:
        """Return sources that hold these packages alone."""
        return self._with({"memory": (_InMemory(tuple(records)),)})

    def beside(self, records: Iterable[RepoDataRecord]) -> Sources:
        """Return sources that hold these packages too."""
        return self._with({"beside": (_InMemory(tuple(records)),), **self._opened})

    def noarch(self) -> Sources:
        """Return sources without the packages that are made for one platform."""
        return self._with({"noarch": tuple(_Noarch(source, self.gateway) for source in self.on(NOARCH))})

    def _with(self, opened: dict[str, tuple[_Part, ...]]) -> Sources:
        return replace(self, _opened=opened, _seen=None, _repodata={}, _cuda={})

    @property
    def sifted(self) -> bool:
        """Whether records are left out that are malformed, or that no lock can hold."""
        return all(isinstance(source, _Source) for sources in self._opened.values() for source in sources)

    async def sift(self) -> None:
        """From now on leave out each record that is malformed, or that no lock can hold.

        Not done from the start: it takes Python a look at each record, and hardly any channel has one. Of a channel on
        a server the whole repodata are fetched: the parts that rattler asks for do not tell which record is malformed.
        """
        sifted: dict[str, tuple[_Part, ...]] = {}
        for name, (first, *more) in self._opened.items():
            if isinstance(first, Channel):
                opened, files = await self._fetch(name, first)
            elif isinstance(first, SparseRepoData):
                folder = channel_folder(self.places[name])
                assert folder
                opened = {source.subdir: source for source in (first, *more) if isinstance(source, SparseRepoData)}
                files = {subdir: folder / subdir / "repodata.json" for subdir in opened}
            else:
                continue
            sifted[name] = (_Sifted(name, opened, files, self.left_out),)
        self._opened.update(sifted)
        self._repodata.clear()
        self._cuda.clear()

    async def _fetch(self, name: str, channel: Channel) -> tuple[dict[str, SparseRepoData], dict[str, Path]]:
        """Return a server's repodata as if it were a folder, and the files, by subdir; a server need not have each."""
        opened, files = {}, {}
        for subdir in self.subdirs:
            place = self.fetched / f"whole-{hashlib.sha256(channel.base_url.encode()).hexdigest()[:12]}" / subdir
            make_folder(place)
            try:
                (opened[subdir],) = await fetch_repo_data(
                    channels=[channel], platforms=[Subdir(subdir)], cache_path=place, callback=None, client=self.client
                )
            except (FetchRepoDataError, OSError) as error:
                if "repodata not found" in str(error):
                    continue
                # What came and cannot be parsed is an OSError.
                raise _unreadable({name: self.places[name]}, error, came=isinstance(error, OSError)) from error
            files[subdir] = next(path for path in place.glob("*.json") if not path.name.endswith(".info.json"))
        return opened, files

    def on(self, platform: str) -> list[_Part]:
        """Return what rattler solves from for one platform, first channel first."""
        every = (source for sources in self._opened.values() for source in sources)
        return [one for one in every if not isinstance(one, SparseRepoData) or one.subdir in {platform, NOARCH}]

    async def repodata(self, platform: str, names: Iterable[str]) -> list[RepoDataRecord]:
        """Return all that there is of the named packages for one platform, noarch ones too."""
        wanted = list(dict.fromkeys(names))
        sifted = self.sifted
        try:
            await self._load(platform, [name for name in wanted if (platform, name) not in self._repodata])
        except FailedError as error:
            if error.code != "repodata-invalid" or sifted:
                raise
            await self.sift()
            await self._load(platform, wanted)
        return [record for name in wanted for record in self._repodata[platform, name]]

    async def cuda_builds(
        self, platform: str, names: Iterable[str], *, as_of: datetime | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Return the build strings of all CUDA builds of the named packages; packages without any are left out.

        Args:
            as_of: leave out what was built later than this (UTC).
        """
        wanted = sorted(set(names))
        # A broken record makes all that was known forgotten.
        while missing := [name for name in wanted if name not in self._cuda.get(platform, {})]:
            await self.repodata(platform, missing)
            known = self._cuda.setdefault(platform, {})
            known |= {name: cuda_builds(self._repodata[platform, name]) for name in missing}
            if self._seen and not self.sifted:
                self._seen.keep(platform, known)
        latest = as_of.timestamp() * 1000 if as_of else math.inf
        known = self._cuda.get(platform, {})
        found = {name: [build for build, made in known[name].items() if made <= latest] for name in wanted}
        return {name: tuple(sorted(builds)) for name, builds in found.items() if builds}

    def recall_cuda(self, platform: str) -> None:
        """Read which CUDA builds were seen in this metadata before; to be done in a thread, beside a solve."""
        if self._seen and (known := self._seen.recall(platform)):
            self._cuda[platform] = known

    async def _load(self, platform: str, names: Sequence[str]) -> None:
        with self.reading():
            found = [
                await _load(source, [platform, NOARCH], names, self.gateway)
                for source in (self.on(platform) if names else ())
            ]
        for name in names:
            self._repodata[platform, name] = [record for loaded in found for record in loaded.get(name, ())]

    async def names(self, platform: str) -> frozenset[str]:
        """Return the names of all packages that there are for one platform, noarch ones too.

        Raises:
            FailedError: a channel cannot be read, or none has a package made for the platform.
        """
        own, shared = await self._names(platform), await self._names(NOARCH)
        if not own and not any(isinstance(source, _InMemory) for source in self.on(platform)):
            # So a server's `{"error": "..."}` looks: any JSON object may pass for repodata.
            raise FailedError(
                "repodata-invalid",
                f"{', '.join(self.places)}: the repodata for {platform} holds no package at all",
                _FETCH_AGAIN,
            )
        return own | shared

    async def _names(self, subdir: str) -> frozenset[str]:
        found: set[str] = set()
        with self.reading():
            for source in self.on(subdir):
                if not isinstance(source, SparseRepoData):
                    fetched = await self.gateway.names([source], [subdir])  # type: ignore[list-item]
                    found.update(name.normalized for name in fetched)
                elif source.subdir == subdir:
                    found.update(source.package_names())
        return frozenset(found)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what goes wrong while channels are read into errors for people."""
        try:
            yield
        except (GatewayError, FetchRepoDataError, OSError) as error:
            raise _unreadable(self.places, error) from error


async def _load(
    source: _Part, subdirs: list[str], names: Sequence[str], gateway: Gateway
) -> dict[str, list[RepoDataRecord]]:
    """Return all that one source has of the named packages."""
    if isinstance(source, SparseRepoData):
        return {name: source.load_records(name) for name in names}
    found: dict[str, list[RepoDataRecord]] = {}
    for record in chain(*await gateway.query([source], subdirs, names, recursive=False)):  # type: ignore[arg-type]
        found.setdefault(record.name.normalized, []).append(record)
    return found


@dataclass(frozen=True, slots=True)
class _InMemory:
    """Packages without a channel, as rattler asks for them (`rattler.RepoDataSource`)."""

    records: tuple[RepoDataRecord, ...]

    async def fetch_package_records(self, platform: Subdir, name: PackageName) -> list[RepoDataRecord]:
        return [r for r in self.records if (r.subdir, r.name.normalized) == (str(platform), name.normalized)]

    def package_names(self, platform: Subdir) -> list[str]:
        return sorted({record.name.normalized for record in self.records if record.subdir == str(platform)})


@dataclass(frozen=True, slots=True)
class _Noarch:
    """What a channel has for every platform, as rattler asks for it (`rattler.RepoDataSource`)."""

    source: _Part
    gateway: Gateway

    async def fetch_package_records(self, platform: Subdir, name: PackageName) -> list[RepoDataRecord]:
        if str(platform) != NOARCH:
            return []
        found = await _load(self.source, [NOARCH], [name.normalized], self.gateway)
        return [record for record in found.get(name.normalized, ()) if not record_fault(record)]

    def package_names(self, platform: Subdir) -> list[str]:
        return (
            self.source.package_names() if str(platform) == NOARCH and isinstance(self.source, SparseRepoData) else []
        )


def record_fault(record: RepoDataRecord) -> str:
    """Say why no lock can hold a package of a channel; empty where one can."""
    if record.md5 is None or record.sha256 is None:
        return "the channel gives no md5 and sha256 for it, and a lock needs both"
    label = f"{record.name.normalized}-{record.version}-{record.build}"
    if record.file_name not in {f"{label}.conda", f"{label}.tar.bz2"}:
        return f"the channel says that it is {label}"
    return site_packages_fault(record.python_site_packages_path)


@dataclass(frozen=True, slots=True)
class _Sifted:
    """A channel without the records that no lock can hold, as rattler asks for them (`rattler.RepoDataSource`)."""

    channel: str
    source: Mapping[str, SparseRepoData]
    files: Mapping[str, Path]
    left_out: dict[str, str]
    _whole: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def fetch_package_records(self, platform: Subdir, name: PackageName) -> list[RepoDataRecord]:
        subdir = str(platform)
        if subdir not in self.source:
            return []
        try:
            found = self.source[subdir].load_records(name)
        except OSError:
            found = self._one_by_one(subdir, name)
        faults = {record.file_name: fault for record in found if (fault := record_fault(record))}
        self.left_out.update(faults)
        return [record for record in found if record.file_name not in faults]

    def package_names(self, platform: Subdir) -> list[str]:
        return self.source[str(platform)].package_names() if str(platform) in self.source else []

    def _one_by_one(self, subdir: str, name: PackageName) -> list[RepoDataRecord]:
        """Load what can be loaded of a package, of which some record is malformed: rattler itself tells which."""
        if subdir not in self._whole:
            self._whole[subdir] = json.loads(self.files[subdir].read_bytes())
        tables = {key: self._whole[subdir].get(key) or {} for key in ("packages", "packages.conda")}
        own = {  # a package's name is the first part of its archive's (CEP 26)
            key: {file: record for file, record in table.items() if file.rsplit("-", 2)[0] == name.normalized}
            for key, table in tables.items()
        }
        sound: dict[str, dict[str, Any]] = {key: {} for key in own}
        for key, table in own.items():
            for file, record in table.items():
                try:
                    self._load({key: {file: record}}, subdir, name)
                    sound[key][file] = record
                except OSError as error:
                    self.left_out[file] = f"its record is malformed: {str(error).partition(' at line ')[0]}"
        return self._load(sound, subdir, name)

    def _load(self, tables: Mapping[str, Any], subdir: str, name: PackageName) -> list[RepoDataRecord]:
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump({"info": {"subdir": subdir}, "packages": {}, **tables}, file)
            file.flush()
            return SparseRepoData(Channel(self.channel), subdir, file.name).load_records(name)


_Source = _InMemory | _Noarch | _Sifted
_Part = SparseRepoData | Channel | _Source
"""What rattler solves from: a subdir of a folder, a server, or packages that are in memory."""


def _unreadable(places: Mapping[str, str], error: BaseException, *, came: bool = False) -> FailedError:
    text = str(error)
    broken = came or "sparse repodata" in text or "parse" in text
    named = [channel for channel, place in places.items() if place.rstrip("/") in text] or list(places)
    which = ", ".join(named)
    if UNKNOWN_CERTIFICATE in text:
        why = text.rpartition("Caused by: ")[2]
        hint = hint_of_clock(why, CERTIFICATE_HINT)
        return FailedError("certificate-unknown", f"channel {which} cannot be trusted: {why}", hint)
    if re.search(_NO_REPODATA, text):
        return FailedError(
            "repodata-invalid", f"channel {which} does not answer with repodata", PORTAL_HINT, detail=text
        )
    if broken:
        return FailedError("repodata-invalid", f"the repodata of channel {which} is broken: {text}", _FETCH_AGAIN)
    return FailedError(
        "channel-unreachable",
        f"channel {which} cannot be reached: {text.rpartition('Caused by: ')[2]}",
        f"Use a mirror with --mirror {named[0]}=FOLDER_OR_URL, or try mlviews without conda: --site pypi.",
        detail=text,
    )


def open_sources(
    channels: Sequence[str], platforms: Iterable[str], *, mirrors: Mapping[str, str], cache: Path
) -> Sources:
    """Open channels for solving; servers are asked only when a solve needs them.

    Args:
        channels: names, URLs or folders, first priority first.
        platforms: the conda subdirs to be solved; ``noarch`` is always opened.
        mirrors: channel -> folder or URL that it is read from.
        cache: folder for fetched repodata.

    Raises:
        FailedError: a folder lacks a repodata.json, or it cannot be parsed.
        BadInputError: a mirror names a channel that is not used, or a channel is no channel.
    """
    if unknown := [name for name in mirrors if name not in channels]:
        raise BadInputError(
            "mirror-unknown",
            f"--mirror names {unknown[0]!r}, which is not a channel of this site{nearest(unknown[0], channels)}",
            f"The site's channels are: {', '.join(channels) or 'none'}.",
        )
    subdirs = tuple(dict.fromkeys([*platforms, NOARCH]))
    opened: dict[str, tuple[_Part, ...]] = {}
    metadata: dict[str, list[tuple[Path, os.stat_result]]] = {subdir: [] for subdir in subdirs}
    servers = mirror_servers(mirrors)
    for name in channels:
        url = channel_url(name)
        near = name in mirrors or url.startswith("file://")
        if (folder := channel_folder(mirrors.get(name, name)) if near else None) is None:
            opened[name] = (Channel(name),)
            continue
        for subdir in subdirs:
            with suppress(OSError):  # `_open_folder` says it
                metadata[subdir].append((path := folder / subdir / "repodata.json", path.stat()))
        opened[name] = tuple(_open_folder(Channel(name), name, subdir, folder) for subdir in subdirs)
    # Sharded repodata trips over the way a plain file server answers (conda/rattler#2719).
    mirrored = {url: SourceConfig(sharded_enabled=False) for url in servers}
    # Of a channel on a server nobody tells the state of its metadata as a whole.
    local = not any(isinstance(source, Channel) for source in chain(*opened.values()))
    client, fetched = http_client(servers), cache / "repodata" if local else own_part(cache / "repodata")
    gateway = Gateway(cache_dir=fetched, client=client, per_channel_config=mirrored)
    places = {name: mirrors.get(name, channel_url(name)) for name in channels}
    places |= {name: servers[url].url for name in channels if (url := channel_url(name).rstrip("/")) in servers}
    seen = SeenBuilds(places, metadata) if local else None
    return Sources(places, gateway, subdirs, client, fetched, opened, _seen=seen)


def _open_folder(channel: Channel, name: str, subdir: str, folder: Path) -> SparseRepoData:
    path = folder / subdir / "repodata.json"
    if not path.is_file():
        raise FailedError(
            "channel-unreachable",
            f"channel {name} cannot be read: there is no {path}",
            f"Name another folder or URL with --mirror {name}=LOCATION, or try --site pypi.",
        )
    try:
        return SparseRepoData(channel, subdir, path)
    except OSError as error:
        raise FailedError(
            "repodata-invalid", f"channel {name}: {path} is not repodata: {error}", _FETCH_AGAIN
        ) from error
