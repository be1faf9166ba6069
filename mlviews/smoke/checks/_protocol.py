"""What every check shares: its arguments, its verdict, and the one JSON object that it leaves.

Runs with a view's own Python, or any other, and needs nothing but its standard library. The report goes to the file
named by ``--report``: what frameworks print must not mix with it. Without that option it goes to stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import json
import math
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHOWN = 2000


class SkipCheck(Exception):  # noqa: N818  (a verdict, not an error)
    """The check does not apply here."""


class WrongError(Exception):
    """What was proved is that it is wrong."""


class Check:
    """One run of a check, and what it finds.

    Attributes:
        full: whether time matters less than thoroughness.
        arguments: what else stood on the command line.
        device: what did the work: ``cpu``, or the GPU's name; empty where nothing was computed.
    """

    def __init__(self, *, full: bool, arguments: tuple[str, ...] = ()) -> None:
        self.full = full
        self.arguments = arguments
        self.device = ""
        self.versions: dict[str, str] = {"python": sys.version.split()[0]}
        self.figures: dict[str, float | int | str] = {}

    def need(self, module: str) -> Any:
        """Import a framework; where it is absent the check does not apply.

        Raises:
            SkipCheck: it is not installed.
            WrongError: it is installed and cannot be imported.
        """
        top = module.partition(".")[0]
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name in {module, top}:
                raise SkipCheck(f"{top} is not installed") from None
            raise WrongError(f"{module} cannot be imported: {error}") from error
        except Exception as error:
            raise WrongError(f"{module} cannot be imported: {in_words(error)}") from error
        version = getattr(sys.modules[top], "__version__", None)
        if version:
            self.versions[top] = str(version)
        return found

    def has(self, module: str) -> Any:
        """Import a framework that the check can do without; None where it is absent."""
        try:
            return self.need(module)
        except SkipCheck:
            return None

    def expect(self, truth: object, otherwise: str) -> None:
        """Fail unless ``truth``."""
        if not truth:
            raise WrongError(otherwise)

    def within(self, what: str, got: Any, want: Any, bound: Any) -> None:
        """Compare with a float64 reference, element by element; NaN and infinities agree with nothing.

        Args:
            got: an array-like result.
            want: the reference, of the same shape.
            bound: the largest difference that rounding explains: one number, or one an element.
        """
        numpy = importlib.import_module("numpy")
        got, want = numpy.asarray(got, dtype=numpy.float64), numpy.asarray(want, dtype=numpy.float64)
        if got.shape != want.shape:
            raise WrongError(f"{what}: shape {got.shape} where {want.shape} was expected")
        worst = float(numpy.max(numpy.abs(got - want) / bound)) if got.size else math.nan
        if not worst <= 1:  # NaN compares false
            raise WrongError(f"{what}: off by {worst:.3g} times what rounding explains")
        self.figures[f"{what}: error/bound"] = float(f"{worst:.3g}")

    def exact(self, what: str, got: Any, want: Any) -> None:
        """Compare where arithmetic leaves no rounding."""
        numpy = importlib.import_module("numpy")
        got, want = numpy.asarray(got), numpy.asarray(want)
        if got.shape != want.shape or not (got == want).all():
            raise WrongError(f"{what}: not exactly the expected result")


def in_words(error: BaseException) -> str:
    """Return an error's kind and text; of a failed import those of its cause, before which some put pages of advice."""
    while isinstance(error, ImportError) and error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


def last_line(command: Sequence[str], otherwise: str, **options: Any) -> str:
    """Run another program; return the last line that it prints.

    Args:
        otherwise: what it means that it fails, for people.
        options: of `subprocess.run`.
    """
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if ended.returncode:
        raise RuntimeError(f"{otherwise}: {ended.stderr[-500:]}")
    return str(ended.stdout.splitlines()[-1])


