"""Which packages a site refuses for their licence, by what each package states.

A licence is an SPDX expression: whoever takes ``A OR B`` may choose, and is bound by both of ``A AND B``. What is no
expression is told and not guessed. See https://spdx.github.io/spdx-spec/v3.0.1/annexes/spdx-license-expressions/.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Annotated, Literal

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator, Field, StringConstraints

from mlviews.errors import RefusedError
from mlviews.recipe.model import Text, Written

_WORD = re.compile(r"[()]|[^()\s]+(?: WITH [^()\s]+)?")
_SHOWN = 60  # characters of a text that is no expression: some packages state the whole licence


def _term(text: str) -> str:
    try:
        known = str(canonicalize_license_expression(text))
    except InvalidLicenseExpression as error:
        raise ValueError("is no SPDX identifier: https://spdx.org/licenses lists them") from error
    if re.search(r"[()]| (AND|OR) ", known):
        raise ValueError("is several licences: write a line for each")
    return known


def _day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError as error:
        raise ValueError("is not a day such as 2027-06-30") from error
    return text


class Waiver(Written):
    """Why a package may be there although its licence is refused."""

    why: Text = Field(description="The reason, for whoever looks at it next.")
    until: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_day)] = Field(
        description="The last day (UTC) that it holds: `2027-06-30`."
    )


class Licences(Written):
    """What a site refuses when it locks and publishes."""

    deny: list[Annotated[str, AfterValidator(_term)]] = Field(
        description="SPDX identifiers; one with an exception (`WITH`) is another licence than one without."
    )
    waive: dict[Text, Waiver] = Field({}, description="Package -> why and for how long it may be there all the same.")


@dataclass(frozen=True, slots=True)
class LicenceRemark:
    """What a site says of a package's licence.

    Attributes:
        licence: as the package states it; a long text is cut.
        verdict: ``unknown`` where that is no SPDX expression, so that nobody can tell.
        why: which licences are refused; why and until when the package may be there; or what the text is.
    """

    package: str
    licence: str
    verdict: Literal["denied", "waived", "unknown"]
    why: str


def judge(stated: Iterable[tuple[str, str]], licences: Licences | None) -> tuple[LicenceRemark, ...]:
    """Return what a site says of packages, by name; nothing of those that it lets pass.

    Args:
        stated: package and the licence that it states; empty where it states none.
        licences: the site's; None where it does not look.
    """
    if licences is None:
        return ()
    today = datetime.now(timezone.utc).date()
    found = (_judged(package, text, licences, today) for package, text in sorted({*stated}))
    return tuple(remark for remark in found if remark)


def refuse_denied(
    view: str, remarks: Sequence[LicenceRemark], needs: Mapping[str, Collection[str]], asked: Collection[str]
) -> None:
    """Refuse a view that holds what its site denies.

    Args:
        remarks: what the site says.
        needs: package -> the packages that it depends on.
        asked: packages that the recipe asks for.

    Raises:
        RefusedError: ``licence-denied``, with each package, and by which request it comes.
    """
    denied = tuple(
        f"{one.package} ({one.licence}): {one.why}{_by(one.package, needs, asked)}"
        for one in remarks
        if one.verdict == "denied"
    )
    if denied:
        raise RefusedError(
            "licence-denied",
            f"{view} would hold packages with licences that the site refuses",
            "Leave them out, or waive them in the site's file: `licences: {waive: {PACKAGE: {why: ..., until: ...}}}`.",
            faults=denied,
        )


def _by(package: str, needs: Mapping[str, Collection[str]], asked: Collection[str]) -> str:
    """Return the shortest way from a request to a package that it brings along; nothing where that is the request."""
    ways, at = [[package]], 0
    seen = {package}
    while at < len(ways) and ways[at][0] not in asked:
        above = sorted(name for name, needed in needs.items() if ways[at][0] in needed and name not in seen)
        seen.update(above)
        ways += [[name, *ways[at]] for name in above]
        at += 1
    return f"; it comes by {' > '.join(ways[at])}" if 0 < at < len(ways) else ""


def _judged(package: str, text: str, licences: Licences, today: date) -> LicenceRemark | None:
    shown = "".join(character if character.isprintable() else " " for character in text[:_SHOWN])
    waiver = licences.waive.get(package)
    holds = waiver is not None and date.fromisoformat(waiver.until) >= today
    try:
        expression = str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        why = "it is not an SPDX expression" if text else "the package states none"
        return None if holds else LicenceRemark(package, shown, "unknown", why)
    refused = _refused(expression, frozenset(licences.deny))
    if not refused:
        return None
    if waiver and holds:
        return LicenceRemark(package, expression, "waived", f"until {waiver.until}: {waiver.why}")
    ended = f"; its waiver ended on {waiver.until}" if waiver else ""
    return LicenceRemark(package, expression, "denied", f"{', '.join(sorted(refused))} is denied{ended}")


def _refused(expression: str, deny: frozenset[str]) -> frozenset[str]:
    """Return which denied licences nobody gets round; none where there is a choice that is not denied."""
    return _any(iter([*_WORD.findall(expression), ")"]), deny)


def _any(words: Iterator[str], deny: frozenset[str]) -> frozenset[str]:
    """Read alternatives up to the bracket that closes them: each is denied by all that must be taken together."""
    choices: list[frozenset[str]] = [frozenset()]
    for word in words:
        if word == ")":
            break
        if word == "OR":
            choices.append(frozenset())
        elif word == "(":
            choices[-1] |= _any(words, deny)
        elif word != "AND":
            choices[-1] |= {word} & deny
    return frozenset().union(*choices) if all(choices) else frozenset()
