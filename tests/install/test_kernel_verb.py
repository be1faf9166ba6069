"""`mlviews kernel`: where kernels go, what is never touched, and what is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlviews.jupyter import SPECIFICATION


@pytest.fixture
def demo(builder: Any, shelf: Any, same_place: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, with a view that holds something called ipykernel, and no place of Jupyter's but home."""
    for name in ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "XDG_DATA_HOME", "CERNBOX_HOME"):
        monkeypatch.delenv(name, raising=False)
    shelf.add("ipykernel", modules={"ipykernel": ""})

    def build() -> None:
        builder.recipes.recipe("demo", "python", "greet", "ipykernel")
        assert builder("build", "demo").code == 0

    same_place.once(build)
    return builder


def release(demo: Any) -> str:
    return demo("releases", "demo", "--json").data["releases"][0]["release"]


def home() -> Path:
    return Path(os.environ["HOME"])


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / SPECIFICATION).read_text())


def test_the_users_own_follows_the_default(demo, monkeypatch):
    done = demo("kernel", "add", "demo", "--json")
    folder = home() / ".local/share/jupyter/kernels/demo"
    assert done.data["kernel"] == {
        "name": "demo",
        "view": "demo",
        "release": release(demo),
        "follows": "default",
        "lock": read(folder)["metadata"]["mlviews"]["lock"],
        "folder": str(folder),
        "launch": f"{demo.root}/envs/demo/default/linux-64/launch",
        "state": "ok",
    }
    assert read(folder)["argv"][0] == f"{demo.root}/envs/demo/default/linux-64/launch"
    assert read(folder)["display_name"] == "demo (mlviews)"
    assert (folder / "logo-svg.svg").is_file()
    assert demo("kernel", "add", "demo").code == 0  # again is no fault
    lab = "mlviews build lab; mlviews run lab -- jupyter lab"
    monkeypatch.setenv("PATH", "/nowhere")
    assert lab in demo("kernel", "add", "demo").out
    assert lab not in demo("kernel", "add", "demo", "--prefix", home()).out


def test_a_named_release_is_kept_to(demo):
    name = release(demo)
    assert demo("kernel", "add", "demo", "--release", name, "--user").code == 0
    folder = home() / f".local/share/jupyter/kernels/demo-{name}"
    assert read(folder)["argv"][0] == f"{demo.root}/envs/demo/{name}/linux-64/launch"
    assert name in read(folder)["display_name"]


@pytest.mark.parametrize(
    ("variable", "value", "folder"),
    [
        ("JUPYTER_DATA_DIR", "{}/data", "data/kernels/demo"),
        ("XDG_DATA_HOME", "{}/xdg", "xdg/jupyter/kernels/demo"),
    ],
)
def test_the_users_own_is_where_jupyter_has_it(*, demo, tmp_path, monkeypatch, variable, value, folder):
    monkeypatch.setenv(variable, value.format(tmp_path))
    assert demo("kernel", "add", "demo").code == 0
    code = "from jupyter_core.paths import jupyter_data_dir; print(jupyter_data_dir())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str((tmp_path / folder).parents[1])
    assert (tmp_path / folder / SPECIFICATION).is_file()


def test_a_prefix_is_jupyters_own(demo, tmp_path):
    assert demo("kernel", "add", "demo", "--prefix", tmp_path / "env").code == 0
    folder = tmp_path / "env/share/jupyter/kernels/demo"
    assert folder.is_dir()
    assert str(folder) in demo("kernel", "list", "--prefix", tmp_path / "env").out
    assert str(folder) not in demo("kernel", "list").out


@pytest.mark.parametrize(
    "content",
    [
        '{"argv": ["python"], "display_name": "Mine", "language": "python"}',
        '{"argv": ["x"], "metadata": {"mlviews": {"view": "other", "release": "1", "lock": "x"}}}',
        '{"argv": [], "metadata": {"mlviews": {"view": "demo", "release": "1", "lock": "x"}}}',
        '{"metadata": {"mlviews": "demo"}}',
        "[" * 100_000,
        "not JSON",
        None,
    ],
)
def test_a_kernel_that_is_not_its_own_is_never_touched(demo, content):
    folder = home() / ".local/share/jupyter/kernels/demo"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / SPECIFICATION).write_text(content)
    (folder / "mine").touch()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    assert demo("kernel", "add", "demo", "--json").codes == ["kernel-foreign"]
    assert demo("kernel", "remove", "demo", "--json").codes == ["kernel-unknown"]

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_link_is_not_its_own(demo, tmp_path):
    folder = home() / ".local/share/jupyter/kernels/demo"
    demo("kernel", "add", "demo", "--prefix", tmp_path)
    folder.parent.mkdir(parents=True)
    folder.symlink_to(tmp_path / "share/jupyter/kernels/demo")

    assert demo("kernel", "add", "demo", "--json").codes == ["kernel-foreign"]
    assert demo("kernel", "remove", "demo", "--json").codes == ["kernel-unknown"]
    assert (folder / SPECIFICATION).is_file()