def run(work: Callable[[Check], str]) -> None:
    """Run a check and end the program: 0 pass or skip, 1 otherwise.

    Args:
        work: does the check; returns what was proved, or raises.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--report", type=Path, help="file for the result; stdout without it")
    parser.add_argument("--level", choices=("quick", "full"), default="quick")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    if options.report:
        _end_with_parent()
    check = Check(full=options.level == "full", arguments=tuple(options.arguments))
    start = time.perf_counter()
    status, reason = _verdict(work, check)
    report = {
        "name": Path(sys.argv[0]).stem.replace("_", "-"),
        "status": status,
        "reason": " ".join(reason.split())[:SHOWN],
        "device": "" if status == "skip" else check.device,
        "driver": _driver(),
        "gpus": visible_gpus(),
        "versions": check.versions,
        # JSON has no words for NaN and infinities.
        "figures": {
            key: value for key, value in check.figures.items() if isinstance(value, str) or math.isfinite(value)
        },
        "seconds": round(time.perf_counter() - start, 3),
    }
    # An error may name a file whose name is no text: JSON's readers would refuse an escape of half a character.
    text = json.dumps(report, allow_nan=False, ensure_ascii=False) + "\n"
    content = text.encode(errors="replace")
    if options.report:
        options.report.write_bytes(content)
    else:
        sys.stdout.buffer.write(content)
    sys.exit(0 if status in {"pass", "skip"} else 1)


def _end_with_parent() -> None:
    """Ask Linux to kill this process when whoever started it dies, even by kill -9 (prctl(2), PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _verdict(work: Callable[[Check], str], check: Check) -> tuple[str, str]:
    try:
        return "pass", work(check)
    except SkipCheck as skip:
        return "skip", str(skip)
    except WrongError as wrong:
        return "fail", str(wrong)
    except BaseException as error:  # noqa: BLE001  (a framework may raise anything, SystemExit too)
        traceback.print_exc()
        # Out of memory says nothing about the framework; any other exception is the framework's answer.
        status = "error" if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ else "fail"
        return status, f"{type(error).__name__}: {error}"


_NO_DRIVER = (OSError, AttributeError)  # none at all, or one without that function


def _driver() -> str:
    """Return the version of NVIDIA's driver; empty where there is none."""
    text = ctypes.create_string_buffer(80)
    with contextlib.suppress(*_NO_DRIVER):
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if nvml.nvmlInit_v2() == 0 and nvml.nvmlSystemGetDriverVersion(text, 80) == 0:
            return text.value.decode(errors="replace")
    return ""


def visible_gpus() -> int:
    """Return how many GPUs the driver gives this process, whatever the framework makes of them."""
    count = ctypes.c_int()
    with contextlib.suppress(*_NO_DRIVER):
        cuda = ctypes.CDLL("libcuda.so.1")
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0


def gpu_name() -> str:
    """Return the name of the first GPU and its architecture, as the driver gives them."""
    text = ctypes.create_string_buffer(100)
    with contextlib.suppress(*_NO_DRIVER):
        cuda = ctypes.CDLL("libcuda.so.1")
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGetName(text, 100, 0) == 0:
            # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
            return f"{text.value.decode(errors='replace')} (sm_{_attribute(75)}{_attribute(76)})"
    return ""


def gpu_multiprocessors() -> int:
    """Return how many multiprocessors the first GPU, or the slice of one, has; 0 where that is unknown."""
    return _attribute(16)  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT


def _attribute(number: int) -> int:
    value = ctypes.c_int()
    with contextlib.suppress(*_NO_DRIVER):
        cuda = ctypes.CDLL("libcuda.so.1")
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGetAttribute(ctypes.byref(value), number, 0) == 0:
            return value.value
    return 0


def gpu_holds(address: int) -> bool:
    """Tell whether the driver knows an address as memory of a GPU, not of the host."""
    kind = ctypes.c_uint()
    with contextlib.suppress(*_NO_DRIVER):
        cuda = ctypes.CDLL("libcuda.so.1")
        # CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_MEMORYTYPE_DEVICE
        return cuda.cuPointerGetAttribute(ctypes.byref(kind), 2, ctypes.c_uint64(address)) == 0 and kind.value == 2
    return False


def gpu_memory() -> int:
    """Return the bytes in use on the first GPU (cuMemGetInfo, in its primary context); 0 where that is unknown."""
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    with contextlib.suppress(*_NO_DRIVER):
        cuda = ctypes.CDLL("libcuda.so.1")
        if cuda.cuInit(0) == 0 and cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0:
            cuda.cuCtxPushCurrent_v2(context)
            known = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
            cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
            return total.value - free.value if known else 0
    return 0
