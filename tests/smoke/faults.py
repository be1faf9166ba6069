"""Faults to plant in what checks use: each must make its check fail, in the words that stand beside it.

A table is ``(check, label of the fault): (module, code run right after it was imported, words of the reason)``.
`on_gpu` makes a check leave the CPU out, so that it meets the same fault on a GPU.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

Fault = tuple[str, str, str]
Table = dict[tuple[str, str], Fault]

PLANTER = """
import importlib.abc, importlib.util, sys

class Planter(importlib.abc.MetaPathFinder):
    def __init__(self, codes):
        self.codes = codes
    def find_spec(self, name, path, target=None):
        if name not in self.codes:
            return None
        code = self.codes.pop(name)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            exec(code, {{"module": module}})
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Planter({codes!r}))
"""


def plant(folder: Path, codes: Mapping[str, str]) -> None:
    """Make every Python with ``folder`` on its path run code after it imported a module, ``module`` in that code."""
    planted = {module: textwrap.dedent(code) for module, code in codes.items()}
    (folder / "sitecustomize.py").write_text(PLANTER.format(codes=planted))


RUN = "onnxruntime.capi.onnxruntime_inference_collection"
PERTURBED_RUN = """
    run = module.InferenceSession.run
    shift = lambda part: part + (abs(part).max() * 0.3).astype(part.dtype)
    module.InferenceSession.run = lambda *a, **k: [shift(part) for part in run(*a, **k)]
