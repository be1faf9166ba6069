"""What the TensorFlow checks share: the devices there are, and proof of where work was done."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import _reference
from _protocol import WrongError, visible_gpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from _protocol import Check


class Bench(_reference.Bench):
    """The device ``cpu`` or ``gpu``; ``tensorflow`` puts nothing elsewhere than told."""

    def __init__(self, check: Check, tensorflow: Any, numpy: Any, device: str) -> None:
        super().__init__(check, numpy, device)
        self.tensorflow = tensorflow
        self.name = f"{device.upper()}:0"

    def put(self, array: Any, dtype: str) -> Any:
        """Return a numpy array as a tensor on the device."""
        with self.tensorflow.device(self.name):
            # A constant may stay on the host until it is used.
            return self.tensorflow.identity(self.tensorflow.cast(self.tensorflow.constant(array), dtype))

    def do(self, what: str, work: Callable[[], Any]) -> Any:
        """Do work and prove that the device did it; returns its result.

        On a GPU three witnesses must agree: every tensor of the result lies there, TensorFlow's allocator gave out
        memory of it, and the driver counts memory in use. Nothing is placed elsewhere: soft placement is off.
        """
        what = f"{self.device} {what}"
        memory = self.tensorflow.config.experimental
        if self.device != "cpu":
            memory.reset_memory_stats(self.name)
            before = memory.get_memory_info(self.name)["peak"]
        with self.tensorflow.device(self.name):
            result = work()
        for tensor in self.tensorflow.nest.flatten(result):
            where = getattr(tensor, "device", self.name)
            if not where.endswith(self.name):
                raise WrongError(f"{what}: the result lies on {where}, not on {self.name}")
        if self.device != "cpu":
            grown = memory.get_memory_info(self.name)["peak"] - before
            self.need_memory(what, grown)
            self.check.figures[f"{what}: GPU bytes"] = grown
            self.check.device = self._gpu()
        return result

    def _gpu(self) -> str:
        config = self.tensorflow.config
        details = config.experimental.get_device_details(config.list_physical_devices("GPU")[0])
        major, minor = details.get("compute_capability", ("", ""))
        return f"{details.get('device_name', 'GPU')} (sm_{major}{minor})"


def benches(check: Check) -> list[Bench]:
    """Return the CPU and, where there is one, the GPU.

    Raises:
        WrongError: this TensorFlow is built for CUDA, the driver offers a GPU, and TensorFlow does not take it.
    """
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="2")
    numpy, tensorflow = check.need("numpy"), check.need("tensorflow")
    check.device = "cpu"
    build = tensorflow.sysconfig.get_build_info()
    check.versions.update({key: str(build[f"{key}_version"]) for key in ("cuda", "cudnn") if f"{key}_version" in build})
    config = tensorflow.config
    gpus = config.list_physical_devices("GPU")
    if build.get("is_cuda_build") and visible_gpus() and not gpus:
        raise WrongError(
            "TensorFlow is built for CUDA and the driver offers a GPU, and TensorFlow has only the CPU: "
            "does it find CUDA's libraries?"
        )
    for gpu in gpus:
        config.experimental.set_memory_growth(gpu, True)
    config.set_soft_device_placement(False)
    config.experimental.enable_tensor_float_32_execution(False)
    tensorflow.random.set_seed(4)
    return [Bench(check, tensorflow, numpy, device) for device in ("cpu", "gpu")[: 2 if gpus else 1]]
