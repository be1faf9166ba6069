"""What the checks of hand-written kernels share: proof that one ran on the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _protocol import SkipCheck, WrongError, gpu_holds, gpu_memory, gpu_name, visible_gpus

if TYPE_CHECKING:
    from _protocol import Check


def need_gpu(check: Check, *, simulator: str = "") -> None:
    """Go on where a kernel can run: on a GPU, or on the CPU by a simulator that the environment has switched on.

    Raises:
        SkipCheck: there is neither.
        WrongError: the simulator would do a GPU's work while one lies idle.
    """
    gpus = visible_gpus()
    if simulator and gpus:
        raise WrongError(f"{simulator} does the work on the CPU, and the driver offers {gpus} GPU(s)")
    if not simulator and not gpus:
        raise SkipCheck("the driver offers no GPU")
    check.device = "cpu"


def prove(check: Check, what: str, *, address: int, milliseconds: float) -> None:
    """Prove that the GPU did the work.

    Three witnesses must agree: the driver knows the result's address as the GPU's memory, it counts memory in use
    there, and the GPU's own clock (events before and after the kernel) saw time go by.
    """
    if not gpu_holds(address):
        raise WrongError(f"{what}: the result does not lie in a GPU's memory, says the driver")
    if not gpu_memory():
        raise WrongError(f"{what}: the driver counts no memory in use on the GPU")
    if not milliseconds > 0:
        raise WrongError(f"{what}: no time passed on the GPU")
    check.figures[f"{what}: GPU microseconds"] = round(milliseconds * 1000, 1)
    check.device = gpu_name()
