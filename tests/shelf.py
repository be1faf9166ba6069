"""A channel of archives that really install, for every test that builds; written with nothing of mlviews' own."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Content = str | bytes

PLACEHOLDER = "/opt/placehold" + "_placehold" * 24
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE_PACKAGES = f"lib/python{MINOR}/site-packages"


@dataclass(frozen=True)
class Shelf:
    """A conda channel's folder that packages are put into; written with nothing of mlviews' own."""

    folder: Path
    _index: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: {"linux-64": {}, "linux-aarch64": {}, "noarch": {}}
    )

    def add(
        self,
        name: str,
        version: str = "1.0",
        *,
        build: str = "h0_0",
        subdir: str = "noarch",
        depends: tuple[str, ...] = (),
        files: Mapping[str, Content] | None = None,
        links: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        entry_points: tuple[str, ...] = (),
        requires: tuple[str, ...] = (),
        ending: str = ".conda",
        modes: Mapping[str, int] | None = None,
        unlisted: bool = False,
        no_link: tuple[str, ...] = (),
        claims: Mapping[str, str] | None = None,
        **keys: Any,
    ) -> Path:
        """Put a package into the channel.

        ``modules`` makes it ``noarch: python``, and ``requires`` what pip reads of it. A file that holds the
        placeholder has it replaced by the prefix; one under ``bin/`` is executable, unless ``modes`` says otherwise.
        An ``unlisted`` package has no ``paths.json``, as those of 2018; ``claims`` are wrong checksums in it.
        """
        contents: dict[str, Content] = {**(files or {})}
        index = {"name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends)}
        index |= {"constrains": [], "license": "BSD-3-Clause", "subdir": subdir, "timestamp": 1735689600000, **keys}
        if subdir == "noarch":
            index["noarch"] = "python" if modules else "generic"
        if modules:
            index["depends"].append("python")
            contents |= {f"site-packages/{module}.py": source for module, source in modules.items()}
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            metadata += "".join(f"Requires-Dist: {text}\n" for text in requires)
            contents[f"site-packages/{name}-{version}.dist-info/METADATA"] = metadata
        stem = f"{name}-{version}-{build}"
        archive = self.folder / subdir / f"{stem}{ending}"
        archive.parent.mkdir(parents=True, exist_ok=True)
        about = _about(index, contents, links or {}, entry_points=entry_points, unlisted=unlisted, no_link=no_link)
        for path in about.get("info/paths.json", {}).get("paths", ()):
            path["sha256"] = (claims or {}).get(path["_path"], path["sha256"])
        archive.write_bytes(_pack(stem, about, contents, links or {}, modes=modes or {}, ending=ending))
        self._list(archive, index)
        return archive

    def put(self, archive: Path, index: Mapping[str, Any]) -> None:
        """Put an archive that is there already into the channel."""
        self._list(Path(shutil.copy(archive, self.folder / index["subdir"])), index)

    def patch(self, name: str, **keys: Any) -> None:
        """Change what the channel says of a package, and not the package, as conda-forge's repodata patches do."""
        for table in self._index.values():
            for record in table.values():
                record.update(keys if record["name"] == name else {})
        self._write()

    def _list(self, archive: Path, index: Mapping[str, Any]) -> None:
        packed = archive.read_bytes()
        sums = {"md5": hashlib.md5(packed).hexdigest(), "sha256": hashlib.sha256(packed).hexdigest()}
        self._index[index["subdir"]][archive.name] = {**index, **sums, "size": len(packed)}
        self._write()

    def _write(self) -> None:
        for name, index in self._index.items():
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            tables = {
                key: {file: record for file, record in index.items() if file.endswith(ending)}
                for key, ending in (("packages", ".tar.bz2"), ("packages.conda", ".conda"))
            }
            content = {"info": {"subdir": name}, **tables, "repodata_version": 1}
            (self.folder / name / "repodata.json").write_text(json.dumps(content))

    def archive(self, name: str) -> Path:
        """Return a package's archive."""
        return next(self.folder.glob(f"*/{name}-[0-9]*"))

    def add_python(self, *, free_threaded: bool = False) -> None:
        """Add a ``python`` that is the tests' own, with the package's folder as its prefix (as in a venv, PEP 405).

        A free-threaded one has its modules where such a Python has them, and says so.
        """
        host = Path(sys._base_executable).resolve()
        files = {"pyvenv.cfg": f"home = {host.parent}\ninclude-system-site-packages = false\n"}
        if free_threaded:
            files[f"{SITE_PACKAGES}/free-threaded.pth"] = f"../../python{MINOR}t/site-packages\n"
        self.add(
            "python",
            f"{MINOR}.0",
            build=f"0_cp{MINOR.replace('.', '')}t" if free_threaded else "0_cpython",
            subdir="linux-64",
            files=files,
            links={f"bin/python{MINOR}": str(host), "bin/python": f"python{MINOR}"},
            **({"python_site_packages_path": f"lib/python{MINOR}t/site-packages"} if free_threaded else {}),
        )


