"""Pages for people, of a night or of the catalogue: one look, a file each, which asks nobody for anything.

A page holds its style and its program; its policy lets the browser run that program and no other. The templates lie in
``templates/report/``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import jinja2
from markupsafe import Markup

import mlviews
from mlviews.files import writing
from mlviews.progress import size

_PLAIN = "\n\t"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def environment(
    *,
    filters: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    values: Mapping[str, Any] = MappingProxyType({}),
) -> jinja2.Environment:
    """Return what reads the templates; whatever they put out is escaped for HTML.

    Args:
        filters: what templates call besides ``size``.
        values: what every page shows.
    """
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(writing.folder("templates") / "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"size": size, **filters}
    found.globals |= {"version": mlviews.__version__, **values}
    return found


def render(made_by: jinja2.Environment, page: str, values: Mapping[str, Any]) -> str:
    """Return a page.

    Args:
        made_by: what `environment` gave.
        page: its template's name without the ending.
        values: what it shows.
    """
    style, script = _part("style.css"), _part("filter.js")
    return made_by.get_template(f"{page}.html.j2").render(
        style=Markup(style),  # noqa: S704  (our own file)
        script=Markup(script),  # noqa: S704  (our own file)
        script_hash=_hash(script),
        **values,
    )


@cache
def _part(name: str) -> str:
    return (writing.folder("templates") / "report" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return what lets the browser run this script and no other (Content Security Policy, level 2)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _harmless(value: object) -> object:
    """Write characters that could turn text around, or that no page may hold, as escapes."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if c.isprintable() or c in _PLAIN else ascii(c)[1:-1] for c in value)
