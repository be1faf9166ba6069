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

from mlviews.release import Activation, Release
from mlviews.render.setup_script import render_launch
from mlviews.smoke.programs import PROGRAMS

RUN = "onnxruntime.capi.onnxruntime_inference_collection"
PERTURBED_RUN = """
    run = module.InferenceSession.run
    shift = lambda part: part + (abs(part).max() * 0.3).astype(part.dtype)
    module.InferenceSession.run = lambda *a, **k: [shift(part) for part in run(*a, **k)]
"""

# check, label of the fault -> module, code run right after it was imported, words of the reason
CLASSICAL = {
    ("kernel-start", "wrong result"): (
        "ipykernel.kernelapp",
        "import builtins; total = builtins.sum; builtins.sum = lambda *a: total(*a) % 332833500",
        "the cell printed",
    ),
    ("import-order", "a clash of libraries"): (
        "numpy",
        "import os, sys; 'h5py' in sys.modules and os.abort()",
        "status -6",
    ),
    ("plot-png", "wrong heights"): (
        "matplotlib.axes._axes",
        (
            "stairs = module.Axes.stairs; "
            "module.Axes.stairs = lambda s, values, *a, **k: stairs(s, [v + 1 for v in values], *a, **k)"
        ),
        "pixels differ",
    ),
    ("plot-png", "a blank picture"): (
        "matplotlib.axes._axes",
        "stairs = module.Axes.stairs; module.Axes.stairs = lambda s, *a, **k: stairs(s, *a, **{**k, 'color': 'white'})",
        "pixels differ",
    ),
    ("hdf5-roundtrip", "a flipped bit"): (
        "h5py._hl.dataset",
        """
        get = module.Dataset.__getitem__
        def flipped(self, key):
            found = get(self, key).copy()
            found.view("u1")[3] ^= 1
            return found
        module.Dataset.__getitem__ = flipped
        """,
        "not exactly",
    ),
    ("root-roundtrip", "other numbers"): (
        "uproot.behaviors.TBranch",
        "array = module.TBranch.array; module.TBranch.array = lambda *a, **k: array(*a, **k) + 1",
        "not exactly",
    ),
    ("pyhf-fit", "another likelihood"): (
        "pyhf.tensor.numpy_backend",
        (
            "log = module.numpy_backend.poisson_logpdf; "
            "module.numpy_backend.poisson_logpdf = lambda *a, **k: log(*a, **k) * 1.01"
        ),
        "likelihood ratio",
    ),
    ("sklearn-train", "perturbed weights"): (
        "sklearn.linear_model._base",
        """
        fit = module.LinearRegression.fit
        def perturbed(self, *a, **k):
            fit(self, *a, **k).coef_ *= 1 + 1e-6
            return self
        module.LinearRegression.fit = perturbed
        """,
        "least squares",
    ),
    ("xgboost-train", "NaN"): (
        "xgboost.core",
        "predict = module.Booster.predict; module.Booster.predict = lambda *a, **k: predict(*a, **k) * float('nan')",
        "area is nan",
    ),
    ("xgboost-train", "another device"): (
        "xgboost.core",
        (
            "save = module.Booster.save_config; "
            'module.Booster.save_config = lambda s: save(s).replace(\'"device":"cpu"\', \'"device":"cuda:0"\')'
        ),
        "XGBoost used cuda",
    ),
    ("lightgbm-train", "one answer for all"): (
        "lightgbm.basic",
        "predict = module.Booster.predict; module.Booster.predict = lambda *a, **k: predict(*a, **k) * 0",
        "the area is 0.5",
    ),
    ("onnxruntime-cpu", "perturbed"): (RUN, PERTURBED_RUN, "off by"),
    ("onnxruntime-cpu", "another provider"): (
        RUN,
        """
        end = module.Session.end_profiling
        def elsewhere(self):
            path = end(self)
            text = open(path).read()
            open(path, "w").write(text.replace("CPUExecutionProvider", "OtherExecutionProvider"))
            return path
        module.Session.end_profiling = elsewhere
        """,
        "not run by CPUExecutionProvider",
    ),
    ("onnxruntime-cpu", "ONNX is too new for the runtime"): (
        "onnx.helper",
        "module.defs.onnx_opset_version = lambda: 99",
        "onnx's own opset 99 and IR",
    ),
    ("onnxruntime-latency", "slow"): (
        "onnxruntime",
        "import time; clock = time.perf_counter; time.perf_counter = lambda: clock() * 1e5",
        "the aim is 1 s",
    ),
}

