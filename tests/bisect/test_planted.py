"""Faults planted in a channel of real archives: the culprit is named, and it costs few builds."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from math import ceil, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.lock.parse import read_lock

if TYPE_CHECKING:
    from conftest import Garden

HALVINGS = ceil(log2(32))
BREAKS = "raise RuntimeError('planted')\n"


def changes(data: dict, key: str = "change") -> dict[str, tuple[str, str]]:
    return {change["name"]: (change["before"], change["after"]) for change in data[key]}


def versions(path: str) -> dict[str, str]:
    return {package.name: package.version for package in read_lock(Path(path)).packages}


def differing(data: dict) -> set[str]:
    good, bad = versions(data["last-good"]), versions(data["first-bad"])
    return {name for name in {*good, *bad} if good.get(name) != bad.get(name)}


def test_one_culprit_among_32(garden: Garden) -> None:
    garden.grow()
    culprit = garden.draw.choice(garden.names)
    garden.new(culprit, BREAKS)
    garden.lock()

    data = garden.bisect("--retries", "1", "--json").data

    assert data["differ"] == 32
    assert changes(data) == {culprit: ("1.0", "2.0")}
    assert changes(data, "step") == changes(data)
    assert data["checks"] == {"imports": f"{culprit}: RuntimeError: planted"}
    assert (data["because"], data["together"], data["unsolvable"]) == ([], False, 0)
    # Both locks twice, each halving, the culprit alone, and that once more; the last good lock is the good one.
    assert data["builds"] <= 4 + HALVINGS + 1 + 1
    assert differing(data) == {culprit}
    assert versions(data["last-good"]) == versions("good.yml")


def test_two_that_only_break_together(garden: Garden) -> None:
    garden.grow(24)
    first, second = garden.draw.sample(garden.names, 2)
    garden.new(second, f"import {first}\nif {first}.version == 2:\n    {BREAKS}")
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    assert changes(data) == {first: ("1.0", "2.0"), second: ("1.0", "2.0")}
    assert data["together"]
    assert len(data["step"]) == 1
    assert differing(data) < {first, second}
    assert data["builds"] <= 2 + 2 * (ceil(log2(24)) + 1) + 2
    shown = garden.bisect("--retries", "0", "--resume")
    assert "2 of 24 changes break imports" in shown.out
    assert "only together" in shown.out


def test_mixtures_that_do_not_exist_are_never_built(garden: Garden) -> None:
    """Some new versions ask for other new ones, some old ones for old ones, and some both ways."""
    garden.grow(32)
    order = garden.draw.sample(garden.names, 32)
    culprit, partner, base, user = order[:4]
    garden.new(culprit, BREAKS, f"{partner} >=2", f"{base} >=2")
    garden.new(partner, "", f"{culprit} >=2")
    garden.old(user, f"{base} <2")
    for name, other in pairwise(order[4:]):
        if garden.draw.random() < 0.5:
            garden.new(name, "", f"{other} >=2")
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    # Without the new base no new culprit; and the old user bears no new base.
    assert set(changes(data)) == {culprit, partner, base, user}
    assert differing(data) == {culprit, partner}
    assert not data["together"]
    assert f"{culprit} 2.0 asks for {partner} >=2, which {partner} 1.0 h0_0 is not" in data["because"]
    assert f"{partner} 2.0 asks for {culprit} >=2, which {culprit} 1.0 h0_0 is not" in data["because"]
    assert f"{user} 1.0 asks for {base} <2, which {base} 2.0 h0_0 is not" in data["because"]
    assert data["builds"] <= 2 + ceil(log2(32)) + 4
    assert data["unsolvable"] == 0  # the records say it all: the solver need not say no


def test_the_version_in_between_that_broke(garden: Garden) -> None:
    garden.grow(8)
    culprit, other = garden.draw.sample(garden.names, 2)
    garden.new(culprit, BREAKS)
    first = garden.draw.randint(1, 9)
    gone = garden.draw.randint(1, 9)
    for minor in range(1, 10):
        source = f"version = 1\n{BREAKS if minor >= first else ''}"
        # One of them goes with no version of another package that is in either lock.
        garden.between(culprit, f"1.{minor}", source, *([f"{other} ==1.5"] if minor == gone else []))
    garden.between(other, "1.5", "version = 1\n")
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    minors = [minor for minor in range(1, 10) if minor != gone]
    before = max((minor for minor in minors if minor < first), default=0)
    after = min((minor for minor in minors if minor >= first), default=None)
    expected = {culprit: (f"1.{before}", f"1.{after}" if after else "2.0")}
    assert changes(data, "step") == expected
    assert changes(data) == {culprit: ("1.0", expected[culprit][1])}
    assert data["skipped"] in ([], [f"{culprit} 1.{gone}, build 0"])
    assert data["builds"] <= 2 + 3 + 1 + 2 * 4


def test_a_group_that_moves_as_one_is_narrowed_to_its_first_bad_version(garden: Garden) -> None:
    """As with a framework and what is built against it: each version of one goes with one version of the other."""
    garden.grow(6)
    core, plugin = garden.draw.sample(garden.names, 2)
    first = garden.draw.randint(1, 6)
    garden.old(plugin, f"{core} 1.0.*")
    for minor in range(1, 6):
        garden.between(core, f"1.{minor}", "version = 1\n")
        garden.between(plugin, f"1.{minor}", BREAKS if minor >= first else "version = 1\n", f"{core} 1.{minor}.*")
    garden.new(core)
    garden.new(plugin, BREAKS, f"{core} 2.0.*")
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    expected = (f"1.{first - 1}", f"1.{first}" if first < 6 else "2.0")
    assert changes(data, "step") == {core: expected, plugin: expected}
    assert (
        f"{plugin} {expected[1]} asks for {core} {expected[1]}.*, which {core} {expected[0]} h0_0 is not"
        in data["because"]
    )


def test_each_of_two_that_break_together_is_narrowed_to_its_version(garden: Garden) -> None:
    garden.grow(6)
    first, second = garden.draw.sample(garden.names, 2)
    since = {name: garden.draw.randint(1, 4) for name in (first, second)}
    together = f"import {first}\nif {first}.version == 2:\n    {BREAKS}"
    for minor in range(1, 4):
        garden.between(first, f"1.{minor}", f"version = {1 + (minor >= since[first])}\n")
        garden.between(second, f"1.{minor}", "version = 1\n" + (together if minor >= since[second] else ""))
    garden.new(first)
    garden.new(second, together)
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    broken = {name: "2.0" if minor == 4 else f"1.{minor}" for name, minor in since.items()}
    assert changes(data) == {name: ("1.0", version) for name, version in broken.items()}
    ((name, (before, after)),) = changes(data, "step").items()
    assert (before, after) == (f"1.{since[name] - 1}", broken[name])
    assert data["together"]


def test_what_is_added_or_taken_away_is_a_change_too(garden: Garden) -> None:
    garden.grow(8)
    user, keeper = garden.draw.sample(garden.names, 2)
    garden.shelf.add("extra", modules={"extra": BREAKS})
    garden.shelf.add("relic", modules={"relic": "version = 1\n"})
    garden.old(keeper, "relic")
    garden.new(user, "import extra\n", "extra")
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    assert data["differ"] == 10
    assert changes(data) == {"extra": (None, "1.0"), user: ("1.0", "2.0")}
    assert changes(data, "step") == {user: ("1.0", "2.0")}
    assert data["because"] == [f"{user} 2.0 asks for extra, and there is no extra"]


@pytest.mark.parametrize(
    "keys",
    [
        {"files": {"etc/conda/activate.d/a.sh": "exit 1\n"}},
        {"files": {"share/a": "a"}, "claims": {"share/a": "0" * 64}},
    ],
    ids=["it cannot be loaded", "its list is wrong"],
)
def test_a_package_that_gives_no_prefix_is_found_by_that(garden: Garden, keys: dict[str, Any]) -> None:
    garden.grow(8)
    culprit = garden.draw.choice(garden.names)
    garden.lock()
    garden.shelf.add(culprit, "3.0", modules={culprit: ""}, **keys)
    garden.make("bad")

    data = garden.bisect("--retries", "0", "--json").data

    assert changes(data, "step") == {culprit: ("2.0", "3.0")}
    assert list(data["checks"]) == ["install"]


def test_where_every_mixture_fails_in_another_way_that_is_said(garden: Garden) -> None:
    garden.grow(4)
    first, second = garden.draw.sample(garden.names, 2)
    for name, other, ending in ((first, second, "SIGKILL"), (second, first, "SIGTERM")):
        crashes = (
            "import os, signal\nfrom importlib.metadata import version as of\n"
            f"if of({other!r}) == '1.0':\n    os.kill(os.getppid(), signal.{ending})\n"  # the check itself
        )
        garden.new(name, crashes + BREAKS)
    garden.lock()

    data = garden.bisect("--retries", "0", "--json").data

    assert changes(data) == changes(data, "step") == {first: ("1.0", "2.0"), second: ("1.0", "2.0")}
    assert len(data["because"]) == 2
    assert all("fails in another way: imports error (" in text for text in data["because"])
    compared = garden.cli("diff", "garden", "--from", data["last-good"], "--to", data["first-bad"], "--json").data
    assert compared["changes"] == data["step"]


# Flaky checks


def test_a_check_that_now_fails_and_now_passes_names_no_culprit(garden: Garden, tmp_path: Path) -> None:
    """One of the bad lock's four runs passes."""
    garden.grow(8)
    passing = garden.draw.randrange(4)
    counts = f"import pathlib\nfile = pathlib.Path({str(tmp_path / 'runs')!r})\nfile.open('a').write('x')\n"
    garden.new(garden.draw.choice(garden.names), f"{counts}if len(file.read_text()) != {passing + 1}:\n    {BREAKS}")
    garden.lock()

    done = garden.bisect("--retries", "3", "--json")

    assert (done.code, done.codes, done.data) == (1, ["check-flaky"], None)
    assert done.json["errors"][0]["message"] == "imports is flaky: it passed 1 of 4 times with bad.yml"


