"""What the tests of installing and building share: a channel of archives that really install, and servers that fail."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import shutil
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Content = str | bytes

PLACEHOLDER = "/opt/placehold" + "_placehold" * 24
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE_PACKAGES = f"lib/python{MINOR}/site-packages"


# A channel


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
        **keys: Any,
    ) -> Path:
        """Put a package into the channel.

        ``modules`` makes it ``noarch: python``, and ``requires`` what pip reads of it. A file that holds the
        placeholder has it replaced by the prefix; one under ``bin/`` is executable.
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
        archive.write_bytes(_pack(stem, index, contents, links or {}, entry_points=entry_points, ending=ending))
        self._list(archive, index)
        return archive

    def put(self, archive: Path, index: Mapping[str, Any]) -> None:
        """Put an archive that is there already into the channel."""
        self._list(Path(shutil.copy(archive, self.folder / index["subdir"])), index)

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

    def add_python(self) -> None:
        """Add a ``python`` that is the tests' own, with the package's folder as its prefix (as in a venv, PEP 405)."""
        host = Path(sys._base_executable).resolve()
        self.add(
            "python",
            f"{MINOR}.0",
            build="0_cpython",
            subdir="linux-64",
            files={"pyvenv.cfg": f"home = {host.parent}\ninclude-system-site-packages = false\n"},
            links={f"bin/python{MINOR}": str(host), "bin/python": f"python{MINOR}"},
        )


def _pack(
    stem: str,
    index: Mapping[str, Any],
    files: Mapping[str, Content],
    links: Mapping[str, str],
    *,
    entry_points: tuple[str, ...],
    ending: str,
) -> bytes:
    members = {path: text if isinstance(text, bytes) else text.encode() for path, text in files.items()}
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
    info = {"info/index.json": index, "info/paths.json": {"paths": paths, "paths_version": 1}, "info/about.json": {}}
    if index.get("noarch") == "python":
        noarch = {"type": "python", "entry_points": list(entry_points)}
        info["info/link.json"] = {"noarch": noarch, "package_metadata_version": 1}
    about = {path: json.dumps(content).encode() for path, content in info.items()}
    if ending == ".tar.bz2":
        return bz2.compress(_tar({**about, **members}, links))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
        archive.writestr(f"pkg-{stem}.tar.zst", zstandard.compress(_tar(members, links)))
        archive.writestr(f"info-{stem}.tar.zst", zstandard.compress(_tar(about, {})))
    return packed.getvalue()


def _tar(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755 if path.startswith("bin/") else 0o644
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


# A server


@dataclass
class Server:
    """Serves a folder over http, and fails where it is told to.

    Attributes:
        faults: part of a path -> what is done instead; a fault returns True where it has answered.
        hits: the paths that were asked for, in order.
    """

    folder: Path
    url: str = ""
    faults: dict[str, Callable[[SimpleHTTPRequestHandler, Path], bool]] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)

    def archives(self) -> list[str]:
        """Return the names of the archives that were asked for."""
        return [Path(hit).name for hit in self.hits if hit.endswith((".conda", ".tar.bz2"))]


def answers(status: int, times: int) -> Callable[[SimpleHTTPRequestHandler, Path], bool]:
    """Answer with ``status`` the first ``times``."""
    left = [times]

    def fault(handler: SimpleHTTPRequestHandler, path: Path) -> bool:
        if left[0] == 0:
            return False
        left[0] -= 1
        handler.send_error(status)
        return True

    return fault


def cuts(after: int, times: int = 1000) -> Callable[[SimpleHTTPRequestHandler, Path], bool]:
    """Close the connection ``after`` so many bytes, the first ``times``."""
    left = [times]

    def fault(handler: SimpleHTTPRequestHandler, path: Path) -> bool:
        if left[0] == 0:
            return False
        left[0] -= 1
        _send(handler, path.read_bytes(), stop=after)
        return True

    return fault


def drips(bytes_a_second: int) -> Callable[[SimpleHTTPRequestHandler, Path], bool]:
    """Answer slowly."""

    def fault(handler: SimpleHTTPRequestHandler, path: Path) -> bool:
        _send(handler, path.read_bytes(), chunk=max(1, bytes_a_second // 20), pause=0.05)
        return True

    return fault


def _send(
    handler: SimpleHTTPRequestHandler, content: bytes, *, stop: int | None = None, chunk: int = 0, pause: float = 0
) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    part = content[:stop]
    for start in range(0, len(part), chunk or len(part) or 1):
        handler.wfile.write(part[start : start + (chunk or len(part))])
        time.sleep(pause)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder on a port of its own."""
    server = Server(folder)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            server.hits.append(self.path)
            fault = next((fault for part, fault in server.faults.items() if part in self.path), None)
            path = folder / self.path.lstrip("/")
            with suppress(ConnectionError):  # who was asking may have been interrupted
                if not (fault and path.is_file() and fault(self, path)):
                    super().do_GET()

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.block_on_close = False
        server.url = f"http://127.0.0.1:{httpd.server_port}"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            httpd.shutdown()
            thread.join()


@pytest.fixture
def server(shelf: Shelf) -> Iterator[Server]:
    """The channel with one package of each kind, on a server."""
    with serving(shelf.folder) as server:
        yield server


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    """Return a function that serves a folder for as long as the test runs."""
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(serving(folder))


@pytest.fixture
def faults() -> dict[str, Callable[..., Callable[[SimpleHTTPRequestHandler, Path], bool]]]:
    """What a server can do wrong: answers(status, times), cuts(after, times), drips(bytes_a_second)."""
    return {"answers": answers, "cuts": cuts, "drips": drips}


# Building


@pytest.fixture
def site_packages() -> str:
    """Where the channel's python looks for modules, below a prefix."""
    return SITE_PACKAGES


@pytest.fixture
def builder(cli: Any, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, with the channel of real archives as its mirror of conda-forge."""
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={shelf.folder}")
    return cli
