"""Pure projects without a wheel: built of their sources, shut in, the same every time, or refused."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import socket
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conda_lock.lockfile import parse_conda_lock_file
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlviews.errors import FailedError
from mlviews.lock.parse import read_lock
from mlviews.lock.writer import lock_text
from mlviews.wheels import sdist
from mlviews.wheels.made import Made
from mlviews.wheels.pip import Found, _Watch, fetch, look_up_sources
from mlviews.wheels.target import host_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from shelf import Shelf

    PutSources = Callable[..., Path]


def lock(cli: Any, *pypi: str, **keys: Any) -> Any:
    cli.recipes.recipe("x", "python 3.12.*", pypi=list(pypi), **{"sdists": ["Style"], **keys})
    return cli("lock", "x", "--json")


@pytest.mark.parametrize("modern", ["0", "1"])
def test_a_lock_names_the_sources_and_their_wheel(
    modern: str, cli: Any, sources: PutSources, make_wheel: Any, wheelhouse: Path, sha256: Any, monkeypatch: Any
) -> None:
    """Other tools get the sources by their own hash; what they are built with is named, too."""
    monkeypatch.setenv("_PIP_USE_IMPORTLIB_METADATA", modern)  # 0: pip reads metadata as it does with Python 3.10
    made_of = sources(
        requires='"helper >=1"', needs="Requires-Dist: numpy\n", code="import helper\nCODE = 'x = 2\\n'\n"
    )
    helper = make_wheel(wheelhouse, "helper")
    make_wheel(wheelhouse, "tagger", requires=["style"])
    assert lock(cli, "tagger").code == 0
    found = {package.name: package for package in read_lock(cli.lock("x")).packages}
    style = found["style"]
    assert (style.url, style.sha256, style.manager) == (made_of.as_uri(), sha256(made_of), "pip")
    assert style.dependencies == {"numpy": ""}
    assert style.made
    assert style.made.wheel == "style-1.0-py3-none-any.whl"
    assert [(tool.name, tool.sha256) for tool in style.made.tools] == [("helper", sha256(helper))]
    entry = next(one for one in parse_conda_lock_file(cli.lock("x")).package if one.name == "style")
    assert (entry.url, entry.hash.sha256) == (style.url, style.sha256)
    assert "their code runs then" in cli("show", "x").out
    cli.lock("x").write_text(
        cli.lock("x").read_text().replace("style-1.0-py3-none-any", "style-1.0-cp312-cp312-linux_x86_64")
    )
    assert cli("lock", "x", "--check", "--json").codes == ["lock-invalid"]


def test_a_build_takes_the_locks_wheel_and_no_other(builder: Any, shelf: Shelf, sources: PutSources) -> None:
    sources()
    builder.recipes.recipe("demo", "python", pypi=["style"], sdists=["style"])
    built = builder("build", "demo", "--json")
    assert (built.code, built.data["sdists"]) == (0, ["style"]), built.out
    assert list((builder.root / "envs/demo").rglob("style.py"))
    # On another host the same sources give another wheel.
    shutil.rmtree(builder.root / "cache")
    lock, other = builder.lock("demo"), "0" * 64
    style = read_lock(lock).packages[-1]
    assert style.made
    changed = replace(style, made=replace(style.made, sha256=other))
    lock.write_text(lock_text(replace(read_lock(lock), packages=(*read_lock(lock).packages[:-1], changed))))
    done = builder("build", "demo", "--json")
    assert (done.code, done.codes) == (3, ["sdist-differs"]), done.out
    assert other in done.json["errors"][0]["message"]


HOSTILE = """
import os, socket
from pathlib import Path
done = []
def attempt(name, work):
    try:
        work()
    except OSError:
        return
    done.append(name)
