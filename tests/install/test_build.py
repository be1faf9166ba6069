"""Building: from a lock to a release that loads, and what is there when it does not come to that."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import imported

from mlviews.conda import records
from mlviews.hardware import host_platform
from mlviews.release import Release

DATE = re.compile(r"\d{4}\.\d{2}\.\d{2}")


@pytest.fixture
def demo(builder: Any) -> Any:
    """The command line, with a recipe and its lock."""
    builder.recipes.recipe("demo", "python", "greet", "plain")
    assert builder("lock", "demo").code == 0
    return builder


def folder(result: Any) -> Path:
    return Path(result.data["folder"])


def test_a_build_makes_a_release_that_runs_and_is_the_default(demo):
    built = demo("build", "demo", "--json")

    assert (built.code, built.json["status"], built.err) == (
        0,
        "ok",
        "Checking ...\nUnpacking ...\nLinking ...\nCompiling ...\nTesting ...\nVerifying ...\n",
    )
    data = built.data
    assert (data["view"], data["status"], data["default"]) == ("demo", "new", True)
    assert DATE.fullmatch(data["release"])
    assert [(check["name"], check["status"]) for check in data["checks"]] == [
        ("imports", "pass"),
        ("pip-check", "pass"),
    ]
    assert data["checks"][0]["reason"] == "1 module: greet"
    prefix = demo.root / "envs/demo" / data["release"] / host_platform()
    assert folder(built) == prefix
    release = Release.model_validate_json((prefix / "release.json").read_bytes())
    assert (release.view, release.release, release.prefix) == ("demo", data["release"], str(prefix))
    assert release.requested == ("python", "greet", "plain")
    assert (prefix / "conda-lock.yml").read_bytes() == demo.lock("demo").read_bytes()
    sourced = f'. "{prefix}/setup.sh" && greet'
    says = subprocess.run(["env", "-i", "/bin/sh", "-c", sourced], capture_output=True, text=True, check=True).stdout
    assert says == f"hello from {prefix}\n"


def test_what_activation_scripts_write_reaches_nothing_and_what_they_print_is_shown(builder, shelf):
    writes = 'echo x >> "$CONDA_PREFIX/share/writes/Makeconf"; ln -sfn / "$CONDA_PREFIX/up"'
    warns = "export WARNS=${WARNS:-1} NODE=$(uname -n); echo '[no] compiler' >&2; return 1"
    scripts = {"etc/conda/activate.d/a-writes.sh": writes, "etc/conda/activate.d/b-warns.sh": warns}
    shelf.add("writes", files={**scripts, "share/writes/Makeconf": "as packed\n"})
    builder.recipes.recipe("demo", "python", "greet", "writes")
    assert builder("lock", "demo").code == 0

    built = builder("build", "demo", "--json")
    notes = [
        "b-warns.sh ended with status 1 and printed: [no] compiler",
        "a-writes.sh tried to change share/writes/Makeconf, up; the release keeps the files of its packages.",
        "NODE is left out: a script gives it another value on another host or to another user.",
    ]
    assert built.code == 0, built.out
    assert built.data["notes"] == notes
    again = builder("build", "demo").out
    assert all(f"note {note}" in " ".join(again.split()) for note in notes)

    assert builder("verify", "demo").code == 0
    assert not (folder(built) / "up").is_symlink()
    for copy in builder.root.rglob("Makeconf"):
        assert copy.read_text() == "as packed\n"
    release = Release.model_validate_json((folder(built) / "release.json").read_bytes())
    assert release.activation.default == {"WARNS": "1"}


def test_a_view_with_a_jupyter_server_finds_the_kernels_of_all_views(builder, shelf):
    shelf.add("jupyter_server")
    shelf.add("jupyter_client")
    builder.recipes.recipe("lab", "python", "greet", "jupyter_server")
    builder.recipes.recipe("other", "python", "greet", "jupyter_client")
    assert builder("lock", "lab", "other").code == 0
    seen = (
        "import os; folders = os.environ.get('JUPYTER_PATH', '').split(':'); "
        "print([folder for folder in folders if os.path.isdir(f'{folder}/kernels')])"
    )
    for view, folders in (("lab", [str(builder.root)]), ("other", [])):
        assert builder("build", view).code == 0
        assert builder.process("run", view, "--", "python", "-c", seen).out == f"{folders}\n"


def test_a_new_prefix_is_looked_at_twice_and_each_record_read_twice(demo, monkeypatch):
    looked: list[str] = []
    read: list[str] = []
    scan, parse = os.scandir, records._keys

    def scandir(path: Any = ".") -> Any:
        looked.append(str(path))
        return scan(path)

    def keys(file: Path, text: bytes) -> Any:
        read.append(file.name)
        return parse(file, text)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(records, "_keys", keys)
    prefix = folder(demo("build", "demo", "--json"))

    # Permissions are settled when all is linked; what is listed, verified and measured is looked at after the checks.
    assert looked.count(f"{prefix}/share/plain/") == 2
    assert sorted(name for name in read if name.startswith("plain")) == ["plain-1.0-h0_0.json"] * 2
    assert sorted(name for name in read if name.startswith("greet")) == ["greet-1.0-h0_0.json"] * 3  # and its byte code


def test_a_pipe_that_a_check_leaves_is_refused(demo, shelf):
    shelf.add("leaky", modules={"leaky": "import os, sys\nos.mkfifo(sys.prefix + '/pipe')\n"})
    demo.recipes.recipe("piped", "python", "leaky")

    refused = demo("build", "piped", "--json")

    assert (refused.code, refused.codes) == (1, ["not-as-recorded"])
    assert "no package: pipe (extra)" in json.dumps(refused.json["errors"])


def test_the_lines_that_a_build_prints_work_in_a_new_shell(demo):
    built = demo.process("build", "demo")

    assert built.code == 0, built.err
    _, *lines, undone = built.out[built.out.index("Next, one of:") :].splitlines()
    assert undone == "`mlviews_deactivate` undoes the first, `module unload atlasml/demo` the second."
    source, module, run = (line.strip() for line in lines)
    assert module == f"module use {demo.root}/modulefiles; module load atlasml/demo"
    for line in (f"{source} && greet", run.replace("-- python", "-- greet")):
        done = subprocess.run(
            ["env", "-i", "PATH=/usr/bin:/bin", f"HOME={demo.root}", "/bin/bash", "-c", line],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout[:10]) == (0, "hello from"), (line, done.stderr)


def test_without_a_lock_one_is_made_first(builder):
    builder.recipes.recipe("demo", "python", "greet")

    assert builder("build", "demo").code == 0
    assert builder.lock("demo").is_file()


def test_the_same_lock_again_is_no_work_and_says_so(demo):
    first = demo("build", "demo", "--json").data
    before = everything(demo.root)

    again = demo("build", "demo")

    assert again.code == 0
    assert f"demo/{first['release']} is there already, from the same lock: nothing to do" in again.out
    assert not imported("build", "demo") & {"rattler", "jinja2", "asyncio"}
    assert everything(demo.root) == before
    assert demo("build", "demo", "--json").data["status"] == "unchanged"


def test_a_changed_lock_makes_a_second_release_of_the_day(demo):
    first = demo("build", "demo", "--json").data
    demo.recipes.recipe("demo", "python", "greet")
    demo("lock", "demo")

    second = demo("build", "demo", "--json").data

    assert second["release"] == f"{first['release']}.2"
    assert (demo.root / "envs/demo/default").readlink() == Path(second["release"])
    listed = demo("releases", "demo", "--json").data["releases"]
    assert [(line["release"], line["default"]) for line in listed] == [
        (first["release"], False),
        (second["release"], True),
    ]


def test_an_older_lock_leads_back_to_its_release_without_work(demo):
    first = demo("build", "demo", "--json").data
    old = demo.lock("demo").read_bytes()
    recipe = (demo.recipes.folder / "demo.yaml").read_bytes()
    demo.recipes.recipe("demo", "python", "greet")
    demo("lock", "demo")
    demo("build", "demo")
    demo.lock("demo").write_bytes(old)
    demo.recipes.text("demo.yaml", recipe)

    again = demo("build", "demo", "--json").data

    assert (again["status"], again["release"], again["default"]) == ("unchanged", first["release"], False)


def test_a_stale_lock_is_refused_and_the_change_named(demo):
    demo.recipes.recipe("demo", "python", "greet", "native")

    refused = demo("build", "demo")

    assert refused.code == 1
    assert "dependencies: native added" in refused.err
    assert "`mlviews lock demo`" in refused.err
    assert not list((demo.root / "envs/demo").glob("2*"))


def test_a_view_for_another_platform_is_refused(demo):
    demo.recipes.recipe("demo", "plain", platforms=["linux-aarch64"])

    refused = demo("build", "demo", "--json")

    assert (refused.code, refused.codes) == (1, ["platform-missing"])
    assert "linux-aarch64" in refused.err + refused.out


def test_a_lock_that_lacks_this_platform_is_refused(demo):
    # The recipe now has both; its lock is from before.
    demo.recipes.recipe("two", "plain", platforms=["linux-aarch64"])
    assert demo("lock", "two").code == 0
    demo.recipes.recipe("two", "plain", platforms=["linux-64", "linux-aarch64"])

    refused = demo("build", "two", "--json")

    assert (refused.code, refused.codes) == (1, ["lock-stale"])
    assert "platforms: linux-64 added" in refused.json["errors"][0]["message"]


def test_a_build_that_fails_leaves_the_default_as_it_was(demo, shelf):
    first = demo("build", "demo", "--json").data
    shelf.add("greet", "2.0", modules={"greet": "import no_such_module\n"})
    demo.recipes.recipe("demo", "python", "greet >=2")
    assert demo("lock", "demo").code == 0

    failed = demo("build", "demo", "--json")

    assert (failed.code, failed.codes) == (1, ["check-failed"])
    assert "greet: ModuleNotFoundError: No module named 'no_such_module'" in failed.json["errors"][0]["message"]
    assert [line["release"] for line in demo("releases", "demo", "--json").data["releases"]] == [first["release"]]
    assert (demo.root / "envs/demo/default").readlink() == Path(first["release"])
    assert not (demo.root / f"modulefiles/atlasml/demo/{first['release']}.2.lua").exists()
    assert demo("run", "demo/" + first["release"] + ".2", "--json", "--", "python").codes == ["release-missing"]


def test_debris_is_cleared_by_the_next_build(demo):
    first = demo("build", "demo", "--json").data
    debris = demo.root / "envs/demo" / f"{first['release']}.2" / host_platform()
    (debris / "lib").mkdir(parents=True)
    (debris / "lib/left").write_text("from a build that was killed")
    (debris / ".release.json.1").write_text('{"mlviews": ')  # not whole, and never renamed
    demo.recipes.recipe("demo", "python", "greet")
    demo("lock", "demo")
    assert demo("releases", "demo", "--json").data["releases"][0]["release"] == first["release"]

    second = demo("build", "demo", "--json").data

    assert folder(demo("build", "demo", "--json")) == debris
    assert second["status"] == "new"
    assert not (debris / "lib/left").exists()


@pytest.mark.parametrize(
    "at", ["newrelease.write_release_loaders", "build.Store.promote", "store.loaders.write_default_loaders"]
)
def test_a_build_that_is_killed_while_it_publishes_is_finished_by_the_next(demo, monkeypatch, at):
    first = demo("build", "demo", "--json").data
    demo.recipes.recipe("demo", "python", "greet")
    demo("lock", "demo")
    with monkeypatch.context() as patched:

        def interrupt(*arguments: object, **keys: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(f"mlviews.{at}", interrupt)
        assert demo("build", "demo").code == 130
    assert (demo.root / "envs/demo/default").exists()

    again = demo("build", "demo", "--json").data

    name = f"{first['release']}.2"
    assert (again["status"], again["release"], again["default"]) == ("unchanged", name, True)
    folder = demo.root / "modulefiles/atlasml/demo"
    assert (folder / f"{name}.lua").is_file()
    assert name in (folder / ".version").read_text()
    assert name in (demo.root / "kernels/demo/kernel.json").read_text()
    assert not (demo.root / "envs/demo/.unpublished").exists()


def test_what_people_made_the_default_stays_so(demo):
    first = demo("build", "demo", "--json").data
    demo.recipes.recipe("demo", "python", "greet")
    demo("lock", "demo")
    assert demo("build", "demo").code == 0
    from mlviews.store.disk import Store

    Store(demo.root, demo.root).promote("demo", first["release"])  # a roll back

    again = demo("build", "demo", "--json").data

    assert (again["status"], again["default"]) == ("unchanged", False)


def test_two_builds_of_one_view_at_once_make_one_release(demo, server, faults):
    server.faults["greet"] = faults["drips"](250)
    options = ("--mirror", f"conda-forge={server.url}", "--json")
    one = demo.start("build", "demo", *options)
    while "Downloading" not in one.stderr.readline():
        pass
    other = demo.start("build", "demo", *options)
    holder = other.stderr.readline()

    results = [json.loads(process.communicate(timeout=60)[0])["data"] for process in (one, other)]

    assert f"demo is in use by process {one.pid} on " in holder
    assert [result["status"] for result in results] == ["new", "unchanged"]
    assert results[0]["folder"] == results[1]["folder"]
    assert len(server.archives()) == 3


def test_builds_of_different_views_at_once_share_a_cache(demo):
    views = [f"view{number}" for number in range(3)]
    for view in views:
        demo.recipes.recipe(view, "python", "greet", "native", "oldstyle")
    demo("lock", *views)

    started = [demo.start("build", view, "--json") for view in views]
    results = [json.loads(process.communicate(timeout=60)[0])["data"] for process in started]

    assert [result["status"] for result in results] == ["new"] * 3
    shared = {(Path(result["folder"]) / "share/native/data").stat().st_ino for result in results}
    assert len(shared) == 1
    for view in views:
        assert demo.process("run", view, "--", "greet").code == 0


def test_a_build_that_was_killed_holds_no_lock(demo, server, faults):
    server.faults["greet"] = faults["drips"](100)
    killed = demo.start("build", "demo", "--mirror", f"conda-forge={server.url}")
    while "Downloading" not in killed.stderr.readline():
        pass
    killed.kill()
    killed.communicate()

    assert demo("build", "demo").code == 0


def test_a_site_with_manual_promotion_leaves_the_default_to_people(demo):
    demo.site("careful", promote="manual")

    built = demo("build", "demo", "--site", "careful")

    assert built.code == 0
    (name,) = [line["release"] for line in demo("releases", "demo", "--json").data["releases"]]
    assert f"module load atlasml/demo/{name}" in built.out
    assert f"run demo/{name} --site careful" in built.out
    assert f"not the default: demo has none yet. `mlviews promote demo/{name}` makes it that." in built.out
    assert not (demo.root / "envs/demo/default").is_symlink()
    version = demo.root / "modulefiles/atlasml/demo/.version"
    assert not version.is_symlink()
    assert "not-promoted" in version.read_text()
    assert (demo.root / f"modulefiles/atlasml/demo/{name}.lua").is_file()
    assert demo("run", "demo", "--json", "--", "python").codes == ["release-missing"]
    assert demo("build", "demo", "--site", "careful", "--json").data["status"] == "unchanged"
    assert demo("promote", f"demo/{name}", "--site", "careful").code == 0
    again = demo("build", "demo", "--site", "careful", "--rebuild")
    assert f"not the default, which is {name}." in again.out


def test_a_lock_with_conda_forges_urls_builds_from_a_server(demo, server, monkeypatch):
    urls = {package["url"] for package in yaml.safe_load(demo.lock("demo").read_text())["package"]}
    assert all(url.startswith("https://conda.anaconda.org/conda-forge/") for url in urls)
    monkeypatch.delenv("MLVIEWS_MIRROR")

    built = demo("build", "demo", "--mirror", f"conda-forge={server.url}", "--json")

    assert built.code == 0
    assert len(server.archives()) == len(urls)
    records = [json.loads(path.read_text()) for path in (folder(built) / "conda-meta").glob("*.json")]
    assert {record["url"] for record in records} == urls


@pytest.fixture
def publisher(demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line at a site that builds for another place."""
    monkeypatch.delenv("MLVIEWS_ROOT")
    monkeypatch.setenv("MLVIEWS_SITE", "publisher")
    demo.site("publisher", root=str(tmp_path / "staging"), prefix=str(tmp_path / "cvmfs"), promote="manual")
    return demo