"""

CLASSICAL = {
    ("kernel-start", "wrong result"): (
        "ipykernel.kernelapp",
        "import builtins; total = builtins.sum; builtins.sum = lambda *a: total(*a) % 332833500",
        "the cell printed",
    ),
    ("import-order", "a clash of libraries"): (
        "numpy",
        "import os, sys; {'h5py', 'numba', 'onnx', 'torch'} & sys.modules.keys() and os.abort()",
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
    ("event-formats", "a rounded column"): (
        "zarr.core.array",
        """
        get = module.Array.__getitem__
        module.Array.__getitem__ = lambda *a, **k: get(*a, **k).round(3)
        """,
        "zarr: met: not exactly",
    ),
    ("event-formats", "a narrower number"): (
        "awkward",
        """
        read = module.from_parquet
        def narrow(*a, **k):
            table = read(*a, **k)
            return module.with_field(table, module.values_astype(table["met"], "float32"), "met")
        module.from_parquet = narrow
        """,
        "parquet: met came back as float32",
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
        kernel = module.RawKernel
        module.RawKernel = lambda source, name: kernel(source.replace(">> 33", ">> 32"), name)
        """,
        "hash: not exactly",
    ),
    ("cupy-kernel", "an atomic count is lost"): (
        "cupy",
        """
        kernel = module.RawKernel
        lost = "#define atomicAdd(place, value) (*(place) |= (value))\\n"
        module.RawKernel = lambda source, name: kernel(lost + source, name)
        """,
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

SALT = {
    ("salt-train", "steps that change nothing"): (
        "torch.optim.adamw",
        "module.AdamW.step = lambda self, closure=None: closure() if closure else None",
        "cpu: the loss is 1.",
    ),
    ("salt-train", "other jets than those it tells of"): (
        "salt.models.task",
        """
        infer = module.ClassificationTask.run_inference
        module.ClassificationTask.run_inference = lambda *a, **k: infer(*a, **k).flip(0)
        """,
        "cpu: the loss is ",
    ),
    ("salt-train", "flatter probabilities than it trained"): (
        "salt.models.task",
        """
        infer = module.ClassificationTask.run_inference
        module.ClassificationTask.run_inference = lambda *a, **k: infer(*a, **k) * 0.97 + 0.01
        """,
        "salt states a loss of",
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
            found[0].device, found[0]._device = "gpu", check.need("jax").devices("cpu")[0]
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
        "module.set_rng_state = module.cuda.set_rng_state = lambda state: None",
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
    ("torch-nccl", "a sum is one too large"): (
        "torch.distributed",
        "reduce = module.all_reduce; module.all_reduce = lambda x, *a, **k: (reduce(x, *a, **k), x.add_(1))",
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

# What only a full run does: measured work.
MEASURED = {
    ("torch-matmul", "rows of a large product are exchanged"): (
        "torch",
        "product = module.matmul; module.matmul = lambda a, b: product(a, b).roll(1, 0)",
        "cpu large float64 product: off by",
    ),
    ("torch-matmul", "a large int8 product is off by one"): (
        "torch",
        "product = module._int_mm; module._int_mm = lambda a, b: product(a, b) + (len(a) >= 512)",
        "cpu large int8 product: not exactly",
    ),
    ("torch-matmul", "the clock stands still"): (
        "torch",
        "import time; time.perf_counter = lambda: 0.0; module.cuda.Event.elapsed_time = lambda *a: 0.0",
        "cpu large float64 product: the clock says that 1 run(s) took 0 s",
    ),
    ("torch-reduction", "a copy is not made"): (
        "torch",
        "module.Tensor.copy_ = lambda self, other, *a: self",
        "cpu copy: not exactly",
    ),
    ("torch-attention", "clouds are exchanged"): (
        "torch",
        """
        attend = module.nn.functional.scaled_dot_product_attention
        module.nn.functional.scaled_dot_product_attention = lambda *a, **k: attend(*a, **k).roll(1, 0)
        """,
        "cpu float16 clouds: off by",
    ),
    ("torch-train", "measured steps train nothing"): (
        "torch",
        """
        entropy = module.nn.functional.cross_entropy
        still = lambda x: x if len(x) in (16, 128) else x.detach() + 0 * x
        module.nn.functional.cross_entropy = lambda x, y: entropy(still(x), y)
        """,
        "cpu float32 step: the loss was",
    ),
    ("gnn-message-passing", "features are exchanged"): (
        "torch",
        """
        add = module.Tensor.index_add_
        module.Tensor.index_add_ = lambda x, d, t, m: add(x, d, t, m.roll(1, 1) if m.shape[1] > 4 else m)
        """,
        "cpu wide messages: not exactly",
    ),
    ("onnxruntime-latency", "an event of 1,000 points is perturbed"): (
        RUN,
        """
        run = module.InferenceSession.run
        def perturbed(*a, **k):
            found = run(*a, **k)
            return [part * (1.01 if len(part) == 1000 else 1) for part in found]
        module.InferenceSession.run = perturbed
        """,
        "1000 points: off by",
    ),
}

# What can be planted only where a GPU is.
ON_GPU = {
    ("torch-matmul", "the CPU did it"): (
        "torch",
        "product = module.Tensor.__matmul__; module.Tensor.__matmul__ = lambda a, b: product(a.cpu(), b.cpu())",
        "cuda float64: the result lies on cpu, not on cuda",
    ),
    ("triton-kernel", "another function"): ("triton.language", "module.exp = module.log", "softmax: off by"),
    ("numba-kernel", "another order"): (
        "_protocol",
        """
        need = module.Check.need
        def changed(self, name):
            found = need(self, name)
            if name == "numba.cuda":
                send = found.to_device
                found.to_device = lambda array: send(array[::-1].copy())
            return found
        module.Check.need = changed
        """,
        "whole numbers: not exactly",
    ),
    ("onnxruntime-cuda", "perturbed"): (RUN, PERTURBED_RUN, "float32: off by"),
    ("onnxruntime-cuda", "left to the CPU"): (
        RUN,
        """
        init = module.InferenceSession.__init__
        module.InferenceSession.__init__ = lambda self, model, options, providers: init(
            self, model, options, providers=["CPUExecutionProvider"]
        )
        """,
        "asked for CUDAExecutionProvider, given CPUExecutionProvider",
    ),
    ("onnxruntime-latency", "perturbed"): (RUN, PERTURBED_RUN, "CUDAExecutionProvider: off by"),
    ("xgboost-train", "left to the CPU"): (
        "xgboost.core",
        """
        save = module.Booster.save_config
        module.Booster.save_config = lambda s: save(s).replace('"device":"cuda', '"device":"cpu')
        """,
        "asked for cuda, XGBoost used cpu",
    ),
}

# The same, in a full run.
MEASURED_ON_GPU = {
    ("torch-matmul", "a clock that is too slow"): (
        "torch",
        "took = module.cuda.Event.elapsed_time; module.cuda.Event.elapsed_time = lambda *a: took(*a) / 20",
        "work was left out",
    ),
}

# Faults that only a simulator, a stand-in or several GPUs can meet.
NOT_ON_ONE_GPU = {
    *NUMBA,
    *TRITON,
    ("cupy-kernel", "memory of the host"),
    ("torch-nccl", "nothing is shared"),
    ("torch-nccl", "gradients are not shared"),
}

NARROW = """
found = module.{function}
def narrowed(*given):
    chosen = [item for item in found(*given) if getattr(item, "device", item) not in ("cpu", "CPUExecutionProvider")]
    given[0].expect(chosen, "there is no GPU to plant a fault on")
    return chosen
module.{function} = narrowed
"""
# By what a check's name begins with: what it shares with others, the function for its devices, a GPU's name there.
DEVICES = {
    "torch-": ("_torch_work", "benches", "cuda"),
    "gnn-": ("_torch_work", "benches", "cuda"),
    "jax-": ("_jax_work", "benches", "gpu"),
    "tensorflow-": ("_tensorflow_work", "benches", "gpu"),
    "onnx": ("_onnx_work", "providers", ""),
}


def on_gpu(check: str, fault: Fault) -> tuple[dict[str, str], str]:
    """Return what to plant so that a check meets a fault on the GPU alone, and the words that it must fail in.

    Args:
        check: its name; it has work for a GPU.
        fault: a row of a table.
    """
    module, code, words = fault
    codes = {module: textwrap.dedent(code)}
    for prefix, (shared, function, device) in DEVICES.items():
        if check.startswith(prefix):
            codes[shared] = NARROW.format(function=function) + codes.get(shared, "")
            words = words.replace("cpu ", f"{device} ") if device else words
    return codes, words
