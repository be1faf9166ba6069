"""Lock against lock, by whatever name: a file, a release, a Git revision."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.lock.diff import compare
from mlviews.lock.lockfile import Lock, LockedPackage

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Cli

OLD = ("--as-of", "2025-06-01")


def locked(label: str, platform: str = "linux-64", size: int = 100) -> LockedPackage:
    name, version, build = label.split()
    url = f"https://conda.anaconda.org/conda-forge/{platform}/{name}-{version}-{build}.conda"
    return LockedPackage(name, version, build, platform, url, "0" * 32, "0" * 64, size, {})


def lock(*packages: LockedPackage) -> Lock:
    return Lock("x", {"platforms": ["linux-64"]}, "solver", packages)


def kinds(before: Lock, after: Lock) -> list[tuple[str, str, int]]:
    return [(change.name, change.kind, change.bytes) for change in compare(before, after)]


def test_every_kind_of_change() -> None:
    before = lock(
        locked("gone 1 h_0"), locked("up 1.9 h_0"), locked("down 2 h_0"), locked("rebuilt 1 h_0"), locked("same 1 h_0")
    )
    after = lock(
        locked("new 1 h_0", size=7),
        locked("up 1.10 h_0", size=150),
        locked("down 1 h_0", size=50),
        locked("rebuilt 1 h_1"),
        locked("same 1 h_0"),
    )
    assert kinds(before, after) == [
        ("down", "down", -50),
        ("gone", "removed", -100),
        ("new", "added", 7),
        ("rebuilt", "rebuilt", 0),
        ("up", "up", 50),
    ]


def test_platforms_are_compared_apart() -> None:
    before = lock(locked("a 1 h_0"), locked("a 2 h_0", "linux-aarch64"))
    after = lock(locked("a 2 h_0"), locked("a 1 h_0", "linux-aarch64"))
    assert [(change.platform, change.kind) for change in compare(before, after)] == [
        ("linux-64", "up"),
        ("linux-aarch64", "down"),
    ]


PACKAGES = st.dictionaries(st.sampled_from("abc"), st.sampled_from(["1 h_0", "1 h_1", "2 h_0"]), max_size=3)


@given(one=PACKAGES, other=PACKAGES)
def test_there_and_back_cancel_out(one: dict[str, str], other: dict[str, str]) -> None:
    before, after = (lock(*(locked(f"{name} {rest}") for name, rest in item.items())) for item in (one, other))
    opposite = {"added": "removed", "removed": "added", "up": "down", "down": "up", "rebuilt": "rebuilt"}
    assert kinds(before, after) == [(name, opposite[kind], -size) for name, kind, size in kinds(after, before)]
    assert kinds(before, before) == []


# The command


@pytest.fixture
def two(cli: Cli, require: Callable[[str], str]) -> Cli:
    """A view that was locked long ago, committed, and locked again; the old lock also lies in ``old.yml``."""
    require("git")
    cli.recipes.recipe("x", "clock", "bystander", "plain")
    assert cli("lock", "x", *OLD).code == 0
    git(cli, "init", "--quiet")
    git(cli, "add", ".")
    git(cli, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "--message", "x")
    Path("old.yml").write_bytes(cli.lock("x").read_bytes())
    assert cli("lock", "x", "--upgrade").code == 0
    return cli


def git(cli: Cli, *arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, cwd=cli.lockfiles.parent)


@pytest.mark.parametrize("name", ["HEAD", "old.yml", "HEAD^{commit}", "@"])
def test_against_a_file_or_a_revision(two: Cli, name: str) -> None:
    done = two("diff", "x", "--from", name, "--json")
    assert done.code == 0
    assert [(change["name"], change["kind"]) for change in done.data["changes"]] == [
        ("bystander", "up"),
        ("clock", "up"),
    ]
    assert (done.data["changes"][1]["before"], done.data["changes"][1]["after"]) == ("2.0", "3.0")
    assert done.data["bytes"] == sum(change["bytes"] for change in done.data["changes"])
    assert name in done.data["before"]
    assert done.data["after"] == str(two.lock("x"))


def test_the_other_way_round(two: Cli) -> None:
    done = two("diff", "x", "--from", str(two.lock("x")), "--to", "HEAD", "--json")
    assert {change["kind"] for change in done.data["changes"]} == {"down"}


def test_for_people(two: Cli) -> None:
    done = two("diff", "x", "--from", "HEAD")
    assert "2 packages differ" in done.out
    assert "clock" in done.out
    assert "no difference" in two("diff", "x", "--from", str(two.lock("x"))).out


@pytest.mark.parametrize(
    "name",
    ["no-such-branch", "HEAD~99", "--output=pwned", "HEAD:x", "a\x01b", "", "../old.yml", "x" * 5000, "$(touch pwned)"],
)
def test_a_name_that_means_no_lock(two: Cli, name: str) -> None:
    (trap := two.lockfiles / "pwned:.").mkdir()  # where `git show --output=pwned:./x.conda-lock.yml` would write
    done = two("diff", "x", f"--from={name}", "--json")
    assert done.code in {1, 2}
    assert done.codes in (["lock-unknown"], ["release-missing"])
    assert not Path("pwned").exists()
    assert not list(trap.iterdir())


def test_a_revision_whose_lock_is_broken(two: Cli) -> None:
    two.lock("x").write_text("broken: [")
    git(two, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "--all", "--message", "y")
    done = two("diff", "x", "--from", "HEAD", "--to", "HEAD~1", "--json")
    assert (done.code, done.codes) == (2, ["lock-invalid"])
    assert "HEAD:x.conda-lock.yml" in done.json["errors"][0]["message"]


def test_outside_of_a_repository(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    cli("lock", "x")
    done = cli("diff", "x", "--from", "HEAD", "--json")
    assert (done.code, done.codes) == (2, ["lock-unknown"])


def test_without_git(two: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    done = two("diff", "x", "--from", "HEAD", "--json")
    assert (done.code, done.codes) == (2, ["lock-unknown"])
    assert "there is no git here" in done.json["errors"][0]["message"]


def test_against_a_release(two: Cli) -> None:
    release = two.root / "envs/x/2026.11.23/linux-64"
    release.mkdir(parents=True)
    (release / "conda-lock.yml").write_bytes(Path("old.yml").read_bytes())
    missing = two("diff", "x", "--json")
    assert (missing.code, missing.codes) == (1, ["release-missing"])
    for name in ("2026.11.23", "x/2026.11.23"):
        assert len(two("diff", "x", "--from", name, "--json").data["changes"]) == 2
    (two.root / "envs/x/default").symlink_to("2026.11.23")
    by_default = two("diff", "x", "--json")
    assert by_default.data["before"] == "x/2026.11.23"
    assert len(by_default.data["changes"]) == 2
    gone = two("diff", "x", "--from", "2026.11.24", "--json")
    assert (gone.code, gone.codes) == (1, ["release-missing"])


def test_without_a_lock(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    Path("some.yml").touch()
    done = cli("diff", "x", "--from", "some.yml", "--json")
    assert (done.code, done.codes) == (2, ["lock-invalid"])
    cli("lock", "x", "--lockfiles", "other")
    done = cli("diff", "x", "--from", "other/x.conda-lock.yml", "--json")
    assert (done.code, done.codes) == (1, ["lock-missing"])


def test_a_revision_of_a_lock_of_wheels_is_answered_with_where_such_locks_lie(cli, tmp_path):
    asked = ("diff", "plotting", "--from", "HEAD", "--site", "pypi", "--root", tmp_path, "--json")
    done = cli(*asked)
    assert (done.code, done.codes) == (2, ["lock-unknown"])
    assert done.json["errors"][0]["hint"].startswith(
        f"Git holds no lock of site pypi: they lie in {tmp_path}/lockfiles."
    )
