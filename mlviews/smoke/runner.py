"""Run checks with a view's Python or any other, each in a process of its own, and weigh what they report.

The program, its framework and the interpreter may be anyone's: what a check left behind is checked.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import packaging
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from mlviews.errors import BadInputError, nearest
from mlviews.progress import Progress, silent
from mlviews.smoke.process import Ended, Limits, run_limited
from mlviews.smoke.programs import PROGRAMS, Level, Program, programs, unknown_checks
from mlviews.smoke.report import NO_GPU, NO_SUCH_CHECK, CheckLine, Status, printable

if TYPE_CHECKING:
    from mlviews.recipe.view import OwnCheck

_LONGEST = 1_000_000
_TAIL = 500
# What Python itself ends with after an exception that nobody caught, and a check after its own verdict.
_ENDS = {"pass": 0, "skip": 0, "fail": 1, "error": 1}

_Text = Annotated[str, StringConstraints(max_length=4000)]


class Claim(BaseModel):
    """The JSON object of a check; ``gpus`` is how many GPUs the driver offered it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: _Text
    status: Status
    reason: _Text
    device: _Text
    driver: _Text
    gpus: int
    versions: dict[_Text, _Text]
    figures: dict[_Text, int | float | _Text]
    seconds: float


def verdict(program: Program, ended: Ended, report: Path, *, claims_gpu: bool, require_gpu: bool) -> CheckLine:
    """Weigh a check's report against how its process ended.

    Args:
        ended: how its process ended.
        report: the file that it was to write.
        claims_gpu: whether the view says that it computes on a GPU.
        require_gpu: whether a GPU must have done the work.
    """
    if ended.stopped:
        return _not_run(program, ended.stopped, seconds=ended.seconds)
    claim = _read(report)
    if claim is None or claim.name != program.name:
        return _not_run(program, f"{ended.how} without a report{_tail(ended)}", seconds=ended.seconds)
    if ended.returncode != _ENDS[claim.status]:
        return _not_run(program, f"said {claim.status}, then {ended.how}{_tail(ended)}", seconds=ended.seconds)
    status, reason = claim.status, printable(claim.reason)
    if program.gpu and status in {"pass", "skip"} and claim.device in NO_GPU:
        status, reason = _without_gpu(claim, reason, claims_gpu=claims_gpu, require_gpu=require_gpu)
    return CheckLine(
        name=program.name,
        status=status,
        reason=reason,
        seconds=ended.seconds,
        device=printable(claim.device) if status in {"pass", "fail"} else "",
        driver=printable(claim.driver),
        digest=program.digest,
        versions={printable(key): printable(value) for key, value in claim.versions.items()},
        figures={
            printable(key): printable(value) if isinstance(value, str) else value
            for key, value in claim.figures.items()
        },
    )


def _without_gpu(claim: Claim, reason: str, *, claims_gpu: bool, require_gpu: bool) -> tuple[Status, str]:
    """Judge work that no GPU did: right for a CPU view, no proof for a GPU view, a fault where a GPU lay idle."""
    if claims_gpu and claim.gpus and claim.status == "pass":
        return "fail", f"the driver offers {claim.gpus} GPU(s), and the work was done on the CPU ({reason})"
    if require_gpu:
        return "error", f"a GPU is required, and none did the work ({reason})"
    if claims_gpu and claim.status == "pass":
        return "skip", f"no GPU here; on the CPU: {reason}"
    return claim.status, reason


def _read(report: Path) -> Claim | None:
    try:
        with report.open("rb") as file:
            return Claim.model_validate_json(file.read(_LONGEST))
    except (OSError, ValidationError):
        return None


def _not_run(
    program: Program, reason: str, status: Literal["skip", "error"] = "error", *, seconds: float = 0
) -> CheckLine:
    """Return what there is to say of a check that came to no report."""
    return CheckLine(name=program.name, status=status, reason=printable(reason), seconds=seconds, digest=program.digest)


def _tail(ended: Ended) -> str:
    text = " ".join(ended.log.split())
    return f": {text[-_TAIL:]}" if text else ""


OWN_FOLDERS = (PROGRAMS["imports"].path.parent, Path(packaging.__file__).parent)
"""What checks read of mlviews' own."""

# What a batch system or a container says about the host, rather than about software.
_HOST_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
# A view need not hold what judges versions.
_OWN_ARGUMENTS = {"pip-check": (str(Path(packaging.__file__).parent),)}
_JOBS = 2  # checks side by side: most of one is spent importing its framework, on one core


Enter = Callable[[Sequence[str], Mapping[str, str], Path], tuple[list[str], dict[str, str]]]
"""Gives what runs a command in another place, such as a container: from the command, its environment, and the folder
that it works in, which must lie in the same place there, the command and its environment on this host."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What is tested.

    Attributes:
        command: starts its Python.
        environment: what the command is started in; caches and temporary files are added to it.
        claims_gpu: whether it says that it computes on GPUs.
        arguments: what single checks are told besides, by their name.
        enter: makes of a command what runs it elsewhere.
        lacking: why there is no Python to test; each check is skipped then, with this reason.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(hash=False)
    claims_gpu: bool = False
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    enter: Enter | None = None
    lacking: str = ""


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """What of a list of names is run.

    Attributes:
        unknown: names that no check answers, and why they do not: one that is like it may be meant.
        left_out: checks that only a full run holds.
    """

    programs: tuple[Program, ...]
    unknown: Mapping[str, str]
    left_out: tuple[str, ...]


def view_python(launch: Path, *, claims_gpu: bool, arguments: Mapping[str, tuple[str, ...]]) -> Interpreter:
    """Test a view through its ``launch``, in an environment that holds nothing of the caller's software."""
    environment = {name: os.environ[name] for name in _HOST_VARIABLES if name in os.environ}
    environment |= {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    # Containers find the driver's libraries in this way alone.
    folders = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if path]
    drivers = [path for path in folders if (Path(path) / "libcuda.so.1").exists()]
    if drivers:
        environment["LD_LIBRARY_PATH"] = ":".join(drivers)
    return Interpreter((str(launch), "python"), environment, claims_gpu, arguments)


