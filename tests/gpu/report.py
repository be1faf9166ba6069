"""What the kit found: the values, and their report for people."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlviews.smoke.report import CheckLine


@dataclass(frozen=True, slots=True)
class FaultLine:
    """A fault that was planted, and whether its check failed in the words that are due."""

    check: str
    fault: str
    status: Literal["caught", "missed", "not run"]
    device: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the second half."""

    name: str
    status: Literal["done", "failed", "not run"]
    said: str
    seconds: float
    data: Any = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that the kit found."""

    rehearsal: bool
    machine: dict[str, str]
    checks: tuple[CheckLine, ...]
    absent: dict[str, str]
    not_run: tuple[str, ...]
    faults: tuple[FaultLine, ...]
    steps: tuple[Step, ...]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clock:
    """When the kit must end."""

    end: float

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.end - time.time()


def in_markdown(report: Report) -> str:
    """Return the report for people; what was not done is told first."""
    title = "Rehearsal without a GPU" if report.rehearsal else "Report from a machine with a GPU"
    text = [f"# {title}", ""]
    if report.rehearsal:
        text += ["No GPU was asked for: **nothing here is said of any GPU.** What ran, ran on the CPU.", ""]
    text += [f"- {what}: {value}" for what, value in report.machine.items()]
    text += [f"- after {', '.join(f'{s:.0f} s: {what}' for what, s in report.seconds.items())}", ""]
    text += ["## Not done", "", *_not_done(report), ""]
    text += ["## Checks of the machine's own Python, thoroughly", ""]
    text += _table(
        ("check", "status", "device", "s", "found"),
        ((c.name, c.status, c.device or "-", f"{c.seconds:.1f}", c.reason) for c in report.checks),
    )
    if rates := list(_rates(report.checks)):
        text += ["", "## Figures", "", *_table(("check", "figure", "", "of NVIDIA's peak"), rates)]
    text += ["", "## Planted faults", "", _caught(report.faults), ""]
    text += _table(
        ("check", "fault", "status", "on", "the check said"),
        ((f.check, f.fault, f.status, f.device, f.reason) for f in report.faults),
    )
    text += ["", "## A view of what is installed, without network", ""]
    text += _table(
        ("step", "status", "s", "said"), ((s.name, s.status, f"{s.seconds:.1f}", s.said) for s in report.steps)
    )
    return "\n".join(text) + "\n"


def _not_done(report: Report) -> list[str]:
    lacking: dict[str, list[str]] = {}
    for check, package in report.absent.items():
        lacking.setdefault(package, []).append(check)
    told = [f"- {', '.join(checks)}: {package} is not installed" for package, checks in lacking.items()]
    told += [f"- {c.name}: skipped, {c.reason}" for c in report.checks if c.status == "skip"]
    told += [f"- {name}: no time was left" for name in report.not_run]
    told += [f"- fault of {f.check}, {f.fault}: {f.reason}" for f in report.faults if f.status == "not run"]
    told += [f"- {s.name}: {s.said}" for s in report.steps if s.status == "not run"]
    return told or ["- nothing was left out"]


def _caught(lines: Iterable[FaultLine]) -> str:
    found = [line.status for line in lines]
    counts = ", ".join(f"{found.count(status)} {status}" for status in ("caught", "missed", "not run"))
    return f"{len(found)} faults in checks that pass without: {counts}."


def _rates(checks: Iterable[CheckLine]) -> Iterable[tuple[str, str, str, str]]:
    for check in checks:
        for name, value in check.figures.items():
            what, _, unit = name.rpartition(": ")
            if unit in {"TFLOP/s", "TOP/s", "GB/s", "milliseconds", "seconds an event"}:
                share = check.figures.get(f"{what}: share of the peak")
                yield check.name, what, f"{value:g} {unit}", f"{share:.0%}" if isinstance(share, float) else "-"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return a table; what a program said can break none of its cells."""
    cells = (
        (" ".join(cell.replace("|", "\\|").split()) for cell in row) for row in (heads, ("---",) * len(heads), *rows)
    )
    return [f"| {' | '.join(row)} |" for row in cells]
