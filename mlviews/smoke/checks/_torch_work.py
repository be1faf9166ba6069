"""What the PyTorch checks share: the devices there are, and proof of where work was done."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import _reference
import _speed
from _protocol import WrongError, visible_gpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from _protocol import Check


CPU_ROOM = 100_000_000


class Bench(_reference.Bench):
    """The device ``cpu`` or ``cuda``."""

    def __init__(self, check: Check, torch: Any, numpy: Any, device: str) -> None:
        super().__init__(check, numpy, device)
        self.torch = torch

    def put(self, array: Any, dtype: Any = None) -> Any:
        """Return a numpy array as a tensor on the device."""
        return self.torch.from_numpy(array).to(self.device, dtype)

    def do(self, what: str, work: Callable[[], Any], *, kernel: str = "") -> Any:
        """Do work and prove that the device did it; returns its result.

        On a GPU three witnesses must agree: every tensor of the result lies there, the profiler saw kernels that took
        time on it, and its allocator gave out memory. Copies to and from the GPU are no kernels.

        Args:
            kernel: what the name of one of the kernels must hold.
        """
        what = f"{self.device} {what}"
        if self.device == "cpu":
            result = work()
            _lies_on(result, "cpu", what)
            return result
        torch = self.torch
        torch.cuda.synchronize()
        before = torch.cuda.memory_stats().get("allocation.all.allocated", 0)
        profiler = importlib.import_module("torch.profiler")
        activities = [profiler.ProfilerActivity.CPU, profiler.ProfilerActivity.CUDA]
        with profiler.profile(activities=activities) as profile:
            result = work()
            torch.cuda.synchronize()
        _lies_on(result, "cuda", what)
        kernels, microseconds = _kernels(torch, profile)
        if not any(kernel in name for name in kernels) or not microseconds > 0:
            raise WrongError(f"{what}: the profiler saw no kernel {kernel} on the GPU".replace("  ", " "))
        if torch.cuda.memory_stats().get("allocation.all.allocated", 0) <= before:
            raise WrongError(f"{what}: the GPU's allocator gave out no memory")
        self.check.figures[f"{what}: kernels"] = len(kernels)
        self.check.figures[f"{what}: GPU microseconds"] = round(microseconds, 1)
        major, minor = torch.cuda.get_device_capability()
        self.check.device = f"{torch.cuda.get_device_name()} (sm_{major}{minor})"
        return result

    def room(self) -> int:
        """Return how many bytes a measurement may take: half of what is free on the GPU, little on the CPU."""
        if self.device == "cpu":
            return CPU_ROOM
        self.torch.cuda.empty_cache()  # what earlier work left is free, too
        return int(self.torch.cuda.mem_get_info()[0]) // 2

    def seconds(self, what: str, work: Callable[[], Any]) -> float:
        """Return how long one run of work takes on the device; see `_speed.seconds`."""
        timed = _speed.by_events(self.torch) if self.device == "cuda" else _speed.by_clock
        return _speed.seconds(timed, work, f"{self.device} {what}")

    def tell(self, what: str, amount: float, unit: str, took: float, *, kind: str) -> None:
        """Note a rate; only a GPU's has a share of a peak. See `_speed.tell`."""
        kind = kind if self.device == "cuda" else ""
        _speed.tell(self.check, f"{self.device} {what}", amount, unit, took, kind=kind)

    def has_tf32(self) -> bool:
        return self.device == "cuda" and bool(self.torch.cuda.get_device_capability() >= (8, 0))

    def dtype(self, name: str) -> Any:
        """Return PyTorch's own type of that name; of ``tf32``, which is one of multiplying, float32."""
        return getattr(self.torch, _reference.stored(name))

    def host(self, result: Any) -> Any:
        return result.detach().cpu().numpy()

    def wide(self, result: Any) -> Any:
        return self.host(result.double())  # numpy knows no bfloat16


def load(check: Check) -> Any:
    """Import PyTorch, with the randomness that a check has under control."""
    torch = check.need("torch")
    if torch.version.cuda:
        check.versions["cuda"] = torch.version.cuda
    torch.manual_seed(4)
    check.device = "cpu"
    return torch


def benches(check: Check) -> list[Bench]:
    """Return the CPU and, where there is one, the GPU.

    Raises:
        WrongError: this PyTorch is built for CUDA, the driver offers a GPU, and PyTorch does not take it.
    """
    torch, numpy = load(check), check.need("numpy")
    if torch.version.cuda and visible_gpus() and not torch.cuda.is_available():
        raise WrongError(
            f"PyTorch is built for CUDA {torch.version.cuda} and the driver offers a GPU, "
            "and torch.cuda.is_available() is false: is the driver too old for it?"
        )
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    return [Bench(check, torch, numpy, device) for device in devices]


def _lies_on(result: Any, device: str, what: str) -> None:
    for tensor in result if isinstance(result, (tuple, list)) else [result]:
        where = getattr(getattr(tensor, "device", None), "type", None)
        if where is not None and where != device:
            raise WrongError(f"{what}: the result lies on {where}, not on {device}")


def _kernels(torch: Any, profile: Any) -> tuple[list[str], float]:
    on_gpu = [
        event
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.name.startswith(("Memcpy", "Memset"))
    ]
    return [event.name for event in on_gpu], sum(event.time_range.elapsed_us() for event in on_gpu)
