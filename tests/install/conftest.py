"""What the tests of installing and building share: servers that fail."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from webserver import Quiet, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shelf import Shelf


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

    class Handler(Quiet):
        def do_GET(self) -> None:
            server.hits.append(self.path)
            fault = next((fault for part, fault in server.faults.items() if part in self.path), None)
            path = folder / self.path.lstrip("/")
            with suppress(ConnectionError):  # who was asking may have been interrupted
                if not (fault and path.is_file() and fault(self, path)):
                    super().do_GET()

    with listening(partial(Handler, directory=str(folder))) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


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