def _encoded(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


def _about(
    index: Mapping[str, Any],
    files: Mapping[str, Content],
    links: Mapping[str, str],
    *,
    entry_points: tuple[str, ...],
    unlisted: bool,
    no_link: tuple[str, ...],
) -> dict[str, Any]:
    """Return what lies in ``info/``: JSON, or text."""
    members = {path: _encoded(content) for path, content in files.items()}
    paths: list[dict[str, Any]] = [
        {"_path": path, "path_type": "softlink", "sha256": hashlib.sha256(b"").hexdigest(), "size_in_bytes": 0}
        for path in links
    ]
    for path, content in members.items():
        entry = {"_path": path, "path_type": "hardlink", "size_in_bytes": len(content)}
        entry["sha256"] = hashlib.sha256(content).hexdigest()
        if PLACEHOLDER.encode() in content:
            entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "binary" if b"\0" in content else "text"}
        paths.append(entry)
    for entry in paths:
        entry.update({"no_link": True} if entry["_path"] in no_link else {})
    info: dict[str, Any] = {"info/index.json": index, "info/about.json": {}}
    if unlisted:
        holders = [entry["_path"] for entry in paths if "prefix_placeholder" in entry]
        info["info/files"] = "".join(f"{entry['_path']}\n" for entry in paths)
        info["info/has_prefix"] = "".join(f"{PLACEHOLDER} text {path}\n" for path in holders)
    else:
        info["info/paths.json"] = {"paths": paths, "paths_version": 1}
    if index.get("noarch") == "python":
        noarch = {"type": "python", "entry_points": list(entry_points)}
        info["info/link.json"] = {"noarch": noarch, "package_metadata_version": 1}
    return info


def _pack(
    stem: str,
    info: Mapping[str, Any],
    files: Mapping[str, Content],
    links: Mapping[str, str],
    *,
    modes: Mapping[str, int],
    ending: str,
) -> bytes:
    members = {path: _encoded(content) for path, content in files.items()}
    about = {path: _encoded(text if isinstance(text, str) else json.dumps(text)) for path, text in info.items()}
    if ending == ".tar.bz2":
        return bz2.compress(_tar({**about, **members}, links, modes))
    packed = io.BytesIO()
    parts = {
        "metadata.json": b'{"conda_pkg_format_version": 2}',
        f"pkg-{stem}.tar.zst": zstd.compress(_tar(members, links, modes)),
        f"info-{stem}.tar.zst": zstd.compress(_tar(about, {}, {})),
    }
    with zipfile.ZipFile(packed, "w") as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name), part)  # with no date: the same package always has the same bytes
    return packed.getvalue()


def _tar(files: Mapping[str, bytes], links: Mapping[str, str], modes: Mapping[str, int]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), modes.get(path, 0o755 if path.startswith("bin/") else 0o644)
            tar.addfile(member, io.BytesIO(content))
        for path, target in links.items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return packed.getvalue()


@pytest.fixture
def empty_shelf(tmp_path: Path) -> Shelf:
    """A channel that holds a working python and nothing else."""
    shelf = Shelf(tmp_path / "channel")
    shelf.add_python()
    return shelf


@pytest.fixture
def shelf(empty_shelf: Shelf) -> Shelf:
    """A channel with one package of each kind."""
    shelf = empty_shelf
    shelf.add(
        "greet",
        modules={"greet": "def main():\n    import sys\n    print('hello from', sys.prefix)\n"},
        entry_points=("greet = greet:main",),
        constrains=["rude <0"],
        license="MIT",
    )
    shelf.add(
        "native",
        build="h123_4",
        subdir="linux-64",
        build_number=4,
        depends=("plain >=1.0", "__glibc >=2.17,<3.0.a0"),
        files={
            "bin/native": f"#!/bin/sh\necho {PLACEHOLDER}/share\n",
            "lib/libnative.so": b"\x7fELF\0\0" + PLACEHOLDER.encode() + b"/lib\0after\0",
            "share/native/data": "unchanged\n" * 1000,
        },
        links={"lib/libnative.so.1": "libnative.so"},
    )
    shelf.add("plain", files={"share/plain/data": "plain\n"})
    shelf.add("oldstyle", files={"share/oldstyle/data": "old\n"}, ending=".tar.bz2")
    return shelf


# Building


@dataclass(frozen=True)
class Place:
    """A folder that is every test's of one file, and what was built there once: each test has it as it was then.

    A release knows its folder: a copy of a store is a store where the store was, and nowhere else.
    """

    folder: Path
    _kept: Path
    _made: dict[str, Any] = field(default_factory=dict)

    def cleared(self) -> Path:
        """Return the folder, without what the last test has left in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return self.folder

    def once(self, make: Callable[[], Any]) -> Any:
        """Return what a function of a fixture gives, and see that the folder holds what it has made.

        All that it reads must be the same each time; packages are put into the channel before.
        """
        name = make.__qualname__
        if name in self._made:
            self._copy(self._kept / name, self.folder)
        else:
            made = make()
            self._copy(self.folder, self._kept / name)
            self._made[name] = made
        return self._made[name]

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        """Copy all in a folder with its times, its permissions, and its hard links among each other."""
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "--archive", f"{source}/.", target], check=True)


@pytest.fixture(scope="module")
def same_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    return Place(folder / "tests", folder / "kept")


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """pytest's own; of a test of what was built once, the folder where that was."""
    return request.getfixturevalue("same_place").cleared() if "same_place" in request.fixturenames else tmp_path


@pytest.fixture
def site_packages() -> str:
    """Where the channel's python looks for modules, below a prefix."""
    return SITE_PACKAGES


@pytest.fixture
def builder(cli: Any, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, with the channel of real archives as its mirror of conda-forge."""
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={shelf.folder}")
    return cli