# With stand-ins for CuPy and the driver: see standin/.
CUPY = {
    ("cupy-kernel", "a wrong kernel"): (
        "cupy",
        """
        init = module.RawKernel.__init__
        module.RawKernel.__init__ = lambda self, source, name: init(self, source.replace(">> 33", ">> 32"), name)
        """,
        "hash: not exactly",
    ),
    ("cupy-kernel", "an atomic count is lost"): (
        "cupy",
        "module.PRELUDE = module.PRELUDE.replace('+= value', '|= value')",
        "tally: not exactly",
    ),
    ("cupy-kernel", "half precision in secret"): (
        "cupy",
        """
        product = module.ndarray.__matmul__
        module.ndarray.__matmul__ = lambda a, b: product(a, b.astype("float16").astype(b.dtype))
        """,
        "float64 product: off by",
    ),
    ("cupy-kernel", "NaN"): (
        "cupy",
        "transform = module.fft.fft; module.fft.fft = lambda x: transform(x) * float('nan')",
        "transform: off by nan",
    ),
    ("cupy-kernel", "numpy did it"): (
        "cupy",
        "import numpy; module.sort = lambda x: numpy.sort(module.asnumpy(x))",
        "sorted: the result is a ndarray, no array of CuPy's",
    ),
    ("cupy-kernel", "memory of the host"): (
        "cupy",
        "import os; os.environ['ON_HOST'] = '1'",
        "hash: the result does not lie in a GPU's memory",
    ),
    ("cupy-kernel", "no time on the GPU"): (
        "cupy",
        "module.cuda.get_elapsed_time = lambda start, end: 0.0",
        "no time passed on the GPU",
    ),
}

JAX = {
    ("jax-jit", "half precision in secret"): (
        "jax",
        """
        product = module.numpy.matmul
        def halved(x, y, **k):
            if x.dtype != "float32":
                return product(x, y, **k)
            return product(x.astype("bfloat16"), y.astype("bfloat16"), **k).astype("float32")
        module.numpy.matmul = halved
        """,
        "cpu float32: off by",
    ),
    ("jax-jit", "nothing is compiled"): ("jax", "module.jit = lambda function: function", "traced and compiled"),
    ("jax-jit", "a loop too short"): (
        "jax",
        (
            "loop = module.lax.fori_loop; "
            "module.lax.fori_loop = lambda start, end, *a, **k: loop(start, end - 1, *a, **k)"
        ),
        "loop: not exactly",
    ),
    ("jax-jit", "the CPU did a GPU's work"): (
        "_jax_work",
        """
        benches = module.benches
        def pretended(check):
            found = benches(check)
            found[0].device = "gpu"
            return found
        module.benches = pretended
        """,
        "gpu float64: the result lies on cpu, not on gpu",
    ),
    ("jax-grad", "a wrong derivative"): (
        "jax",
        """
        tanh = module.numpy.tanh
        near = module.custom_jvp(tanh)
        near.defjvp(lambda at, along: (tanh(at[0]), along[0] * (1 - 1.001 * tanh(at[0]) ** 2)))
        module.numpy.tanh = near
        """,
        "gradient, first layer: off by",
    ),
    ("jax-grad", "NaN"): (
        "jax",
        "hessian = module.hessian; module.hessian = lambda f: lambda x: hessian(f)(x) * float('nan')",
        "Hessian: off by nan",
    ),
}

# In Numba's own simulator.
NUMBA = {
    ("numba-kernel", "an atomic count is lost"): (
        "numba.cuda.simulator.kernelapi",
        (
            "add = module.FakeCUDAAtomic.add; "
            "module.FakeCUDAAtomic.add = lambda self, array, i, value: add(self, array, i, value if i else 0)"
        ),
        "atomic counts: not exactly",
    ),
    ("numba-kernel", "a function is less exact"): (
        "numba.cuda.simulator.kernelapi",
        "import math; sine = math.sin; math.sin = lambda x: sine(x) * (1 + 1e-13)",
        "functions: off by",
    ),
    ("numba-kernel", "NaN"): (
        "numba.cuda.simulator.kernelapi",
        """
        import numpy
        array = module.FakeCUDAShared.array
        def spoilt(self, shape, dtype):
            made = array(self, shape, dtype)
            made.fill(numpy.nan)
            return made
        module.FakeCUDAShared.array = spoilt
        """,
        "block sums: off by nan",
    ),
}

