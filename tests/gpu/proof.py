"""What the kit does once it has its own packages: two halves, a report, and a clock that ends both."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu import view
from gpu.report import Clock, FaultLine, Report, in_markdown
from smoke import faults

from mlviews.smoke.process import Limits
from mlviews.smoke.programs import PROGRAMS, Level, Program
from mlviews.smoke.runner import any_python, choose, run_checks
from mlviews.values import to_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from mlviews.smoke.report import CheckLine

LONGEST = 150.0  # seconds for one check
JOBS = 4 if (os.cpu_count() or 1) < 16 else 8  # checks side by side: most of one is spent importing its framework
MEASURING = ("gnn-message-passing", "torch-attention", "torch-matmul", "torch-reduction", "torch-train")
# Seconds that the second half needs on a machine for GPUs: wheels of some GB, a build, the checks through two routes.
HALF = 200.0
_ABSENT = re.compile(r"(\w+) is not installed\)?$")
NO_PROVIDER = "this build has no CUDA provider"


def prove(options: argparse.Namespace, kit: Path) -> int:
    """Do everything, write the report, and return the exit code: 0 if all that was done is right."""
    out: Path = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    clock = Clock(options.started + options.seconds)
    about = machine(options.python)
    if options.wheels:
        about["put before its packages"] = ", ".join(sorted(wheel.name for wheel in options.wheels.glob("*.whl")))
    report = Report(options.cpu, about, (), {}, (), (), ())

    def told(**found: Any) -> None:
        nonlocal report
        report = replace(report, **found, seconds={**report.seconds, next(iter(found)): time.time() - options.started})
        (out / "report.json").write_text(json.dumps(to_json(report), indent=2) + "\n")
        (out / "report.md").write_text(in_markdown(report))

    lines, not_run = check_all(options.python, clock, gpu=not options.cpu)
    absent = {
        line.name: "".join(filter(None, _ABSENT.search(line.reason).groups())) for line in lines if not applies(line)
    }
    told(checks=tuple(line for line in lines if applies(line)), absent=absent, not_run=not_run)
    told(faults=plant_all(options.python, report.checks, clock, gpu=not options.cpu))
    # Whether ONNX Runtime finds CUDA's libraries is the view's own doing.
    failed = {line.name for line in report.checks if line.status == "fail"} - {"onnxruntime-cuda"}
    work = options.work.absolute()
    told(steps=tuple(view.steps(options.python, kit, work, clock, gpu=not options.cpu, failed=failed)))
    print(in_markdown(report))
    wrong = [line for line in report.checks if line.status in {"fail", "error"}]
    return 1 if wrong or any(s.status == "failed" for s in report.steps) or _missed(report.faults) else 0


def _missed(lines: Iterable[FaultLine]) -> bool:
    return any(line.status == "missed" for line in lines)


def machine(python: Path) -> dict[str, str]:
    """Return what the report says of where it was made."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    gpus = subprocess.run(asked, capture_output=True, text=True, check=False).stdout if shutil.which(asked[0]) else ""
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    return {
        "system": f"{platform.freedesktop_os_release().get('PRETTY_NAME', 'Linux')}, {' '.join(platform.libc_ver())}",
        "processors": f"{os.cpu_count()} x {platform.machine()}",
        "GPUs": "; ".join(gpus.split("\n")).strip("; ") or "none",
        "Python": version,
        "network": ", ".join(sorted(os.listdir("/sys/class/net"))) or "none",  # noqa: PTH208
    }


def applies(line: CheckLine) -> bool:
    """Tell whether what a check needs is installed; ``--require-gpu`` makes an error of one whose framework is not."""
    return not _absent(line)


def _absent(line: CheckLine) -> str:
    """Return what a check needs and this machine lacks; empty for nothing."""
    if line.reason == NO_PROVIDER:
        return "onnxruntime-gpu"
    found = _ABSENT.search(line.reason)
    return found[1] if found and line.status in {"skip", "error"} else ""


