"""A group's own checks: files beside its recipes, run wherever mlviews' own are, and proofs of their very text."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlviews.bisect.trials import Run, Trials
from mlviews.hardware import host_platform
from mlviews.lock.lockfile import Lock
from mlviews.recipe.catalogue import open_catalogue
from mlviews.recipe.checks import read_checks
from mlviews.site.model import Promotion
from mlviews.site.profile import open_site
from mlviews.site.spec import for_site
from mlviews.smoke.demands import missing_proofs
from mlviews.smoke.programs import BASIC, programs
from mlviews.smoke.records import Record, last_results, own_digests
from mlviews.smoke.report import CheckLine
from mlviews.smoke.runner import Interpreter, choose, run_checks
from mlviews.trial import Trial

CHECK = '''"""The group's selection keeps what it should. And more."""

from _protocol import Check, run


def main(check: Check) -> str:
    greet = check.need("greet")
    check.expect(greet, "no greeting")
    return "the selection keeps {what}"


if __name__ == "__main__":
    run(main)
'''
PWNED = 'open("pwned", "w")\n'


@pytest.fixture
def own(cli):
    """Return a function that writes a check beside the recipes."""

    def write(text: str | bytes | None, name: str = "group_selection") -> Path:
        folder = cli.recipes.folder / "checks"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.py"
        if text is None:
            path.symlink_to(folder / "nowhere")
        else:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_build_runs_it_and_a_changed_text_is_not_proved(builder, own):
    builder.recipes.recipe("demo", "python", "greet", smoke=["group-selection"])
    own(CHECK.format(what="jets"))
    (line,) = [one for one in build(builder)["checks"] if one["name"] == "group-selection"]
    assert (line["status"], line["reason"]) == ("pass", "the selection keeps jets")
    assert build(builder)["checks"] == []
    (record,) = builder.root.glob("records/demo/*/*.json")
    assert f'"digest": "{line["digest"]}"' in record.read_text()

    own(CHECK.format(what="muons"))
    (again,) = build(builder)["checks"]
    assert (again["reason"], again["digest"] != line["digest"]) == ("the selection keeps muons", True)

    own(CHECK.format(what="nothing").replace("(greet,", "(not greet,"))
    failed = builder("build", "demo", "--json")
    assert (failed.code, failed.codes) == (1, ["check-failed"])
    assert "group-selection" in failed.json["errors"][0]["message"]
    assert "rollback" not in failed.json["errors"][0]["hint"], "there is nothing to go back to"

    elsewhere = builder.recipes.folder.with_name("elsewhere")
    elsewhere.mkdir()
    recipe = (builder.recipes.folder / "demo.yaml").read_text()
    (elsewhere / "demo.yaml").write_text(recipe.replace("group-selection", "imports"))
    away = builder("--recipes", str(elsewhere), "smoke", "demo", "--json")
    (line,) = [one for one in away.data["checks"] if one["name"] == "group-selection"]
    assert (away.code, line["status"]) == (1, "error")
    assert "name that folder with --recipes" in line["reason"]
    named = builder("--recipes", str(elsewhere), "smoke", "demo", "--check", "imports", "--json")
    assert (named.code, [one["name"] for one in named.data["checks"]]) == (0, ["imports"])


def test_who_has_no_recipe_of_what_is_built_here_is_told_so(builder, own, tmp_path):
    """A reader of a shared root: the view is there, its recipe is the librarian's."""
    builder.recipes.recipe("demo", "python", "greet", smoke=["group-selection"])
    own(CHECK.format(what="jets"))
    build(builder)
    elsewhere = ("--recipes", str(tmp_path))
    for verb in ("smoke", "show", "build", "lock"):
        refused = builder(verb, "demo", *elsewhere)
        assert (verb, refused.code, "demo is built here, and its recipe lies" in refused.err) == (verb, 2, True), (
            refused.err
        )
    everything = builder("smoke", *elsewhere)
    assert (everything.code, "no release is here" in everything.out) == (2, False)


def test_a_check_that_gives_no_answer_is_told_by_each_build_of_what_is_there(builder, own):
    builder.recipes.recipe("demo", "python", "greet", smoke=["group-selection", "other"])
    good = own(CHECK.format(what="jets"))
    own(CHECK.format(what="all"), "other")
    build(builder)
    for text in ('"""Says nothing."""\n', "import neighbour\n", "import os\nos.abort()\n"):
        own(text, "other")
        good.write_text(good.read_text() + "\n")  # a record of what passed beside it is no answer
        for _ in range(2):
            silent = builder("build", "demo", "--json")
            assert (silent.code, silent.codes) == (1, ["check-failed"])
            assert "without a report" in silent.json["errors"][0]["message"]
    own(CHECK.format(what="all"), "other")
    build(builder)
    assert build(builder)["checks"] == []


def build(builder):
    done = builder("build", "demo", "--json")
    assert done.code == 0, done.out
    return done.data


def test_they_are_listed_with_their_file_and_nothing_of_them_is_run(cli, own):
    cli.recipes.recipe("demo", "python", smoke=["group-selection"])
    path = own(CHECK.format(what="jets") + PWNED + 'GPU = True\nLEVEL = "full"\n')

    listed = {line["name"]: line for line in cli("checks", "--json").data["checks"]}

    line = {"proves": "The group's selection keeps what it should", "gpu": True, "level": "full", "file": str(path)}
    assert listed["group-selection"] == {"name": "group-selection", **line}
    assert listed["imports"]["file"] is None
    assert str(path) in cli("checks").out.replace("\n", "")
    assert cli("show", "demo", "--json").data["recipe"]["unknown-checks"] == []
    assert not list(cli.recipes.folder.rglob("pwned"))


def test_a_folder_of_checks_that_cannot_be_read_is_told(cli, own, monkeypatch):
    cli.recipes.recipe("demo", "python", smoke=["group-selection"])
    folder, listdir = own(CHECK.format(what="jets")).parent, os.listdir

    def refuse(path: Any) -> list[str]:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    for call in (["checks"], ["show", "demo"], ["lock", "demo"]):
        done = cli(*call, "--json")
        assert (done.code, done.codes) == (3, ["unreadable"])
        assert str(folder) in done.json["errors"][0]["message"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pip_check", "", "mlviews itself has a check 'pip-check'"),
        ("_protocol", "", "lower-case letters, digits and underscores"),
        ("My-Check", "", "lower-case letters, digits and underscores"),
        ("broken", "ok = 1\ndef main(:\n", "broken.py:2: "),
        ("nul", "\0", "nul.py"),
        ("long", "#" * 200_001, "longer than 200000 bytes"),
        ("deep", "(" * 5000, "deep.py"),
        ("deeper", "x = " + "-" * 100_000 + "1", "deeper.py"),
        ("latin", b'# -*- coding: latin-1 -*-\n"""L\xe9."""\n', "latin.py: byte 31 is not UTF-8"),
        ("lost", None, "lost.py: No such file"),
    ],
)
def test_a_file_that_is_no_check_is_refused_with_its_recipes(cli, own, name, text, said):
    cli.recipes.recipe("demo", "python")
    own(PWNED + text if said.startswith("mlviews") else text, name)

    for call in (("checks",), ("show", "demo"), ("lock", "demo")):
        refused = cli(*call, "--json")
        assert (refused.code, refused.codes) == (2, ["check-invalid"])
        assert said in refused.json["errors"][0]["message"]
    assert cli("list").code in {0, 2}  # it goes on to tell of the others


def test_what_editors_and_file_systems_leave_beside_checks_is_none_and_a_pipe_is_not_waited_for(cli, own):
    cli.recipes.recipe("demo", "python", smoke=["group-selektion", "kernel-strat"])
    path = own("\ufeff" + CHECK.format(what="jets").replace("jets", "\\d"))
    (path.parent / ".#group_selection.py").symlink_to("somebody@host")
    (path.parent / "._group_selection.py").write_bytes(b"\0\5\x16\7")

    (check,) = read_checks(cli.recipes.folder)
    assert check.text.startswith('"""The group')
    said = cli("checks")
    assert (said.code, said.err) == (0, "")
    assert programs([check])["group-selection"].level == "quick"

    os.mkfifo(path.parent / "pipe.py")
    refused = cli("checks", "--json")
    assert (refused.code, "pipe.py: it is no file" in refused.json["errors"][0]["message"]) == (2, True)


def test_who_mistypes_an_own_check_is_told_its_name(cli, own):
    cli.recipes.recipe("demo", "python", smoke=["group-selektion"])
    own(CHECK.format(what="jets"))
    (check,) = read_checks(cli.recipes.folder)
    meant = "; did you mean 'group-selection'?"

    assert meant in cli("show", "demo").out.replace("\n", " ")
    assert meant in cli("smoke", "demo", "--check", "group-selektion", "--json").json["errors"][0]["message"]
    (told,) = run_checks(Interpreter(("false",), {}), choose(["group-selektion"], "quick", own=[check]))
    assert (told.status, told.reason) == ("error", f"no such check{meant}")


def test_a_change_of_a_check_is_seen_where_recipes_are_kept_and_travels_with_the_view(cli, own):
    cli.recipes.recipe("demo", "python")
    for what in ("jets", "muons"):
        own(CHECK.format(what=what))
        (check,) = open_catalogue(cli.recipes.folder).view("demo").own_checks
        assert what in check.text
    spec = open_catalogue(cli.recipes.folder).view("demo")
    assert pickle.loads(pickle.dumps(spec)).own_checks == spec.own_checks == read_checks(cli.recipes.folder)


def test_a_bisection_that_goes_on_tries_again_what_another_text_judged(cli, own, tmp_path, monkeypatch):
    cli.recipes.recipe("demo", "python")
    lock = Lock("demo", {}, "solver", ())
    tried = []

    def run_once():
        spec = open_catalogue(cli.recipes.folder).view("demo")
        text = programs(spec.own_checks)["group-selection"].digest
        found = Trial(digest=lock.digest, platform="linux-64", checks=(line("pass", text, name="group-selection"),))
        monkeypatch.setattr("mlviews.bisect.trials.try_lock", lambda _: tried.append(text) or found)
        site_spec = for_site(spec, open_site("local"))
        trials = Trials(site_spec, open_site("local"), "linux-64", tmp_path / "kept", tmp_path)
        trials.run(lock, ("group-selection",), 1, label="")

    for what in ("jets", "jets", "muons"):
        own(CHECK.format(what=what))
        run_once()
    assert len(tried) == len({*tried}) == 2  # once with each text


def record(*lines):
    return Record(
        mlviews="1", view="demo", release="1", lock="a", platform=host_platform(), host="h",
        created=datetime(2026, 11, 27, tzinfo=timezone.utc), level="full", checks=lines,
    )  # fmt: skip


def line(status, digest, device="cpu", name="own"):
    return CheckLine(name=name, status=status, reason="", seconds=1, device=device, digest=digest)


def test_what_another_text_found_counts_no_more():
    old = record(line("pass", "a"), line("fail", "a", "T4"), line("pass", "", "T4", "torch-matmul"))
    new = record(line("pass", "b"), line("error", "c"))
    assert last_results([old]) == {"own": False, "torch-matmul": True}
    assert last_results([old, new]) == {"own": True, "torch-matmul": True}
    assert own_digests([old, new]) == {"own": "b"}


def test_a_promotion_wants_the_new_text_of_a_check_on_each_gpu():
    release: Any = SimpleNamespace(has_python=True, gpus=("T4",))
    basic = (*(line("pass", "", name=name) for name in BASIC), line("pass", "", "T4", "torch-matmul"))

    def missing(*records):
        return missing_proofs(release, records, Promotion(level="full", gpus=["T4"]), records[0].created)

    proved = record(*basic, line("pass", "a", "T4"))
    assert missing(proved) == missing(record(*basic, line("pass", "a"))) == ()
    assert missing(proved, record(line("pass", "b", "T4"))) == ()
    assert missing(proved, record(line("fail", "b", "T4"))) == ("T4: failed own",)
    assert missing(record(*basic, line("pass", "", "T4", "own")), record(line("pass", "b"))) == ()
    moved = record(line("pass", "a", "V100"), *basic)
    assert missing(moved) == ("T4: no full record of own",)  # it has work for a GPU, and did none on this one
    old = record(*basic, line("fail", "a", "T4"))
    assert missing(old, record(line("pass", "b"))) == ()  # what the old text found counts no more


def test_what_runs_is_the_text_that_was_read(cli, own, tmp_path):
    path = own(CHECK.format(what="jets"))
    program = programs(read_checks(cli.recipes.folder))["group-selection"]
    path.write_text(PWNED)
    placed = program.place(tmp_path)
    assert (placed.name, placed.read_text()) == (path.name, CHECK.format(what="jets"))
    assert program.digest == hashlib.sha256(placed.read_bytes()).hexdigest()
    assert json.dumps(sorted(one.name for one in placed.parent.iterdir())) == '["_protocol.py", "group_selection.py"]'


@pytest.mark.parametrize(
    ("statuses", "texts", "answers"),
    [
        ({"install": "pass", "one": "pass"}, {"one": "a"}, True),
        ({"install": "pass", "one": "fail"}, {}, True),
        ({"install": "pass"}, {}, False),
        ({"install": "fail"}, {}, True),
        ({"install": "pass", "one": "pass"}, {"one": "b"}, False),
        ({"install": "pass", "one": "pass", "gone": "pass"}, {"gone": "a"}, False),
    ],
)
def test_a_bisection_that_goes_on_takes_what_was_found_by_the_same_texts(statuses, texts, answers):
    run = Run(statuses=statuses, reasons={}, texts=texts)
    assert run.tells(("one",), {"one": "a"}) is answers
