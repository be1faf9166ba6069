"""The command line: options, envelopes, exit codes, and that nothing a file says is obeyed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from conftest import imported
from webserver import Quiet, listening

from mlviews.cli import GROUPS
from mlviews.cli import cli as command_group
from mlviews.cli.app import App
from mlviews.files.writing import folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Cli, Result

VERBS = command_group.list_commands(click.Context(command_group))
HEAVY = {"rattler", "pydantic", "rich", "conda_lock", "jinja2", "yaml", "asyncio"}
HOSTILE = "[red]x[/red] [/] :smile: [link=http://x]y[/link] {{ z }} $(id) \\n é \u4e2d"


# Help


def test_without_arguments_the_help_is_shown(cli: Cli) -> None:
    done = cli.process()
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Usage: mlviews")
    # What everybody needs, on one screen.
    whole = cli.process("--help").out
    more = sum(map(len, GROUPS.values())) - len(GROUPS["Use views"])
    assert all(text in done.out for text in ("mlviews build plotting", f"`mlviews --help` shows {more} verbs more"))
    assert not any(text in done.out for text in ("mlviews promote", "--lockfiles"))
    assert len(done.out.splitlines()) < len(whole.splitlines()) / 2


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(cli: Cli, flag: str) -> None:
    done = cli(flag)
    assert done.code == 0
    assert "\\b" not in done.out
    lines = [line.strip() for line in done.out.splitlines()]
    assert any(line.startswith("mlviews build plotting") for line in lines), "examples stand one a line"
    assert done.err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(cli: Cli, verb: str) -> None:
    done = cli(verb, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: mlviews {verb}")
    assert "--json" in done.out
    assert "\\b" not in done.out


def test_help_imports_nothing_heavy() -> None:
    """All in one process: after the first call that imports something, it stands in the line of each."""
    calls = ["--help", "--version", *(f"{verb} --help" for verb in VERBS)]
    code = (
        "import sys; from mlviews.__main__ import run\n"
        "for call in sys.argv[1].split(','):\n"
        "    run(call.split())\n"
        "    print(call, *{name.split('.')[0] for name in sys.modules} & {*sys.argv[2:]}, sep=',', file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, ",".join(calls), *HEAVY]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr.splitlines() == calls


def test_what_only_looks_at_views_imports_no_solver_and_no_templates(cli: Cli) -> None:
    cli.recipes.recipe("x", "python", "numpy >=2")
    assert [cli("lock", "x").code, cli("list").code] == [0, 0]
    for arguments in (["list"], ["show", "x"], ["releases"]):
        assert not imported(*arguments) & {"rattler", "jinja2", "asyncio"}
    for arguments in (["list"], ["lock", "x", "--check"]):
        assert not imported(*arguments) & {"pydantic", "pydantic_core", "yaml", "packaging"}, "all of it is kept"
    cli.lock("x").unlink()
    assert not imported("lock", "x") & {"pydantic", "packaging"}, "a solve waits for neither"


def test_help_shows_each_verb_once_with_an_example_and_shared_options_last(cli: Cli) -> None:
    from mlviews.cli import GROUPS

    calls = [call for calls in GROUPS.values() for call in calls]
    assert sorted(call.split()[1] for call in calls) == VERBS
    shown = cli("--help").out
    for call in calls:
        program, verb = call.split()[:2]
        assert program == "mlviews"
        assert f"\n  {call}" in shown
        assert f"Example: {call}" in " ".join(cli(verb, "--help").out.split())
    assert shown.index("Keep a site:") < shown.index("\nOptions:") < shown.index("\nOptions of every verb:")
    assert "_MLVIEWS_COMPLETE=bash_source" in shown
    assert "MLVIEWS_SITE" in shown
    assert max(map(len, shown.splitlines())) <= 100
    new = cli("new", "--help").out
    assert new.index("--gpu") < new.index("Options of every verb") < new.index("--root")


def test_each_option_says_what_it_does_in_a_sentence() -> None:
    waiting: list[click.Command] = [command_group]
    for command in waiting:
        if isinstance(command, click.Group):
            waiting += [
                command.get_command(click.Context(command), name)
                for name in command.list_commands(click.Context(command))
            ]
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                told = (option.help or "").partition("  [default")[0]
                assert re.fullmatch(r"[A-Z-].*[.)]", told), f"{command.name} {option.opts}: {told!r}"
    assert {command.name for command in waiting} >= {*VERBS}


def test_version(cli: Cli) -> None:
    from mlviews import __version__

    assert cli("--version").out == f"mlviews, version {__version__}\n"


# Options


def test_options_stand_before_or_after_the_verb(cli: Cli, tmp_path: Path) -> None:
    cli.recipes.recipe("x", "clock")
    for number, arguments in enumerate(
        [["--json", "--lockfiles", "L", "lock", "x"], ["lock", "--json", "x", "--lockfiles", "L"]]
    ):
        folder = tmp_path / f"locks-{number}"
        done = cli(*[str(folder) if argument == "L" else argument for argument in arguments])
        assert done.data["locks"][0]["path"] == str(folder / "x.conda-lock.yml")


def test_the_later_option_wins(cli: Cli, tmp_path: Path) -> None:
    cli.recipes.recipe("x", "clock")
    done = cli("--lockfiles", tmp_path / "a", "lock", "x", "--lockfiles", tmp_path / "b", "--json")
    assert done.data["locks"][0]["path"].startswith(str(tmp_path / "b"))
    assert cli("--json", "list").data["recipes"] == str(cli.recipes.folder)


def test_options_go_before_the_environment(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.recipes.recipe("x", "clock")
    monkeypatch.setenv("MLVIEWS_LOCKFILES", str(tmp_path / "environment"))
    assert cli("lock", "x", "--json").data["locks"][0]["path"].startswith(str(tmp_path / "environment"))
    for arguments in (
        ["--lockfiles", tmp_path / "option", "lock", "x"],
        ["lock", "x", "--lockfiles", tmp_path / "option"],
    ):
        assert cli(*arguments, "--json").data["locks"][0]["path"].startswith(str(tmp_path / "option"))


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_flags_in_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    cli.recipes.recipe("x", "clock")
    monkeypatch.setenv("MLVIEWS_JSON", value)
    monkeypatch.setenv("MLVIEWS_QUIET", value)
    done = cli("lock", "x")
    assert done.data["locks"][0]["status"] == "new"
    assert done.err == ""
    assert cli("bogus").codes == ["usage"]
    assert cli("list", "--bogus").codes == ["usage"]


def test_a_site_in_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.recipes.recipe("x", "clock")
    monkeypatch.setenv("MLVIEWS_SITE", "nowhere")
    assert cli("list", "--json").codes == ["site-unknown"]
    assert cli("list", "--site", "local", "--json").code == 0


@pytest.mark.parametrize("environment", [True, False])
def test_mirrors_add_up_and_the_later_one_wins(
    cli: Cli, channel: Path, make_channel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, *, environment: bool
) -> None:
    if not environment:
        monkeypatch.delenv("MLVIEWS_MIRROR")
    other = make_channel(cli.root / "other", {"linux-64": {"special 1.0 h_0": []}})
    cli.site("two", channels=["ours", "conda-forge"])
    cli.recipes.recipe("x", "clock", "special")
    before = ["--mirror", f"ours={channel}", *([] if environment else ["--mirror", f"conda-forge={channel}"])]
    done = cli(*before, "lock", "x", "--site", "two", "--mirror", f"ours={other}", "--json")
    assert done.code == 0, done.out
    assert "conda.anaconda.org/ours/linux-64/special" in cli.lock("x").read_text()


def test_a_mirrors_location_may_hold_an_equals_sign(cli: Cli, channel: Path, tmp_path: Path) -> None:
    cli.recipes.recipe("x", "clock")
    folder = tmp_path / "a=b c"
    folder.symlink_to(channel)
    assert cli("lock", "x", "--mirror", f"conda-forge={folder}").code == 0


def test_folders_with_odd_names(cli: Cli, tmp_path: Path) -> None:
    for name in ("with space", "quo'te\"", "[red]", ":smile:", "ünï", "-dash", "a\nb", "$HOME", "~"):
        cli.recipes.folder.rename(folder := tmp_path / name)
        object.__setattr__(cli.recipes, "folder", folder)
        cli.recipes.recipe("x", "clock")
        done = cli("lock", "x", "--recipes", folder, "--lockfiles", folder / "locks", "--json")
        assert done.data["locks"][0]["path"] == str(folder / "locks/x.conda-lock.yml")
        assert (folder / "locks/x.conda-lock.yml").is_file()


def test_a_home_that_is_not_there(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    done = cli("list", "--root", "~no-such-user/views", "--json")
    assert (done.code, done.codes) == (2, ["usage"])


# Usage errors and exit codes


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["list", "extra"],
        ["list", "--bogus"],
        ["--bogus", "list"],
        ["show"],
        ["lock"],
        ["lock", "x", "--all"],
        ["lock", "--check", "--upgrade", "x"],
        ["lock", "x", "--as-of", "yesterday"],
        ["lock", "x", "--as-of"],
        ["diff", "x", "y"],
        ["list", "--mirror", "nonsense"],
    ],
)
def test_usage_errors(cli: Cli, arguments: list[str]) -> None:
    cli.recipes.recipe("x", "clock")
    people = cli(*arguments)
    assert people.code == 2
    assert people.out == ""
    assert people.err.startswith("error: ")
    assert "hint: `mlviews" in people.err
    for machines in (cli("--json", *arguments), cli(*arguments, "--json")):
        if machines.out:  # where --json is itself an option's value it is none
            assert (machines.code, machines.codes) == (2, ["usage"])


def test_the_command_of_a_usage_error_is_named(cli: Cli) -> None:
    assert cli("lock", "--bogus", "--json").json["command"] == "lock"
    assert cli("lock", "--as-of", "never", "x", "--json").json["command"] == "lock"
    assert cli("bogus", "--json").json["command"] == ""


def test_exit_codes(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    cli.recipes.recipe("y", "left", "right")
    assert cli("lock", "x").code == 0
    assert cli("lock", "y").code == 1
    assert cli("lock", "z").code == 2
    assert cli("lock", "x", "--mirror", "conda-forge=/gone").code == 3
    assert cli("lock", "x", "y", "--json").json["status"] == "failed"


def test_a_fault_of_mlviews_is_a_message(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path, **settings: object) -> None:
        raise ZeroDivisionError("[red]oh[/]")

    monkeypatch.setattr("mlviews.recipe.catalogue.open_catalogue", broken)
    done = cli("list")
    assert done.code == 3
    assert done.err.startswith("error: ZeroDivisionError: [red]oh[/]\nhint: This is a fault of mlviews")
    assert "Traceback" not in done.err
    assert "Traceback" in cli("list", "-vv").err
    assert cli("list", "--json").codes == ["internal-error"]


# list and show


def test_list(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock", hardware={"glibc": "2.34", "cuda": "12.9"})
    cli.recipes.recipe("y", "clock")
    cli.recipes.recipe("z", "clock")
    cli("lock", "x", "z")
    cli.recipes.recipe("z", "tick")
    cli.lock("y").write_text("broken")
    done = cli("list", "--json")
    assert [(line["name"], line["cuda"], line["lock"], line["packages"]) for line in done.data["views"][:3]] == [
        ("x", "12.9", "current", 1),
        ("y", None, "invalid", None),
        ("z", None, "stale", 1),
    ]
    assert "About y" in cli("list").out


def test_list_shows_the_others_when_some_are_faulty(cli: Cli) -> None:
    cli.recipes.recipe("good", "clock")
    cli.recipes.recipe("bad", "python 3.11")
    cli.recipes.recipe("wheels", "clock", pypi=["wheel==1.0"])
    (cli.recipes.folder / "unreadable.yaml").symlink_to("unreadable.yaml")
    done = cli("list", "--json")
    assert "good" in [line["name"] for line in done.data["views"]]
    assert {"file-invalid", "file-unreadable"} <= set(done.codes)
    assert done.code == 3
    people = cli("list")
    assert "About good" in people.out
    assert "python 3.11.*" in people.err


def test_list_at_a_site_that_cannot_have_every_view(cli: Cli) -> None:
    cli.recipes.recipe("cpu", "numpy")
    cli.recipes.recipe("gpu", "numpy", hardware={"glibc": "2.34", "cuda": "12.9"})
    done = cli.process("list", "--site", "pypi", "--json", env={**os.environ, "MLVIEWS_MIRROR": ""})
    assert "cpu" in [line["name"] for line in done.data["views"]], done.out


def test_show(cli: Cli) -> None:
    cli.recipes.layer("base", "clock", hardware={"glibc": "2.34"})
    cli.recipes.recipe(
        "x", "clock", "plain", layers=["base"], hardware={"cuda": "12.9", "gpus": ["A100"]}, constraints=["common <2"],
        gaps=[{"package": "fastjet", "why": "no Python 3.12"}], cpu_only=[{"package": "a", "why": "b"}], smoke=["c"],
    )  # fmt: skip
    assert cli("show", "x", "--versions", "--json").codes == ["lock-missing"]
    shown = cli("show", "x", "--json").data["recipe"]
    assert shown["dependencies"] == [
        {"spec": "clock", "by": ["layer base", "recipe x"]},
        {"spec": "plain", "by": ["recipe x"]},
    ]
    assert shown["gaps"] == [{"package": "fastjet", "why": "no Python 3.12"}]
    assert shown["cpu-only"] == [{"package": "a", "why": "b"}]
    assert shown["lock"]["state"] == "none"
    cli("lock", "x")
    told = cli("show", "x", "--versions", "--json").json  # what `packages` was called first
    assert told == cli("packages", "x", "--json").json
    versions = told["data"]["packages"]
    assert [(one["name"], one["asked"]) for one in versions] == [("clock", True), ("plain", True)]
    assert all(one["version"] in cli("show", "x", "--versions").out for one in versions)
    locked = cli("show", "x", "--json").data["recipe"]["lock"]
    assert (locked["state"], locked["packages"]) == ("current", {"linux-64": 2})
    assert len(locked["digest"]) == 64
    cli.recipes.recipe("x", "tick", layers=["base"], hardware={"cuda": "12.9"})
    stale = cli("show", "x", "--json").data["recipe"]["lock"]
    assert stale["state"] == "stale"
    assert "dependencies: tick added" in stale["changes"]
    assert "dependencies: tick added" in cli("show", "x").out


# Hostile text


def test_text_is_printed_as_it_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.recipes.recipe("x", "clock", summary=HOSTILE, gaps=[{"package": HOSTILE, "why": HOSTILE}])
    assert cli("list", "--json").data["views"][0]["summary"] == HOSTILE
    assert cli("show", "x", "--json").data["recipe"]["gaps"] == [{"package": HOSTILE, "why": HOSTILE}]
    monkeypatch.setenv("COLUMNS", "1000")
    assert HOSTILE in cli("list").out
    assert cli("show", "x").out.count(HOSTILE) == 3


def test_paths_are_printed_as_they_are(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    cli.recipes.recipe("x", "clock")
    folder = tmp_path / "[red]a[/red] :smile:"
    assert cli("lock", "x", "--lockfiles", folder).code == 0
    other = folder / "other.yml"
    other.write_bytes((folder / "x.conda-lock.yml").read_bytes())
    for arguments in (["show", "x"], ["diff", "x", "--from", other]):
        assert "[red]a[/red] :smile:" in cli(*arguments, "--lockfiles", folder).out
    assert "[red]a[/red] :smile:" in cli("new", "y", "--recipes", folder).out
    assert "[red]a[/red] :smile:" in cli("list", "--recipes", folder / "gone").err


ESCAPE = "\x1b]0;owned\x07\x1b[31m"


def test_control_characters_of_a_file_never_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    path = cli.recipes.recipe("x", "clock", **{ESCAPE: 1})
    done = cli("show", "x", "-vv")
    assert done.code == 2
    assert printable(done)
    assert "\\x1b]0;owned" in done.err
    cli.recipes.text("y.yaml", f'a: 1\n"{path.name}\\e[31m": 2\n"{path.name}\\e[31m": 2\n')
    assert printable(cli("show", "y"))
    cli.recipes.recipe("z", "clock")
    (odd := tmp_path / ESCAPE).mkdir()
    for arguments in (
        ["lock", "z", "--lockfiles", odd],
        ["show", "z", "--lockfiles", odd],
        ["diff", "z", "--lockfiles", odd, "--from", odd / "z.conda-lock.yml"],
        ["list", "--recipes", odd / "gone"],
        ["new", "w", "--recipes", odd],
        ["diff", "z", "--from", ESCAPE],
        [ESCAPE],
        ["list", f"--{ESCAPE}"],
        ["show", ESCAPE],
        ["list", "--site", ESCAPE],
    ):
        assert printable(cli(*arguments)), arguments


def test_a_hostile_lock_never_reaches_the_terminal(cli: Cli) -> None:
    """Whoever can write the lock can also give it the right digest."""
    from dataclasses import replace

    from mlviews.lock.parse import read_lock
    from mlviews.lock.writer import lock_text

    cli.recipes.recipe("x", "clock")
    cli("lock", "x")
    lock = read_lock(cli.lock("x"))
    for hostile in (ESCAPE, "[red]", "[/]", ":smile:"):
        evil = replace(lock, inputs={**lock.inputs, "dependencies": [hostile], hostile: 1}, solver=hostile)
        cli.lock("x").write_text(lock_text(evil))
        for arguments in (["show", "x"], ["list"], ["lock", "x", "--check"]):
            done = cli(*arguments)
            assert printable(done)
            assert hostile == ESCAPE or arguments == ["list"] or hostile in done.out + done.err
    for version in ("1[red]", "1\x1b[31m", "[", "a b", "1/2", ""):
        package = replace(lock.packages[0], version=version, url=lock.packages[0].url.replace("3.0", version))
        cli.lock("x").write_text(lock_text(replace(lock, packages=(package,))))
        done = cli("lock", "x", "--check", "--json")
        assert (done.code, done.codes) == (2, ["lock-invalid"]), version


def printable(done: Result) -> bool:
    return all(character.isprintable() or character == "\n" for character in done.out + done.err)


def test_names_that_are_not_unicode(cli: Cli, tmp_path: Path) -> None:
    """A file's name is bytes: it need not be UTF-8."""
    folder = tmp_path / os.fsdecode(b"bad\xff")
    folder.mkdir()
    cli.recipes.recipe("x", "clock")
    for arguments in (["show", "x"], ["list"], ["lock", "x"]):
        for more in ([], ["--json"]):
            done = cli.process(*arguments, "--lockfiles", folder, *more)
            assert done.code == 0, done.err
    assert cli.process("list", "--recipes", folder / "gone").code == 3
    assert cli.process("list", "--recipes", folder / "gone", "--json").codes == ["recipes-unreadable"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_terminals_that_know_few_letters(cli: Cli, encoding: str) -> None:
    cli.recipes.recipe("x", "clock", summary="\u4e2d \u00e9 \u2192")
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = cli.command("list")
    done = subprocess.run(command, check=False, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*command, "--json"], check=True, capture_output=True, env=environment)
    assert json.loads(done.stdout)["data"]["views"][0]["summary"] == "\u4e2d \u00e9 \u2192"


