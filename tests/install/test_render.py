"""`mlviews render`: what it writes is what a build writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlviews.formats import FORMATS
from mlviews.lock.parse import read_lock


@pytest.fixture
def demo(builder: Any, same_place: Any) -> Any:
    def build() -> None:
        summary = "It's d\u00e9j\u00e0 vu: [bold]x[/] $(x) 'y'"
        builder.recipes.recipe("demo", "python", "greet", "native", summary=summary)
        assert builder("build", "demo").code == 0

    same_place.once(build)
    return builder


def release(demo: Any) -> str:
    return demo("releases", "demo", "--json").data["releases"][0]["release"]


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ("sh", "envs/demo/{}/linux-64/setup.sh"),
        ("csh", "envs/demo/{}/linux-64/setup.csh"),
        ("fish", "envs/demo/{}/linux-64/setup.fish"),
        ("lmod", "modulefiles/atlasml/demo/{}.lua"),
        ("tcl", "modulefiles/atlasml/demo/{}"),
        ("kernel", "kernels/demo/kernel.json"),
    ],
)
def test_it_writes_what_the_build_wrote(demo, tmp_path, form, path):
    built = (demo.root / path.format(release(demo))).read_text()

    assert demo("render", "demo", form).out == built
    file = tmp_path / "new/folder/file"
    done = demo("render", "demo/default", form, "-o", file)
    assert (done.out, file.read_text()) == (f"{file}\n", built)
    data = demo("render", "demo", form, "--json").data
    assert (list(data["files"].values()), data["path"], data["format"]) == ([built], None, form)


def test_a_kernel_of_a_named_release_keeps_to_it(demo):
    name = release(demo)
    kernel = json.loads(demo("render", f"demo/{name}", "kernel").out)
    assert kernel["argv"][0] == f"{demo.root}/envs/demo/{name}/linux-64/launch"
    assert "/default/" in json.loads(demo("render", "demo", "kernel").out)["argv"][0]


@pytest.mark.parametrize("named", ["demo", "demo/{}"])
def test_terminals_of_vs_code_are_in_the_view_and_follow_its_default(demo, tmp_path, named):
    settings = json.loads(demo("render", named.format(release(demo)), "vscode").out)
    profile = settings["terminal.integrated.profiles.linux"][settings["terminal.integrated.defaultProfile.linux"]]
    python = settings["python.defaultInterpreterPath"]
    assert [("/default/" in path) for path in (profile["path"], python)] == [named == "demo"] * 2
    assert settings["python.terminal.activateEnvironment"] is False

    told = "echo $MLVIEWS_VIEW; command -v python; echo $PYTHONPATH\n"
    for shell in ("/bin/bash", None):
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": "/lcg"}
        done = subprocess.run(
            [profile["path"], *profile["args"]], input=told, env=environment | ({"SHELL": shell} if shell else {}),
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        view, found, path = done.stdout.splitlines()
        assert (view, path) == ("demo", "")
        assert Path(found).samefile(python)


def test_explicit_is_the_lock_in_an_order_that_installs(demo):
    lock = read_lock(demo.lock("demo"))
    said = demo("render", "demo", "explicit").out
    comments, _, body = said.partition("@EXPLICIT\n")
    assert (f"lock {lock.digest}" in comments, "# platform: linux-64" in comments) == (True, True)
    lines = body.splitlines()
    assert sorted(lines) == sorted(f"{package.url}#{package.md5}" for package in lock.on("linux-64"))
    names = [next(p for p in lock.packages if p.url == line.partition("#")[0]).name for line in lines]
    assert names.index("python") < names.index("greet")
    assert names.index("plain") < names.index("native")


def test_explicit_of_a_release_is_its_own_lock(demo):
    name, before = release(demo), demo("render", "demo", "explicit").out
    demo.recipes.recipe("demo", "python", "greet")
    demo("lock", "demo")
    assert "native" not in demo("render", "demo", "explicit").out
    assert demo("render", f"demo/{name}", "explicit").out == before


def test_explicit_needs_no_release(builder):
    builder.recipes.recipe("demo", "python", "greet")
    builder("lock", "demo")
    assert "greet-1.0" in builder("render", "demo", "explicit").out
    refused = builder("render", "demo", "lmod", "--json")
    assert (refused.code, refused.codes) == (1, ["release-missing"])


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["demo", "lmdo"], 2, "format-unknown"),
        (["demo/2020.01.01", "sh"], 1, "release-missing"),
        (["other", "explicit"], 1, "lock-missing"),
        (["demo", "sh", "--platform", "linux-aarch64"], 1, "platform-missing"),
        (["demo", "explicit", "--platform", "linux-aarch64"], 1, "platform-missing"),
        (["../demo", "sh"], 2, "view-invalid"),
    ],
)
def test_what_is_not_there_is_said(demo, arguments, status, code):
    refused = demo("render", *arguments, "--json")
    assert (refused.code, refused.codes) == (status, [code])


def test_the_nearest_format_is_named(demo):
    assert "'lmod'" in demo("render", "demo", "lmdo").err


def test_the_help_names_every_format(builder):
    shown = builder("render", "--help").out
    for form in FORMATS:
        assert f" {form} " in shown


def test_a_folder_that_cannot_be_written_is_said(demo, tmp_path):
    (tmp_path / "file").touch()
    refused = demo("render", "demo", "sh", "-o", Path("file/x"), "--json")
    assert (refused.code, refused.codes) == (3, ["write-failed"])
