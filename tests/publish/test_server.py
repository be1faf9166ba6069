"""publish carried out: by a stand-in for cvmfs_server, interrupted by faults and by kills."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mlviews.publish.contents import pack

RUN = (
    "import sys; from pathlib import PurePosixPath; from mlviews.prefix import catalogs; "
    "catalogs.MOUNT = PurePosixPath(sys.argv.pop(1)); from mlviews.__main__ import run; sys.exit(run(sys.argv[1:]))"
)


@pytest.fixture
def server(publisher: Any, repository: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line at a site that names its repository, on the host where the repository is changed."""
    for name in ("CVMFS_STANDIN", "PATH"):
        monkeypatch.setenv(name, repository.environment[name])
    monkeypatch.setattr("mlviews.publish.server._SPOOL", repository.state / "spool")
    named = {"prefix": str(repository.views), "promote": "manual", "repository": repository.mount.name}
    publisher.site("publisher", root=str(tmp_path / "staging"), **named)
    return publisher


def start(repository: Any, pause: float = 0, verb: tuple[str, str] = ("publish", "demo")) -> subprocess.Popen[str]:
    """Start `mlviews` in a process group of its own, each step of the server taking a while."""
    command = [sys.executable, "-c", RUN, repository.mount.parent, *verb]
    environment = {**os.environ, "CVMFS_STANDIN_PAUSE": str(pause)}
    out = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True, text=True)


def flag(repository: Any) -> Path:
    """What is there while a transaction is open."""
    return repository.state / "spool" / repository.mount.name / "in_transaction.lock"


def is_open(repository: Any) -> bool:
    return flag(repository).exists()


def test_it_is_done_tagged_and_then_no_work(server, build, repository, tmp_path):
    name = build()
    server("promote", f"demo/{name}")

    done = server("publish", "demo", "--json")
    again = server("publish", "demo", "--json")

    assert (done.code, done.data["done"], done.data["changes"]) == (0, True, ["release", "promotion"])
    assert repository.tags() == {f"demo-{name}": "1"}
    assert (again.code, again.data["done"], again.data["changes"], repository.revisions()) == (0, False, [], 2)
    assert [path.name for path in (tmp_path / "staging/.publishing").iterdir()] == [".lock"]


def test_a_promotion_a_rollback_and_a_removal_likewise(server, build, repository):
    first, second = build(), build("demo", "--rebuild")
    for name in (first, second):
        server("promote", f"demo/{name}")
        assert server("publish", f"demo/{name}").code == 0
    server("rollback", "demo")
    assert server("publish", "demo", "--json").data["changes"] == ["rollback"]
    server("remove", f"demo/{second}")
    assert server("publish", f"demo/{second}", "--json").data["changes"] == ["removal"]

    assert (repository.views / "envs/demo/default").readlink().name == first
    assert (repository.views / f"envs/demo/{second}/removed.json").exists()
    assert f"demo-removed-{second}" in repository.tags()


def test_what_gc_removed_and_the_repository_holds_is_told_until_it_is_published(server, build, repository):
    first, second = build(), build("demo", "--rebuild")
    for name in (first, second):
        server("promote", f"demo/{name}")
        server("publish", f"demo/{name}")
    server("gc", "--keep", "1", "--keep-days", "0", "--force")

    told = server("publish", "demo", "--json").data
    line = f"`mlviews publish demo/{first}` removes it there"

    assert ([one["path"] for one in told["remarks"] if one["rule"] == "removed"], told["changes"]) == (
        [f"envs/demo/{first}"], [],
    )  # fmt: skip
    assert line in " ".join(server("publish", "demo").out.split())
    assert server("publish", f"demo/{first}").code == 0
    assert line not in " ".join(server("publish", "demo").out.split())


def test_what_a_rule_forbids_is_not_begun(server, build, repository, tmp_path):
    name = build()
    (tmp_path / f"staging/envs/demo/{name}/linux-64/share/plain/data").write_text("changed")

    refused = server("publish", "demo", "--json")

    assert (refused.code, refused.data["done"], repository.revisions(), is_open(repository)) == (1, False, 1, False)


def test_with_v_it_says_all_that_forbids_it(server, build, tmp_path):
    name = build()
    for number in range(7):
        os.mkfifo(tmp_path / f"staging/envs/demo/{name}/linux-64/share/pipe{number}")

    short, long = server("publish", "demo").out, server("publish", "demo", "-v").out

    assert (short.count("forbidden special: "), short.count("special: 2 more (-v lists them)")) == (5, 1)
    assert (long.count("forbidden special: "), long.count("-v lists them")) == (7, 0)


def test_a_fault_of_the_server_is_told_and_its_transaction_aborted(server, build, repository, monkeypatch):
    build()
    full = repository.state / f"{repository.mount.name}.scratch"
    full.write_text("in the way")

    failed = server("publish", "demo", "--json")

    assert (failed.code, failed.codes[0], is_open(repository), repository.revisions()) == (3, "server-failed", False, 1)
    assert "File exists" in " ".join(error["message"] for error in failed.json["errors"])
    full.unlink(missing_ok=True)
    assert server("publish", "demo").code == 0


