"""What the JAX checks share: the devices there are, and proof of where work was done."""

from __future__ import annotations

import os
from importlib import metadata
from typing import TYPE_CHECKING, Any

from _protocol import WrongError, gpu_memory, visible_gpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from _protocol import Check


class Bench:
    """A device to work on, and what is needed to prove work done there.

    Attributes:
        check: the run of the check.
        jax: JAX, with float64 switched on.
        numpy: numpy.
        device: ``cpu`` or ``gpu``, as JAX says.
    """

    def __init__(self, check: Check, jax: Any, numpy: Any, device: Any) -> None:
        self.check = check
        self.jax = jax
        self.numpy = numpy
        self.device: str = device.platform
        self._device = device

    def put(self, array: Any, dtype: str) -> Any:
        """Return a numpy array as one of JAX on the device."""
        rounded = self.numpy.asarray(array).astype(self.jax.numpy.dtype(dtype))
        return self.jax.device_put(rounded, self._device)

    def do(self, what: str, work: Callable[[], Any]) -> Any:
        """Do work and prove that the device did it; returns its result.

        On a GPU three witnesses must agree: every array of the result lies there, JAX's allocator gave out memory of
        it, and the driver counts memory in use.

        Raises:
            WrongError: any of them says otherwise.
        """
        what = f"{self.device} {what}"
        before = self._allocations()
        result = self.jax.block_until_ready(work())
        for array in self.jax.tree_util.tree_leaves(result):
            where = {device.platform for device in array.devices()}
            if where != {self.device}:
                raise WrongError(f"{what}: the result lies on {', '.join(sorted(where))}, not on {self.device}")
        if self.device != "cpu":
            if self._allocations() <= before:
                raise WrongError(f"{what}: the GPU's allocator gave out no memory")
            if not gpu_memory():
                raise WrongError(f"{what}: the driver counts no memory in use on the GPU")
            self.check.figures[f"{what}: allocations"] = self._allocations() - before
            capability = str(getattr(self._device, "compute_capability", "")).replace(".", "")
            self.check.device = f"{self._device.device_kind} (sm_{capability})"
        return result

    def within(self, what: str, got: Any, want: Any, bound: Any) -> None:
        """Compare an array with a float64 reference; see `Check.within`."""
        self.check.within(f"{self.device} {what}", got, want, bound)

    def exact(self, what: str, got: Any, want: Any) -> None:
        """Compare an array with a reference where arithmetic leaves no rounding."""
        self.check.exact(f"{self.device} {what}", got, want)

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


def on_devices(found: list[Bench]) -> str:
    """Return where work was done, for people."""
    return "on " + " and ".join(f"the {bench.device.upper()}" for bench in found)
