"""Permissions are decided: whatever an archive, the umask, or somebody who can reach a release says of them."""

from __future__ import annotations

import grp
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.errors import FailedError
from mlviews.files.permissions import decided, open_to_readers, own_part, private, share
from mlviews.hardware import host_platform
from mlviews.prefix.unpacked import close_cache
from mlviews.smoke.report import CheckLine
from mlviews.wheels.channel import open_cache

# As archives of conda-forge have them; the last ones nobody could read, or would run as another user.
MODES = {
    "share/odd/a": 0o664, "share/odd/b": 0o666, "share/odd/c": 0o777, "share/odd/d": 0o600, "share/odd/e": 0o444,
    "share/odd/f": 0o111, "share/odd/g": 0o000, "share/odd/h": 0o4755, "bin/odd": 0o775,
}  # fmt: skip
PROGRAMS = {"share/odd/c", "share/odd/f", "share/odd/h", "bin/odd"}
NOBODY = 65534


@pytest.fixture(params=[".conda", ".tar.bz2"])
def odd(request: pytest.FixtureRequest, shelf: Any) -> None:
    shelf.add("odd", files={path: f"{path}\n" for path in MODES}, modes=MODES, ending=request.param)


def prefix_of(cli: Any, view: str) -> Path:
    return (cli.root / "envs" / view / "default" / host_platform()).resolve()


def modes_below(folder: Path) -> dict[str, int]:
    found = {path.relative_to(folder).as_posix(): path.lstat() for path in folder.rglob("*")}
    return {path: status.st_mode for path, status in found.items() if not stat.S_ISLNK(status.st_mode)}


def is_usual(path: str, mode: int) -> bool:
    return stat.S_IMODE(mode) in ({0o755} if stat.S_ISDIR(mode) else {0o644, 0o755})


@given(st.integers(0, 0o7777), st.sampled_from([stat.S_IFREG, stat.S_IFDIR]), st.booleans())
def test_nobody_else_may_write_and_everybody_may_read(mode, kind, shared):
    found = decided(kind | mode, shared=shared)

    assert not found & (0o002 if shared else 0o022)
    assert found & 0o444 == 0o444
    assert bool(found & 0o111) == (kind == stat.S_IFDIR or bool(mode & 0o111))
    assert not found & (stat.S_ISUID | stat.S_ISVTX)
    assert decided(kind | found, shared=shared) == found
    assert private(found) == decided(kind | mode)


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o027, 0o077])
def test_no_umask_and_no_archive_decides(builder, odd, umask):
    builder.recipes.recipe("demo", "python", "greet", "native", "plain", "odd")

    assert builder.process("build", "demo", umask=umask).code == 0

    found = modes_below(prefix_of(builder, "demo"))
    assert [f"{path} {mode:o}" for path, mode in found.items() if not is_usual(path, mode)] == []
    assert {path for path in MODES if found[path] & 0o111} == PROGRAMS
    assert found["bin/greet"] & 0o777 == found["bin/native"] & 0o777 == 0o755
    cached = {path: mode for path, mode in modes_below(builder.root / "cache/pkgs").items() if path[-5:] != ".lock"}
    assert [f"{path} {mode:o}" for path, mode in cached.items() if not is_usual(path, mode)] == []
    assert stat.S_IMODE((builder.root / "cache/pkgs").stat().st_mode) == 0o700
    for folder in ("", "envs", "envs/demo", f"envs/demo/{prefix_of(builder, 'demo').parent.name}", "modulefiles"):
        assert stat.S_IMODE((builder.root / folder).stat().st_mode) == 0o755, folder
    assert builder("verify", "demo").code == 0


def test_the_list_of_files_is_the_same_under_every_umask(builder, odd, monkeypatch):
    listed = []
    builder.recipes.recipe("demo", "odd", "python", "greet")
    for umask in (0o000, 0o077):
        shutil.rmtree(builder.root, ignore_errors=True)
        assert builder.process("build", "demo", umask=umask).code == 0
        listed.append(json.loads((prefix_of(builder, "demo") / "files.json").read_text())["modes"])
    assert listed[0] == listed[1]
    assert set(listed[0]) == {"755"}


