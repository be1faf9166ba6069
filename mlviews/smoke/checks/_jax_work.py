"""What the JAX checks share: the devices there are, and proof of where work was done."""

from __future__ import annotations

import os
from importlib import metadata
from typing import TYPE_CHECKING, Any

import _reference
from _protocol import WrongError, visible_gpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from _protocol import Check


class Bench(_reference.Bench):
    """The device ``cpu`` or ``gpu``, as JAX says; in ``jax`` float64 is switched on."""

    def __init__(self, check: Check, jax: Any, numpy: Any, device: Any) -> None:
        super().__init__(check, numpy, device.platform)
        self.jax = jax
        self._device = device

    def put(self, array: Any, dtype: str) -> Any:
        """Return a numpy array as one of JAX on the device."""
        rounded = self.numpy.asarray(array).astype(self.jax.numpy.dtype(dtype))
        return self.jax.device_put(rounded, self._device)

    def do(self, what: str, work: Callable[[], Any]) -> Any:
        """Do work and prove that the device did it; returns its result.

        On a GPU three witnesses must agree: every array of the result lies there, JAX's allocator gave out memory of
        it, and the driver counts memory in use.
        """
        what = f"{self.device} {what}"
        before = self._allocations()
        result = self.jax.block_until_ready(work())
        for array in self.jax.tree_util.tree_leaves(result):
            where = {device.platform for device in array.devices()}
            if where != {self.device}:
                raise WrongError(f"{what}: the result lies on {', '.join(sorted(where))}, not on {self.device}")
        if self.device != "cpu":
            allocations = self._allocations() - before
            self.need_memory(what, allocations)
            self.check.figures[f"{what}: allocations"] = allocations
            capability = str(getattr(self._device, "compute_capability", "")).replace(".", "")
            self.check.device = f"{self._device.device_kind} (sm_{capability})"
        return result

    def _allocations(self) -> int:
        return int((self._device.memory_stats() or {}).get("num_allocs", 0))


def benches(check: Check) -> list[Bench]:
    """Return the CPU and, where there is one, the GPU.

    Raises:
        WrongError: JAX's plugin for CUDA is installed, the driver offers a GPU, and JAX does not take it.
    """
    # JAX takes three quarters of a GPU's memory at its start; others may be at work there.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    numpy, jax = check.need("numpy"), check.need("jax")
    check.need("jaxlib")
    jax.config.update("jax_enable_x64", True)
    check.device = "cpu"
    devices = [jax.devices("cpu")[0], *(device for device in jax.devices()[:1] if device.platform == "gpu")]
    plugins = [entry.name for entry in metadata.entry_points(group="jax_plugins") if "cuda" in entry.name]
    if len(devices) == 1 and plugins and visible_gpus():
        raise WrongError(f"{plugins[0]} is installed and the driver offers a GPU, and JAX has only the CPU")
    return [Bench(check, jax, numpy, device) for device in devices]
