"""Whether what a build fetches from answers: servers that answer, refuse, say no, and hang."""

from __future__ import annotations

import socket
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlviews.reach import start_asking
from mlviews.site.profile import open_site


@pytest.fixture
def server():
    """The address of a server and what it was asked for: a channel, one that is closed, and the page of a portal."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append((self.path, self.headers["Authorization"]))
            folder = self.path.partition("/noarch")[0]
            known = {"/good": 200, "/portal": 200, "/closed": 401, "/moved": 302, "/broken": 503}
            self.send_response(known.get(folder, 404))
            self.send_header("Location", "/good/noarch/repodata.json")
            self.send_header("Content-Type", "text/html" if folder == "/portal" else "application/json")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()
        thread.join()


@pytest.fixture
def hanging():
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing():
    """The address of no server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return open_site("local", root=tmp_path / "root")


def test_each_place_is_asked_once_and_all_at_the_same_time(site, server, shelf, hanging, refusing, tmp_path):
    host, asked = server
    (tmp_path / "empty").mkdir()
    (tmp_path / "packed/noarch").mkdir(parents=True)
    (tmp_path / "packed/noarch/repodata.json.zst").touch()
    mirrors = {
        "good": f"http://user:secret@{host}/good",
        "moved": f"http://user:secret@{host}/moved",
        "lost": f"http://{host}/lost",
        "closed": f"http://{host}/closed",
        "refused": f"http://user:wrong@{host}/closed",
        "broken": f"http://{host}/broken",
        "portal": f"http://{host}/portal",
        "refuses": refusing,
        "hangs": hanging,
        "hangs-too": hanging,
        "folder": str(shelf.folder),
        "packed": str(tmp_path / "packed"),
        "empty": str(tmp_path / "empty"),
        "bucket": "s3://bucket/channel",
    }
    start = time.monotonic()

    answers = start_asking(replace(site, channels=(*mirrors,), mirrors=mirrors), seconds=1)()

    assert time.monotonic() - start < 1.9
    found = dict(zip(mirrors, answers, strict=True))
    assert {name: line.status for name, line in found.items()} == {
        "good": "ok", "moved": "ok", "lost": "problem", "closed": "note", "portal": "problem", "refuses": "problem",
        "refused": "problem", "broken": "problem", "packed": "ok", "hangs": "problem", "hangs-too": "problem",
        "folder": "ok", "empty": "problem", "bucket": "note",
    }  # fmt: skip
    assert found["good"].found == f"good at http://***@{host}/good answers"
    assert "status 404" in found["lost"].found
    assert "status 503" in found["broken"].found
    assert "refuses the user and password of its URL (status 401)" in found["refused"].found
    assert ("--mirror" in found["refused"].advice, "wrong" in found["refused"].found) == (True, False)
    assert "open the URL in a browser" in found["portal"].advice
    assert "Connection refused" in found["refuses"].found
    assert found["hangs"].found == f"hangs at {hanging}: no answer in 1 second"
    assert "pack VIEW --offline FOLDER" in found["hangs"].advice
    file, proof = "noarch/repodata.json", "Basic dXNlcjpzZWNyZXQ="
    assert sorted((path, sent or "") for path, sent in asked) == [
        (f"/broken/{file}", ""), (f"/closed/{file}", ""), (f"/closed/{file}", "Basic dXNlcjp3cm9uZw=="),
        (f"/good/{file}", proof), (f"/lost/{file}", ""), (f"/moved/{file}", proof),
        (f"/portal/{file}", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("answer", ["index", "nothing"])
def test_pip_asks_its_own_index(site, refusing, answer, tmp_path, monkeypatch):
    page = tmp_path / "simple/pip/index.html"
    page.parent.mkdir(parents=True)
    page.write_text('<a href="pip-99.0-py3-none-any.whl">pip-99.0-py3-none-any.whl</a>')
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", page.parents[1].as_uri() if answer == "index" else refusing)

    (line,) = start_asking(replace(site, packages="wheels"), seconds=30)()

    if answer == "index":
        assert (line.status, line.found) == ("ok", "pip's index answers")
    else:
        assert (line.status, refusing in line.found, "pip config list" in line.advice) == ("problem", True, True)


def test_no_index_is_asked_where_pip_may_ask_none(site, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(sys, "executable", "/nowhere")
    (line,) = start_asking(replace(site, packages="wheels"))()
    assert (line.status, line.found) == ("note", "not asked: PIP_NO_INDEX is set")


def test_a_python_without_pip_is_no_fault_of_the_index(site, tmp_path, monkeypatch):
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (line,) = start_asking(replace(site, packages="wheels"))()
    assert (line.status, line.found) == ("problem", "pip at index: this Python has no pip")


def test_doctor_tells_it_and_who_only_reads_has_no_problem(cli, monkeypatch, refusing, tmp_path):
    cli.recipes.recipe("demo", "python")
    there = {line["name"]: line for line in cli("doctor", "--json").data["findings"]}
    assert there["channel"]["status"] == "ok"

    monkeypatch.setattr("mlviews.reach.may_build", lambda _: False)
    name = there["channel"]["found"].partition(" at ")[0]
    away = cli("--mirror", f"{name}={refusing}", "doctor", "--json")
    line = next(line for line in away.data["findings"] if line["name"] == "channel")
    assert (line["status"], "Connection refused" in line["found"]) == ("note", True)