def test_what_somebody_does_to_one_release_does_not_reach_the_next(builder, odd):
    done = {"bin/native": 0o600, "share/native/data": 0o755, "bin/odd": 0o644, "share/odd/b": 0o666, "bin/greet": 0o777}
    for view in ("demo", "other"):
        builder.recipes.recipe(view, "python", "greet", "native", "odd")
    assert builder("build", "demo").code == 0
    right = modes_below(prefix_of(builder, "demo"))
    for path, mode in done.items():
        (prefix_of(builder, "demo") / path).chmod(mode)
    (builder.root / "cache/pkgs/native-1.0-h123_4/bin/native").chmod(0o600)  # releases have copies of it

    assert builder("build", "other").code == 0

    found = modes_below(prefix_of(builder, "other"))
    assert {path: found[path] for path in done} == {path: right[path] for path in done}
    assert builder("verify", "other").code == 0


def test_permissions_of_byte_code_do_not_spread_either(builder):
    for view in ("demo", "other"):
        builder.recipes.recipe(view, "python", "greet")
    assert builder("build", "demo").code == 0
    (code,) = prefix_of(builder, "demo").rglob("greet.*.pyc")
    code.chmod(0o666)

    assert builder("build", "other").code == 0

    (code,) = prefix_of(builder, "other").rglob("greet.*.pyc")
    assert stat.S_IMODE(code.stat().st_mode) == 0o644


# What paths.json does not know


def flip(path: Path) -> bytes:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(bytes([content[0] ^ 1]))
    return content


@pytest.mark.parametrize("ending", [".conda", ".tar.bz2"])
def test_bytes_of_a_package_without_paths_json_do_not_spread(builder, shelf, ending):
    shelf.add("bare", files={"share/bare/data": "as packed\n"}, unlisted=True, ending=ending)
    for view in ("demo", "other"):
        builder.recipes.recipe(view, "python", "greet", "bare")
    assert builder("build", "demo").code == 0
    right = flip(prefix_of(builder, "demo") / "share/bare/data")

    assert builder("build", "other").code == 0

    assert (prefix_of(builder, "other") / "share/bare/data").read_bytes() == right
    found = builder("verify", "demo", "--json").data["releases"][0]["faults"]
    assert found == [{"path": "share/bare/data", "kind": "changed", "package": "bare-1.0-h0_0"}]
    assert builder("verify", "demo", "--repair").code == 0
    assert builder("verify", "other").code == 0


@pytest.mark.parametrize("path", ["info/index.json", "info/link.json"])
def test_what_an_install_reads_of_a_package_is_checked_too(builder, path):
    for view in ("demo", "other"):
        builder.recipes.recipe(view, "python", "greet")
    assert builder("build", "demo").code == 0
    right = flip(builder.root / "cache/pkgs/greet-1.0-h0_0" / path)

    assert builder("build", "other").code == 0

    assert (builder.root / "cache/pkgs/greet-1.0-h0_0" / path).read_bytes() == right


def test_a_package_that_a_release_holds_and_nothing_is_noted_of_is_unpacked_again(builder):
    """As those are that an older mlviews unpacked."""
    for view in ("demo", "other"):
        builder.recipes.recipe(view, "python", "greet", "native")
    assert builder("build", "demo").code == 0
    prefix_of(builder, "demo").joinpath("share/native/data").chmod(0o755)
    shutil.rmtree(builder.root / "cache/pkgs/.unpacked")

    assert builder("build", "other").code == 0

    assert stat.S_IMODE(prefix_of(builder, "other").joinpath("share/native/data").stat().st_mode) == 0o644


def test_a_note_goes_with_its_package(builder):
    builder.recipes.recipe("demo", "python", "greet", "native")
    assert builder("build", "demo").code == 0
    note = builder.root / "cache/pkgs/.unpacked/native-1.0-h123_4.json"
    assert note.is_file()
    builder.recipes.recipe("demo", "python", "greet")
    assert builder("lock", "demo").code == builder("build", "demo").code == 0

    assert builder("gc", "--keep", "0", "--keep-days", "0").code == 0

    assert not note.exists()
    assert [path.name for path in note.parent.glob("greet-*")] == ["greet-1.0-h0_0.json"]


# verify and publish


