"""Frameworks that bring the same native libraries are imported and used together, whatever their order.

OpenMP runtimes, protobuf and libstdc++ come in several copies; which one wins depends on who is imported first, and the
loser crashes or hangs only when it computes. Each order runs in a process of its own, and its results are exact.
A quick run takes them backwards, since every other program imports numpy first; a full one puts each of them first.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from _protocol import Check, SkipCheck, run

SECONDS = 240
# What each one computes after all of them were imported; every result is exact in floating point.
USES = {
    "numpy": "assert (numpy.arange(64.0).reshape(8, 8) @ numpy.eye(8)).sum() == 2016",
    "scipy": "import scipy.linalg; assert scipy.linalg.lu_solve(scipy.linalg.lu_factor([[2.0]]), [4.0])[0] == 2",
    "sklearn": "import sklearn.cluster; "
    "assert set(sklearn.cluster.KMeans(2, n_init=1, random_state=1).fit([[0.0], [9.0]]).labels_) == {0, 1}",
    "torch": "assert (torch.arange(64.0).reshape(8, 8) @ torch.eye(8)).sum() == 2016",
    "tensorflow": "assert tensorflow.reduce_sum(tensorflow.ones((8, 8)) @ tensorflow.eye(8)) == 64",
    "onnxruntime": "assert onnxruntime.get_available_providers()",
    "onnx": "import onnx.helper; assert onnx.helper.make_opsetid('', 17).SerializeToString()",
    "xgboost": "assert xgboost.DMatrix(numpy.ones((4, 2))).num_row() == 4",
    "lightgbm": "assert lightgbm.Dataset(numpy.ones((4, 2)), numpy.ones(4)).construct().num_data() == 4",
    "numba": "assert numba.njit(lambda x: x + 1)(1) == 2",
    "XRootD": "import XRootD.client; assert XRootD.client.URL('root://a//b').is_valid()",
    "h5py": "h5py.File('order', 'w', driver='core', backing_store=False)['x'] = 1",
    "ROOT": "assert ROOT.TMath.Abs(-2.0) == 2",
}


def main(check: Check) -> str:
    present = [name for name in USES if importlib.util.find_spec(name)]
    if len(present) < 2:
        raise SkipCheck("fewer than two of the frameworks that get in each other's way are installed")
    orders = [present[::-1]]
    if check.full:
        orders += [[name, *(other for other in present if other != name)] for name in present]
    processes = [(order, _start(order)) for order in orders]
    faults = []
    for order, process in processes:
        said = process.communicate(timeout=SECONDS)[0]
        if process.returncode:
            faults.append(f"{', '.join(order)}: status {process.returncode}: {said[-300:]}")
    check.expect(not faults, "; ".join(faults))
    check.figures["orders"] = len(orders)
    return f"{', '.join(present)} work together, orders of import tried: {len(orders)}"


def _start(order: list[str]) -> subprocess.Popen[str]:
    lines = [f"import {name}" for name in order]
    # numpy stands first in what is computed: others take its arrays as their input.
    lines += ["import numpy", *(USES[name] for name in order)]
    command = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


if __name__ == "__main__":
    run(main)
