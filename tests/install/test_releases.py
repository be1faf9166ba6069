"""What people do with releases: promote, roll back, pin, remove; and what is left of those that are gone."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from mlviews.files.reading import UnreadableError
from mlviews.hardware import host_platform


@pytest.fixture
def three(builder: Any, same_place: Any) -> Any:
    """A view with three releases; the last one is the default."""

    def build() -> list[str]:
        made = []
        for packages in (("greet",), ("greet", "plain"), ("greet", "native")):
            builder.recipes.recipe("demo", "python", *packages)
            assert builder("lock", "demo").code == 0
            made.append(builder("build", "demo", "--json").data["release"])
        return made

    builder.made = same_place.once(build)
    return builder


@pytest.fixture
def builder(builder: Any) -> Any:
    class Builder:
        made: list[str]

        def __call__(self, *arguments: str | Path) -> Any:
            return builder(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(builder, name)

    return Builder()


def default(builder: Any) -> str:
    return (builder.root / "envs/demo/default").readlink().name


def test_promote_changes_what_a_plain_start_gives(three):
    first, _, last = three.made

    promoted = three("promote", f"demo/{first}", "--json")

    assert promoted.code == 0
    assert promoted.data.items() >= {"view": "demo", "release": first, "before": last}.items()
    assert three.process("run", "demo", "--", "greet").out == f"hello from {three.root}/envs/demo/{first}/linux-64\n"
    kernel = json.loads((three.root / "kernels/demo/kernel.json").read_text())
    assert kernel["metadata"]["mlviews"]["release"] == first
    assert f'"{first}"' in (three.root / "modulefiles/atlasml/demo/.version").read_text()


def test_rollback_goes_back_step_by_step_and_never_to_what_was_left(three):
    first, second, last = three.made

    assert (
        three("rollback", "demo", "--json").data.items() >= {"view": "demo", "release": second, "before": last}.items()
    )
    assert "again" in three("rollback", "demo").out
    assert default(three) == first
    refused = three("rollback", "demo", "--json")

    assert (refused.code, refused.codes) == (1, ["release-missing"])
    assert default(three) == first
    three("promote", f"demo/{last}")
    assert three("rollback", "demo", "--json").data["release"] == first


def test_rollback_never_leads_to_what_is_the_default(three):
    first, second, last = three.made
    for name in (first, last):
        three("promote", f"demo/{name}")
    for name in (first, second):
        assert three("remove", f"demo/{name}").code == 0

    refused = three("rollback", "demo", "--json")

    assert (refused.code, refused.codes) == (1, ["release-missing"])


def test_rollback_leaves_out_what_was_removed(three):
    first, second, _ = three.made
    assert three("remove", f"demo/{second}").code == 0

    assert three("rollback", "demo", "--json").data["release"] == first


def test_what_cannot_be_read_is_not_passed_over(three):
    """An older release in its place would become the default, or be shown, without a word."""
    _, second, last = three.made
    damaged = [three.root / f"envs/demo/{name}/{host_platform()}/release.json" for name in (second, last)]
    kept = [path.read_bytes() for path in damaged]

    damaged[0].write_bytes(b"")
    refused = three("rollback", "demo", "--json")
    assert (refused.code, refused.codes, default(three)) == (3, ["unreadable"], last)

    damaged[0].write_bytes(kept[0])
    damaged[1].write_bytes(b"")
    told = three("list", "--json")
    assert (told.code, told.codes) == (3, ["unreadable"])
    (three.root / "envs/demo/default").unlink()
    for arguments in (("list",), ("gpus", "--all")):
        told = three(*arguments, "--json")
        assert (told.code, told.codes) == (3, ["unreadable"]), arguments


@pytest.mark.parametrize("verb", ["promote", "pin", "remove"])
@pytest.mark.parametrize("name", ["demo/2020.01.01", "demo/..", "demo/default", "demo/2020.01.01/linux-64", "no/x"])
def test_what_is_no_release_is_refused(three, verb, name):
    refused = three(verb, name, "--json")

    assert (refused.code, refused.codes) == (1, ["view-unknown" if name == "no/x" else "release-missing"])
    assert not (three.root / "envs/no").exists()


@pytest.mark.parametrize("verb", ["promote", "pin", "remove"])
@pytest.mark.parametrize("name", ["demo", "demo/", "/2020.01.01", ""])
def test_what_names_no_release_is_wrong_usage(builder, verb, name):
    assert builder(verb, name, "--json").codes == ["usage"]


def test_a_default_that_somebody_deleted_by_hand_is_called_that(builder: Any) -> None:
    builder.recipes.recipe("demo", "python", "greet")
    first = builder("build", "demo", "--json").data["release"]
    second = builder("build", "demo", "--rebuild", "--json").data["release"]
    shutil.rmtree(builder.root / "envs/demo" / second)

    assert builder("releases", "--json").data["lost"] == [f"demo/{second}"]
    assert f"the default demo/{second} is not there any more" in builder("releases", "demo").out
    assert f"the default demo/{second} is not there any more" in builder("doctor", "--json").out
    refused = builder("smoke", "demo")
    assert f"the default of demo, {second}, is not there any more" in refused.err
    assert f"`mlviews promote demo/{first}`" in refused.err
    builder.site("manual", promote="manual", root=str(builder.root))
    assert (
        f"which is {second}, a release that is not there any more" in builder("build", "demo", "--site", "manual").out
    )
    assert builder("promote", f"demo/{first}").code == 0
    assert builder("releases", "--json").data["lost"] == []

    def leading() -> set[str]:
        files = (*builder.root.glob("kernels/*"), *builder.root.glob("modulefiles/**/2*"))
        return {path.name for path in files}

    before = leading()
    assert builder("gc", "--keep-days", "0").code == 0
    assert before - leading() == {f"demo-{second}", second, f"{second}.lua"}


def test_a_root_that_was_moved_is_told_and_built_for_its_new_place(builder: Any) -> None:
    """The same root by another name is no other place."""
    builder.recipes.recipe("demo", "python", "greet")
    first = builder("build", "demo", "--json").data["release"]
    moved = builder.root.with_name("moved")
    moved.symlink_to(builder.root)
    assert builder("build", "demo", "--root", moved, "--json").data["status"] == "unchanged"

    moved.unlink()
    builder.root.rename(moved)
    assert f"demo/{first} runs only in {builder.root}" in builder("doctor", "--root", moved, "--json").out
    assert "users do not" in builder("smoke", "demo", "--root", moved).err
    again = builder("build", "demo", "--root", moved, "--json")
    assert (again.data["status"], again.data["release"] != first) == ("new", True)
    assert subprocess.run([Path(again.data["folder"]) / "launch", "python", "-c", "pass"], check=False).returncode == 0
    assert "runs only in" not in builder("doctor", "--root", moved, "--json").out


def test_the_default_and_what_is_pinned_are_never_removed(three):
    first, _, last = three.made
    assert three("remove", f"demo/{last}", "--json").codes == ["release-default"]
    assert three("pin", f"demo/{first}").code == 0

    refused = three("remove", f"demo/{first}", "--json")

    assert (refused.code, refused.codes) == (1, ["release-pinned"])
    lines = {line["release"]: line for line in three("releases", "demo", "--json").data["releases"]}
    assert [lines[name]["pinned"] for name in three.made] == [True, False, False]
    assert three("pin", f"demo/{first}", "--undo").code == 0
    assert three("remove", f"demo/{first}").code == 0


def test_remove_says_what_it_frees_and_frees_it(three):
    first = three.made[0]
    folder = three.root / "envs/demo" / first

    def alone() -> int:
        files = [path.lstat() for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
        return sum(status.st_size for status in files if status.st_nlink == 1)

    before = alone()
    shared = [line["shared"] for line in three("releases", "demo", "--json").data["releases"]]
    removed = three("remove", f"demo/{first}", "--json")

    assert removed.code == 0
    assert removed.data["bytes"] == before - alone() + (folder / "removed.json").stat().st_size
    assert removed.data["bytes"] > 2000
    assert all(count > 0 for count in shared)
    listed = three("releases", "demo", "--json").data
    assert [line["release"] for line in listed["releases"]] == three.made[1:]
    assert [line["release"] for line in listed["removed"]] == [first]
    assert f"removed: {first}" in three("releases", "demo").out
    details = three("releases", "-v").out
    assert f"removed demo/{first} on 20" in details
    assert " UTC  " in details
    assert str(folder.with_name(three.made[-1])) in details


def test_the_name_of_a_removed_release_is_never_given_again(three):
    first, _, last = three.made
    three("promote", f"demo/{first}")
    assert three("remove", f"demo/{last}").code == 0

    built = three("build", "demo", "--json").data

    assert built["status"] == "new"
    assert built["release"] == f"{first}.4"


def test_who_asks_for_a_removed_release_is_told_what_there_is_instead(three):
    first, _, last = three.made
    prefix = three.root / "envs/demo" / first / host_platform()
    kernel = [prefix / "launch", "python", "-m", "ipykernel_launcher"]
    three("remove", f"demo/{first}")

    for command in (kernel, ["sh", "-c", f". {prefix}/setup.sh"], ["bash", "-c", f"source {prefix}/setup.sh || exit"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (127, "")
        assert f"release {first} of demo was removed; the default is {last}, in {three.root}/envs/demo" in done.stderr
    refused = three("run", f"demo/{first}", "--json", "--", "python")
    assert refused.code == 1
    for arguments in (("promote", f"demo/{first}"), ("diff", "demo", "--from", first)):
        said = three(*arguments, "--json").json["errors"]
        assert [error["code"] for error in said] == ["release-removed"]
        assert f"release {first} of demo was removed on 20" in said[0]["message"]
        assert last in said[0]["hint"]
    three("rollback", "demo")
    done = subprocess.run([prefix / "launch", "x"], capture_output=True, text=True, check=False)
    assert f"the default is {three.made[1]}," in done.stderr


def test_the_module_of_a_removed_release_says_so_and_loads_nothing(three, lmod):
    first, _, last = three.made
    use = f"module use {shlex.quote(str(three.root / 'modulefiles'))}"
    modules = three.root / "modulefiles/atlasml/demo"
    whole = (modules / f"{first}.lua").read_text()
    three("remove", f"demo/{first}")

    said = lmod(f"{use}; module load atlasml/demo/{first}; echo release=$MLVIEWS_RELEASE")

    told = " ".join(said.split())
    assert f"release {first} of demo was removed; atlasml/demo loads the default, {last} by then" in told
    assert said.endswith("release=\n")
    assert lmod(f"{use}; module load atlasml/demo; echo $MLVIEWS_RELEASE") == f"{last}\n"
    # Who had it loaded when it went can still unload it.
    gone = (modules / f"{first}.lua").read_text()
    (modules / f"{first}.lua").write_text(whole.replace("not isDir", "false and not isDir"))
    (three.root / "gone").write_text(gone)
    swap = f"cp {three.root}/gone {modules}/{first}.lua"
    left = lmod(f"{use}; module load atlasml/demo/{first} && {swap} && module purge; echo $PATH $MLVIEWS_RELEASE")
    assert left == "/usr/bin:/bin\n"


@pytest.fixture
def lmod(tmp_path: Path, require: Any) -> Any:
    init = Path("/usr/share/lmod/lmod/init/bash")
    if not init.exists():
        require("lmod")

    def run(line: str) -> str:
        done = subprocess.run(
            ["env", "-i", f"HOME={tmp_path}", "PATH=/usr/bin:/bin", "bash", "-c", f". {init}; {line}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stderr + done.stdout

    return run


@pytest.mark.parametrize("at", ["write_removed_loaders", "remove_file", "_leave_word", "delete_tree"])
def test_a_removal_that_is_killed_is_one_and_is_finished(three, monkeypatch, at):
    from mlviews.store.disk import Store
    from mlviews.store.removal import finish, is_unfinished

    first = three.made[0]
    store = Store(three.root, three.root)
    with monkeypatch.context() as patched:

        def interrupt(*arguments: object, **keys: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(f"mlviews.store.removal.{at}", interrupt)
        assert three("remove", f"demo/{first}").code == 130

    assert [line["release"] for line in three("releases", "demo", "--json").data["releases"]] == three.made[1:]
    assert three("remove", f"demo/{first}", "--json").codes == ["release-removed"]
    assert is_unfinished(store, "demo", first)
    finish(store, "demo", first)
    assert not is_unfinished(store, "demo", first)
    assert {path.name for path in (store.view_folder("demo") / first).rglob("*")} == {
        "removed.json", host_platform(), "launch", "setup.sh", "setup.csh", "setup.fish"
    }  # fmt: skip
    assert "was removed" in (three.root / f"modulefiles/atlasml/demo/{first}.lua").read_text()


@pytest.mark.parametrize("shell", ["tcsh -f", "fish --no-config"])
def test_other_shells_are_told_too(three, require, shell):
    first = three.made[0]
    program, option = shell.split()
    assert three("remove", f"demo/{first}").code == 0
    setup = three.root / "envs/demo" / first / host_platform() / f"setup.{'csh' if program == 'tcsh' else program}"

    done = subprocess.run(
        [require(program), option, "-c", f"source '{setup}'"], capture_output=True, text=True, check=False
    )

    default = three.root / "envs/demo/default"
    assert done.stderr == f"mlviews: release {first} of demo was removed; the default is in {default}\n"
    assert done.returncode != 0


def test_a_view_that_shares_its_packages_costs_little_more(builder, shelf):
    noise = bytes(range(256)) * 4000
    shelf.add("bulk", files={f"share/bulk/{n}": noise + bytes([n]) for n in range(20)})
    for view in ("one", "two"):
        builder.recipes.recipe(view, "python", "greet", "bulk", summary=view)
        assert builder("build", view).code == 0

    lines = [builder("releases", view, "--json").data["releases"][0] for view in ("one", "two")]

    for line in lines:
        assert (line["bytes"] - line["shared"]) / line["bytes"] < 0.05
    assert lines[0]["passed"] == ["imports", "pip-check"]
    assert lines[0]["failed"] == []


def test_releases_complete_in_the_shell(three, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", f"mlviews promote demo/{three.made[0][:4]}")
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("_MLVIEWS_COMPLETE", "bash_complete")

    said = three.process()
    monkeypatch.setenv("COMP_WORDS", "mlviews run de")
    views = three.process()

    assert [line.partition(",")[2] for line in said.out.splitlines()] == [f"demo/{name}" for name in three.made]
    assert views.out == "plain,demo/\n"


def test_list_tells_what_is_built_and_proved(builder):
    for name in ("first", "second", "third"):
        builder.recipes.recipe(name, "python", "greet", smoke=["imports"])
    assert builder("build", "first").code == 0
    builder.site("manual", promote="manual")
    assert builder("build", "second", "--site", "manual").code == 0
    views = {line["name"]: line["built"] for line in builder("list", "--json").data["views"]}
    (release,) = builder("releases", "first", "--json").data["releases"]
    assert views["third"] is None
    assert views["first"] == {"release": release["release"], "default": True, "passed": 2, "failed": 0}
    assert views["second"] == {"release": release["release"], "default": False, "passed": 2, "failed": 0}
    told = builder("list").out
    assert "no default" in told
    assert "2 passed" in told


def test_what_list_keeps_of_a_release_goes_with_its_files(builder):
    def told():
        done = builder("list", "--json")
        return done.data["views"][0]["built"] or done.codes

    builder.recipes.recipe("demo", "python", "greet", smoke=["imports"])
    assert builder("build", "demo").code == 0
    first = told()
    (kept,) = (builder.root.parent / "home/.cache/mlviews/built").iterdir()
    kept.write_text(kept.read_text().replace('"passed": 2', '"passed": 99'))
    assert told() == {**first, "passed": 99}, "it is read"
    (record,) = (builder.root / "records/demo").glob("*/*.json")
    text = record.read_text()
    record.unlink()
    assert told() == {**first, "passed": 0}
    record.write_text(text.replace('"pass"', '"fail"', 1))
    assert told() == {**first, "passed": 1, "failed": 1}
    (file,) = (builder.root / "envs/demo").glob("2*/*/release.json")
    file.write_text("{")
    assert told() == ["unreadable"]


def test_a_release_is_shown_as_it_says_whatever_its_recipe_says(three):
    first, _, last = three.made
    three.recipes.recipe("demo", "python", summary="Another thing")

    shown = three("show", f"demo/{first}", "--json").data
    versions = three("packages", f"demo/{first}", "--json").data["packages"]

    assert (shown["view"], shown["recipe"], shown["release"]["summary"]) == ("demo", None, "About demo")
    assert shown["release"]["facts"] == three("releases", "demo", "--json").data["releases"][0]
    assert {one["name"]: one["asked"] for one in versions} == {"python": True, "greet": True}
    said = three("show", "demo/default").out
    assert said.startswith(f"demo/{last}  About demo\n")
    assert "the default" in said
    assert "Another" not in said
    assert "native " in three("packages", f"demo/{last}").out
    assert three("packages", "demo/default", "--json").data == three("packages", f"demo/{last}", "--json").data
    assert three("show", "demo/2020.01.01", "--json").codes == ["release-missing"]


def test_what_cannot_be_read_of_a_view_is_told_by_list(builder, monkeypatch):
    builder.recipes.recipe("demo", "greet")
    assert builder("build", "demo").code == 0

    def unreadable(root, view, lock):
        raise UnreadableError(root / "records", "Input/output error")

    monkeypatch.setattr("mlviews.smoke.records.read_records", unreadable)
    found = builder("list", "--json")
    assert (found.code, found.codes) == (3, ["unreadable"])
    assert {line["name"]: line["built"] for line in found.data["views"]}["demo"] is None


def test_releases_and_verify_without_a_view_take_all(builder):
    nothing = {"view": None, "releases": [], "removed": [], "unreadable": [], "lost": []}
    assert builder("releases", "--json").data == nothing
    assert builder("verify", "--json").data == {"view": None, "releases": [], "moved": {}, "attestation": None}
    assert "mlviews build VIEW" in builder("verify").out
    assert "mlviews build VIEW" in builder("releases").out
    for name in ("first", "second"):
        builder.recipes.recipe(name, "greet")
        assert builder("build", name).code == 0
    (builder.root / "envs/debris").mkdir()

    assert [line["view"] for line in builder("releases", "--json").data["releases"]] == ["first", "second"]
    assert [line.split()[0] for line in builder("releases").out.splitlines()] == ["View", "first", "second"]
    assert [line["view"] for line in builder("verify", "--json").data["releases"]] == ["first", "second"]
    (changed,) = (builder.root / "envs/second").glob("2*/*/bin/greet")
    changed.chmod(0o777)
    verified = builder("verify")
    assert verified.code == 1
    assert "first/" in verified.out
    assert builder("verify", "--repair").code == 0
    assert builder("verify").code == 0


MAP = "import mmap, sys; f = open(sys.argv[1]); m = mmap.mmap(f.fileno(), 0, prot=1); print(flush=1); input()"


def test_what_is_in_use_is_named_and_stays_unless_forced(three, tmp_path, monkeypatch):
    """A process, another's kernel, a venv, and a kernel of such a venv; the store's own kernels do not count."""
    first, second, _ = three.made
    old, new = (three.root / "envs/demo" / name / host_platform() for name in (first, second))
    home = Path(os.environ["HOME"])
    monkeypatch.setenv("JUPYTER_PATH", f"{three.root}:{tmp_path}/jupyter")
    kernels = {"mine": old / "bin/python", "late": tmp_path / "elsewhere/v/bin/python", "other": "/usr/bin/python"}
    for name, program in kernels.items():
        (tmp_path / "jupyter/kernels" / name).mkdir(parents=True)
        (tmp_path / "jupyter/kernels" / name / "kernel.json").write_text(json.dumps({"argv": [str(program)]}))
    (tmp_path / "jupyter/kernels/broken").mkdir()
    (tmp_path / "jupyter/kernels/broken/kernel.json").write_text("[" * 9000)
    monkeypatch.setenv("WORKON_HOME", f"{tmp_path}/workon")
    venvs = {home / "venv": old, tmp_path / "workon/v": old, tmp_path / "elsewhere/v": new, home / "no": Path("/usr")}
    for folder, base in venvs.items():
        folder.mkdir(parents=True)
        (folder / "pyvenv.cfg").write_text(f"home = {base}/bin\nversion = 3\n")
    used = subprocess.Popen([sys.executable, "-c", MAP, old / "setup.sh"], stdin=PIPE, stdout=PIPE)
    with used:
        assert used.stdout.readline()
        refused = three("remove", f"demo/{first}", "--json")
        foretold = three("gc", "--keep", "0", "--keep-days", "0", "--dry-run", "--json").data
        kept = three("gc", "--keep", "0", "--keep-days", "0", "--json").data
        used.kill()

    owner = pwd.getpwuid(os.getuid()).pw_name
    told = [f"process {used.pid} ({Path(sys.executable).name}, of {owner})", f"kernel {tmp_path}/jupyter/kernels/mine"]
    told += [f"venv {home}/venv", f"venv {tmp_path}/workon/v"]
    assert set(refused.codes) == {"release-in-use"}
    assert [error["message"] for error in refused.json["errors"]] == [f"demo/{first} is in use: {use}" for use in told]
    whys = {line["release"]: line["why"] for line in kept["kept"]}
    assert whys.items() >= {first: f"in use by {', '.join(told)}"}.items()
    assert whys[second] == f"in use by kernel {tmp_path}/jupyter/kernels/late"
    assert (foretold["kept"], foretold["removed"]) == (kept["kept"], [])
    assert f"kept demo/{first}: in use by" in three("gc", "--keep", "0", "--keep-days", "0").out
    assert "is in use\n  kernel " in three("uninstall", "demo").err
    assert three("remove", f"demo/{first}", "--force").code == 0
    assert [
        line["release"] for line in three("gc", "--keep-days", "0", "--keep", "0", "--force", "--json").data["removed"]
    ] == [second]


def test_what_a_view_of_another_site_extends_is_in_use(three, tmp_path):
    first = three.made[0]
    base = three.root / "envs/demo" / first / host_platform()
    said = json.loads((base / "release.json").read_text())
    own = tmp_path / "mine/envs/own/2026.01.01" / host_platform()
    own.mkdir(parents=True)
    extends = {"view": "demo", "release": first, "prefix": str(base), "lock_digest": said["lock_digest"]}
    said |= {"view": "own", "release": "2026.01.01", "prefix": str(own), "base": extends}
    (own / "release.json").write_text(json.dumps(said))
    three.site("mine", root=str(tmp_path / "mine"))

    refused = three("remove", f"demo/{first}", "--json")

    (error,) = refused.json["errors"]
    assert error["message"] == f"demo/{first} is in use: view own/2026.01.01 in {tmp_path}/mine"


def test_uninstall_begins_nothing_where_a_release_cannot_be_read(three):
    (three.root / "envs/demo" / three.made[0] / host_platform() / "release.json").write_text("{")

    refused = three("uninstall", "demo", "--json")

    assert (refused.code, refused.codes, default(three)) == (3, ["unreadable"], three.made[-1])
    assert three("verify", f"demo/{three.made[1]}").code == 0


def test_uninstall_leaves_nothing_that_leads_to_a_view(builder, shelf, monkeypatch):
    monkeypatch.delenv("CERNBOX_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    shelf.add("ipykernel", modules={"ipykernel": ""})
    for name in ("demo", "other"):
        builder.recipes.recipe(name, "python", "ipykernel", "greet")
        assert builder("build", name).code == 0
        assert builder("kernel", "add", name).code == 0
    lost = builder("build", "demo", "--rebuild", "--json").data["release"]
    assert builder("build", "demo", "--rebuild").code == 0
    assert builder("kernel", "add", "demo", "--swan").code == 0
    shutil.rmtree(builder.root / "envs/demo" / lost)  # by hand, as people do
    names = [line["release"] for line in builder("releases", "demo", "--json").data["releases"]]
    before = {path.relative_to(builder.root) for path in (builder.root / "modulefiles").rglob("*")}

    assert builder("pin", f"demo/{names[0]}").code == 0
    assert builder("uninstall", "demo", "--json").codes == ["release-pinned"]
    assert builder("pin", f"demo/{names[0]}", "--undo").code == 0
    gone = builder("uninstall", "demo", "--json").data

    assert (gone["view"], gone["releases"], len(gone["kernels"])) == ("demo", names, 2)
    left = {path.relative_to(builder.root) for path in (builder.root / "modulefiles").rglob("*")}
    assert {path for path in before - left if "demo" not in str(path)} == set()
    assert [path for path in left if "demo" in str(path)] == []
    assert min(path.name for path in (builder.root / "kernels").iterdir()) == "other"
    assert not (builder.root / "views/demo").is_symlink()
    assert "demo" not in builder("kernel", "list").out
    assert builder("releases", "demo", "--json").data["releases"] == []
    assert "`mlviews build demo` makes one" in builder("run", "demo", "greet").err
    assert "was removed" in builder("run", f"demo/{names[0]}", "greet").err
    assert builder("verify").code == 0
    assert "hello from" in builder.process("run", "other", "greet").out
    # Again, it is done already; and a new release gets a name that none had.
    assert f"its recipe stays, {builder.recipes.folder}/demo.yaml" in builder("uninstall", "demo").out
    assert builder("uninstall", "nothing", "--json").codes == ["view-unknown"]
    assert builder("build", "demo").code == 0
    (new,) = builder("releases", "demo", "--json").data["releases"]
    assert new["release"] not in names
    assert new["default"]


@pytest.mark.parametrize("place", [".history.json", ".lock", "RELEASE/linux-64/release.json", "RELEASE/removed.json"])
def test_nobody_waits_for_a_pipe_that_somebody_put_into_the_store(three, place):
    """Members of a group that shares a root can, and so all others would wait for good."""
    pipe = three.root / "envs/demo" / place.replace("RELEASE", three.made[0])
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)

    for verb in (["list"], ["releases", "demo"], ["gc", "--dry-run"], ["promote", f"demo/{three.made[1]}"]):
        done = subprocess.run(
            [sys.executable, "-m", "mlviews", *verb], check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode in {0, 3}, done.stderr
        assert "Traceback" not in done.stderr
    assert pipe.is_fifo()