def test_verify_judges_by_the_rule_and_repair_gives_it_back(builder):
    done = {"share/plain/data": 0o664, "share/native/data": 0o646, "bin/native": 0o755 | 0o20, "setup.sh": 0o600}
    done |= {"share": 0o2775, ".": 0o777}
    builder.recipes.recipe("demo", "python", "greet", "plain", "native")
    assert builder("build", "demo").code == 0
    prefix = prefix_of(builder, "demo")
    right = {path: (prefix / path).stat().st_mode for path in done}
    for path, mode in done.items():
        (prefix / path).chmod(mode)

    found = builder("verify", "demo", "--json").data["releases"][0]["faults"]

    assert {fault["path"]: fault["kind"] for fault in found} == dict.fromkeys(done, "mode")
    assert builder("verify", "demo", "--repair").code == 0
    assert {path: (prefix / path).stat().st_mode for path in done} == right


# Two users


@pytest.fixture
def place(odd: None, open_place: Path) -> Path:
    """Such a root, with a channel that holds odd permissions."""
    return open_place


@pytest.fixture
def open_place(builder: Any, shelf: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root that every user of this host reaches; pytest's own folders are closed."""
    if os.geteuid():
        pytest.skip("only root can become two other users")
    with tempfile.TemporaryDirectory(prefix="mlviews-users-") as name:
        place = Path(name)
        place.chmod(0o755)
        shutil.copytree(shelf.folder, place / "channel")
        shutil.copytree(builder.recipes.folder, place / "recipes")
        (place / "root").mkdir()
        (place / "root").chmod(0o1777)
        (place / "home").mkdir()
        monkeypatch.setenv("MLVIEWS_MIRROR", f"conda-forge={place / 'channel'}")
        monkeypatch.setenv("MLVIEWS_ROOT", str(place / "root"))
        monkeypatch.setenv("MLVIEWS_RECIPES", str(place / "recipes"))
        monkeypatch.setenv("MLVIEWS_LOCKFILES", str(place / "locks"))
        yield place


def place_recipe(cli: Any, place: Path, name: str, *packages: str) -> None:
    shutil.copy(cli.recipes.recipe(name, *packages), place / "recipes")


def as_user(user: int, groups: list[int], work: Callable[[], Any]) -> Any:
    """Return what a function gives in a process of another user; it must be text for JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        answer: Any = "failed"
        try:
            os.setgroups(groups)
            os.setgid(groups[0])
            os.setuid(user)
            answer = work()
        finally:
            os.write(writing, json.dumps(answer).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return json.loads(content)


def changed_by_hand(folder: Path) -> list[str]:
    """Try to write every file, to make one in every folder, and to give everything other permissions."""
    done = []
    for path in [folder, *folder.rglob("*")]:
        if path.is_symlink():
            continue
        try:
            with (path / "planted" if path.is_dir() else path).open("ab"):
                done.append(f"wrote {path.relative_to(folder)}")
        except OSError:
            pass
        try:
            path.chmod(0o777)
            done.append(f"chmod {path.relative_to(folder)}")
        except OSError:
            pass
    return done


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_a_second_user_changes_nothing(builder, odd, place, umask):
    place_recipe(builder, place, "demo", "python", "greet", "native", "odd")
    assert builder.process("build", "demo", umask=umask).code == 0
    root = place / "root"

    for groups in ([os.getgid()], [NOBODY]):
        assert as_user(NOBODY, groups, lambda: changed_by_hand(root / "envs")) == []
        assert as_user(NOBODY, groups, lambda: changed_by_hand(root / "cache")) == []
        assert as_user(NOBODY, groups, lambda: changed_by_hand(root / "modulefiles")) == []
    assert builder("verify", "demo").code == 0


@pytest.mark.parametrize("way", ["folder", "link", "view", "open"])
def test_nothing_is_built_where_somebody_else_could_change_it(builder, place, way):
    """In a root where everybody may make folders, somebody was there first; or a folder was opened by hand."""
    place_recipe(builder, place, "demo", "python", "greet")
    root = place / "root"
    (root / "envs/demo").mkdir(parents=True)
    (root / "envs").chmod(0o777 if way == "open" else 0o755)
    (root / "cache").symlink_to(place / "home")
    foreign = {"folder": root / "envs", "view": root / "envs/demo", "link": root / "cache"}.get(way)
    if foreign:
        os.chown(foreign, NOBODY, NOBODY, follow_symlinks=False)

    refused = builder("build", "demo", "--json")

    assert (refused.code, refused.codes) == (3, ["folder-foreign"])
    assert list((root / "envs").glob("*/*")) == list((place / "home").iterdir()) == []
    told = refused.json["errors"][0]
    assert ("everybody" if way == "open" else "nobody") in told["message"]
    if foreign:
        os.chown(foreign, 0, 0, follow_symlinks=False)
    (root / "envs").chmod(0o755)
    assert builder("build", "demo").code == 0


@pytest.mark.parametrize("way", ["foreign", "open"])
def test_a_site_that_somebody_else_wrote_into_the_root_decides_nothing(builder, place, monkeypatch, way):
    monkeypatch.delenv("MLVIEWS_SITE", raising=False)
    site = place / "root/site.yaml"
    site.write_text(f"schema: 1\nname: theirs\nsummary: Theirs\nroot: {place}/root\ngroup: {grp.getgrgid(1).gr_name}\n")
    site.chmod(0o666 if way == "open" else 0o644)
    os.chown(site, NOBODY if way == "foreign" else -1, -1)
    place_recipe(builder, place, "demo", "python", "greet")

    for verb in ("build", "lock"):
        assert builder(verb, "demo", "--json").codes == ["folder-foreign"]
    assert (place / "root").stat().st_gid != 1

    site.chmod(0o644)
    os.chown(site, 0, -1)
    assert builder("lock", "demo").code == 0
    assert (place / "root").stat().st_gid == 1


# A process of its own: what rattler's threads hold would be held for ever in a fork.
MEMBER = """
import os, sys, tempfile
from pathlib import Path
import encodings.cp437, encodings.idna  # zipfile reads names by it
from mlviews.lock.parse import read_lock
from mlviews.files.permissions import share
from mlviews.prefix.install import Prefix, install

lock, root, name, channel, group, user, gid = sys.argv[1:]
os.setgroups([int(gid)])
os.setgid(int(user))
os.setuid(int(user))
os.umask(0o077)
packages = read_lock(Path(lock)).on("linux-64")
with tempfile.TemporaryDirectory() as home:
    os.environ["HOME"] = home
    share(Path(root), group)
    prefix = Path(root, "envs", name)
    mirrors = {"conda-forge": channel}
    options = {"cache": Path(root, "cache"), "mirrors": mirrors, "group": group}
    install(packages, Prefix.in_place(prefix, "linux-64"), **options)
"""


def test_a_group_shares_a_root_where_the_site_says_so(builder, place):
    """Two members install into one root, with one cache; who is no member changes nothing."""
    group = grp.getgrgid(1)
    place_recipe(builder, place, "demo", "python", "greet", "native", "odd")
    assert builder("lock", "demo").code == 0
    root = place / "common"
    place.chmod(0o777)

    for user, name in ((1001, "one"), (1002, "two")):
        given = [place / "locks/demo.conda-lock.yml", root, name, place / "channel", group.gr_name, user, group.gr_gid]
        subprocess.run([sys.executable, "-c", MEMBER, *map(str, given)], check=True, timeout=120)

    for user in ("one", "two"):
        prefix = root / "envs" / user
        for path, mode in modes_below(prefix).items():
            wanted = {0o2775} if stat.S_ISDIR(mode) else {0o664, 0o775}
            assert stat.S_IMODE(mode) in wanted, path
            assert (prefix / path).stat().st_gid == group.gr_gid, path
    assert (root / "envs/one/share/odd/b").samefile(root / "envs/two/share/odd/b")
    assert (root / "envs/one/share/odd/b").stat().st_uid == 1001
    assert as_user(NOBODY, [NOBODY], lambda: changed_by_hand(root)) == []


def test_without_the_key_a_cache_is_its_owners(builder, place):
    place_recipe(builder, place, "demo", "python", "greet")
    assert builder("build", "demo").code == 0
    cache = place / "root/cache"
    os.chown(cache, NOBODY, -1)

    def work() -> str:
        try:
            close_cache(cache / "pkgs", None)
        except FailedError as error:
            return error.code
        return "done"

    cache.joinpath("pkgs").chmod(0o755)
    assert as_user(NOBODY, [NOBODY], work) == "cache-foreign"


def test_a_group_that_this_host_does_not_know_is_said(builder):
    builder.site("ours", group="no-such-group")
    builder.recipes.recipe("demo", "python", "greet")

    refused = builder("--site", "ours", "build", "demo", "--json")

    assert (refused.code, refused.codes) == (2, ["group-unknown"])


@pytest.fixture
def others(builder: Any, open_place: Path) -> Callable[..., Any]:
    """Return a function that calls mlviews as another user, who may only read; what it ends with, prints and finds."""
    place_recipe(builder, open_place, "demo", "python", "greet")
    open_place.joinpath("root").chmod(0o755)
    assert builder("build", "demo").code == 0
    for verb in ("releases", "verify"):  # what a call imports cannot be read by another user
        assert builder(verb, "demo").code == 0
    assert builder("smoke", "demo", "--check", "pip-check").code == 0

    def call(*arguments: str) -> Any:
        def work() -> Any:
            settle_in(open_place / "home")
            done = builder(*arguments)
            return [done.code, done.out + done.err]

        return as_user(NOBODY, [NOBODY], work)

    return call


def settle_in(home: Path) -> None:
    """In the process of another user: forget whose home folder the tests have."""
    for name in [name for name in os.environ if name.startswith(("XDG_", "JUPYTER_", "MLVIEWS_SITE"))]:
        del os.environ[name]
    os.environ["HOME"] = str(home)


def test_a_release_that_is_closed_to_others_is_told_and_no_default(builder, others, open_place):
    """By whom it was closed and what opens it; who made it opens it when it becomes the default."""
    release = open_place / "root/envs/demo" / (open_place / "root/envs/demo/default").readlink()
    for path in (release, release / host_platform(), release / host_platform() / "release.json"):
        path.chmod(0o600 if path.is_file() else 0o700)

        code, said = others("releases")
        assert (code, f"{path} belongs to root, and you may not read it" in said) == (0, True), said
        code, said = others("verify", "demo")
        assert code in {1, 3}
        assert f"{path} belongs to root, and you may not read it" in said
        assert "disk" not in said
        code, said = others("show", f"demo/{release.name}")
        assert (code, "root" in said, "chmod -R a+rX" in said) == (3, True, True)

        assert builder("promote", f"demo/{release.name}").code == 0
        assert stat.S_IMODE(path.stat().st_mode) == (0o644 if path.is_file() else 0o755)
        assert others("verify", "demo")[0] == 0
    path.chmod(0o640)
    assert builder("verify", "demo").code == 1

    def work() -> Any:
        try:
            open_to_readers([path], None)
        except FailedError as error:
            return [error.code, error.hint]
        return "done"

    assert as_user(NOBODY, [os.getgid()], work) == ["closed", f"Ask root to open it: `chmod -R a+rX,g+w {path}`."]
    assert builder("verify", "demo", "--repair").code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_reader_proves_a_view_and_keeps_the_record_or_says_that_it_did_not(builder, others, open_place, monkeypatch):
    found = CheckLine(name="pip-check", status="pass", reason="", seconds=1)
    monkeypatch.setattr("mlviews.smoke.runner.run_checks", lambda *a, **k: (found,))  # its Python is root's own
    for mode in (0o755, 0o700):  # of the site's records: what is closed is no place either
        (open_place / "root/records").chmod(mode)
        code, said = others("smoke", "demo")
        assert (code, "note: not recorded: " in said) == (0, True), said
    (open_place / "root/records").chmod(0o755)
    (open_place / "home").chmod(0o777)
    code, said = others("smoke", "demo")
    assert (code, f"recorded in {open_place}/home/.local/" in said) == (0, True), said


def test_the_first_member_of_a_group_closes_no_cache_to_the_second(open_place):
    """rattler closes what it fetches, and the folders that it makes as the umask says."""
    root, group = open_place / "common", grp.getgrgid(1)
    open_place.chmod(0o777)

    def work() -> str:
        os.umask(0o077)
        share(root, group.gr_name)
        own = own_part(root / "cache/repodata")
        with open_cache(root / "cache") as channel:
            (channel / f"made-by-{os.getuid()}").touch()
        own.mkdir(mode=0o700)
        return str(own)

    made = [as_user(user, [group.gr_gid], work) for user in (1001, 1002)]

    assert made == [f"{root}/cache/repodata-{user}" for user in (1001, 1002)]
    assert len(list((root / "cache/channel").iterdir())) == 2
    assert own_part(open_place / "root/cache/repodata") == open_place / "root/cache/repodata"
