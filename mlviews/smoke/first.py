"""The first checks of a new release: does what the recipe asked for import, is it consistent, does it draw."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlviews.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlviews.progress import Progress

__all__ = ["Check", "first_checks", "modules_of"]

_CHECKS = Path(__file__).resolve().parent / "checks"
_MODULE = re.compile(
    r"lib/python3\.\d+t?/site-packages/(?P<name>[A-Za-z]\w*)"
    r"(/__init__\.py|\.py|(\.cpython-[\w-]+|\.abi3)?\.so)"
)
# Top-level folders that packages leave beside their modules; nobody imports them.
_NOT_MODULES = frozenset({"benchmarks", "conftest", "docs", "examples", "setup", "test", "testing", "tests"})
_SECONDS = 300
_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    name: str
    status: Literal["pass", "fail", "skip", "error"]
    reason: str
    seconds: float


def first_checks(prefix: Path, requested: Sequence[str], *, progress: Progress = silent) -> tuple[Check, ...]:
    """Run the first checks of a release that has its ``launch``.

    Args:
        prefix: the installed environment.
        requested: packages that the recipe asks for.
        progress: told which check runs.
    """
    packages = _installed(prefix)
    checks: list[Callable[[], Check]] = [
        lambda: _imports(prefix, modules_of(requested, packages)),
        lambda: _pip_check(prefix),
    ]
    if any("site-packages/matplotlib/__init__.py" in file for package in packages.values() for file in package.files):
        checks.append(lambda: _plot(prefix))
    found = []
    with progress("Testing", total=len(checks)) as advance:
        for check in checks:
            found.append(check())
            advance(note=found[-1].name)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Package:
    files: tuple[str, ...]
    depends: tuple[str, ...]


def _installed(prefix: Path) -> dict[str, _Package]:
    packages = {}
    for path in (prefix / "conda-meta").glob("*.json"):
        record = json.loads(path.read_bytes())
        depends = tuple(text.split()[0] for text in record.get("depends", ()) if text.split())
        packages[record["name"]] = _Package(tuple(record.get("files", ())), depends)
    return packages


def modules_of(requested: Iterable[str], packages: Mapping[str, _Package]) -> tuple[str, ...]:
    """Return the top-level modules that the requested packages bring, by their installed files.

    A package without any module, such as ``matplotlib`` on conda-forge, stands for the packages that it depends on.
    """
    modules: dict[str, None] = {}
    for name in requested:
        if package := packages.get(name):
            found = _modules(package) or [m for d in package.depends if d in packages for m in _modules(packages[d])]
            modules |= dict.fromkeys(found)
    return tuple(modules)


def _modules(package: _Package) -> list[str]:
    found = dict.fromkeys(match["name"] for file in package.files if (match := _MODULE.fullmatch(file)))
    return [name for name in found if name not in _NOT_MODULES]


def _imports(prefix: Path, modules: Sequence[str]) -> Check:
    start = time.perf_counter()
    run = _run(prefix, ["python", str(_CHECKS / "imports.py"), *modules])
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    done = [line for line in lines if "name" in line]
    failed = [f"{line['name']}: {line['reason']}" for line in done if line["reason"]]
    if len(done) < len(modules):
        at = lines[-1].get("begin", "?") if lines else "start"
        failed.append(f"{at}: Python ended with status {run.returncode}: {_tail(run.stderr)}")
    status: Literal["pass", "fail"] = "fail" if failed else "pass"
    reason = "; ".join(failed) or f"{len(modules)} modules: {', '.join(modules)}"
    return Check("imports", status, reason, _since(start))


def _pip_check(prefix: Path) -> Check:
    start = time.perf_counter()
    command = [sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python"), "check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if "No module named pip" in run.stderr:
        return Check("pip-check", "skip", "mlviews' own Python has no pip to check with", _since(start))
    reason = _tail(run.stdout + run.stderr) if run.returncode else "no broken requirements"
    return Check("pip-check", "fail" if run.returncode else "pass", reason, _since(start))


def _plot(prefix: Path) -> Check:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = _run(prefix, ["python", str(_CHECKS / "plot_png.py"), str(Path(folder) / "plot.png")])
    reason = _tail(run.stdout + run.stderr) if run.returncode else run.stdout.strip()
    return Check("plot-png", "fail" if run.returncode else "pass", reason, _since(start))


def _run(prefix: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    launch = [str(prefix / "launch"), *command]
    with tempfile.TemporaryDirectory() as scratch:
        environment = {"PATH": "/usr/bin:/bin", "HOME": scratch, "LANG": "C.UTF-8", "MPLCONFIGDIR": scratch}
        try:
            return subprocess.run(
                launch, capture_output=True, text=True, check=False, timeout=_SECONDS, cwd=scratch, env=environment
            )
        except subprocess.TimeoutExpired as error:
            said = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
            return subprocess.CompletedProcess(launch, 124, said, f"no end after {_SECONDS} s")


def _tail(text: str) -> str:
    return " ".join(text[-_SHOWN:].split())


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
