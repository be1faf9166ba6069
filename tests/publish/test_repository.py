"""What is published, promoted, rolled back and removed, in a repository that a stand-in for 2.12's server changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def lines(text: str) -> list[str]:
    return text.rstrip("\n").split("\n")


@pytest.fixture
def published(build: Callable[..., str], carry_out: Callable[..., Any], same_place: Any) -> str:
    """A release that the repository holds, and its name."""

    def publish() -> str:
        name = build()
        carry_out("demo")
        return name

    return same_place.once(publish)


@pytest.fixture
def reader(publisher: Any, repository: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line of somebody who only reads the repository."""
    publisher.site("reader", root=str(repository.views))
    monkeypatch.setenv("MLVIEWS_SITE", "reader")
    monkeypatch.delenv("MLVIEWS_LOCKFILES")
    return publisher


def test_a_release_lies_there_as_it_was_built(published, repository, tmp_path):
    for path in (tmp_path / f"staging/envs/demo/{published}").rglob("*"):
        copy = repository.views / path.relative_to(tmp_path / "staging")
        if path.is_symlink():
            assert copy.readlink() == path.readlink()
        elif path.is_file() and path.name != "linux-64.usage.json":
            assert copy.read_bytes() == path.read_bytes(), path
    assert repository.tags() == {f"demo-{published}": "1"}


def test_the_release_has_a_catalog_and_what_module_avail_reads_lies_in_none_of_it(
    published, publisher, repository, carry_out
):
    publisher("promote", f"demo/{published}")
    carry_out("demo")

    found = repository.catalogs()
    assert {*found} == {".", f"views/envs/demo/{published}/linux-64"}
    version = (repository.views / "modulefiles/atlasml/demo/.version").resolve()
    assert version.read_text().count(published) == 1
    assert version.parent.name == published  # beside the prefix, whose catalog nobody fetches for it
    assert found["."] < 45


def test_who_reads_the_repository_verifies_it_and_gc_there_takes_no_marker(published, reader, repository):
    assert reader("verify", "demo", "--json").code == 0
    planned = reader("gc", "--dry-run", "--json")
    assert planned.data["debris"] == []


def test_readers_see_checks_and_the_lock(publisher, build, carry_out, reader, repository, monkeypatch):
    monkeypatch.setenv("MLVIEWS_SITE", "publisher")
    name = build()
    publisher("promote", f"demo/{name}")
    carry_out("demo")
    monkeypatch.setenv("MLVIEWS_SITE", "reader")
    shutil.rmtree(publisher.lockfiles, ignore_errors=True)

    assert reader("releases", "demo", "--json").data["releases"][0]["passed"]
    lines = {line["name"]: line for line in reader("list", "--json").data["views"]}
    assert lines["demo"]["lock"] == "current"


def test_what_the_repository_holds_is_no_work(published, publisher):
    again = publisher("publish", "demo", "--plan", "--json")

    assert (again.code, again.data["changes"], again.data["commands"]) == (0, [], [])
    assert "holds all of it" in publisher("publish", "demo", "--plan").out


def test_no_older_release_is_published_in_place_of_one_that_cannot_be_read(published, publisher, tmp_path):
    publisher("build", "demo", "--rebuild")
    newest = max((tmp_path / "staging/envs/demo").glob("[0-9]*"), key=lambda path: (len(path.name), path.name))
    assert newest.name != published
    (newest / "linux-64/release.json").write_bytes(b"")

    refused = publisher("publish", "demo", "--plan", "--json")

    assert (refused.code, refused.codes) == (3, ["unreadable"])


def test_a_promotion_is_small_and_changes_the_default_alone(published, publisher, carry_out, repository, tmp_path):
    publisher("promote", f"demo/{published}")
    before = {path: path.lstat().st_mtime for path in (repository.views / f"envs/demo/{published}").rglob("*")}
    del before[repository.views / f"envs/demo/{published}/unpromoted"]
    assert "not-promoted" in (repository.views / "modulefiles/atlasml/demo/.version").read_text()

    done = carry_out("demo")

    assert (done["changes"], done["default"], done["catalogs"]) == (["promotion"], published, [])
    assert done["deleted"] == [f"views/envs/demo/{published}/unpromoted"]
    assert (repository.views / "modulefiles/atlasml/demo/.version").is_symlink()
    assert (repository.views / "envs/demo/default").readlink() == Path(published)
    assert (tmp_path / "change.tar").stat().st_size <= 100_000
    with tarfile.open(tmp_path / "change.tar") as tar:
        assert len(tar.getmembers()) <= 15
    assert before == {path: path.lstat().st_mtime for path in (repository.views / f"envs/demo/{published}").rglob("*")}
    assert publisher("publish", "demo", "--plan", "--json").data["changes"] == []


