"""What a recipe may ask for: conda match specs without their traps, and exact pins of wheels."""

from __future__ import annotations

import re

from rattler import MatchSpec
from rattler.exceptions import InvalidMatchSpecError

__all__ = ["check_match_spec", "check_wheel_pin", "spec_name"]

_EXACT = re.compile(r"==\s*([^,|()=*\s]+)(?=[,|()=\s]|$)")
_GAP = re.compile(r"[,|]\s+(=(?!=)|[\w*])")
_STAR = re.compile(r"(~=|[<>]=?)\s*[^,|<>=\s]*\*(?=[,|=\s]|$)")
_NAME = re.compile(r"^[a-z0-9_][a-z0-9_.-]*$")


def check_match_spec(text: str) -> str:
    """Return ``text`` if it is a match spec that a recipe may hold.

    Source: conda's `MatchSpec` and CEP 29.

    Raises:
        ValueError: it does not parse, means something else than people expect, or asks for more than a package.
    """
    try:
        spec = MatchSpec(text)
    except (InvalidMatchSpecError, ValueError) as error:
        raise ValueError(f"is no match spec: {' '.join(str(error).split())}") from None
    name = spec_name(text)
    if spec.channel or "://" in text:
        raise ValueError("names a channel or a file; a recipe names packages, the site its channels")
    if not _NAME.match(name) or "[" in text or not text.isascii() or (spec.build and " " in spec.build):
        raise ValueError("must be one package name in lower case, then at most a version and a build, no brackets")
    if name.startswith("__"):
        raise ValueError("is a virtual package: those are stated under `hardware`")
    if _STAR.search(text):
        raise ValueError("compares with '.*', which solvers read in different ways; leave '.*' out after <, > and ~=")
    if _GAP.search(text):
        raise ValueError("has a space inside its version, which conda takes for the build; leave it out")
    _refuse_bare_versions(text, str(spec.version or ""), spec.build)
    return text


def _refuse_bare_versions(text: str, understood: str, build: str | None) -> None:
    """Refuse a version that conda reads as an exact one although no ``==`` says so."""
    exact, said = _EXACT.findall(understood), _EXACT.findall(text)
    if len(exact) <= len(said):
        return
    bare = next((version for version in exact if version not in said), exact[0])
    before, after = (f"{spec_name(text)} ", f" {build}" if build else "") if understood == f"=={bare}" else ("", "")
    raise ValueError(
        f"means exactly {bare}; write '{before}{bare}.*{after}' for any {bare} release, "
        f"or '{before}=={bare}{after}' for that one"
    )


def spec_name(text: str) -> str:
    """Return the package name of a spec that `check_match_spec` accepted."""
    return re.split(r"[\s=<>!~\[]", text, maxsplit=1)[0]


def check_wheel_pin(text: str) -> str:
    """Return ``text`` if it pins one wheel exactly, as in ``name==1.2``.

    Raises:
        ValueError: it is no PEP 508 requirement, or leaves the version open, or names a URL or a marker.
    """
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415  (few recipes pin wheels)

    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        raise ValueError(f"is no requirement: {error}") from None
    pins = [s for s in wanted.specifier if s.operator == "==" and not s.version.endswith("*")]
    if wanted.url or wanted.marker or len(wanted.specifier) != 1 or len(pins) != 1:
        raise ValueError(f"must pin one version exactly, as in '{wanted.name}==1.2.3'")
    return text
