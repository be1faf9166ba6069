"""Passwords and tokens: sent where they belong, and found in nothing that is written or said."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from mlviews.credentials import hide, open_server
from mlviews.errors import MlviewsError, RefusedError
from mlviews.progress import silent
from mlviews.values import Problem, to_json
from mlviews.wheels.obtain import obtain
from mlviews.wheels.pip import fetch, resolve
from mlviews.wheels.target import host_target

USER, PASSWORD, TOKEN = "planted-user", "planted%40pa%3Ass", "planted-token"
PLAIN = "planted@pa:ss"
PROOF = base64.b64encode(f"{USER}:{PLAIN}".encode()).decode()
SECRETS = tuple(secret.encode() for secret in (USER, PASSWORD, PLAIN, TOKEN, PROOF))


def secrets_in(content: bytes) -> list[bytes]:
    return [secret for secret in SECRETS if secret in content]


def leaks(*roots: Path) -> dict[str, list[bytes]]:
    """Return the files that hold a secret, archives and what is packed into them too."""
    found = {}
    for path in (path for root in roots for path in (root.rglob("*") if root.is_dir() else [root])):
        if path.is_file() and not path.is_symlink():
            contents = [str(path).encode(), path.read_bytes()]
            if tarfile.is_tarfile(path):
                with tarfile.open(path) as tar:
                    contents += [tar.extractfile(member).read() for member in tar if member.isfile()]
            contents += [gzip.decompress(content) for content in contents if content.startswith(b"\x1f\x8b")]
            contents += [_inflated(content) for content in contents if content.startswith(b"x\x9c")]
            if hits := [secret for content in contents for secret in secrets_in(content)]:
                found[str(path)] = hits
    return found


def _inflated(content: bytes) -> bytes:
    try:
        return zlib.decompress(content)
    except zlib.error:
        return b""


def asks_for(proof: str) -> Any:
    """Answer only those who prove who they are."""

    def fault(handler: Any, path: Path) -> bool:
        del path
        if handler.headers.get("Authorization") == f"Basic {proof}":
            return False
        handler.send_error(401)
        return True

    return fault


@pytest.fixture
def private(shelf: Any, serve: Any, tmp_path: Path) -> Any:
    """The channel on a server that wants a password, and a token in the path."""
    behind = tmp_path / "served" / "t" / TOKEN
    behind.parent.mkdir(parents=True)
    behind.symlink_to(shelf.folder)
    server = serve(tmp_path / "served")
    server.faults[""] = asks_for(PROOF)
    return server


def with_secrets(url: str) -> str:
    return url.replace("http://", f"http://{USER}:{PASSWORD}@") + f"/t/{TOKEN}"


def test_a_mirror_s_password_is_sent_and_stands_nowhere(cli, private, base_archive, tmp_path, monkeypatch):
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={with_secrets(private.url)}")
    cli.recipes.recipe("demo", "python", "greet", "plain")
    out = tmp_path / "out"
    said = []
    for command in (
        ("lock", "demo"),
        ("build", "demo", "--json", "-vv"),
        ("releases", "demo"),
        ("verify", "demo", "--repair"),
        ("show", "demo", "--json"),
        ("render", "demo", "sbom", "-o", out / "sbom.json"),
        ("render", "demo", "explicit", "-o", out / "explicit.txt"),
        ("render", "demo", "dockerfile", "-o", out / "docker"),
        ("render", "demo", "apptainer", "-o", out / "apptainer"),
        ("render", "demo", "batch", "-o", out / "batch.md"),
        ("render", "demo", "kernel", "-o", out / "kernel.json"),
        ("container", "build", "demo", "--base", f"oci-archive:{base_archive}", "-o", out / "image.tar"),
        ("nightly", "demo"),
        ("ci", "github", "-o", out / "ci.yml"),
        ("doctor", "--json"),
    ):
        done = cli(*command)
        assert "planted" not in done.out + done.err, command
        said.append((command[0], done.code, done.err))

    assert [line for line in said if line[1] != 0] == [], said
    assert len(private.archives()) == 3
    assert leaks(cli.root, cli.lockfiles, out, tmp_path / "home") == {}


def test_a_wrong_password_is_not_repeated(cli, private, monkeypatch):
    private.faults[""] = asks_for("another")
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={with_secrets(private.url)}")
    cli.recipes.recipe("demo", "plain")

    for options in ((), ("--json",), ("-vv",)):
        refused = cli("lock", "demo", *options)
        assert refused.code == 3
        assert "401" in refused.out + refused.err
        assert "planted" not in refused.out + refused.err


@pytest.mark.parametrize("where", ["netrc", "RATTLER_AUTH_FILE", "credentials.json", "token"])
def test_credentials_lie_in_files_of_their_own(cli, shelf, private, serve, monkeypatch, where):
    server = private if where == "token" else serve(shelf.folder)
    server.faults = {} if where == "token" else {"": asks_for(PROOF)}
    home = Path(cli.root).parent / "home"
    host = server.url.removeprefix("http://").partition(":")[0]
    stored = json.dumps({host: {"BasicHTTP": {"username": USER, "password": PLAIN}}})
    if where == "token":
        stored = json.dumps({host: {"CondaToken": TOKEN}})
    if where == "netrc":
        (home / ".netrc").write_text(f"machine {host} login {USER} password {PLAIN}\n")
        (home / ".netrc").chmod(0o600)
    elif where in {"RATTLER_AUTH_FILE", "token"}:
        (home / "auth.json").write_text(stored)
        monkeypatch.setenv("RATTLER_AUTH_FILE", str(home / "auth.json"))
    else:
        (home / ".rattler").mkdir()
        (home / ".rattler/credentials.json").write_text(stored)
    monkeypatch.delenv("MLVIEWS_MIRROR")
    cli.site("ours", channels=[server.url])
    cli.recipes.recipe("demo", "python", "greet")

    built = cli.process("build", "demo", "--site", "ours", "-vv")

    assert built.code == 0, built.err
    assert secrets_in((built.out + built.err).encode()) == []
    assert leaks(cli.root, cli.lockfiles) == {}


@pytest.mark.parametrize(
    "channel",
    [
        f"https://{USER}:{PASSWORD}@conda.example.org/ours",
        f"https://{TOKEN}@conda.example.org/ours",
        f"https://conda.example.org/t/{TOKEN}/ours",
        f"https://conda.example.org/t/{TOKEN}",
        f"https://{USER}:{PLAIN}@conda.example.org/{'long/' * 50}",
    ],
)
def test_a_channel_with_a_password_or_a_token_is_refused(cli, channel):
    cli.recipes.recipe("demo", "plain")
    cli.recipes.recipe("other", f"{channel}::plain", summary=f"See {channel}")
    for keys in ({"channels": [channel]}, {"mirrors": {channel: "/mirror"}}, {"container": {"source": channel}}):
        cli.site("ours", **keys)
        for options in ((), ("--json",), ("-vv",)):
            refused = cli("lock", "demo", "--site", "ours", *options)
            assert refused.code == 2
            assert "RATTLER_AUTH_FILE" in refused.out + refused.err
            assert "planted" not in refused.out + refused.err
    refused = cli("lock", "other", "-vv")
    assert refused.code == 2
    assert "planted" not in refused.out + refused.err


def test_what_people_type_is_not_repeated_with_its_secrets(cli, tmp_path):
    secret = with_secrets("http://127.0.0.1:9")
    cli.recipes.recipe("demo", "plain")
    cli.recipes.text("broken.yaml", f"schema: 1\nname: [{secret}\n")
    for command in (
        ("lock", "demo", "--mirror", secret),
        ("lock", "demo", "--mirror", f"{secret}={secret}"),
        ("lock", secret),
        ("show", "broken"),
        ("build", "demo", "--site", secret),
        ("diff", "demo", "--from", secret),
        ("container", "build", "demo", "--base", secret),
        ("container", "build", "demo", "--push", secret),
        ("nightly", "demo", "--gather", secret),
        ("kernel", "add", "demo", secret, secret),
    ):
        for options in ((), ("--json",), ("-vv",)):
            done = cli(*command, *options)
            assert done.code not in (0, None)
            assert "planted" not in done.out + done.err, (command, options, done)
    # The one that asks a server, which rattler does four times: once, with all that can be said.
    done = cli("lock", "demo", "--mirror", f"conda-forge={secret}", "--json", "-vv")
    assert (done.code, "planted" in done.out + done.err) == (3, False)
    assert leaks(cli.root, cli.lockfiles) == {}


def test_a_lock_with_a_secret_is_none(cli, channel, monkeypatch):
    cli.recipes.recipe("demo", "plain")
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={channel}")
    cli.recipes.recipe("demo", "numpy")
    assert cli("lock", "demo").code == 0
    path = cli.lock("demo")
    path.write_text(
        path.read_text().replace("https://conda.anaconda.org", f"https://{USER}:{PASSWORD}@conda.anaconda.org")
    )

    refused = cli("build", "demo", "-vv")

    assert (refused.code, "planted" in refused.err) == (2, False)
    assert "a password or a token" in refused.err


def test_a_channel_that_gives_its_archives_secret_urls_is_refused(cli, shelf, monkeypatch):
    for path in shelf.folder.glob("*/repodata.json"):
        repodata = json.loads(path.read_text())
        repodata["info"]["base_url"] = f"https://{USER}:{PASSWORD}@conda.example.org/ours/{path.parent.name}/"
        path.write_text(json.dumps(repodata))
    monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={shelf.folder}")
    cli.recipes.recipe("demo", "plain")

    refused = cli("lock", "demo", "-vv")

    assert "planted" not in refused.out + refused.err
    assert leaks(cli.root, cli.lockfiles) == {}


def test_pip_s_index_gets_its_password_and_nobody_else(serve, tmp_path, monkeypatch):
    wheel = tmp_path / "served/simple/shy/shy-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    texts = {
        "shy-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: shy\nVersion: 1.0\n",
        "shy-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    sums = {name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for name, text in texts.items()}
    record = [f"{name},sha256={digest.decode().rstrip('=')}," for name, digest in sums.items()]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
        archive.writestr("shy-1.0.dist-info/RECORD", "\n".join([*record, "shy-1.0.dist-info/RECORD,,", ""]))
    server = serve(tmp_path / "served")
    server.faults[".whl"] = asks_for(PROOF)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    index = server.url.replace("http://", f"http://{USER}:{PASSWORD}@")
    link = f'<a href="{index}/simple/shy/{wheel.name}#sha256={digest}">{wheel.name}</a>'
    (wheel.parent / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
    monkeypatch.setenv("PIP_INDEX_URL", f"{index}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    notes: list[str] = []
    say = lambda *_, note="", **__: notes.append(note)  # noqa: E731

    found = resolve([Requirement("shy")], [], say)
    (made,) = obtain(found, tmp_path / "cache", tmp_path / "channel", host_target(), silent)

    assert (tmp_path / "channel" / made.plan.archive).is_file()
    assert list((tmp_path / "cache/wheels").glob("*.json"))
    assert secrets_in(f"{found} {notes}".encode()) == []
    assert leaks(tmp_path / "cache", tmp_path / "channel") == {}

    server.faults[".whl"] = asks_for("another")
    (tmp_path / "again").mkdir()
    with pytest.raises(MlviewsError) as refused:
        fetch(found, tmp_path / "again", say, say)
    assert "401" in str(refused.value)
    assert "planted" not in f"{refused.value!s} {refused.value.args} {refused.value.detail} {notes}"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://u:p@h/x", "https://***@h/x"),
        ("see 'https://u:p@ss@h/t/tok/x' or https://k@h", "see 'https://***@h/t/***/x' or https://***@h"),
        ("https://h/a/t/tok", "https://h/a/t/***"),
        ("file:///home/t/data, /x/t/y, docker://h/a@sha256:1", "file:///home/t/data, /x/t/y, docker://h/a@sha256:1"),
        ("https://h:8080/a@b?c#d@e", "https://h:8080/a@b?c#d@e"),
    ],
)
def test_secrets_are_hidden_and_nothing_else(text, hidden):
    assert hide(text) == hidden
    error = RefusedError("code", text, text, faults=(text,), detail=text)
    assert {str(error.args[0]), error.message, error.hint, *error.faults, error.detail} == {hidden}
    assert Problem("code", text, "").message == hidden
    assert to_json({text: [text, Path(text)]})[hidden][0] == hidden


def test_a_user_without_a_password_and_escapes_are_sent_as_they_are_meant():
    assert open_server("https://h/x/") == ("https://h/x", {})
    for user, sent in (("tok", "tok:"), ("u:p%40", "u:p@"), ("u:", "u:")):
        server = open_server(f"https://{user}@h:1/x")
        assert server == ("https://h:1/x", {"Authorization": f"Basic {base64.b64encode(sent.encode()).decode()}"})