def test_a_rollback_is_one_too(published, publisher, build, carry_out, repository):
    publisher("promote", f"demo/{published}")
    second = build("demo", "--rebuild")
    publisher("promote", f"demo/{second}")
    assert carry_out(f"demo/{second}")["changes"] == ["release", "promotion"]
    publisher("rollback", "demo")

    done = carry_out("demo")

    assert (done["release"], done["changes"], done["files"]) == (published, ["rollback"], 1)
    assert (repository.views / "envs/demo/default").readlink() == Path(published)
    assert (repository.views / f"envs/demo/{second}/linux-64/release.json").exists()


def test_a_removed_release_goes_and_who_asks_for_it_is_told(published, publisher, build, carry_out, repository):
    second = build("demo", "--rebuild")
    publisher("promote", f"demo/{second}")
    carry_out("demo")
    publisher("remove", f"demo/{published}")

    done = carry_out(f"demo/{published}")

    assert (done["changes"], done["deleted"]) == (["removal"], [f"views/envs/demo/{published}"])
    assert done["commands"][0] == f"cvmfs_server ingest --delete views/envs/demo/{published} atlasml.example.org"
    there = repository.views / f"envs/demo/{published}"
    assert sorted(path.name for path in (there / "linux-64").iterdir()) == sorted(
        ["launch", "setup.sh", "setup.csh", "setup.fish"]
    )
    said = subprocess.run([there / "linux-64/launch", "python"], capture_output=True, text=True, check=False)
    assert f"release {published} of demo was removed" in said.stderr
    assert "removed" in (repository.views / f"modulefiles/atlasml/demo/{published}.lua").read_text()
    assert "removed" in (repository.views / f"kernels/demo-{published}/kernel.json").read_text()
    assert f"views/envs/demo/{published}/linux-64" not in repository.catalogs()
    assert publisher("publish", f"demo/{published}", "--plan", "--json").data["changes"] == []


def test_a_removal_that_was_killed_between_its_two_commands_goes_on(published, publisher, build, carry_out, repository):
    second = build("demo", "--rebuild")
    publisher("promote", f"demo/{second}")
    carry_out("demo")
    publisher("remove", f"demo/{published}")
    planned = publisher("publish", f"demo/{published}", "--plan", "--json").data
    repository.publish(planned["commands"][0])

    assert carry_out(f"demo/{published}")["deleted"] == []
    assert (repository.views / f"envs/demo/{published}/removed.json").exists()


def test_the_default_of_the_repository_is_not_removed(published, publisher, build, carry_out):
    publisher("promote", f"demo/{published}")
    carry_out("demo")
    second = build("demo", "--rebuild")
    publisher("promote", f"demo/{second}")
    publisher("remove", f"demo/{published}")

    refused = publisher("publish", f"demo/{published}", "--plan", "--json")

    assert (refused.code, [remark["rule"] for remark in refused.data["remarks"]]) == (1, ["default"])


def test_where_it_is_not_mounted_the_promotion_is_asked_for(published, publisher, repository, tmp_path, monkeypatch):
    publisher("promote", f"demo/{published}")
    monkeypatch.setenv("MLVIEWS_PREFIX", str(repository.mount.with_name("elsewhere.example.org") / "views"))

    whole = publisher("publish", "demo", "--plan", "--json").data
    asked = publisher("publish", "demo", "--plan", "--published", "--tar", tmp_path / "x.tar", "--json")

    assert whole["changes"] == ["release", "promotion"]
    assert (asked.code, asked.data["changes"], asked.data["replaced"]) == (0, ["promotion"], None)
    assert asked.data["files"] + asked.data["links"] <= 7
    assert "--published" in publisher("publish", "demo", "--plan").out


def test_another_release_of_the_same_name_is_forbidden_in_one_line(published, publisher, repository):
    path = repository.views / f"envs/demo/{published}/linux-64/release.json"
    path.write_text(path.read_text().replace("About", "Above"))

    refused = publisher("publish", "demo", "--plan", "--json")

    assert [(remark["rule"], remark["forbids"]) for remark in refused.data["remarks"]] == [("published", True)]