def test_a_check_that_is_flaky_only_in_a_mixture_names_no_culprit_either(garden: Garden, tmp_path: Path) -> None:
    """Two new versions together always break; one of them alone does so the first time, and never again."""
    garden.grow(8)
    first, second = garden.draw.sample(garden.names, 2)
    once = f"""
import pathlib
import {first}
file = pathlib.Path({str(tmp_path / "once")!r})
if {first}.version == 2 or not file.exists():
    {first}.version == 2 or file.touch()
    {BREAKS}"""
    garden.new(second, once)
    garden.lock()

    done = garden.bisect("--retries", "1", "--json")

    assert (done.code, done.codes) == (1, ["check-flaky"])
    assert "with a mixture of the two locks" in done.json["errors"][0]["message"]


# What is refused


def test_locks_that_are_not_what_they_are_said_to_be(garden: Garden) -> None:
    garden.grow(4)
    garden.new("m00", BREAKS)
    garden.lock()

    swapped = garden.cli("bisect", "garden", "--good", "bad.yml", "--bad", "good.yml", "--check", "imports", "--json")
    assert (swapped.code, swapped.codes) == (1, ["bad-lock-passes"])
    same = garden.cli("bisect", "garden", "--good", "good.yml", "--bad", "good.yml", "--json")
    assert (same.code, same.codes) == (1, ["locks-equal"])
    garden.shelf.add("m01", "3.0", modules={"m01": "version = 3\n"})
    Path("good.yml").write_bytes(Path("bad.yml").read_bytes())
    garden.make("bad")
    failing = garden.bisect("--json")
    assert (failing.code, failing.codes) == (1, ["good-lock-fails"])
    assert "m00: RuntimeError: planted" in failing.json["errors"][0]["message"]