def test_somebody_elses_transaction_is_left_alone(server, build, repository):
    build()
    flag(repository).parent.mkdir(parents=True)
    flag(repository).touch()

    refused = server("publish", "demo", "--json")

    assert (refused.code, refused.codes, is_open(repository)) == (1, ["transaction-open"], True)


def test_somebody_elses_transaction_is_left_alone_after_a_kill_too(server, build, repository):
    """The one that the killed call left was aborted by hand, and another one opened."""
    build()
    process = start(repository, 0.5)
    while not is_open(repository):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    later = time.time() + 3600
    os.utime(flag(repository), (later, later))

    refused = server("publish", "demo", "--json")

    assert (refused.code, refused.codes, is_open(repository)) == (1, ["transaction-open"], True)
    flag(repository).unlink()
    assert server("publish", "demo").code == 0


def test_who_stands_in_a_folder_of_the_repository_can_publish(server, build, repository, monkeypatch):
    build()
    monkeypatch.chdir(repository.mount)

    assert server("publish", "demo", "--json").data["done"]


def test_programs_that_read_the_repository_on_this_host_are_named(server, build, repository):
    build()
    (repository.mount / "data").write_text("read for days")
    with (repository.mount / "data").open():
        refused = server("publish", "demo", "--json")

    told = " ".join(error["message"] for error in refused.json["errors"])
    assert (refused.codes[0], is_open(repository), repository.revisions()) == ("server-failed", False, 1)
    assert f"{os.getpid()} " in told
    assert refused.json["errors"][0]["hint"].startswith("End the programs of this host")
    assert server("publish", "demo").code == 0


def test_nothing_is_packed_where_somebody_else_could_change_the_tar(server, build, repository, tmp_path):
    build()
    folder = tmp_path / "staging/.publishing"
    folder.mkdir()
    folder.chmod(0o777)

    refused = server("publish", "demo", "--json")

    assert (refused.code, refused.codes, repository.revisions()) == (3, ["folder-foreign"], 1)
    folder.chmod(0o755)
    assert server("publish", "demo").code == 0


def test_a_fault_after_the_first_step_says_that_the_rest_is_to_be_done(server, build, repository):
    name = build()
    tags = repository.state / f"{repository.mount.name}.tags.part"
    tags.mkdir()

    failed = server("publish", "demo", "--json")

    assert (failed.codes[0], repository.revisions(), repository.tags()) == ("server-failed", 2, {})
    assert failed.json["errors"][0]["hint"].startswith("What came before is done.")
    tags.rmdir()
    assert server("publish", "demo").code == 0
    assert repository.tags() == {f"demo-{name}": "1"}


def test_a_promotion_meanwhile_waits_until_all_is_packed(server, build, repository, monkeypatch):
    """Else the tar would lead to a default that the repository does not hold."""
    first, second = build(), build("demo", "--rebuild")
    server("promote", f"demo/{first}")
    others = []

    def slow(*arguments: Any, **keys: Any) -> None:
        others.append(start(repository, verb=("promote", f"demo/{second}")))
        with suppress(subprocess.TimeoutExpired):
            others[0].wait(timeout=3)
        pack(*arguments, **keys)

    monkeypatch.setattr("mlviews.publish.plan.pack", slow)
    assert server("publish", f"demo/{first}").code == 0

    assert (repository.views / "envs/demo/default").readlink().name == first
    assert (repository.views / "envs/demo/default/linux-64/launch").exists()
    assert others[0].wait(timeout=60) == 0


def test_a_transaction_on_a_repository_of_a_longer_name_is_in_nobodys_way(server, build, repository):
    build()
    other = f"{repository.mount.name}.test"
    (repository.state / "revisions" / other).mkdir()
    (flag(repository).parent.parent / other).mkdir(parents=True)
    (flag(repository).parent.parent / other / flag(repository).name).touch()

    assert server("publish", "demo").code == 0


def test_without_a_server_or_a_name_it_says_how(server, build, tmp_path, repository, monkeypatch):
    build()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert server("publish", "demo", "--json").codes == ["server-missing"]
    server.site("publisher", root=str(tmp_path / "staging"), prefix=str(repository.views), promote="manual")
    assert server("publish", "demo", "--json").codes == ["repository-unnamed"]


def test_who_comes_after_a_kill_waits_until_the_server_has_ended(server, build, repository, tmp_path):
    build()
    process = start(repository, 0.5)
    while not is_open(repository):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lock = tmp_path / "staging/.publishing/.lock"

    with lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert server("publish", "demo").code == 0
    assert repository.revisions() == 2


@pytest.mark.parametrize("seed", range(int(os.environ.get("MLVIEWS_TEST_KILLS", "4"))))
def test_a_kill_at_any_moment_leaves_what_the_next_call_ends(server, build, repository, seed):
    """Of mlviews alone, whose server goes on, or of both."""
    chance = random.Random(seed)
    name = build()
    server("promote", f"demo/{name}")
    process = start(repository, 0.15)
    time.sleep(chance.uniform(0.3, 3.5))
    (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
    process.wait()

    done = server("publish", "demo", "--json")

    assert done.code == 0, done.out
    assert not is_open(repository)
    assert server("publish", "demo", "--plan", "--json").data["changes"] == []
    assert repository.tags().keys() == {f"demo-{name}"}
    assert (repository.views / "envs/demo/default").readlink().name == name
    assert repository.revisions() == 2
