"""What goes wrong is reported, and does not hang: out of memory, a bad index, a device-side assertion.

After out of memory the same process must compute right again. A device-side assertion ends a GPU's context, so it is
provoked in a process of its own, which must end by itself with the assertion named.
"""

from __future__ import annotations

import subprocess
import sys

import _torch_work as work
from _protocol import Check, WrongError, run
from _reference import on_devices

SECONDS = 120
HUGE = 1 << 50  # bytes: more than any host or GPU has, and not yet past a 57-bit address
ASSERTION = """
import torch
table = torch.ones(10, 4, device="cuda")
print(table[torch.tensor([3, 1000], device="cuda")].sum().item())
"""


def main(check: Check) -> str:
    found = work.benches(check)
    for bench in found:
        _out_of_memory(bench)
        _bad_index(bench)
    if len(found) > 1:
        _assertion()
    provoked = "out of memory and bad indices" if len(found) == 1 else "out of memory, bad indices, device assertions"
    return f"{provoked} are reported, and work goes on, {on_devices(found)}"


def _out_of_memory(bench: work.Bench) -> None:
    torch = bench.torch
    try:
        torch.empty(HUGE, dtype=torch.uint8, device=bench.device)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        said = str(error).lower()
        bench.check.expect("memory" in said, f"{bench.device}: out of memory reads {said[:200]}")
    else:
        raise WrongError(f"{bench.device}: a petabyte was given out")
    after = bench.do("after out of memory", lambda: torch.arange(1000, device=bench.device).sum())
    bench.exact("after out of memory", after, 499500)


def _bad_index(bench: work.Bench) -> None:
    if bench.device != "cpu":
        return  # an assertion on the device: see below
    torch = bench.torch
    try:
        torch.ones(10, 4)[torch.tensor([3, 1000])]
    except IndexError:
        return
    raise WrongError("an index beyond the end was taken")


def _assertion() -> None:
    try:
        ended = subprocess.run(
            [sys.executable, "-c", ASSERTION], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        raise WrongError(f"a device-side assertion hangs for {SECONDS} s") from None
    if ended.returncode == 0 or "assert" not in ended.stderr:
        raise WrongError(f"a device-side assertion was not reported: status {ended.returncode}, {ended.stderr[-300:]}")


if __name__ == "__main__":
    run(main)