def any_python(python: Path) -> Interpreter:
    """Test any interpreter in the environment that the caller gave it: an LCG view is nothing without."""
    return Interpreter((str(python),), dict(os.environ))


def choose(names: Iterable[str], level: Level, *, named: bool = False, own: Iterable[OwnCheck] = ()) -> CheckPlan:
    """Sort names of checks into what is run, unknown, and left out.

    Args:
        names: as recipes write them.
        named: whether somebody asked for just these: then none is left out.
        own: checks that lie beside the recipe.
    """
    names, there = tuple(dict.fromkeys(names)), programs(own)
    known = [there[name] for name in names if name in there]
    chosen = [program for program in known if named or level == "full" or program.level == "quick"]
    return CheckPlan(
        tuple(chosen),
        {name: f"{NO_SUCH_CHECK}{nearest(name, there)}" for name in names if name not in there},
        tuple(program.name for program in known if program not in chosen),
    )


def refuse_unknown(names: Iterable[str], own: Iterable[OwnCheck]) -> None:
    """Refuse names, as somebody typed them, that no check answers.

    Raises:
        BadInputError: there are some.
    """
    if unknown := unknown_checks(names, own):
        raise BadInputError("check-unknown", f"there is no check {', '.join(unknown)}", "`mlviews checks` lists all.")


def run_checks(
    target: Interpreter,
    plan: CheckPlan,
    *,
    level: Level = "quick",
    limits: Limits | None = None,
    require_gpu: bool = False,
    progress: Progress = silent,
) -> tuple[CheckLine, ...]:
    """Run a plan's checks; the answer comes in the plan's order, unknown names last.

    Args:
        require_gpu: make an error of a check that had work for a GPU and found none.
    """
    if target.lacking:
        found = {
            program.name: _not_run(program, target.lacking, "error" if program.gpu and require_gpu else "skip")
            for program in plan.programs
        }
    else:
        found = _run_all(target, plan, level, limits or Limits(), require_gpu=require_gpu, progress=progress)
    lines = [found[program.name] for program in plan.programs]
    unknown = (CheckLine(name=name, status="error", reason=why, seconds=0) for name, why in plan.unknown.items())
    return (*lines, *unknown)


def _run_all(
    target: Interpreter, plan: CheckPlan, level: Level, limits: Limits, *, require_gpu: bool, progress: Progress
) -> dict[str, CheckLine]:
    stop = threading.Event()
    running: dict[str, None] = {}

    def tell(step: int = 0) -> None:
        names = [*running]
        # Whoever waits for one alone wants to know how long that can take.
        advance(step, note=f"{names[0]}, {limits.seconds:g} s at most" if len(names) == 1 else ", ".join(names))

    def one(program: Program) -> CheckLine:
        running[program.name] = None
        tell()
        line = _run(target, program, level=level, limits=limits, require_gpu=require_gpu, stop=stop)
        del running[program.name]
        tell(1)
        return line

    # Checks that share a GPU would spoil each other's memory; figures that are times bear no neighbour at all.
    jobs = 1 if _gpus() else _JOBS
    together = sorted((p for p in plan.programs if not p.alone), key=lambda program: not program.long)
    alone = [program for program in plan.programs if program.alone]
    found: dict[str, CheckLine] = {}
    with progress("Testing", total=len(plan.programs)) as advance:
        for programs, workers in ((together, jobs), (alone, 1)):
            pool = ThreadPoolExecutor(workers)
            try:
                found |= {line.name: line for line in pool.map(one, programs)}
            finally:
                # An interrupt ends here; otherwise there is nothing left to stop.
                stop.set()
                pool.shutdown(cancel_futures=True)
            stop.clear()
    return found


def _run(
    target: Interpreter, program: Program, *, level: Level, limits: Limits, require_gpu: bool, stop: threading.Event
) -> CheckLine:
    with tempfile.TemporaryDirectory(prefix="mlviews-smoke-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        report = folder / "report.json"
        command = [*target.command, str(program.place(folder)), "--report", str(report), "--level", level]
        command += [*_OWN_ARGUMENTS.get(program.name, ()), *target.arguments.get(program.name, ())]
        # Nothing is written into a release, or into what else is tested.
        environment = {**_scratch(folder), **_THREADS, **target.environment, "PYTHONDONTWRITEBYTECODE": "1"}
        if program.per_gpu:
            limits = replace(limits, memory=limits.memory * max(1, _gpus()))
        if target.enter:
            command, environment = target.enter(command, environment, folder)
        ended = run_limited(command, environment=environment, folder=folder, limits=limits, stop=stop)
        return verdict(program, ended, report, claims_gpu=target.claims_gpu, require_gpu=require_gpu)


# Threads of two checks that wait for each other's core in a busy loop make both some ten times slower.
_THREADS = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // _JOBS))}


def _scratch(folder: Path) -> dict[str, str]:
    """Return variables that keep caches and temporary files away from the user's own."""
    places = ("HOME", "TMPDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME", "CUDA_CACHE_PATH", "TRITON_CACHE_DIR", "IPYTHONDIR")
    return dict.fromkeys(places, str(folder))


def _gpus() -> int:
    return sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
