"""Seeded faults: each check passes as it is, and fails with a fault planted from outside, in the same test.

A fault on a GPU can only be planted where there is one. Until then kernels run in simulators, or with the stand-ins of
standin/, and frameworks on the CPU.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from smoke import faults
from smoke.faults import CLASSICAL, CUPY, JAX, MEASURED, NEURAL, NUMBA, ROOT, SALT, TENSORFLOW, TRITON

from mlviews.release import Activation, Release, ReleasePackage
from mlviews.render.setup_script import render_launch
from mlviews.smoke.programs import PROGRAMS


def _names(cases):
    return sorted({name for name, _ in cases})


@pytest.mark.parametrize("name", _names(CLASSICAL))
def test_a_check_fails_with_a_fault_and_passes_without(name, bed):
    _seed(bed("classical"), CLASSICAL, name)


@pytest.mark.parametrize("name", _names(CUPY))
def test_a_check_of_cupy_fails_with_a_fault_and_passes_without(name, bed, standin):
    bed = bed("numba")  # any Python with numpy
    shutil.copy(Path(__file__).parent / "standin/cupy.py", bed.folder)
    bed.environment["LD_LIBRARY_PATH"] = str(standin)
    _seed(bed, CUPY, name)


@pytest.mark.parametrize("name", _names(JAX))
def test_a_check_of_jax_fails_with_a_fault_and_passes_without(name, bed):
    _seed(bed("jax"), JAX, name)


@pytest.mark.parametrize("name", _names(NUMBA))
def test_a_check_of_numba_fails_with_a_fault_and_passes_without(name, bed):
    bed = bed("numba")
    bed.environment["NUMBA_ENABLE_CUDASIM"] = "1"
    _seed(bed, NUMBA, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", _names(ROOT))
def test_a_check_of_root_fails_with_a_fault_and_passes_without(name, bed):
    _seed(bed("root"), ROOT, name)


@pytest.mark.slow
def test_the_check_of_salt_fails_with_a_fault_and_passes_without(bed):
    _seed(bed("salt"), SALT, "salt-train")


@pytest.mark.slow
@pytest.mark.parametrize("name", _names(TENSORFLOW))
def test_a_check_of_tensorflow_fails_with_a_fault_and_passes_without(name, bed):
    _seed(bed("tensorflow"), TENSORFLOW, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", _names(NEURAL))
def test_a_check_of_pytorch_fails_with_a_fault_and_passes_without(name, bed):
    _seed(bed("neural"), NEURAL, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", _names(MEASURED))
def test_measured_work_fails_with_a_fault_and_passes_without(name, bed):
    _seed(bed("neural"), MEASURED, name, level="full")


@pytest.mark.slow
@pytest.mark.parametrize("name", _names(TRITON))
def test_a_check_of_triton_fails_with_a_fault_and_passes_without(name, bed):
    bed = bed("neural")
    bed.environment["TRITON_INTERPRET"] = "1"
    _seed(bed, TRITON, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onnx-roundtrip", "tagger float16"),
        ("torch-dataloader", "fork and spawn"),
        ("torch-resume", "in another process"),
        ("import-order", "work together, orders of import tried: 5"),
    ],
)
def test_a_full_check_does_what_a_quick_one_leaves_out(name, words, bed):
    found = bed("neural").run(name, level="full")

    assert found.status == "pass", found.reason
    assert words in found.reason


def _seed(bed, cases, name, level="quick"):
    whole = bed.run(name, level=level)
    assert (whole.status, whole.name) == ("pass", name), whole.reason
    for (check, fault), (module, code, words) in cases.items():
        if check == name:
            bed.plant(module, code)
            faulty = bed.run(name, level=level)
            assert faulty.status == "fail", (fault, faulty.status, faulty.reason)
            assert words in faulty.reason, fault


def test_a_missing_requirement_fails_pip_check(bed):
    bed = bed("classical")
    whole = bed.run("pip-check")
    metadata = bed.folder / "broken-1.0.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\nRequires-Dist: numpy >=999\n")

    assert whole.status == "pass", whole.reason
    faulty = bed.run("pip-check")
    assert faulty.status == "fail"
    assert faulty.reason.startswith("broken 1.0 needs numpy>=999, and ")


def test_a_module_that_cannot_be_imported_fails_imports(bed):
    bed = bed("own")
    bed.arguments["imports"] = ("json", "colorsys")
    whole = bed.run("imports")
    (bed.folder / "colorsys.py").write_text("raise RuntimeError('no colours')")

    assert (whole.status, whole.reason) == ("pass", "2 modules: json, colorsys")
    faulty = bed.run("imports")
    assert (faulty.status, faulty.reason) == ("fail", "colorsys: RuntimeError: no colours")
    bed.arguments["imports"] = ("pip_check",)  # a check's name, and no module's
    assert bed.run("imports").status == "fail"


def test_a_launch_that_lets_the_environment_in_fails_environment_leaks(bed, tmp_path):
    bed = bed("own")
    prefix = tmp_path / "view"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    launch = prefix / "launch"
    launch.write_text(render_launch(_release(prefix)))
    launch.chmod(0o755)
    bed.python = prefix / "bin/python"
    whole = bed.run("environment-leaks")
    scrubs = [line for line in launch.read_text().splitlines(keepends=True) if not line.startswith("unset")]
    launch.write_text("".join(scrubs).replace('exec "$@"', 'unset PYTHONHOME\nexec "$@"'))

    assert whole.status == "pass", whole.reason
    faulty = bed.run("environment-leaks")
    assert faulty.status == "fail"
    assert "leaked_path from the poisoned environment is found" in faulty.reason


def _release(prefix: Path) -> Release:
    activation = Activation(
        prepend={"PATH": (f"{prefix}/bin",)}, set={"PYTHONNOUSERSITE": "1"}, unset=("PYTHONPATH", "PYTHONHOME")
    )
    return Release(
        mlviews="1", view="demo", release="1", platform="linux-64", summary="Demo", module="a/demo", site="local",
        prefix=str(prefix), lock_digest="0" * 64, created="2026-01-01T00:00:00Z", activation=activation,
        packages=(ReleasePackage(name="python", version="3.12", build="0"),),
    )  # fmt: skip


def test_a_gpu_that_onnx_runtime_does_not_take_is_a_failure(bed, fake_driver):
    bed = bed("classical")
    without = bed.run("onnxruntime-cuda")
    bed.environment["LD_LIBRARY_PATH"] = str(fake_driver)

    assert (without.status, without.reason) == ("skip", "the driver offers no GPU")
    found = bed.run("onnxruntime-cuda")
    assert (found.status, found.reason) == ("fail", "this build has no CUDA provider")


def test_a_numpy_that_numba_cannot_compile_with_is_told_without_a_gpu(bed):
    """As numba-cuda 0.30.4 and numpy 2.5 are: importing works, and no kernel compiles."""
    bed = bed("numba")
    bed.plant("numba.cuda", "module.compile = lambda *a, **k: module.row_stack")

    line = bed.run("numba-kernel")

    words = "a kernel does not compile: module 'numba.cuda' has no attribute 'row_stack'"
    assert (line.status, line.reason) == ("fail", words)


def test_numbas_simulator_is_named_and_is_no_gpu(bed, fake_driver):
    bed = bed("numba")
    without = bed.run("numba-kernel")
    bed.environment["NUMBA_ENABLE_CUDASIM"] = "1"
    simulated, claimed = bed.run("numba-kernel"), bed.run("numba-kernel", claims_gpu=True)
    bed.environment["LD_LIBRARY_PATH"] = str(fake_driver)
    idle = bed.run("numba-kernel")
    del bed.environment["NUMBA_ENABLE_CUDASIM"]
    not_taken = bed.run("numba-kernel")

    assert (without.status, without.reason) == ("skip", "the driver offers no GPU")
    assert (simulated.status, simulated.device, claimed.status) == ("pass", "cpu", "skip")
    assert simulated.reason.endswith("in Numba's simulator on the CPU, which proves nothing of a GPU")
    assert idle.status == "fail"
    assert idle.reason == "Numba's simulator does the work on the CPU, and the driver offers 1 GPU(s)"
    assert not_taken.status == "fail"  # in the words of whichever library meets the driver first


@pytest.mark.slow
def test_tritons_interpreter_is_named_and_is_no_gpu(bed, fake_driver):
    bed = bed("neural")
    without = bed.run("triton-kernel")
    bed.environment["TRITON_INTERPRET"] = "1"
    interpreted, claimed = bed.run("triton-kernel"), bed.run("triton-kernel", claims_gpu=True)
    bed.environment["LD_LIBRARY_PATH"] = str(fake_driver)
    idle = bed.run("triton-kernel")
    del bed.environment["TRITON_INTERPRET"]
    not_taken = bed.run("triton-kernel")

    assert (without.status, without.reason) == ("skip", "the driver offers no GPU")
    assert (interpreted.status, interpreted.device, claimed.status) == ("pass", "cpu", "skip")
    assert interpreted.reason.endswith("by Triton's interpreter on the CPU, which proves nothing of a GPU")
    assert (idle.status, not_taken.status) == ("fail", "fail")
    assert idle.reason == "Triton's interpreter does the work on the CPU, and the driver offers 1 GPU(s)"
    assert not_taken.reason.endswith("PyTorch, which Triton works with, does not take it")


def test_a_gpu_that_jax_does_not_take_is_a_failure(bed, fake_driver):
    bed = bed("jax")
    plugin = bed.folder / "jax_cuda12_plugin-1.0.dist-info"
    plugin.mkdir()
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: jax-cuda12-plugin\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text("[jax_plugins]\nxla_cuda12 = broken_plugin\n")
    (bed.folder / "broken_plugin.py").write_text("def initialize():\n    raise RuntimeError('CUDA is too old')\n")
    without = bed.run("jax-jit")
    bed.environment["LD_LIBRARY_PATH"] = str(fake_driver)
    found = bed.run("jax-jit")

    assert (without.status, without.device) == ("pass", "cpu")
    assert found.status == "fail"
    assert found.reason == "xla_cuda12 is installed and the driver offers a GPU, and JAX has only the CPU"


@pytest.mark.slow
def test_a_gpu_that_tensorflow_does_not_take_is_a_failure(bed, fake_driver):
    bed = bed("tensorflow")
    bed.plant("tensorflow", "module.sysconfig.get_build_info = lambda: {'is_cuda_build': True, 'cuda_version': '12.9'}")
    without = bed.run("tensorflow-matmul")
    bed.environment["LD_LIBRARY_PATH"] = str(fake_driver)
    found = bed.run("tensorflow-matmul")

    assert (without.status, without.device, without.versions["cuda"]) == ("pass", "cpu", "12.9")
    assert found.status == "fail"
    assert found.reason.startswith("TensorFlow is built for CUDA and the driver offers a GPU")


@pytest.mark.slow
def test_a_gpu_that_cupy_cannot_use_is_a_failure(bed, fake_driver):
    bed = bed("cuda")
    without = bed.run("cupy-kernel")
    bed.environment["LD_LIBRARY_PATH"] = str(fake_driver)
    found = bed.run("cupy-kernel")

    assert (without.status, without.reason) == ("skip", "the driver offers no GPU")
    assert found.status == "fail"
    assert "CUDA driver version is insufficient" in found.reason


@pytest.mark.slow
def test_processes_that_wait_for_ever_are_ended_and_told_of(bed):
    bed = bed("neural")
    bed.arguments["torch-nccl"] = ("8",)
    bed.plant(
        "torch.distributed",
        """
        import time
        reduce = module.all_reduce
        module.all_reduce = lambda *a, **k: time.sleep(60) if module.get_rank() else reduce(*a, **k)
        """,
    )

    found = bed.run("torch-nccl")

    assert found.status == "fail"
    assert found.reason == "no end after 8 s: 2 of 2 processes still wait"
    assert found.seconds < 15


@pytest.mark.parametrize(("python", "check"), [("classical", "onnxruntime-latency"), ("jax", "jax-grad")])
def test_a_fault_for_a_gpu_is_never_met_on_the_cpu(python, check, bed):
    bed = bed(python)
    label = next(label for name, label in (CLASSICAL | JAX) if name == check)
    codes, _ = faults.on_gpu(check, (CLASSICAL | JAX)[check, label])
    faults.plant(bed.folder, codes)

    found = bed.run(check)

    assert (found.status, found.reason) == ("fail", "there is no GPU to plant a fault on")


def test_a_fault_on_a_gpu_is_told_in_the_words_of_the_gpu():
    _, words = faults.on_gpu("torch-matmul", NEURAL["torch-matmul", "half precision in secret"])
    codes, also = faults.on_gpu("jax-jit", JAX["jax-jit", "the CPU did a GPU's work"])

    assert words == "cuda float32: off by"
    assert also == "gpu float64: the result lies on cpu, not on gpu"
    assert codes["_jax_work"].count("module.benches = ") == 2  # first narrowed, then pretended


def test_every_check_with_work_for_a_gpu_has_a_fault_that_one_gpu_can_meet():
    tables = (CLASSICAL, CUPY, JAX, NEURAL, SALT, TENSORFLOW, faults.ON_GPU)
    met = {case[0] for table in tables for case in table if case not in faults.NOT_ON_ONE_GPU}

    assert {name for name, program in PROGRAMS.items() if program.gpu} <= met


def test_every_check_has_a_fault():
    seeded = {name for name, _ in (*CLASSICAL, *CUPY, *JAX, *NEURAL, *NUMBA, *ROOT, *SALT, *TENSORFLOW, *TRITON)}
    seeded |= {"pip-check", "imports", "environment-leaks", "onnxruntime-cuda"}

    assert seeded == set(PROGRAMS), "plant one in tests/smoke/faults.py"