def test_list_tells_what_runs_and_what_is_gone(demo, monkeypatch, tmp_path):
    name = release(demo)
    nothing = demo("kernel", "list", "--root", tmp_path / "none").out
    assert nothing == "there is no kernel of a view; `mlviews kernel add VIEW` makes one\n"
    demo("kernel", "add", "demo")
    demo("kernel", "add", "demo", "--release", name)
    monkeypatch.setenv("JUPYTER_PATH", str(demo.root))
    kernels = demo("kernel", "list", "--json").data["kernels"]
    # The site's own folder of kernels is listed once.
    assert sorted((line["name"], line["state"]) for line in kernels) == sorted(
        [("demo", "ok"), (f"demo-{name}", "ok")] * 2
    )
    said = demo("kernel", "list").out
    assert f"demo/{name}" in said
    assert "demo, its default" in said

    assert demo("build", "demo", "--rebuild").code == 0
    assert demo("remove", f"demo/{name}", "--force").code == 0
    kernels = demo("kernel", "list", "--json").data["kernels"]
    assert {line["state"] for line in kernels if line["name"] == f"demo-{name}"} == {"removed"}
    assert {line["state"] for line in kernels if line["name"] == "demo"} == {"ok"}
    assert "removed" in demo("kernel", "list").out

    shutil.rmtree(demo.root / "envs")

    assert {line["state"] for line in demo("kernel", "list", "--json").data["kernels"]} == {"gone"}
    assert "gone" in demo("kernel", "list").out


def test_remove_takes_what_it_is_told(demo):
    name = release(demo)
    folder = home() / ".local/share/jupyter/kernels"

    def add_all() -> None:
        demo("kernel", "add", "demo")
        demo("kernel", "add", "demo", "--release", name)

    add_all()
    assert demo("kernel", "remove", "demo", "--release", name).out == f"removed {folder}/demo-{name}\n"
    assert [path.name for path in folder.iterdir()] == ["demo"]
    add_all()
    demo("kernel", "remove", "demo", "--release", "default")
    assert [path.name for path in folder.iterdir()] == [f"demo-{name}"]
    add_all()
    demo("kernel", "remove", "demo")
    assert list(folder.iterdir()) == []
    assert demo("kernel", "remove", "demo", "--json").codes == ["kernel-unknown"]


def test_a_build_says_how_to_make_a_kernel_of_what_can_be_one(demo):
    assert f" kernel add demo --root {demo.root}\n" in demo("build", "demo", "--root", demo.root).out
    demo.recipes.recipe("bare", "python", "greet")
    assert "kernel add" not in demo("build", "bare").out


def test_what_cannot_be_done_is_said(demo, tmp_path):
    demo.recipes.recipe("bare", "python", "greet")
    demo("build", "bare")
    assert demo("kernel", "add", "bare", "--json").codes == ["kernel-missing"]
    demo.recipes.recipe("unbuilt", "python")
    assert demo("kernel", "add", "unbuilt", "--json").codes == ["release-missing"]
    assert demo("kernel", "add", "nothing", "--json").codes == ["view-unknown"]
    assert demo("kernel", "add", "demo", "--release", "2020.01.01", "--json").codes == ["release-missing"]
    assert demo("kernel", "add", "demo", "--user", "--swan", "--json").codes == ["usage"]
    (tmp_path / "file").touch()
    (wrong,) = demo("kernel", "add", "demo", "--prefix", tmp_path / "file", "--json").json["errors"]
    assert wrong["code"] == "write-failed"
    assert ("JUPYTER_DATA_DIR" in wrong["hint"], "--root" in wrong["hint"]) == (True, False)
    assert not (home() / ".local/share/jupyter/kernels").exists()


def test_the_place_for_swan_is_in_the_cernbox(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("CERNBOX_HOME", str(tmp_path / "cernbox"))
    done = demo("kernel", "add", "demo", "--swan", "--json")
    script = tmp_path / "cernbox/mlviews-swan/environment.sh"
    assert done.data["script"] == str(script)
    assert done.data["kernel"]["folder"] == str(script.parent / "kernels/demo")
    assert str(script) in demo("kernel", "add", "demo", "--swan").out
    assert str(script.parent) in demo("kernel", "list").out
    assert demo("kernel", "remove", "demo", "--swan").code == 0
    assert script.is_file()  # a form that names it must still find it


def test_a_user_without_a_home_folder_sees_the_roots_kernels_and_uninstalls(demo, monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    listed = demo("kernel", "list", "--json")

    assert "demo" in {kernel["name"] for kernel in listed.data["kernels"]}
    assert demo("uninstall", "demo").code == 0
