"""Channels: folders, servers and mirrors, and what is said when they cannot be read."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from mlviews.conda.channels import channel_folder, channel_url, open_sources
from mlviews.errors import BadInputError, FailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Cli


@dataclass
class Server:
    """A web server on a folder; ``answers`` replaces what it says to a path."""

    url: str
    requests: list[str] = field(default_factory=list)
    answers: dict[str, Callable[[SimpleHTTPRequestHandler], None]] = field(default_factory=dict)


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    with contextlib.ExitStack() as stack:

        def start(folder: Path) -> Server:
            class Handler(SimpleHTTPRequestHandler):
                def __init__(self, *arguments: object) -> None:
                    super().__init__(*arguments, directory=str(folder))

                def do_GET(self) -> None:
                    server.requests.append(self.path)
                    answer = server.answers.get(self.path, SimpleHTTPRequestHandler.do_GET)
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        answer(self)

                def log_message(self, *arguments: object) -> None:
                    pass

            http = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            thread = threading.Thread(target=http.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(http.shutdown)
            server = Server(f"http://127.0.0.1:{http.server_port}")
            return server

        yield start


def text(body: str, *, length: int | None = None, status: int = 200) -> Callable[[SimpleHTTPRequestHandler], None]:
    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body.encode())
        handler.close_connection = True

    return answer


def test_a_mirror_in_a_folder_keeps_the_channels_urls(cli: Cli, channel: Path) -> None:
    cli.recipes.recipe("x", "python", "uproot")
    assert cli("lock", "x").code == 0
    lock = cli.lock("x").read_text()
    assert "https://conda.anaconda.org/conda-forge/linux-64/python-3.12.7-h0_0_cpython.conda" in lock
    assert "https://conda.anaconda.org/conda-forge/noarch/uproot-5.4.0-pyhd_0.conda" in lock
    assert str(channel) not in lock


def test_a_mirror_on_a_server_gives_the_same_bytes(
    cli: Cli, channel: Path, serve: Callable[[Path], Server], tmp_path: Path
) -> None:
    cli.recipes.recipe("x", "pytorch-gpu", "onnxruntime", hardware={"glibc": "2.34", "cuda": "12.9"})
    assert cli("lock", "x").code == 0
    server = serve(channel)
    for again in (False, True):
        folder = tmp_path / f"other-{again}"
        done = cli("lock", "x", "--mirror", f"conda-forge={server.url}", "--lockfiles", folder)
        assert (done.code, done.err) == (0, "Solving ...\n")
        assert (folder / cli.lock("x").name).read_bytes() == cli.lock("x").read_bytes()
    assert "/linux-64/repodata.json" in server.requests
    assert not any("shard" in path for path in server.requests)


def test_repodata_is_fetched_once_for_all_views(cli: Cli, channel: Path, serve: Callable[[Path], Server]) -> None:
    server = serve(channel)
    for number in range(5):
        cli.recipes.recipe(f"x{number}", "python", "onnxruntime", hardware={"glibc": "2.34", "cuda": "12.9"})
    cli.recipes.recipe("unsolvable", "left", "right")
    assert cli("lock", "--all", "--mirror", f"conda-forge={server.url}").code == 1
    fetched = [path for path in server.requests if path.endswith("repodata.json")]
    assert sorted(fetched) == ["/linux-64/repodata.json", "/noarch/repodata.json"]


def test_a_server_that_is_busy_once_is_asked_again(cli: Cli, channel: Path, serve: Callable[[Path], Server]) -> None:
    server = serve(channel)

    def busy(handler: SimpleHTTPRequestHandler) -> None:
        del server.answers[handler.path]
        text("busy", status=503)(handler)

    server.answers["/noarch/repodata.json"] = busy
    cli.recipes.recipe("x", "python")
    assert cli("lock", "x", "--mirror", f"conda-forge={server.url}").code == 0


def test_a_channel_that_is_a_folder(cli: Cli, channel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.site("ours", channels=[channel.as_uri()])
    cli.recipes.recipe("x", "python")
    monkeypatch.delenv("MLVIEWS_MIRROR")
    done = cli("lock", "x", "--site", "ours")
    assert done.code == 0, done.err
    assert f"{channel.as_uri()}/linux-64/python-3.12.7" in cli.lock("x").read_text()


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("", id="empty"),
        pytest.param("<html>404 not found</html>", id="html"),
        pytest.param("[]", id="list"),
        pytest.param('{"packages": []}', id="wrong type"),
        pytest.param('{"packages.conda": {"python-3-h0_0.conda": {}}}', id="empty record"),
        pytest.param('{"packages.conda": {"../../evil.conda": {}}}', id="hostile file name"),
        pytest.param("{}", id="no packages"),
        pytest.param('{"error": "quota exceeded"}', id="an error"),
        pytest.param(None, id="truncated"),
    ],
)
@pytest.mark.parametrize("over", ["folder", "http"])
def test_broken_repodata(
    cli: Cli, channel: Path, serve: Callable[[Path], Server], *, broken: str | None, over: str
) -> None:
    mirror = shutil.copytree(channel, cli.root / "mirror")
    path = mirror / "linux-64/repodata.json"
    path.write_text(path.read_text()[:3000] if broken is None else broken)
    (mirror / "noarch/repodata.json").write_text('{"packages": {}, "packages.conda": {}}')
    cli.recipes.recipe("x", "python")
    location = mirror if over == "folder" else serve(mirror).url
    done = cli("lock", "x", "--mirror", f"conda-forge={location}", "--json")
    assert done.code == 3
    assert done.codes == ["repodata-invalid"]
    assert "conda-forge" in done.json["errors"][0]["message"]
    assert not cli.lockfiles.exists()


def test_a_record_that_is_not_what_its_file_name_says(
    cli: Cli, make_channel: Callable[..., Path], tmp_path: Path
) -> None:
    mirror = make_channel(tmp_path / "mirror", {"linux-64": {"python 3.12.7 h_0": []}})
    path = mirror / "linux-64/repodata.json"
    data = json.loads(path.read_text())
    data["packages.conda"]["python-3.12.7-h_0.conda"]["version"] = "9.9"
    path.write_text(json.dumps(data))
    cli.recipes.recipe("x", "python")
    done = cli("lock", "x", "--mirror", f"conda-forge={mirror}", "--json")
    assert (done.code, done.codes) == (3, ["repodata-invalid"])


def test_a_record_without_hashes(cli: Cli, make_channel: Callable[..., Path], tmp_path: Path) -> None:
    mirror = make_channel(tmp_path / "mirror", {"linux-64": {"python 3.12.7 h_0": []}})
    path = mirror / "linux-64/repodata.json"
    data = json.loads(path.read_text())
    del data["packages.conda"]["python-3.12.7-h_0.conda"]["md5"]
    path.write_text(json.dumps(data))
    cli.recipes.recipe("x", "python")
    done = cli("lock", "x", "--mirror", f"conda-forge={mirror}", "--json")
    assert (done.code, done.codes) == (3, ["hash-missing"])


def test_a_folder_that_is_no_mirror(cli: Cli, tmp_path: Path) -> None:
    cli.recipes.recipe("x", "python")
    done = cli("lock", "x", "--mirror", f"conda-forge={tmp_path}", "--json")
    assert (done.code, done.codes) == (3, ["channel-unreachable"])
    error = done.json["errors"][0]
    assert f"channel conda-forge cannot be read: there is no {tmp_path}/linux-64/repodata.json" in error["message"]
    assert "--mirror" in error["hint"]
    assert "--site pypi" in error["hint"]


def test_a_mirror_for_a_channel_that_is_not_used(cli: Cli, tmp_path: Path) -> None:
    cli.recipes.recipe("x", "python")
    done = cli("lock", "x", "--mirror", f"bioconda={tmp_path}", "--json")
    assert (done.code, done.codes) == (2, ["mirror-unknown"])
    assert "conda-forge" in done.json["errors"][0]["hint"]


@pytest.mark.parametrize("mirror", ["conda-forge", "conda-forge=", "=folder", ""])
def test_a_mirror_that_is_no_pair(cli: Cli, mirror: str) -> None:
    cli.recipes.recipe("x", "python")
    done = cli("lock", "x", "--mirror", mirror, "--json")
    assert (done.code, done.codes) == (2, ["usage"])
    assert "CHANNEL=LOCATION" in done.json["errors"][0]["message"]


def test_a_server_without_the_channel(cli: Cli, serve: Callable[[Path], Server], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    server = serve(empty)
    cli.recipes.recipe("x", "python")
    done = cli("lock", "x", "--mirror", f"conda-forge={server.url}", "--json")
    assert done.code == 3
    assert done.codes == ["channel-unreachable"]


def test_a_transfer_that_is_cut(cli: Cli, channel: Path, serve: Callable[[Path], Server]) -> None:
    server = serve(channel)
    whole = (channel / "linux-64/repodata.json").read_text()
    server.answers["/linux-64/repodata.json"] = text(whole[:1000], length=len(whole))
    cli.recipes.recipe("x", "python")
    done = cli("lock", "x", "--mirror", f"conda-forge={server.url}", "--json")
    assert (done.code, done.codes) == (3, ["channel-unreachable"])
    del server.answers["/linux-64/repodata.json"]
    assert cli("lock", "x", "--mirror", f"conda-forge={server.url}").code == 0, "nothing broken was kept in the cache"


def test_an_unreachable_channel_is_named_among_others(cli: Cli, channel: Path) -> None:
    """The one slow test here: rattler asks four times."""
    cli.site("two", channels=["https://example.org/ours", "conda-forge"])
    cli.recipes.recipe("x", "python")
    mirrors = ("--mirror", f"conda-forge={channel}", "--mirror", "https://example.org/ours=http://127.0.0.1:9")
    done = cli("lock", "x", "--site", "two", *mirrors, "--json")
    assert (done.code, done.codes) == (3, ["channel-unreachable"])
    error = done.json["errors"][0]
    assert error["message"].startswith("channel https://example.org/ours cannot be reached")
    assert "--mirror https://example.org/ours=" in error["hint"]
    assert "--site pypi" in error["hint"]


def test_channels_by_name_and_url() -> None:
    assert channel_url("conda-forge") == "https://conda.anaconda.org/conda-forge/"
    assert channel_url("https://example.org/ours") == "https://example.org/ours/"
    with pytest.raises(BadInputError, match="is no channel"):
        channel_url("http://[")


def test_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").mkdir()
    assert channel_folder("/a/b") == type(tmp_path)("/a/b")
    assert channel_folder("file:///a%20b") == type(tmp_path)("/a b")
    assert channel_folder("plain") == tmp_path / "plain"
    assert channel_folder("./not-there") == tmp_path / "not-there"
    assert channel_folder("http://example.org/a") is None
    assert channel_folder("conda-forge") is None


def test_opening_asks_nothing_of_a_server(tmp_path: Path) -> None:
    sources = open_sources(["conda-forge"], ["linux-64"], mirrors={}, cache=tmp_path)
    assert len(sources.on("linux-64")) == 1
    with pytest.raises(FailedError):
        open_sources(["conda-forge"], ["linux-64"], mirrors={"conda-forge": str(tmp_path)}, cache=tmp_path)