def test_a_lock_of_another_view_and_an_unknown_check(garden: Garden) -> None:
    garden.grow(2)
    garden.lock()
    garden.cli.recipes.recipe("other", "python")
    other = garden.cli("bisect", "other", "--good", "good.yml", "--bad", "bad.yml", "--json")
    assert (other.code, other.codes) == (2, ["lock-invalid"])
    unknown = garden.bisect("--check", "no-such", "--json")
    assert (unknown.code, unknown.codes) == (2, ["check-unknown"])


def test_a_lock_that_the_channel_contradicts_by_now_is_refused_before_any_build(garden: Garden) -> None:
    garden.grow(4)
    garden.lock()
    garden.shelf.add("m00", "2.0", modules={"m00": BREAKS}, depends=("m01 <2",))

    done = garden.bisect("--json")

    assert (done.code, done.codes) == (1, ["lock-refused"])
    message = done.json["errors"][0]["message"]
    assert message.startswith("the channel says now that the packages of bad.yml do not fit together")
    assert "m01 <2" in message
    assert not list(garden.cli.root.glob("bisect/*/trials/*.json"))


def test_a_missing_archive_is_no_verdict(garden: Garden) -> None:
    garden.grow(4)
    garden.new("m00", BREAKS)
    garden.lock()
    next(garden.shelf.folder.glob("noarch/m02-2.0-*")).unlink()

    done = garden.bisect("--json")

    assert (done.code, done.codes) == (3, ["archive-missing"])
    assert done.json["errors"][0]["hint"].endswith("Then go on with --resume.")