ROOT = {
    ("pyroot-fit", "shifted entries"): (
        "ROOT",
        """
        import sys
        found = sys.modules["ROOT"]
        fill = found.TH1D.Fill
        found.TH1D.Fill = lambda self, value: fill(self, value + 0.1)
        """,
        "histogram: not exactly",
    ),
    ("pyroot-fit", "another fit"): (
        "ROOT",
        """
        import sys
        found = sys.modules["ROOT"]
        fit = found.TGraphErrors.Fit
        function = found.TF1("skewed", "[0] + [1]*1.001*x", 0, 20)
        found.TGraphErrors.Fit = lambda self, name, options: fit(self, "skewed", options)
        """,
        "straight line: off by",
    ),
}

TENSORFLOW = {
    ("tensorflow-matmul", "half precision in secret"): (
        "tensorflow",
        """
        product = module.matmul
        def halved(x, y):
            return module.cast(product(module.cast(x, "bfloat16"), module.cast(y, "bfloat16")), x.dtype)
        module.matmul = halved
        """,
        "cpu float64: off by",
    ),
    ("tensorflow-matmul", "an edge is lost"): (
        "tensorflow",
        (
            "total = module.math.unsorted_segment_sum; "
            "module.math.unsorted_segment_sum = lambda x, i, n: total(x[1:], i[1:], n)"
        ),
        "segments: not exactly",
    ),
    ("tensorflow-train", "another rate"): (
        "keras.src.optimizers.sgd",
        "made = module.SGD.__init__; module.SGD.__init__ = lambda self, rate: made(self, rate * 1.01)",
        "first losses: off by",
    ),
    ("tensorflow-train", "no step is taken"): (
        "keras.src.optimizers.adam",
        "module.Adam.update_step = lambda self, gradient, variable, learning_rate: None",
        "the loss is",
    ),
}

NEURAL = {
    ("torch-matmul", "half precision in secret"): (
        "torch",
        """
        product = module.Tensor.__matmul__
        def halved(a, b):
            return product(a.half(), b.half()).to(a.dtype) if a.dtype == module.float32 else product(a, b)
        module.Tensor.__matmul__ = halved
        """,
        "cpu float32: off by",
    ),
    ("torch-matmul", "int8 saturates"): (
        "torch",
        "product = module._int_mm; module._int_mm = lambda a, b: product(a, b).clamp(-32768, 32767)",
        "int8: not exactly",
    ),
    ("torch-convolution", "a flipped kernel"): (
        "torch",
        (
            "conv = module.nn.functional.conv2d; "
            "module.nn.functional.conv2d = lambda x, k, padding: conv(x, k.flip(-1), padding=padding)"
        ),
        "forward: off by",
    ),
    ("torch-reduction", "an element is left out"): (
        "torch",
        "total = module.Tensor.sum; module.Tensor.sum = lambda x, *a, **k: total(x[1:], *a, **k)",
        "sum: off by",
    ),
    ("torch-reduction", "NaN"): (
        "torch",
        "softmax = module.Tensor.softmax; module.Tensor.softmax = lambda x, dim: softmax(x, dim) * float('nan')",
        "softmax: off by nan",
    ),
    ("torch-attention", "the mask is dropped"): (
        "torch",
        """
        attend = module.nn.functional.scaled_dot_product_attention
        module.nn.functional.scaled_dot_product_attention = lambda q, k, v, attn_mask=None: attend(q, k, v)
        """,
        "masked: off by",
    ),
    ("torch-attention", "another scale"): (
        "torch",
        """
        attend = module.nn.functional.scaled_dot_product_attention
        module.nn.functional.scaled_dot_product_attention = lambda *a, **k: attend(*a, scale=0.17, **k)
        """,
        "math: off by",
    ),
    ("torch-train", "no step is taken"): (
        "torch.optim.adamw",
        "module.AdamW.step = lambda self: None",
        "the loss is",
    ),
    ("torch-train", "half precision in secret"): (
        "torch",
        """
        linear = module.nn.functional.linear
        def halved(x, w, b=None):
            return linear(*(None if t is None else t.bfloat16() for t in (x, w, b))).to(x.dtype)
        module.nn.functional.linear = halved
        """,
        "first losses: off by",
    ),
    ("torch-resume", "random numbers start anew"): (
        "torch",
        "module.set_rng_state = lambda state: None",
        "after resuming",
    ),
    ("torch-dataloader", "events in another order"): (
        "torch.utils.data._utils.fetch",
        (
            "fetch = module._MapDatasetFetcher.fetch; "
            "module._MapDatasetFetcher.fetch = lambda self, index: fetch(self, index[::-1])"
        ),
        "events: not exactly",
    ),
    ("torch-errors", "no memory, no word"): (
        "torch",
        "empty = module.empty; module.empty = lambda *a, **k: empty(1)",
        "a petabyte",
    ),
    ("torch-nccl", "nothing is shared"): (
        "torch.distributed",
        "module.all_reduce = lambda *a, **k: None",
        "whole sum: not exactly",
    ),
    ("torch-nccl", "gradients are not shared"): (
        "torch.nn.parallel",
        "module.DistributedDataParallel = lambda model, **k: model",
        "cpu gradient: off by",
    ),
    ("torch-compile", "nothing is compiled"): (
        "torch",
        "module.compile = lambda model, **k: model",
        "nothing was compiled",
    ),
    ("gnn-message-passing", "an edge is lost"): (
        "torch",
        "add = module.Tensor.index_add_; module.Tensor.index_add_ = lambda x, d, t, m: add(x, d, t[:-1], m[:-1])",
        "index_add: not exactly",
    ),
    ("onnx-roundtrip", "perturbed"): (RUN, PERTURBED_RUN, "off by"),
    ("onnx-roundtrip", "too new a version"): (
        "onnx",
        (
            "check = module.checker.check_model\n"
            "def newer(model, **k):\n    check(model, **k)\n    model.ir_version = 13\n"
            "module.checker.check_model = newer"
        ),
        "newer than",
    ),
}


