"""Channels: folders, servers and mirrors, and what is said when they cannot be read."""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import ssl
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest
from webserver import Quiet, listening

from mlviews.conda.channels import open_sources
from mlviews.conda.servers import channel_folder, channel_url
from mlviews.errors import BadInputError, FailedError
from mlviews.lock.parse import read_lock
from mlviews.prefix.archives import install_failure

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
            class Handler(Quiet):
                def do_GET(self) -> None:
                    server.requests.append(self.path)
                    answer = server.answers.get(self.path, SimpleHTTPRequestHandler.do_GET)
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        answer(self)

            port = stack.enter_context(listening(functools.partial(Handler, directory=str(folder))))
            server = Server(f"http://127.0.0.1:{port}")
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


WRONG: dict[str, tuple[Any, str]] = {
    "without md5": ({"md5": None}, "the channel gives no md5 and sha256 for it, and a lock needs both"),
    "without sha256": ({"sha256": None}, "the channel gives no md5 and sha256 for it, and a lock needs both"),
    "misnamed": ({"version": "9.9"}, "the channel says that it is python-9.9-h_0"),
    "no version": ({"version": None}, "its record is malformed: "),
    "a version that is none": ({"version": "no version!"}, "its record is malformed: "),
    "another type": ({"depends": "plain"}, "its record is malformed: "),
    "half a hash": ({"sha256": "zz"}, "its record is malformed: "),
    "no record": (None, "its record is malformed: "),
    "an empty record": (dict.fromkeys(("name", "version", "build", "depends")), "its record is malformed: "),
}


@pytest.fixture(params=WRONG.values(), ids=WRONG)
def wrong(request: Any, make_channel: Callable[..., Path], tmp_path: Path) -> tuple[Path, str]:
    """A channel of two versions, the record of the newer one cannot be used; and why."""
    mirror = make_channel(tmp_path / "mirror", {"linux-64": {"python 3.11.7 h_0": [], "python 3.12.7 h_0": []}})
    path = mirror / "linux-64/repodata.json"
    data = json.loads(path.read_text())
    changes, why = request.param
    record = data["packages.conda"]["python-3.12.7-h_0.conda"]
    record = record and {**record, **changes} if changes else None
    if record:
        record = {key: value for key, value in record.items() if value is not None}
    data["packages.conda"]["python-3.12.7-h_0.conda"] = record
    path.write_text(json.dumps(data))
    return mirror, why


def test_a_record_that_cannot_be_used_is_left_out_with_a_note(cli: Cli, wrong: tuple[Path, str]) -> None:
    mirror, why = wrong
    cli.recipes.recipe("x", "python")
    cli.recipes.recipe("y", "python")

    done = cli("lock", "x", "y", "--mirror", f"conda-forge={mirror}", "--json")

    assert done.code == 0, done.out
    assert [package.version for package in read_lock(cli.lock("x")).packages] == ["3.11.7"]
    assert [*done.data["unusable"]] == ["python-3.12.7-h_0.conda"]
    assert done.data["unusable"]["python-3.12.7-h_0.conda"].startswith(why)
    cli.lock("x").unlink()
    assert f"left out python-3.12.7-h_0.conda: {why}" in cli("lock", "x", "--mirror", f"conda-forge={mirror}").out


def test_what_was_left_out_is_named_where_nothing_else_fits(cli: Cli, wrong: tuple[Path, str]) -> None:
    mirror, why = wrong
    cli.recipes.recipe("x", "python >=3.12")

    done = cli("lock", "x", "--mirror", f"conda-forge={mirror}", "--json")

    assert (done.code, done.codes) == (1, ["unsolvable"])
    assert f"python-3.12.7-h_0.conda: {why}" in done.json["errors"][0]["message"]


