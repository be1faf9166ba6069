"""`mlviews run`: which release, in which environment, with which status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlviews.errors import RefusedError
from mlviews.store.launcher import launcher


@pytest.fixture
def demo(builder: Any, same_place: Any) -> Any:
    def build() -> None:
        builder.recipes.recipe("demo", "python", "greet")
        assert builder("build", "demo").code == 0

    same_place.once(build)
    return builder


def test_the_default_or_a_named_release_runs(demo):
    (release,) = [line["release"] for line in demo("releases", "demo", "--json").data["releases"]]

    for view in ("demo", "demo/default", f"demo/{release}"):
        done = demo.process("run", view, "--", "greet")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"hello from {demo.root}/envs/demo/{release}/")


@pytest.mark.parametrize("status", [0, 1, 7, 130, 255])
def test_the_programs_status_is_passed_on(demo, status):
    assert demo.process("run", "demo", "--", "python", "-c", f"raise SystemExit({status})").code == status


def test_a_program_that_dies_of_a_signal_does_so_for_the_caller(demo):
    done = demo.process("run", "demo", "--", "python", "-c", "import os; os.kill(os.getpid(), 9)")

    assert done.code == -signal.SIGKILL


def test_sigterm_is_the_programs_own_again(demo):
    # mlviews looks at SIGTERM itself; a program that it starts must not inherit that.
    code = "import signal; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"

    assert demo.process("run", "demo", "--", "python", "-c", code).out == "True\n"


def test_a_missing_program_is_said_and_gives_127(demo):
    done = demo.process("run", "demo", "--", "no-such-program")

    assert done.code == 127
    release = demo("releases", "demo", "--json").data["releases"][0]["release"]
    where = f"in demo/{release} or on PATH\n"
    assert done.err == f"mlviews: there is no program no-such-program {where}"
    assert demo.process("run", "demo", "--", "./no such").err == f"mlviews: there is no program ./no such {where}"


def test_the_environment_holds_nothing_of_another_python(demo, monkeypatch):
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "CONDA_DEFAULT_ENV"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("KEPT", "the user's own")
    # mlviews itself would not start with a PYTHONHOME that leads nowhere: its launcher is what scrubs.
    launch = launcher(demo.root, "demo", None)
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    found = json.loads(subprocess.run([launch, "python", "-c", code], capture_output=True, check=True).stdout)

    assert not {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "CONDA_DEFAULT_ENV"} & set(found)
    assert found["KEPT"] == "the user's own"
    assert (found["CONDA_PREFIX"], found["MLVIEWS_VIEW"]) == (str(launch.parent), "demo")
    assert "default" not in found["PATH"].split(":")[0]


def test_modules_of_another_python_reach_neither_mlviews_nor_what_it_starts(demo, tmp_path):
    for module in ("click", "yaml", "pip"):
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text("raise SystemExit('another one')\n")
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    begin = f"{sys.executable} -m mlviews"
    foreign = {"PYTHONPATH": f"{tmp_path}:/nowhere"}
    own = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    # Its Python is of the same version, as that of an LCG view may be: Python itself starts then.
    home = tmp_path / "home"
    (home / "lib").mkdir(parents=True)
    (home / "lib" / minor).symlink_to(Path(os.__file__).parent)

    for variables in (foreign, {**foreign, "PYTHONHOME": str(home)}):
        done = subprocess.run(
            ["sh", "-c", f"cd /; {begin} run demo -- sh -c 'echo ${{PYTHONPATH-none}}'; {begin} list --json"],
            env={**own, **variables}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("none\n{")


def test_options_after_the_dashes_are_the_programs(demo):
    code = "import sys; print(sys.argv[1:])"
    done = demo.process("run", "demo", "--", "python", "-c", code, "--json", "--root", "/x", "-v")

    assert done.out == "['--json', '--root', '/x', '-v']\n"
    # The program's own --json is no wish for mlviews' errors in JSON.
    failed = demo("run", "other", "--", "x", "--json")
    assert (failed.code, failed.out) == (1, "")


@pytest.mark.parametrize("before", [[], ["-v"], ["--lockfiles", "--", "-q"], ["--mirror", "a=b"]])
def test_without_dashes_what_follows_the_program_is_its_own(demo, before):
    code = "import sys; print(sys.argv[1:])"
    done = demo.process("run", *before, "demo", *before, "python", "-c", code, "--json", "--", "--root", "/x", "-V")
    assert done.out == "['--json', '--', '--root', '/x', '-V']\n"
    failed = demo("run", "other", "x", "--json")
    assert (failed.code, failed.out) == (1, "")
    assert demo("run", "--json", "other", "x").codes == demo("--json", "run", "other", "x", "-c").codes
    assert demo("run", "demo").code == 2


def test_a_mistyped_name_is_recognised(demo):
    for verb in (["run", "dmo", "x"], ["smoke", "dmo"], ["verify", "dmo"], ["render", "dmo", "sh"]):
        assert "did you mean 'demo'?" in demo(*verb).err
    demo.recipes.recipe("unbuilt", "greet")
    assert "did you mean 'unbuilt'?" in demo("run", "unbilt", "x").err
    assert "`mlviews build unbuilt` makes one" in demo("run", "unbuilt", "x").err
    (demo.recipes.folder / "demo.yaml").unlink()  # what is built is known without its recipe
    assert "did you mean 'demo'?" in demo("run", "dmo", "x").err


def test_the_nearest_of_all_that_can_be_named_is_said(demo):
    (release,) = [line["release"] for line in demo("releases", "demo", "--json").data["releases"]]
    typed = release.replace(".", "-")
    for call, meant in {
        ("run", f"demo/{typed}", "x"): release,
        ("promote", f"demo/{typed}"): release,
        ("gpus", "demo", "--gpu", "a100"): "A100",
        ("render", "demo", "explicit", "--platform", "linux64"): "linux-64",
        ("gc", "dmeo"): "demo",
        ("--mirror", "conda-froge=/x", "lock", "demo"): "conda-forge",
    }.items():
        assert f"did you mean '{meant}'?" in " ".join(demo(*call).err.split()), call


def test_releases_without_a_default_want_a_promotion_and_no_build(builder):
    builder.site("manual", promote="manual")
    builder.recipes.recipe("demo", "greet")
    assert builder("build", "demo", "--site", "manual").code == 0
    (release,) = builder("releases", "demo", "--json").data["releases"]
    assert f"`mlviews promote demo/{release['release']}` makes" in builder("run", "demo", "greet").err


def test_an_error_knows_the_site_that_has_the_view(demo, monkeypatch, tmp_path):
    demo.site("there")
    monkeypatch.setenv("MLVIEWS_ROOT", str(tmp_path / "elsewhere"))
    for verb in (
        ["run", "demo", "x"],
        ["smoke", "demo"],
        ["verify", "demo"],
        ["render", "demo", "sh"],
        ["diff", "demo"],
    ):
        assert "Site there has one: add `--site there`, or type `mlviews use there` once." in demo(*verb).err


@pytest.mark.parametrize("view", ["../evil", "demo/../../evil", "demo/../demo", "..", "../evil/2026.01.01", "/", ""])
def test_names_that_are_no_views_lead_nowhere(demo, tmp_path, view):
    (release,) = (demo.root / "envs/demo").glob("2*")
    evil = demo.root / "evil"
    evil.mkdir()
    # Something that would run is in reach of each name.
    for link in (evil / "2026.01.01", evil / "default", evil / release.name, demo.root / "default"):
        link.symlink_to(release)

    name, _, named = view.partition("/") if view.startswith("demo/") else (view, "", "")
    with pytest.raises(RefusedError, match="is not a release"):
        launcher(demo.root, name, named or None)
    assert demo("run", view, "--json", "--", "true").codes == ["release-missing"]


@pytest.mark.parametrize("view", ["other", "gpus-cuda13", "demo/2020.01.01"])
def test_a_release_that_is_not_there_is_refused_with_what_to_do(demo, view):
    demo.recipes.recipe("other", "python")
    demo.recipes.recipe("gpus", "python", hardware={"cuda": "12.9"}, variants={"cuda13": {}})
    refused = demo("run", view, "--json", "--", "true")

    assert (refused.code, refused.codes, refused.json["command"]) == (1, ["release-missing"], "run")
    assert "mlviews" in refused.json["errors"][0]["hint"]


@pytest.mark.parametrize(
    "verb", [("run", "nothing", "--", "true"), ("shell", "nothing"), ("job", "nothing", "--", "true")]
)
def test_no_build_is_advised_of_a_view_that_nobody_knows(demo, verb):
    refused = demo(verb[0], "--json", *verb[1:])

    assert refused.codes == ["view-unknown"]
    assert "mlviews build" not in refused.json["errors"][0]["hint"]


def test_a_view_whose_recipe_lies_in_another_folder_is_listed(demo, tmp_path):
    assert demo("list", "--json").data["elsewhere"] == []
    (tmp_path / "empty").mkdir()

    listed = demo("list", "--recipes", tmp_path / "empty")
    assert "Built here too, from recipes in other folders (--recipes): demo\n" in listed.out


def test_what_is_built_and_what_it_is_for_stay_in_a_narrow_list(demo, monkeypatch):
    monkeypatch.setenv("COLUMNS", "48")
    said = demo("list").out.splitlines()
    heading = next(line for line in said if line.startswith("View "))  # of one's own; the catalogue's come below
    assert {"Built", "Summary"} <= {*heading.split()}
    assert any(line.startswith("no room for: ") for line in said), "it is narrow"


def test_debris_is_no_release(demo):
    launch = launcher(demo.root, "demo", None)
    (launch.parent / "release.json").unlink()

    with pytest.raises(RefusedError):
        launcher(demo.root, "demo", None)


def test_a_launch_that_cannot_be_run_is_named(demo):
    launch = launcher(demo.root, "demo", None)
    launch.chmod(0o644)
    if os.access(launch, os.X_OK):
        pytest.skip("this user may run anything")

    with pytest.raises(RefusedError, match="launch") as caught:
        launcher(demo.root, "demo", None)
    assert caught.value.code == "release-broken"