def test_what_is_built_for_another_place_names_that_place_alone(publisher, tmp_path):
    built = publisher("build", "demo", "--json")

    assert built.code == 0, built.out
    assert [(check["name"], check["status"]) for check in built.data["checks"]] == [
        ("imports", "pass"),
        ("pip-check", "pass"),
    ]
    assert not (tmp_path / "cvmfs").exists()
    staging = tmp_path / "staging"
    for part in ("envs/demo/2*", "modulefiles"):
        for path in (path for top in staging.glob(part) for path in top.rglob("*")):
            if path.is_file() and not path.is_symlink():
                assert str(staging).encode() not in path.read_bytes(), path


def test_what_is_built_for_a_place_that_is_here_is_checked(publisher, tmp_path):
    (tmp_path / "cvmfs").symlink_to(tmp_path / "staging")

    built = publisher("build", "demo", "--json")

    assert [check["status"] for check in built.data["checks"]] == ["pass", "pass"]


def everything(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.lstat().st_ino)
        for path in root.rglob("*")
        if path.name != ".lock"
    }


def test_a_user_whom_the_host_does_not_know_builds_where_root_says(demo, require):
    """As in a container that runs as any number: no entry in passwd, no HOME."""
    nobody = [require("unshare"), "--user", "--map-user=54321"]
    environment = {name: value for name, value in os.environ.items() if name not in {"HOME", "XDG_CONFIG_HOME", "USER"}}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*nobody, *demo.command(*arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)

    built = call("build", "demo", "--root", str(demo.root), "--json")
    assert built.returncode == 0, built.stdout + built.stderr
    assert call("run", "demo", "--root", str(demo.root), "--", "greet").stdout.startswith("hello from ")
    assert call("show", "demo", "--root", str(demo.root)).returncode == 0
    for arguments in (("releases", "demo"), ("gpus", "~/folder")):
        environment.pop("MLVIEWS_ROOT", None)
        refused = call(*arguments)
        assert refused.returncode == 2
        assert "has no name or no home folder" in refused.stderr or "has no home folder" in refused.stderr
