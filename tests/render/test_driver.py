"""What a module says of this host's GPU driver: read from /proc by the module systems themselves, running nothing."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from mlviews.render import modulefile
from mlviews.render.modulefile import ModuleNotes

# The first line of /proc/driver/nvidia/version, as the closed and the open kernel module write it.
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Oct 19 18:56:32 UTC 2023"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder@U16-I3-B03-4-3)"

OTHERS = (("atlasml/training-gpu", "12.4"), ("atlasml/training-cpu", None), ("atlasml/newer-gpu", "13.0"))


@pytest.fixture(params=["lmod", "environment_modules"])
def start(request):
    return request.getfixturevalue(request.param)("bash")


@pytest.fixture
def load(start, make_release, require, tmp_path, own_driver):
    """Return a function that loads a view's module on a host whose kernel tells of a driver, and gives what is said."""

    def say(line, *, cuda="12.9", others=OTHERS, served=(), models=()):
        release = make_release(cuda=cuda, served=dict(served))
        folder = tmp_path / "modulefiles" / release.module
        folder.mkdir(parents=True)
        known = ModuleNotes(others=others)
        (folder / f"{release.release}.lua").write_text(modulefile.render_lua([release], known), encoding="utf-8")
        (folder / release.release).write_text(modulefile.render_tcl([release], known), encoding="utf-8")
        driver = "mkdir /proc/driver/nvidia" if line is not None else ":"
        if line is not None:
            driver += f"; printf '%s\\n' {shlex.quote(line)} GCC > /proc/driver/nvidia/version"
        for number, model in enumerate(models):
            folder = f"/proc/driver/nvidia/gpus/0000:0{number}:00.0"
            driver += f"; mkdir -p {folder}; printf 'Model: \t\t %s\n' {shlex.quote(model)} IRQ > {folder}/information"
        script = [
            f"mount -t tmpfs none /proc/driver; {driver}",
            start,
            f"module use {shlex.quote(str(tmp_path / 'modulefiles'))}; module load {release.module}",
            "printenv MLVIEWS_VIEW; module unload plotting 2>/dev/null; module purge",
        ]
        done = subprocess.run(
            [*own_driver, require("bash"), "--norc", "-c", "\n".join(script)],
            check=False, capture_output=True, text=True, timeout=60,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"},
        )  # fmt: skip
        assert done.stdout == "plotting\n", done.stderr
        return " ".join(done.stderr.split())

    return say


@pytest.mark.parametrize("line", [CLOSED, OPEN])
def test_a_driver_that_cannot_run_the_view_is_told_with_what_fits(load, line):
    said = load(line.format("470.256.02"))
    assert "driver, 470.256.02, is too old for plotting: CUDA 12.9 comes with driver 575.51.03" in said
    assert "GPU code does not run here" in said
    assert "these work with this driver: atlasml/training-cpu" in said
    assert "training-gpu" not in said


def test_a_driver_of_the_same_cuda_family_runs_all_but_what_is_compiled_here(load):
    said = load(CLOSED.format("560.35.03"))
    assert "compiled as it runs (Triton, torch.compile) may fail here" in said
    assert "these work with this driver: atlasml/training-gpu, atlasml/training-cpu" in said
    assert "newer-gpu" not in said


@pytest.mark.parametrize("line", [None, "", "garbage", CLOSED.format("575.57.08"), OPEN.format("610.43.02")])
def test_a_driver_that_will_do_or_is_not_there_is_no_matter(load, line):
    assert load(line) == ""


@pytest.mark.parametrize("cuda", [None, "99.0"])
def test_a_view_that_no_table_holds_says_nothing(load, cuda):
    assert load(CLOSED.format("470.256.02"), cuda=cuda) == ""


def test_where_nothing_fits_nothing_is_offered(load):
    assert "work" not in load(CLOSED.format("470.256.02"), others=())


SERVED = {"P100": "none", "V100": "none", "L4": "none", "T4": "native", "B200": "ptx"}


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (["Tesla V100-SXM2-32GB", "Tesla V100-SXM2-32GB", "Tesla T4"], "V100"),
        (["NVIDIA L4"], "L4"),
        (["NVIDIA L40S", "NVIDIA B200", "Tesla T4"], None),
        (["$(touch /tmp/x) [exit] %s"], None),
        ([], None),
    ],
)
def test_a_gpu_that_the_release_leaves_out_is_told(load, models, told):
    said = load(CLOSED.format("575.57.08"), served=SERVED, models=models)
    expected = f"plotting holds no code for this host's {told}: its first work on the GPU will fail."
    assert said.removeprefix("mlviews: ") == (expected if told else "")
