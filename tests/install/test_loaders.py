"""What people load a view by, after a whole build: in the real Lmod, and as Jupyter finds it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlviews.release import Release
from mlviews.store.disk import Store
from mlviews.store.loaders import write_command_loaders, write_default_loaders, write_release_loaders

HOSTILE = (
    """She's "it" ]] ]=] $(touch pwned) `touch pwned` ${HOME} $HOME \\ \\n {{ 7*7 }} {% raw %} [exec touch pwned] %s"""
)


@pytest.fixture
def module(tmp_path: Path):
    """Return a function that runs a line after Lmod was started in an empty environment."""
    init = Path("/usr/share/lmod/lmod/init/bash")
    if not init.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Lmod is missing: run .ci/system-packages")
    folder = tmp_path / "shell"
    folder.mkdir()

    def run(line: str) -> str:
        script = f". {init}; {line}"
        done = subprocess.run(
            ["env", "-i", f"HOME={folder}", "PATH=/usr/bin:/bin", "bash", "-c", script],
            capture_output=True, text=True, check=False, cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert {path.name for path in folder.iterdir()} <= {".cache"}  # nothing was run but the command, which keeps
        return done.stdout + done.stderr

    return run


@pytest.fixture
def demo(builder: Any, same_place: Any) -> Any:
    def build() -> None:
        builder.recipes.recipe("demo", "python", "greet", summary=HOSTILE, gaps=[{"package": "root", "why": HOSTILE}])
        assert builder("build", "demo").code == 0

    same_place.once(build)
    return builder


def use(demo: Any) -> str:
    return f"module use {shlex.quote(str(demo.root / 'modulefiles'))}"


def test_a_plain_load_gives_the_default_and_unloads_without_a_trace(demo, module):
    said = module(f"{use(demo)}; env | sort > /dev/null; module load atlasml/demo && greet; echo $MLVIEWS_RELEASE")

    (release,) = [line["release"] for line in demo("releases", "demo", "--json").data["releases"]]
    assert said.splitlines() == [f"hello from {demo.root}/envs/demo/{release}/linux-64", release]
    gone = module(
        f"{use(demo)}; module load atlasml/demo; module unload atlasml/demo; echo $PATH; command -v greet || true"
    )
    assert str(demo.root) not in gone


def test_the_default_is_followed_when_it_is_promoted_and_nothing_else_changes(demo, module):
    first = demo("releases", "demo", "--json").data["releases"][0]["release"]
    demo.recipes.recipe("demo", "python", "greet", "plain")
    demo("lock", "demo")
    second = demo("build", "demo", "--json").data["release"]
    ask = f"{use(demo)}; module load atlasml/demo; echo $MLVIEWS_RELEASE"
    assert module(ask).strip() == second

    Store(demo.root, demo.root).promote("demo", first)

    assert module(ask).strip() == first
    assert module(f"{use(demo)}; module load atlasml/demo/{second}; echo $MLVIEWS_RELEASE").strip() == second


def test_every_reader_gives_a_hostile_summary_back_and_nothing_runs(demo, module):
    release = demo("releases", "demo", "--json").data["releases"][0]["release"]
    folder = demo.root / "envs/demo" / release / "linux-64"
    recorded = Release.model_validate_json((folder / "release.json").read_bytes())
    assert (recorded.summary, recorded.gaps) == (HOSTILE, {"root": HOSTILE})
    assert HOSTILE in module(f"{use(demo)}; module whatis atlasml/demo 2>&1")
    kernel = json.loads((demo.root / "kernels/demo/kernel.json").read_text())
    assert HOSTILE in json.dumps(kernel, ensure_ascii=False) or HOSTILE in _strings(kernel)
    sourced = subprocess.run(
        ["sh", "-c", f". {shlex.quote(str(folder / 'setup.sh'))} && greet"],
        capture_output=True, text=True, check=True, cwd=demo.root,
    )  # fmt: skip
    assert sourced.stderr == ""
    assert demo("show", "demo", "--json").data["recipe"]["summary"] == HOSTILE
    assert not list(demo.root.rglob("pwned"))
    assert not list(demo.recipes.folder.parent.rglob("pwned"))


def _strings(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(map(_strings, value.values()))
    return "\n".join(map(_strings, value)) if isinstance(value, list) else str(value)


def test_jupyter_finds_a_kernel_that_starts_in_the_view(demo, monkeypatch):
    kernel = json.loads((demo.root / "kernels/demo/kernel.json").read_text())
    assert kernel["language"] == "python"
    launch, *rest = kernel["argv"]
    assert rest[:3] == ["python", "-m", "ipykernel_launcher"]
    done = subprocess.run([launch, "greet"], capture_output=True, text=True, check=True, env={"PYTHONHOME": "/nowhere"})
    assert done.stdout.startswith(f"hello from {demo.root}/envs/demo/")
    client = pytest.importorskip("jupyter_client.kernelspec", reason="jupyter_client is not installed")
    monkeypatch.setenv("JUPYTER_PATH", str(demo.root))
    found = client.KernelSpecManager().get_kernel_spec("demo")
    assert found.argv == kernel["argv"]


def test_jupyter_finds_the_default_and_each_release(demo, monkeypatch):
    client = pytest.importorskip("jupyter_client.kernelspec", reason="jupyter_client is not installed")
    demo.recipes.recipe("demo", "python", "greet", "plain")
    demo("lock", "demo")
    assert demo("build", "demo").code == 0
    names = {line["release"] for line in demo("releases", "demo", "--json").data["releases"]}
    assert len(names) == 2
    monkeypatch.setenv("JUPYTER_PATH", str(demo.root))

    found = client.KernelSpecManager().get_all_specs()

    assert {name for name in found if name.startswith("demo")} == {"demo", *(f"demo-{name}" for name in names)}
    for name in names:
        launch = Path(found[f"demo-{name}"]["spec"]["argv"][0])
        assert launch == demo.root / "envs/demo" / name / "linux-64/launch"
        assert Path(found[f"demo-{name}"]["resource_dir"], "logo-svg.svg").read_text().startswith("<svg")


def test_a_view_can_be_set_up_as_an_lcg_view_is(demo):
    """SWAN sources $ROOT_LCG_VIEW_PATH/$ROOT_LCG_VIEW_NAME/$ROOT_LCG_VIEW_PLATFORM/setup.sh."""
    link = demo.root / "views/demo"
    assert link.is_symlink()
    assert str(link.readlink()) == "../envs/demo/default"
    setup = "$ROOT_LCG_VIEW_PATH/$ROOT_LCG_VIEW_NAME/$ROOT_LCG_VIEW_PLATFORM/setup.sh"
    said = subprocess.run(
        ["bash", "-c", f'source "{setup}" && greet && env'],
        capture_output=True, text=True, check=True,
        env={
            "PATH": "/usr/bin:/bin", "HOME": str(demo.root), "ROOT_LCG_VIEW_PATH": str(demo.root / "views"),
            "ROOT_LCG_VIEW_NAME": "demo", "ROOT_LCG_VIEW_PLATFORM": "linux-64",
        },
    ).stdout  # fmt: skip
    (release,) = [line["release"] for line in demo("releases", "demo", "--json").data["releases"]]
    assert said.startswith(f"hello from {demo.root}/envs/demo/{release}/linux-64\n")
    assert "default" not in said


def test_a_module_brings_the_command_and_nothing_else(demo, module):
    said = module(
        f"{use(demo)}; before=$(env | grep -v -i -e lmod -e module); module load atlasml/mlviews;"
        " export PYTHONHOME=/nowhere PYTHONPATH=/nowhere; mlviews run demo -- greet; command -v python3;"
        " unset PYTHONHOME PYTHONPATH; module load atlasml/demo; mlviews releases demo; module purge;"
        " command -v mlviews;"
        ' test "$before" = "$(env | grep -v -i -e lmod -e module)" && echo the same'
    ).splitlines()
    (release,) = [line["release"] for line in demo("releases", "demo", "--json").data["releases"]]
    assert said[0] == f"hello from {demo.root}/envs/demo/{release}/linux-64"
    assert not said[1].startswith(sys.prefix)
    assert any(line.startswith(release) for line in said[2:])
    assert said[-1] == "the same"
    assert not any("bin/mlviews" in line for line in said[2:])


def test_a_modulefile_names_the_views_that_need_less_of_the_driver(builder, shelf):
    shelf.add("solo", modules={"solo": ""})
    gpu = {"glibc": "2.17", "cuda": "12.9"}
    older = {"glibc": "2.17", "cuda": "12.4"}
    builder.recipes.recipe("cpu", "python", "greet")
    builder.recipes.recipe("older", "python", "greet", "native", hardware=older)
    builder.recipes.recipe("unlike", "python", "solo")
    builder.recipes.recipe("gpu", "python", "greet", "native", hardware=gpu)
    for view in ("cpu", "older", "unlike", "gpu"):
        assert builder("build", view).code == 0
    (lua,) = (builder.root / "modulefiles/atlasml/gpu").glob("2*.lua")
    text = lua.read_text()
    assert text.index('"atlasml/older"') < text.index('"atlasml/cpu"')
    assert "unlike" not in text
    assert "/proc/driver" not in next((builder.root / "modulefiles/atlasml/cpu").glob("2*.lua")).read_text()


def test_lost_loaders_are_made_again_from_the_releases_alone(demo):
    store = Store(demo.root, demo.root)
    (entry,) = store.releases("demo")

    def loaders() -> dict[str, str]:
        made = [
            path
            for top in ("modulefiles", "kernels", "commands")
            for path in (demo.root / top).rglob("*")
            if path.is_file()
        ]
        return {str(path): path.read_text() for path in made}

    before = loaders()
    for path in before:
        Path(path).unlink()
    write_release_loaders(store, "demo", entry)
    write_default_loaders(store, "demo", entry)
    write_command_loaders(store)

    assert loaders() == before
    # Two modulefiles and .version, two kernels with their logos, two modulefiles for the command and its program.
    assert len(before) == 10