# Streams


def test_a_reader_that_has_gone(cli: Cli) -> None:
    cli.recipes.recipe("x", "clock")
    for arguments in (["list"], ["list", "--json"], ["show", "x"]):
        process = cli.start(*arguments)
        assert process.stdout
        process.stdout.close()
        _, stderr = process.communicate(timeout=30)
        assert (process.returncode, stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["--help"]])
def test_a_full_disk_behind_stdout(cli: Cli, arguments: list[str]) -> None:
    cli.recipes.recipe("x", "clock")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(cli.command(*arguments), check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_colours_where_there_is_no_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.recipes.recipe("x", "clock")
    assert "\x1b" not in cli("list").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in cli("list").out
    assert "\x1b[3" not in cli("list", "--no-color").out


# Interrupts


@pytest.fixture
def endless(make_channel: Callable[..., Path], tmp_path: Path) -> Path:
    """A channel on which every solver works for very long: more pigeons than holes."""
    pigeons, holes = 13, 12
    packages = {
        f"pigeon{pigeon} {hole} h_0": [f"!pigeon{other} !={hole}" for other in range(pigeons) if other != pigeon]
        for pigeon in range(pigeons)
        for hole in range(holes)
    }
    return make_channel(tmp_path / "endless", {"noarch": packages})


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes every request and never answers."""
    done = threading.Event()

    class Handler(Quiet):
        def do_GET(self) -> None:
            done.wait()

    with listening(Handler) as port:
        yield f"http://127.0.0.1:{port}"
        done.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("waits_for", ["solver", "network"])
@pytest.mark.parametrize("after", [0.2, 1.5])
def test_an_interrupt(
    cli: Cli, endless: Path, silent_server: str, *, number: signal.Signals, waits_for: str, after: float
) -> None:
    cli.recipes.recipe("x", *(f"pigeon{pigeon}" for pigeon in range(13)))
    cli.recipes.recipe("y", "clock")
    assert cli("lock", "y").code == 0
    before = cli.lock("y").read_bytes()
    mirror = endless if waits_for == "solver" else silent_server
    process = cli.start("lock", "x", "--mirror", f"conda-forge={mirror}", "--json")
    assert process.stderr
    assert process.stderr.readline() == "Solving ...\n"
    time.sleep(after)
    process.send_signal(number)
    began = time.perf_counter()
    stdout, stderr = process.communicate(timeout=30)
    seconds = time.perf_counter() - began
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    envelope = json.loads(stdout)
    assert (envelope["status"], envelope["errors"][0]["code"]) == ("failed", "interrupted")
    assert [path.name for path in cli.lockfiles.iterdir()] == [cli.lock("y").name]
    assert cli.lock("y").read_bytes() == before
    assert seconds < 1


def test_an_interrupt_at_any_moment(cli: Cli) -> None:
    cli.recipes.recipe("x", "python", "uproot")
    assert cli("lock", "x").code == 0
    whole = cli.lock("x").read_bytes()
    cli.lock("x").unlink()
    for tenths in range(1, 13):
        process = cli.start("lock", "x")
        time.sleep(tenths / 10)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        # Before Python has come to mlviews, the signal is Python's own business.
        assert process.returncode in {130, 0, -signal.SIGINT} or "KeyboardInterrupt" in stderr, stderr
        if cli.lockfiles.exists():
            assert all(path.read_bytes() == whole for path in cli.lockfiles.iterdir() if path.suffix == ".yml")
            assert not [path for path in cli.lockfiles.iterdir() if path.name.startswith(".")]


def test_a_folder_that_was_deleted_is_told_as_one(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    monkeypatch.delenv("MLVIEWS_RECIPES")

    done = cli("list", "--json")

    assert (done.code, done.codes) == (3, ["folder-gone"])
    assert "the folder that you are in was deleted" in done.out


# The site that is meant


def test_the_site_is_the_options_then_the_environments_then_the_users(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLVIEWS_ROOT")
    home = Path(os.environ["HOME"])
    assert cli("use", "--json").data == {"site": "local", "root": f"{home}/.local/share/mlviews", "file": None}
    chosen = cli("use", "pypi", "--json").data
    assert chosen == {
        "site": "pypi",
        "root": f"{home}/.local/share/mlviews-pypi",
        "file": str(home / ".config/mlviews/config.yaml"),
    }
    assert cli("use", "--json").data["site"] == "pypi"
    cli.recipes.recipe("demo", "clock")
    assert str(home / ".local/share/mlviews-pypi") in cli("verify", "demo").err
    monkeypatch.setenv("MLVIEWS_SITE", "cvmfs")
    assert cli("use", "--json").data["site"] == "cvmfs"
    assert cli("use", "--site", "swan", "--json").data["site"] == "swan"
    monkeypatch.delenv("MLVIEWS_SITE")
    assert cli("use", "local").code == 0
    assert cli("use", "--json").data["site"] == "local"


def test_a_root_holds_the_site_of_whoever_names_the_root_and_no_site(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "common"
    root.mkdir()
    (root / "site.yaml").write_text(f"schema: 1\nname: institute\nsummary: Ours\nroot: {root}\npromote: manual\n")
    monkeypatch.delenv("MLVIEWS_ROOT")
    assert cli("use", "pypi").code == 0
    assert cli("use", "--json").data["site"] == "pypi", "nobody named the root"
    assert cli("use", "--root", str(root), "--json").data["site"] == "institute", "it goes before what `use` chose"
    assert cli("use", "--root", str(root), "--site", "swan", "--json").data["site"] == "swan"
    monkeypatch.setenv("MLVIEWS_ROOT", str(root))
    assert cli("use", "--json").data["site"] == "institute"
    monkeypatch.delenv("MLVIEWS_ROOT")

    monkeypatch.chdir(root)
    chosen = cli("use", "./site.yaml", "--json").data
    assert (chosen["site"], chosen["root"]) == ("institute", str(root))
    monkeypatch.chdir(tmp_path)
    assert cli("use", "--json").data["site"] == "institute", "the path holds in any folder"
    cli.recipes.recipe("demo", "clock")
    assert str(root) in cli("verify", "demo").err, "the root is found without reading all of the file"


def test_a_site_that_does_not_exist_is_said_once(cli: Cli) -> None:
    for name in ("a", "b", "c"):
        cli.recipes.recipe(name, "clock")
    said = cli("list", "--site", "nope", "--json")
    assert (said.code, said.codes) == (2, ["site-unknown"])


def test_a_site_that_does_not_exist_is_not_chosen(cli: Cli) -> None:
    assert cli("use", "pyp", "--json").codes == ["site-unknown"]
    for typed in ("pyp", "pipy", "PyPI"):
        assert "did you mean 'pypi'" in cli("use", typed).err
    assert not (Path(os.environ["XDG_CONFIG_HOME"]) / "mlviews/config.yaml").exists()


@pytest.mark.parametrize(
    "text", ["site: [a]", "- x", "sites: pypi", "site: 1", "{", "site: !!python/none x", "a: &a [*a]"]
)
def test_a_faulty_choice_is_said_by_all_that_need_it_and_mended_by_use(cli: Cli, text: str) -> None:
    config = Path(os.environ["XDG_CONFIG_HOME"]) / "mlviews/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(text)
    for verb in (["verify", "x"], ["use"]):
        said = cli(*verb, "--json")
        assert (said.code, said.codes) == (2, ["config-invalid"])
    assert cli("use", "--site", "local").code == 0
    assert cli("use", "local").code == 0
    assert cli("list").code == 0


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli: Cli, shell: str) -> None:
    done = cli.process(env={**os.environ, "_MLVIEWS_COMPLETE": f"{shell}_source"})
    assert done.code == 0
    assert "mlviews" in done.out


def complete(cli: Cli, *words: str) -> list[str]:
    environment = {
        **os.environ,
        "_MLVIEWS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["mlviews", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = cli.process(env=environment)
    assert (done.code, done.err) == (0, "")
    return sorted(line.partition(",")[2] for line in done.out.splitlines() if line)


def test_completion(cli: Cli, tmp_path: Path) -> None:
    for name in ("tagging-gpu", "tracking-gpu", "shallow"):
        cli.recipes.recipe(name, "clock")
    assert complete(cli, "lo") == ["lock"]
    catalogue = sorted(path.stem for path in folder("recipes").glob("*.yaml"))
    assert complete(cli, "lock", "ta") == ["tagging-gpu"]
    assert complete(cli, "show", "") == catalogue, "own views are some of the same names here"
    assert complete(cli, "show", "*") == []
    other = tmp_path / "other"
    other.mkdir()
    (other / "elsewhere.yaml").touch()
    assert complete(cli, "--recipes", str(other), "show", "") == sorted([*catalogue, "elsewhere"])
    assert complete(cli, "show", "--recipes", str(other), "e") == ["elsewhere"]
    assert complete(cli, "--recipes", "/gone", "show", "") == catalogue
    assert complete(cli, "--site", "") == ["cvmfs", "local", "lxplus", "pypi", "swan"]
    assert complete(cli, "use", "py") == complete(cli, "show", "--site", "p") == ["pypi"]
    assert complete(cli, "smoke", "--check", "torch-at") == ["torch-attention"]
    made = cli.root / "envs/shallow/2026.11.23/linux-64"
    made.mkdir(parents=True)
    (made / "release.json").touch()
    assert complete(cli, "kernel", "add", "shallow", "--release", "2") == ["2026.11.23"]
    assert complete(cli, "promote", "shallow/") == ["shallow/2026.11.23"]


def test_who_wants_all_of_a_view_gone_is_told_the_verb(cli):
    assert "`mlviews uninstall plotting`" in cli("remove", "plotting").err


@pytest.mark.parametrize(
    ("word", "here"),
    [("install", "mlviews extend VIEW"), ("activate", "mlviews shell VIEW"), ("deactivate", "mlviews_deactivate")],
)
def test_words_of_other_tools_lead_to_the_verb(cli, word, here):
    done = cli(word, "plotting")
    assert done.code == 2
    assert here in done.err
    assert "uninstall" not in done.err


def test_a_mistyped_verb_is_recognised(cli):
    done = cli("buidl", "plotting")
    assert (done.code, "Did you mean 'build'?" in done.err) == (2, True)


def test_what_a_hint_says_to_type_leads_to_the_same_site_and_root(cli, tmp_path):
    cli.recipes.recipe("demo", "plain")
    root = tmp_path / "my root"
    there = ("--site", "pypi", "--root", root)
    missing = cli("lock", "demo", "--check", *there)
    assert f"`mlviews lock demo --site pypi --root '{root}'` makes it." in " ".join(missing.err.split())
    assert cli("lock", "demo", "--check", *there, "--json").json["errors"][0]["hint"] in " ".join(missing.err.split())
    assert "`mlviews lock demo` makes it." in cli("lock", "demo", "--check").err

    app = App(options={"site": "pypi"}, typed={"site"})
    assert app._placed("`mlviews run x -- y --site z`, or `mlviews use pypi`, or `mlviews list --site there`") == (
        "`mlviews run x --site pypi -- y --site z`, or `mlviews use pypi`, or `mlviews list --site there`"
    )


@pytest.mark.parametrize(
    ("arguments", "closed", "code", "says"),
    [
        ("list", ">&-", 3, "Bad file descriptor"),
        ("list --json", ">&-", 3, "Bad file descriptor"),
        ("--help", ">&-", 3, "Bad file descriptor"),
        ("no-such-verb", ">&-", 2, "No such command"),
        ("list", "2>&-", 0, ""),
        ("no-such-verb", "2>&- >&-", 2, ""),
        ("list", "<&-", 0, ""),
    ],
)
def test_streams_that_the_caller_has_closed_are_no_crash(cli, arguments, closed, code, says):
    cli.recipes.recipe("demo", "plain")
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m mlviews {arguments} {closed}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "fault of mlviews" not in done.stderr