attempt("network", lambda: socket.create_connection(("127.0.0.1", {port}), 2))
attempt("a socket of the host", lambda: socket.socket(socket.AF_UNIX))
attempt("read a secret", lambda: Path({secret!r}).read_text())
attempt("list a folder", lambda: os.listdir({home!r}))
attempt("write beside", lambda: Path({home!r}, "evil").write_text("evil"))
attempt("write into the tools", lambda: Path("../../../tools/evil").write_text("evil"))
attempt("write /tmp", lambda: Path("/tmp/evil-sdist").write_text("evil"))
attempt("delete", lambda: os.unlink({secret!r}))
attempt("link", lambda: (os.link({secret!r}, "secret"), open("secret").read()))
attempt("read another process", lambda: Path("/proc/{pid}/environ").read_bytes())
attempt("signal", lambda: os.kill({pid}, 0))
os.chmod({secret!r}, 0o777)
os.utime({secret!r}, (1, 1))
os.system("touch {home}/evil")
CODE = f"done = {{done}}\\nvariables = {{dict(os.environ)}}\\n"
"""


@pytest.fixture
def built(sources: PutSources, tmp_path: Path) -> Callable[..., bytes]:
    """Return a function that builds sources as if pip had brought them, and returns the wheel."""

    def build(**keys: Any) -> bytes:
        archive, scratch = sources(**keys), tmp_path / "scratch"
        (scratch / "tools").mkdir(parents=True)
        found = Found(name=canonicalize_name("style"), version="1.0", url=archive.as_uri(), sha256="")
        unpacked = sdist._unpack(archive, scratch / "build" / "src")
        content, name = sdist._built(sdist.read_sources(unpacked), scratch, found, lambda *_, **__: None)
        (scratch / name).write_bytes(content)
        made = Made(wheel=name, sha256=hashlib.sha256(content).hexdigest())
        sdist._checked(scratch / name, made, found)
        return content

    return build


def test_a_build_sees_no_network_and_nothing_of_its_users(
    built: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "mine"
    home.mkdir()
    secret = home / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    before = secret.stat()
    monkeypatch.setenv("MY_TOKEN", "secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        wheel = built(code=HOSTILE.format(port=port, secret=str(secret), home=str(home), pid=os.getpid()))
    names: dict[str, Any] = {}
    exec(zipfile.ZipFile(io.BytesIO(wheel)).read("style.py"), names)
    assert names["done"] == []
    assert not {"MY_TOKEN", "USER"} & {*names["variables"]}
    assert names["variables"]["SOURCE_DATE_EPOCH"] == "315532800", "so that sources give the same wheel again"
    assert [path.name for path in home.iterdir()] == ["secret"]
    after = secret.stat()
    assert (after.st_mode, after.st_mtime, after.st_ctime) == (before.st_mode, before.st_mtime, before.st_ctime)
    assert not Path("/tmp/evil-sdist").exists()


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"code": "raise SystemExit('no compiler here')\n"}, "sdist-failed.*no compiler here"),
        ({"tag": "cp312-cp312-linux_x86_64"}, "sdist-not-pure.*not for every platform"),
        ({"version": "2.0"}, "sdist-not-pure.*of another project"),
        ({"code": "CODE = '\\x7fELF library'\n"}, "sdist-not-pure.*made for one platform"),
        ({"member": "../evil"}, "outside the destination"),
        ({"member": "evil"}, "does not hold one folder"),
    ],
)
def test_what_is_refused(built: Any, keys: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises((FailedError, ValueError, tarfile.TarError)) as caught:
        built(**keys)
    said = f"{getattr(caught.value, 'code', '')} {caught.value}"
    assert re.search(reason, said, re.DOTALL), said
    assert not list(tmp_path.glob("**/build/evil"))


@pytest.mark.parametrize("filters", [True, False], ids=["filters", "older"])
def test_sources_are_unpacked_alike_by_a_python_without_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: bool
) -> None:
    """Those of PEP 706 came with 3.10.12 and 3.11.4, and Debian 12 has 3.11.2."""
    if not filters:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)

    def unpacked(number: int, *members: tuple[str, int, str]) -> Path:
        archive = tmp_path / f"{number}.tar.gz"
        with tarfile.open(archive, "w:gz") as packed:
            for name, mode, link in members:
                header = tarfile.TarInfo(name)
                header.mode, header.linkname, header.size = mode, link, 0 if link else 4
                header.type = tarfile.SYMTYPE if link else tarfile.REGTYPE
                packed.addfile(header, io.BytesIO(b"text"))
        return sdist._unpack(archive, tmp_path / str(number))

    top = unpacked(1, ("style-1.0/a/run", 0o777, ""), ("/style-1.0/read", 0o4464, ""))
    found = {path.name: (path.stat().st_mode & 0o7777, path.read_text()) for path in top.rglob("*") if path.is_file()}
    assert found == {"run": (0o755, "text"), "read": (0o644, "text")}
    for number, member in enumerate((("../out", 0o644, ""), ("style-1.0/../../out", 0o644, ""), ("in", 0o644, "/etc"))):
        with pytest.raises(tarfile.TarError):
            unpacked(2 + number, member)


def test_sources_that_no_recipe_names_run_nowhere(cli: Any, sources: PutSources, tmp_path: Path) -> None:
    """Nor do those that are looked up and fetched: pip is given what they say of themselves."""
    ran = tmp_path / "ran"
    archive = sources(code=f"open({str(ran)!r}, 'w')\nCODE = ''\n")
    done = lock(cli, "style", sdists=[])
    assert done.codes == ["wheel-unknown"]
    assert "line under `sdists`" in done.json["errors"][0]["hint"]
    found = look_up_sources(Requirement("style"), host_target(), lambda *_, **__: None)
    assert found
    (tmp_path / "fetched").mkdir()
    fetch([found], tmp_path / "fetched", lambda *_, **__: None, sources=True)
    assert (tmp_path / "fetched" / archive.name).read_bytes() == archive.read_bytes()
    assert not ran.exists()


def test_bytes_are_counted_once_for_each_file_that_pip_loads() -> None:
    told: list[tuple[int, int]] = []
    watch = _Watch(lambda *_, **__: None, lambda came, begins: told.append((came, begins)))
    for line in (
        "Collecting a",
        "Progress 0 of 9",
        "Progress 4 of 9",
        "Progress 9 of 9",
        "Collecting b",
        "Progress 5 of 5",
    ):
        watch.read(f"  {line}\n")

    assert told == [(0, 9), (4, 0), (5, 0), (5, 5)]