def check_all(python: Path, clock: Clock, *, gpu: bool) -> tuple[tuple[CheckLine, ...], tuple[str, ...]]:
    """Run every check thoroughly; returns what they found, and those that there was no time for.

    Those that measure run alone, so that figures are of that GPU and of no neighbour.
    """
    ends = Clock(clock.end - 0.55 * clock.left())
    # A build of ONNX Runtime without CUDA has nothing to do on a GPU.
    on_cpu = (
        {name for name in PROGRAMS if name.startswith("onnx")} if "onnxruntime-gpu" not in view.there(python) else ()
    )

    def one(program: Program) -> CheckLine | None:
        return _run(python, program.name, "full", ends, require_gpu=gpu and program.name not in on_cpu)

    measuring = [program for program in PROGRAMS.values() if program.alone or program.name in MEASURING]
    others = sorted((p for p in PROGRAMS.values() if p not in measuring), key=lambda program: not program.long)
    found = [*_side_by_side(one, others), *map(one, measuring)]
    lines = {line.name: line for line in found if line}
    return tuple(lines[name] for name in PROGRAMS if name in lines), tuple(n for n in PROGRAMS if n not in lines)


def _run(
    python: Path, name: str, level: Level, clock: Clock, *, require_gpu: bool = False, planted: Path | None = None
) -> CheckLine | None:
    """Run one check; None where no time is left."""
    if clock.left() < 1:
        return None
    target = any_python(python)
    if planted:
        target = replace(target, environment={**target.environment, "PYTHONPATH": str(planted)})
    limits = Limits(seconds=min(LONGEST, clock.left()))
    line = run_checks(target, choose([name], level, named=True), level=level, limits=limits, require_gpu=require_gpu)[0]
    return None if line.status == "error" and clock.left() < 1 else line


def _side_by_side(do: Callable[[Any], Any], items: Iterable[Any], jobs: int = JOBS) -> list[Any]:
    with ThreadPoolExecutor(min(jobs, os.cpu_count() or 1)) as pool:
        return list(pool.map(do, items))


def cases(checks: Iterable[CheckLine]) -> list[tuple[str, str, Level, dict[str, str], str]]:
    """Return the faults to plant: check, label, level, code by module, words.

    Only what passed can fail because of a fault. Where a GPU did the work, the fault must be met there.
    """
    tables: list[tuple[faults.Table, Level, bool]] = [
        *((t, "quick", False) for t in (faults.CLASSICAL, faults.CUPY, faults.JAX, faults.NEURAL, faults.ROOT)),
        (faults.SALT, "quick", False),
        (faults.TENSORFLOW, "quick", False),
        (faults.ON_GPU, "quick", True),
        (faults.MEASURED, "full", False),
        (faults.MEASURED_ON_GPU, "full", True),
    ]
    passed = {line.name: line.device not in {"", "cpu"} for line in checks if line.status == "pass"}
    found = []
    for table, level, gpu_only in tables:
        for (check, label), fault in table.items():
            on_gpu = passed.get(check)
            if on_gpu is None or (gpu_only and not on_gpu) or (on_gpu and (check, label) in faults.NOT_ON_ONE_GPU):
                continue
            codes, words = faults.on_gpu(check, fault) if on_gpu else ({fault[0]: fault[1]}, fault[2])
            found.append((check, label, level, codes, words))
    return found


def plant_all(python: Path, checks: Iterable[CheckLine], clock: Clock, *, gpu: bool) -> tuple[FaultLine, ...]:
    """Plant each fault that can be met here, in a process of its own; the second half keeps its time."""
    devices = {line.name: line.device or "cpu" for line in checks}
    ends = Clock(clock.end - min(HALF, clock.left() / 2))

    def one(case: tuple[str, str, Level, dict[str, str], str]) -> FaultLine:
        check, label, level, codes, words = case
        with tempfile.TemporaryDirectory(prefix="mlviews-kit-") as name:
            faults.plant(Path(name), codes)
            line = _run(python, check, level, ends, planted=Path(name))
        if line is None:
            return FaultLine(check, label, "not run", devices[check], "no time was left", 0)
        caught = line.status == "fail" and words in line.reason
        return FaultLine(check, label, "caught" if caught else "missed", devices[check], line.reason, line.seconds)

    return tuple(_side_by_side(one, cases(checks), jobs=JOBS if gpu else 2))