def test_on_a_server_too(cli: Cli, wrong: tuple[Path, str], serve: Callable[[Path], Server]) -> None:
    mirror, why = wrong
    cli.recipes.recipe("x", "python")

    done = cli("lock", "x", "--mirror", f"conda-forge={serve(mirror).url}", "--json")

    assert done.code == 0, done.out
    assert [package.version for package in read_lock(cli.lock("x")).packages] == ["3.11.7"]
    assert done.data["unusable"]["python-3.12.7-h_0.conda"].startswith(why)
    assert read_lock(cli.lock("x")).packages[0].url.startswith("https://conda.anaconda.org/conda-forge/linux-64/")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_page_in_place_of_repodata_is_told_from_a_broken_channel(
    cli: Cli, channel: Path, tmp_path: Path, serve: Callable[[Path], Server], *, compressed: bool
) -> None:
    page = b"<!DOCTYPE html><html><body>Log in to the network</body></html>"
    for subdir in ("linux-64", "noarch"):
        (tmp_path / "portal" / subdir).mkdir(parents=True)
        (tmp_path / "portal" / subdir / f"repodata.json{'.zst' if compressed else ''}").write_bytes(page)
    cli.recipes.recipe("x", "python")

    done = cli("lock", "x", "--mirror", f"conda-forge={serve(tmp_path / 'portal').url}", "--json")

    assert (done.code, done.codes) == (3, ["repodata-invalid"])
    assert done.json["errors"][0]["message"] == "channel conda-forge does not answer with repodata"
    assert "login page" in done.json["errors"][0]["hint"]


def test_a_sites_own_certificate_authority_is_named_by_ssl_cert_file(
    cli: Cli, channel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = _certificate(tmp_path)
    cli.recipes.recipe("x", "python")
    with _secure(channel, tmp_path) as url:
        refused = cli.process("lock", "x", "--mirror", f"conda-forge={url}", "--json")
        asked = cli.process("doctor", "--mirror", f"conda-forge={url}", "--json")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        done = cli.process("lock", "x", "--mirror", f"conda-forge={url}", "--json")

    assert (refused.code, refused.codes) == (3, ["certificate-unknown"])
    assert "SSL_CERT_FILE" in refused.json["errors"][0]["hint"]
    (line,) = [one for one in asked.data["findings"] if one["name"] == "channel"]
    assert (line["status"], "SSL_CERT_FILE" in line["advice"]) == ("problem", True)
    assert done.code == 0, done.out


def test_a_certificate_that_is_out_of_date_may_be_the_clocks_fault(
    cli: Cli, channel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = _certificate(tmp_path, days=0)
    cli.recipes.recipe("x", "python")
    cli.recipes.recipe("y", "python", pypi=["tagger"])
    mirror = f"conda-forge={channel}"
    for name in ("SSL_CERT_FILE", "PIP_CERT"):
        monkeypatch.setenv(name, str(authority))
    time.sleep(1)  # it is valid for the second in which it was made
    with _secure(channel, tmp_path) as url:
        refused = cli.process("lock", "x", "--mirror", f"conda-forge={url}", "--json")
        asked = cli.process("doctor", "--mirror", f"conda-forge={url}", "--json")
        monkeypatch.setenv("PIP_INDEX_URL", url)
        by_pip = cli.process("lock", "y", "--mirror", mirror, "--json")
        of_pip = cli.process("doctor", "--site", "pypi", "--json")

    (line,) = [one for one in asked.data["findings"] if one["name"] == "channel"]
    (index,) = [one for one in of_pip.data["findings"] if one["name"] == "index"]
    (from_pip,) = by_pip.json["errors"]
    for hint in (refused.json["errors"][0]["hint"], line["advice"], index["advice"], from_pip["hint"]):
        assert "`date`" in hint
    assert from_pip["message"].startswith("pip could not reach a package index: ")
    assert "certificate" in from_pip["message"]
    assert "\n" not in from_pip["message"], "one line, and not one for each try"
    assert "`date`" in install_failure(f"failed to fetch {refused.json['errors'][0]['message']}").hint


def _certificate(folder: Path, days: int = 2) -> Path:
    """Make an authority, and a server's key and certificate of it; return the authority's certificate."""
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj"]
    # As Python 3.13 wants them, which checks certificates strictly.
    signed = "basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n"
    usage = ["-addext", "keyUsage=critical,keyCertSign"]
    (folder / "signed").write_text(signed)
    sign = ["openssl", "x509", "-req", "-in", "r.pem", "-CA", "ca.pem", "-CAkey", "cakey.pem", "-CAcreateserial"]
    for command in (
        [*new, "/CN=a site", "-x509", *usage, "-days", "2", "-keyout", "cakey.pem", "-out", "ca.pem"],
        [*new, "/CN=localhost", "-keyout", "key.pem", "-out", "r.pem"],
        [*sign, "-days", str(days), "-extfile", "signed", "-out", "c.pem"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem"


@contextmanager
def _secure(folder: Path, keys: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "c.pem", keys / "key.pem")
    with listening(functools.partial(Quiet, directory=str(folder)), context) as port:
        yield f"https://localhost:{port}"


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
    with pytest.raises(BadInputError, match="is not a channel"):
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