def test_half_a_release_there_is_told_in_one_line(published, publisher, repository):
    (repository.views / f"envs/demo/{published}/linux-64/release.json").unlink()

    refused = publisher("publish", "demo", "--plan", "--json")

    rules = [remark["rule"] for remark in refused.data["remarks"] if remark["forbids"]]
    assert (refused.code, rules) == (1, ["published"])


def test_a_proof_that_came_later_is_published_alone(published, publisher, carry_out, repository, tmp_path):
    (record,) = (tmp_path / "staging/records/demo").rglob("*.json")
    (record.parent / "20300101T000000.000000Z-other-1.json").write_text(record.read_text())

    done = carry_out("demo")

    assert (done["changes"], done["files"], done["tag"]) == (["records"], 1, "")
    assert len(list((repository.views / "records/demo").rglob("*.json"))) == 2


def test_a_view_that_changed_its_module_leaves_no_default_in_the_old_one(
    published, publisher, build, carry_out, repository
):
    publisher("promote", f"demo/{published}")
    carry_out("demo")
    publisher.recipes.recipe("demo", "greet", "native", "plain", module="atlasml/other")
    second = build()
    publisher("promote", f"demo/{second}")

    done = carry_out(f"demo/{second}")

    assert done["deleted"] == ["views/modulefiles/atlasml/demo/.version"]
    assert not (repository.views / "modulefiles/atlasml/demo/.version").is_symlink()
    assert (repository.views / "modulefiles/atlasml/other/.version").is_symlink()


def test_a_plan_is_a_screenful(published, publisher, build, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    publisher("promote", f"demo/{published}")
    short, long = publisher("publish", "demo", "--plan").out, publisher("publish", "demo", "--plan", "-v").out
    assert len(lines(short)) <= 24
    assert "    envs/demo/default\n" in long
    build("demo", "--rebuild")
    assert len(lines(publisher("publish", "demo", "--plan").out)) <= 24


def test_the_command_is_published_where_its_python_is(published, publisher, carry_out, repository, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(repository.views / "tools/bin/python"))

    done = carry_out("demo")

    assert (done["changes"], done["files"]) == (["records"], 3)
    assert list((repository.views / "modulefiles/atlasml/mlviews").glob("*.lua"))
    assert list((repository.views / "commands").glob("*/mlviews"))


@pytest.mark.parametrize("name", ["a b", "x;touch pwned", "$(touch pwned)", "a//../b"])
def test_what_the_server_would_give_to_a_shell_is_refused(publisher, build, repository, tmp_path, name):
    build()

    refused = publisher("publish", "demo", "--plan", "--tar", tmp_path / f"{name} .tar", "--json")
    elsewhere = publisher("publish", "demo", "--plan", "--prefix", f"{repository.mount}/{name} ", "--json")

    assert (refused.code, refused.codes) == (2, ["cvmfs-name"])
    assert (elsewhere.code, elsewhere.codes) == (2, ["cvmfs-name"])


def test_a_double_slash_reaches_no_server(publisher, build, repository):
    build()

    planned = publisher("publish", "demo", "--plan", "--prefix", f"/{repository.mount}//views//", "--json")

    assert planned.data["base"] == "views"


def test_a_promotion_among_a_hundred_views_takes_a_second(published, publisher, repository, tmp_path):
    publisher("promote", f"demo/{published}")
    for place in (tmp_path / "staging", repository.views):
        release = place / f"envs/demo/{published}/linux-64/release.json"
        for number in range(100):
            other = place / f"envs/v{number}/{published}/linux-64"
            other.mkdir(parents=True)
            shutil.copy(release, other)
            (place / f"envs/v{number}/default").symlink_to(published)

    start = time.monotonic()
    planned = publisher("publish", "demo", "--plan", "--tar", tmp_path / "x.tar", "--json")

    assert time.monotonic() - start < 1
    assert planned.data["changes"] == ["promotion"]
    assert (tmp_path / "x.tar").stat().st_size <= 100_000


def test_a_reader_of_the_repository_keeps_the_record_of_a_check(publisher, build, carry_out, repository, tmp_path):
    """By a mount that is read-only, as CVMFS is: root may write to all else."""
    name = build()
    carry_out("demo")
    publisher.site("reader", root=str(repository.views))
    mounted = 'mount --bind -o ro "$1" "$1"; shift; exec "$@"'
    command = publisher.command("smoke", f"demo/{name}", "--check", "pip-check", "--site", "reader", "--json")

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, "sh", repository.views.resolve(), *command],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    data = json.loads(done.stdout)
    assert (done.returncode, data["errors"]) == (0, []), done.stdout
    assert Path(data["data"]["record"]).is_relative_to(tmp_path / "home")


