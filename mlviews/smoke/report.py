"""What checks found: as values, in words, and as JUnit XML, which CI systems read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from pydantic import BaseModel, ConfigDict, Field

from mlviews.credentials import hide
from mlviews.smoke.programs import PROGRAMS

Status = Literal["pass", "fail", "skip", "error"]
NO_GPU = frozenset({"", "cpu"})
"""The devices that are no GPU: none did the work, or the processor."""
NO_SUCH_CHECK = "no such check"
"""How the reason begins of a name that no program answers: it tells of the recipe, and nothing of the release."""


class CheckLine(BaseModel):
    """What one check found."""

    model_config = ConfigDict(frozen=True)

    name: str
    status: Status
    reason: str
    seconds: float
    device: str = Field(
        "", description="What did the work: `cpu`, or the GPU's name; empty where nothing was computed."
    )
    driver: str = Field("", description="Version of NVIDIA's driver, where there is one.")
    versions: dict[str, str] = Field({}, description="Of Python and the frameworks.")
    figures: dict[str, int | float | str] = Field({}, description="What was measured; errors in parts of their bound.")
    digest: str = Field("", description="The sha256 of the text of a check that lies beside the recipe.")

    @property
    def proves(self) -> bool:
        """Whether it passed or failed: what was skipped or could not run proves nothing."""
        return self.status in {"pass", "fail"}

    @property
    def is_bad(self) -> bool:
        """Whether it failed or could not run."""
        return self.status in {"fail", "error"}

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU did the work."""
        return self.device not in NO_GPU


@dataclass(frozen=True, slots=True)
class RouteLine:
    """What the checks found through one route of a view."""

    route: Literal["prefix", "module", "kernel", "container"]
    checks: Sequence[CheckLine]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuKindLine:
    """What the checks found on one kind of GPU of a batch system.

    Attributes:
        gpu: the kind, as the site's file or Slurm names it.
        queue: the partition.
        job: the number of the job that ran them; empty where none was taken.
        checks: what they found.
        record: the record that proves it, in this root.
        problem: why nothing was found; empty otherwise.
    """

    gpu: str
    queue: str
    job: str
    checks: Sequence[CheckLine] = ()
    record: Path | None = None
    problem: str = ""


def failures(checks: Sequence[CheckLine]) -> tuple[str, ...]:
    """Return what speaks against a view, a line each."""
    found = (check for check in checks if check.is_bad and not _unknown(check))
    return tuple(f"{check.name}: {check.reason}" for check in found)


def _unknown(check: CheckLine) -> bool:
    return check.name not in PROGRAMS and not check.digest and check.reason.startswith(NO_SUCH_CHECK)


_ELEMENTS = {"fail": "failure", "error": "error", "skip": "skipped"}


def junit(suite: str, lines: Sequence[CheckLine]) -> str:
    """Return a test suite of checks, after the schema that Jenkins' xUnit plugin publishes."""
    return _text(_suite(suite, lines))


def junit_suites(suites: Mapping[str, Sequence[CheckLine]]) -> str:
    """Return several suites by their names, in the same way."""
    root = ET.Element("testsuites")
    root.extend(_suite(name, lines) for name, lines in suites.items())
    return _text(root)


def _suite(suite: str, lines: Sequence[CheckLine]) -> ET.Element:
    counts = {status: sum(line.status == status for line in lines) for status in _ELEMENTS}
    root = ET.Element(
        "testsuite",
        name=suite,
        tests=str(len(lines)),
        failures=str(counts["fail"]),
        errors=str(counts["error"]),
        skipped=str(counts["skip"]),
        time=f"{sum(line.seconds for line in lines):.3f}",
    )
    for line in lines:
        case = ET.SubElement(root, "testcase", classname=suite, name=line.name, time=f"{line.seconds:.3f}")
        if line.status in _ELEMENTS:
            ET.SubElement(case, _ELEMENTS[line.status], message=_plain(line.reason))
        facts = {"device": line.device, "driver": line.driver, **line.versions, **line.figures}
        shown = (f"{key}: {value}" for key, value in facts.items() if value != "")
        ET.SubElement(case, "system-out").text = _plain("\n".join(shown))
    return root


def _plain(text: str) -> str:
    """Return text without what XML 1.0 cannot hold: an installer's message may be anything."""
    return "\n".join(map(printable, text.splitlines()))


def _text(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def printable(text: str) -> str:
    """Return text without the control characters that a terminal or an XML reader would act on, and without secrets."""
    return "".join(character if character.isprintable() else " " for character in hide(text))