# Going on


def test_an_interrupted_bisection_goes_on_where_it_was(garden: Garden, tmp_path: Path) -> None:
    garden.grow(16)
    culprit = garden.draw.choice(garden.names)
    runs = tmp_path / "runs"
    waits = f"import pathlib, time\nruns = pathlib.Path({str(runs)!r})\nruns.open('a').write('x')\n"
    garden.new(culprit, f"{waits}if runs.read_text() == 'xx':\n    time.sleep(600)\n{BREAKS}")
    garden.lock()
    arguments = ("bisect", "garden", "--good", "good.yml", "--bad", "bad.yml", "--check", "imports", "--retries", "0")
    process = garden.cli.start(*arguments)
    deadline = time.monotonic() + 100
    while not (runs.is_file() and runs.read_text() == "xx") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    kept = len(list(garden.cli.root.glob("bisect/*/trials/*.json")))

    went_on = garden.bisect("--retries", "0", "--resume", "--json").data
    again = garden.bisect("--retries", "0", "--resume", "-o", "answer", "--json").data
    anew = garden.bisect("--retries", "0", "--json").data

    assert changes(went_on) == changes(again) == changes(anew) == {culprit: ("1.0", "2.0")}
    assert went_on["kept"] == kept >= 2
    assert went_on["builds"] + kept == anew["builds"]
    assert (again["builds"], anew["kept"]) == (0, 0)
    assert again["last-good"] == str(tmp_path / "answer/last-good.conda-lock.yml")
    assert differing(again) == {culprit}
    assert not list((garden.cli.root / "nightly/.scratch").iterdir())


def test_what_was_kept_is_believed_only_if_it_is_an_outcome(garden: Garden) -> None:
    garden.grow(2)
    garden.new("m00", BREAKS)
    garden.lock()
    before = garden.bisect("--retries", "0", "--json").data
    files = sorted(garden.cli.root.glob("bisect/*/trials/*.json"))
    files[0].write_text("{")
    files[1].write_text(files[2].read_text())

    after = garden.bisect("--retries", "0", "--resume", "--json").data

    assert after["builds"] == 2
    assert changes(after) == changes(before)