def test_a_marker_is_part_of_the_release_and_repaired_with_it(publisher, tmp_path):
    built = publisher("build", "demo", "--json").data
    marker = Path(built["folder"]) / ".cvmfscatalog"
    marker.unlink()

    found = publisher("verify", "demo", "--json").data["releases"][0]["faults"]
    assert [(fault["path"], fault["kind"]) for fault in found] == [(".cvmfscatalog", "missing")]
    assert publisher("verify", "demo", "--repair").code == 0
    assert marker.read_bytes() == b""
    assert publisher("build", "demo", "--rebuild", "--prefix", tmp_path / "staging", "--json").code == 0
    assert len(list((tmp_path / "staging/envs").rglob(".cvmfscatalog"))) == 1


def test_a_build_for_a_place_that_is_not_here_is_proved_there(publisher, repository):
    built = publisher("build", "demo", "--json").data

    assert {(line["name"], line["status"]) for line in built["checks"]} == {("imports", "pass"), ("pip-check", "pass")}
    assert not repository.views.exists()
    proved = publisher("smoke", "demo/" + built["release"], "--json")
    assert (proved.code, [line["status"] for line in proved.data["checks"]]) == (0, ["pass", "pass"])


def test_what_nothing_proves_is_not_published_until_it_is(build, publisher, tmp_path):
    name = build()
    shutil.rmtree(tmp_path / "staging/records")

    refused = publisher("publish", "demo", "--plan", "--json")

    assert refused.code == 1
    assert [remark["rule"] for remark in refused.data["remarks"] if remark["forbids"]] == ["proved"]
    publisher("smoke", f"demo/{name}", "--check", "pip-check")
    remarks = publisher("publish", "demo", "--plan", "--json").data["remarks"]
    assert ["passes imports; " in remark["why"] for remark in remarks if remark["forbids"]] == [True]
    publisher("smoke", f"demo/{name}")
    assert publisher("publish", "demo", "--plan", "--json").code == 0
    last = max((tmp_path / "staging/records").rglob("*.json"))
    last.write_text(last.read_text().replace('"pass"', '"fail"'))
    remarks = publisher("publish", "demo", "--plan", "--json").data["remarks"]
    assert [remark["why"].startswith("it failed ") for remark in remarks if remark["forbids"]] == [True]
    last.unlink()
    for record in (tmp_path / "staging/records").rglob("*.json"):  # what another platform passed proves nothing here
        record.write_text(record.read_text().replace("linux-64", "linux-aarch64"))
    assert publisher("publish", "demo", "--plan", "--json").code == 1


def test_where_no_program_can_be_run_in_its_place_a_build_says_so_and_nothing_is_published(
    build, publisher, monkeypatch
):
    from mlviews.pack import mounting

    monkeypatch.setattr(mounting, "_ways", lambda *_: [("bwrap", ("no-such-bwrap",))])
    build()

    refused = publisher("publish", "demo", "--plan", "--json")

    assert [remark["rule"] for remark in refused.data["remarks"] if remark["forbids"]] == ["proved"]
    skipped = publisher("smoke", "demo/" + refused.data["release"], "--json").data["checks"]
    assert all("there is no no-such-bwrap" in line["reason"] for line in skipped)


def test_what_the_site_wants_proved_is_wanted_of_a_default_there_too(
    published, publisher, carry_out, tmp_path, repository
):
    publisher("promote", f"demo/{published}")
    keys = {"root": str(tmp_path / "staging"), "prefix": str(repository.views), "promote": "manual"}
    publisher.site("publisher", promotion={"level": "full"}, **keys)

    refused = publisher("publish", "demo", "--plan", "--json")

    assert [remark["rule"] for remark in refused.data["remarks"] if remark["forbids"]] == ["promotion"]
    publisher("promote", f"demo/{published}", "--override", "no host for it")
    assert carry_out("demo")["changes"] == ["promotion"]
