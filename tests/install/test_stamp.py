"""A result tells its lock, and `run --like` finds the release of that lock again, or says where the lock is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper


@pytest.fixture
def model(tmp_path: Path) -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def two(builder: Any, same_place: Any) -> Any:
    """A view with two releases of two locks; the default is the second."""

    def build() -> dict[str, Any]:
        builder.recipes.recipe("demo", "python", "greet")
        first = builder("build", "demo", "--json").data
        old = builder.lock("demo").read_text()
        builder.recipes.recipe("demo", "python", "greet", "plain")
        assert builder("lock", "demo").code == 0
        return {"first": first, "second": builder("build", "demo", "--json").data, "old": old}

    return {"cli": builder, **same_place.once(build)}


def like(cli: Any, file: Path, *command: str) -> Any:
    return cli.process("run", "--like", file, *command)


def test_a_model_is_stamped_by_what_is_loaded_and_runs_with_it_again(two, model, monkeypatch):
    cli, launch = two["cli"], f"{two['first']['folder']}/launch"
    loaded = subprocess.run([launch, "env"], capture_output=True, text=True, check=True, timeout=60).stdout
    with monkeypatch.context() as inside:
        for line in loaded.splitlines():
            inside.setenv(*line.split("=", 1)) if line.startswith("MLVIEWS_") else None
        assert cli("stamp", model, "--json").data["lock"] == two["first"]["lock"]

    told = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert told == {
        "mlviews.lock": two["first"]["lock"],
        "mlviews.view": "demo",
        "mlviews.release": two["first"]["release"],
    }
    again = like(cli, model, "greet")
    assert (again.code, again.out) == (0, f"hello from {two['first']['folder']}\n"), again.err
    assert like(cli, model, "--", "sh", "-c", "echo $MLVIEWS_LOCK").out == f"{two['first']['lock']}\n"


def test_a_checkpoint_has_its_stamp_beside_it_for_as_long_as_it_is_the_same(two, tmp_path):
    cli, file = two["cli"], tmp_path / "epoch 3.ckpt"
    file.write_bytes(b"weights")
    done = cli("stamp", file, "--view", "demo", "--json")
    assert done.data["written"] == f"{file}.mlviews.json"
    assert file.read_bytes() == b"weights"
    assert like(cli, file, "greet").out == f"hello from {two['second']['folder']}\n"

    file.write_bytes(b"weightS")
    changed = like(cli, file, "greet")
    assert changed.code == 1
    assert "has changed since it was stamped" in changed.err


def test_without_a_release_it_says_which_lock_to_build_and_from_where(two, model, tmp_path, monkeypatch):
    cli, lock = two["cli"], two["first"]["lock"]
    label = f"demo/{two['first']['release']}"
    cli.site("here", container={"source": "https://git.example/recipes"})
    assert cli("stamp", model, "--view", label, "--site", "here").code == 0
    assert cli("remove", label).code == 0

    def hint(*options: str) -> str:
        told = cli("run", "--like", model, *options, "--json", "--", "true")
        assert (told.code, told.codes) == (1, ["lock-not-built"]), told.out
        assert lock[:12] in told.json["errors"][0]["message"]
        return told.json["errors"][0]["hint"]

    kept = "Its recipe and its lock are kept in https://git.example/recipes"
    assert hint() == f"{kept}: the lock says `mlviews-lock-digest: {lock}`."

    for text in (two["old"], cli.lock("demo").read_text()):
        cli.lock("demo").write_text(text)
        git(tmp_path, "add", "recipes", "lockfiles")
        git(tmp_path, "commit", "-qm", "x")
    told = hint()
    assert told.startswith("Git has it: `git -C ")
    add, build = told.split("`")[1:4:2]
    monkeypatch.setenv("PWD", str(tmp_path))
    subprocess.run(add, shell=True, check=True, capture_output=True, cwd=tmp_path)
    assert (
        f"mlviews-lock-digest: {lock}"
        in next((tmp_path / f"demo-{lock[:12]}").rglob("demo.conda-lock.yml")).read_text()
    )
    assert build.startswith("mlviews build demo --lockfiles demo-")

    cli.lock("demo").write_text(two["old"])
    assert hint() == f"{cli.lock('demo')} is that lock: `mlviews build demo` makes the release."

    elsewhere = tmp_path / "elsewhere"
    cli.site("other", root=str(elsewhere))
    shutil.copytree(cli.root / "envs", elsewhere / "envs", symlinks=True)
    shutil.copytree(Path(two["second"]["folder"]), elsewhere / f"envs/{label}/linux-64", dirs_exist_ok=True)
    (elsewhere / f"envs/{label}/removed.json").unlink()
    release = elsewhere / f"envs/{label}/linux-64/release.json"
    release.write_text(release.read_text().replace(two["second"]["lock"], lock))
    assert hint() == "Site other has one: add `--site other`."


def git(folder: Path, *arguments: str) -> None:
    if not (folder / ".git").exists():
        subprocess.run(["git", "init", "-q", folder], check=True)
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({}, "stamp-missing"),
        ({"mlviews.view": "demo"}, "stamp-missing"),
        ({"mlviews.lock": "a" * 64}, "stamp-invalid"),
        ({"mlviews.lock": "../" * 20, "mlviews.view": "demo"}, "stamp-invalid"),
        ({"mlviews.lock": "a" * 64, "mlviews.view": "../../etc"}, "stamp-invalid"),
        ({"mlviews.lock": "a" * 64, "mlviews.view": "demo", "mlviews.source": "x\x1b[31m"}, "stamp-invalid"),
        ({"mlviews.lock": "a" * 64, "mlviews.view": "demo", "mlviews.of-tomorrow": "x"}, "lock-not-built"),
    ],
)
def test_what_a_model_says_is_not_believed_unless_it_can_be_true(builder, model, told, code):
    made = onnx.load(model)
    helper.set_model_props(made, told)
    onnx.save(made, model)
    assert builder("run", "--like", model, "--json", "--", "true").codes == [code]


def test_what_cannot_be_stamped_is_said(builder, model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert builder("stamp", model, "--json").codes == ["view-not-loaded"]
    monkeypatch.setenv("MLVIEWS_VIEW", "demo")
    assert builder("stamp", model, "--json").codes == ["view-not-loaded"]
    monkeypatch.setenv("MLVIEWS_LOCK", "b" * 64)
    assert builder("stamp", tmp_path / "none", "--json").codes == ["file-missing"]
    (tmp_path / "zip.onnx").write_bytes(b"PK\3\4")
    assert builder("stamp", tmp_path / "zip.onnx", "--json").codes == ["onnx-invalid"]
    assert builder("run", "--like", model, "--image", model, "--", "x").code == 2