# In Triton's own interpreter.
TRITON = {
    ("triton-kernel", "a mask is dropped"): (
        "triton.runtime.interpreter",
        """
        store = module.InterpreterBuilder.create_masked_store
        def everywhere(self, pointers, value, mask, *a):
            mask.data[:] = True
            return store(self, pointers, value, mask, *a)
        module.InterpreterBuilder.create_masked_store = everywhere
        """,
        "sum: not exactly",
    ),
    ("triton-kernel", "half precision in secret"): (
        "triton.runtime.interpreter",
        """
        dot = module.InterpreterBuilder.create_dot
        def halved(self, a, b, *rest):
            a.data = a.data.astype("float16").astype(a.data.dtype)
            return dot(self, a, b, *rest)
        module.InterpreterBuilder.create_dot = halved
        """,
        "float32: off by",
    ),
    ("triton-kernel", "NaN"): (
        "triton.runtime.interpreter",
        "exp = module.np.exp; module.np.exp = lambda x: exp(x) * float('nan') if x.ndim == 1 else exp(x)",
        "softmax: off by nan",
    ),
}


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
@pytest.mark.parametrize("name", _names(TENSORFLOW))
def test_a_check_of_tensorflow_fails_with_a_fault_and_passes_without(name, bed):
    _seed(bed("tensorflow"), TENSORFLOW, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", _names(NEURAL))
def test_a_check_of_pytorch_fails_with_a_fault_and_passes_without(name, bed):
    _seed(bed("neural"), NEURAL, name)


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
        ("import-order", "work together in 5 order(s)"),
    ],
)
def test_a_full_check_does_what_a_quick_one_leaves_out(name, words, bed):
    found = bed("neural").run(name, level="full")

    assert found.status == "pass", found.reason
    assert words in found.reason


def _seed(bed, cases, name):
    whole = bed.run(name)
    assert (whole.status, whole.name) == ("pass", name), whole.reason
    for (check, fault), (module, code, words) in cases.items():
        if check == name:
            bed.plant(module, code)
            faulty = bed.run(name)
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
    )  # fmt: skip


def test_a_gpu_that_onnx_runtime_does_not_take_is_a_failure(bed, fake_driver):
    bed = bed("classical")
    without = bed.run("onnxruntime-cuda")
    bed.environment["LD_LIBRARY_PATH"] = str(fake_driver)

    assert (without.status, without.reason) == ("skip", "the driver offers no GPU")
    found = bed.run("onnxruntime-cuda")
    assert (found.status, found.reason) == ("fail", "this build has no CUDA provider")


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


def test_every_check_has_a_fault():
    seeded = {name for name, _ in (*CLASSICAL, *CUPY, *JAX, *NEURAL, *NUMBA, *ROOT, *TENSORFLOW, *TRITON)}
    seeded |= {"pip-check", "imports", "environment-leaks", "onnxruntime-cuda"}

    assert seeded == set(PROGRAMS)
