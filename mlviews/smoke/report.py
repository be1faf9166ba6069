"""What a check left behind, checked: the program, its framework and the interpreter may be anyone's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from mlviews.results.checks import CheckLine

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.smoke.process import Ended
    from mlviews.smoke.programs import Program

__all__ = ["Claim", "printable", "verdict"]

_LONGEST = 1_000_000
_TAIL = 500
# What Python itself ends with after an exception that nobody caught, and a check after its own verdict.
_ENDS = {"pass": 0, "skip": 0, "fail": 1, "error": 1}

_Text = Annotated[str, StringConstraints(max_length=4000)]


class Claim(BaseModel):
    """The JSON object of a check; ``gpus`` is how many GPUs the driver offered it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: _Text
    status: Literal["pass", "fail", "skip", "error"]
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
        program: what was run.
        ended: how its process ended.
        report: the file that it was to write.
        claims_gpu: whether the view says that it computes on a GPU.
        require_gpu: whether a GPU must have done the work.
    """
    if ended.stopped:
        return _error(program, ended, ended.stopped)
    claim = _read(report)
    if claim is None or claim.name != program.name:
        return _error(program, ended, f"{ended.how} without a report{_tail(ended)}")
    if ended.returncode != _ENDS[claim.status]:
        return _error(program, ended, f"said {claim.status}, then {ended.how}{_tail(ended)}")
    status, reason = claim.status, printable(claim.reason)
    if program.gpu and status in {"pass", "skip"} and claim.device in {"", "cpu"}:
        status, reason = _without_gpu(claim, reason, claims_gpu=claims_gpu, require_gpu=require_gpu)
    return CheckLine(
        name=program.name,
        status=status,
        reason=reason,
        seconds=ended.seconds,
        device=printable(claim.device) if status in {"pass", "fail"} else "",
        driver=printable(claim.driver),
        versions={printable(key): printable(value) for key, value in claim.versions.items()},
        figures={
            printable(key): printable(value) if isinstance(value, str) else value
            for key, value in claim.figures.items()
        },
    )


def _without_gpu(
    claim: Claim, reason: str, *, claims_gpu: bool, require_gpu: bool
) -> tuple[Literal["pass", "fail", "skip", "error"], str]:
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


def _error(program: Program, ended: Ended, reason: str) -> CheckLine:
    return CheckLine(name=program.name, status="error", reason=printable(reason), seconds=ended.seconds)


def _tail(ended: Ended) -> str:
    text = " ".join(ended.log.split())
    return f": {text[-_TAIL:]}" if text else ""


def printable(text: str) -> str:
    """Return text without the control characters that a terminal or an XML reader would act on."""
    return "".join(character if character.isprintable() else " " for character in text)
