"""JSON Schemas of what people write and of what ``--json`` prints; they travel with mlviews, in ``mlviews/schemas/``.

``python -m mlviews.schema`` writes them anew. An editor checks a recipe against ``recipe.schema.json`` as it is typed.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from mlviews import (
    adopt,
    build,
    doctor,
    extend,
    holdings,
    jupyter,
    licences,
    newview,
    release,
    results,
    upstream,
    variants,
)
from mlviews.bisect import find
from mlviews.container import build as container
from mlviews.files import reading
from mlviews.files.writing import write_atomically
from mlviews.gpus import coverage
from mlviews.lock import diff, lockfile, status
from mlviews.nightly import night
from mlviews.pack import offline, squashfs, startup
from mlviews.prefix import verify
from mlviews.provenance import attest, stamp
from mlviews.publish import plan, rules
from mlviews.recipe import view
from mlviews.recipe.model import Layer, Recipe
from mlviews.site import batch
from mlviews.site.model import SiteFile
from mlviews.smoke import programs, records, report
from mlviews.store import built, collect, listing, proofs, releases, removal
from mlviews.values import Problem  # noqa: TC001  (pydantic reads it)

SCHEMAS = Path(__file__).resolve().parent / "schemas"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VALUES = (
    *(
        adopt,
        batch,
        build,
        built,
        collect,
        container,
        coverage,
        diff,
        doctor,
        extend,
        find,
        holdings,
        jupyter,
        listing,
        lockfile,
    ),
    *(newview, night, plan, programs, proofs, reading, records, release, releases, removal, report, results),
    *(attest, licences, offline, rules, squashfs, stamp, startup, status, upstream, variants, verify, view),
)
_ATTRIBUTE = re.compile(r"^(\w+): (.*(?:\n +.*)*)", re.MULTILINE)


class Envelope(BaseModel):
    """All that ``--json`` prints on stdout."""

    model_config = ConfigDict(extra="forbid")

    mlviews: Literal[1] = Field(description="Version of this envelope.")
    command: str = Field(description="The verb; empty if the call names none.")
    status: Literal["ok", "failed"] = Field(description="ok goes with exit code 0.")
    data: dict[str, Any] | None = Field(description="The verb's result, see result-VERB.schema.json; null if none.")
    errors: list[Problem]


class _FromDocstrings(GenerateJsonSchema):
    """Describes a dataclass by its docstring, and spells its keys as `mlviews.values.to_json` does."""

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        made = super().dataclass_schema(schema)
        told: dict[str, str] = {}
        for kind in reversed(schema["cls"].__mro__[:-1]):
            summary, _, attributes = (inspect.getdoc(kind) or "").partition("\n\nAttributes:\n")
            made["description"] = summary
            told |= {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(inspect.cleandoc(attributes))}
        for name, part in made["properties"].items():
            if name in told:
                part["description"] = told[name]
        made["properties"] = {name.replace("_", "-"): part for name, part in made["properties"].items()}
        made["required"] = [*made["properties"]]  # `to_json` leaves nothing out
        return made


def schemas() -> dict[str, str]:
    """Return the text of every schema by its file name."""
    written: dict[str, type[BaseModel]] = {"recipe": Recipe, "layer": Layer, "site": SiteFile}
    models = {
        **{name: model.model_json_schema(mode="validation") for name, model in written.items()},
        "envelope": Envelope.model_json_schema(mode="serialization", schema_generator=_FromDocstrings),
        **{f"result-{name}": _schema_of(kind) for name, kind in _results().items()},
    }
    return {
        f"{name}.schema.json": json.dumps({"$schema": _DIALECT, **schema}, indent=2) + "\n"
        for name, schema in models.items()
    }


def _results() -> dict[str, type]:
    """Return what each verb prints: the class ``VERBResult`` of its domain, or of `mlviews.results`."""
    found = {name: kind for module in _VALUES for name, kind in vars(module).items() if isinstance(kind, type)}
    return {name.removesuffix("Result").lower(): kind for name, kind in found.items() if name.endswith("Result")}


def _schema_of(kind: type) -> dict[str, Any]:
    # Values import each other for type checkers alone, since a command should not wait for what it does not print.
    names = {name: found for module in _VALUES for name, found in vars(module).items() if not name.startswith("_")}
    names |= {"Mapping": Mapping, "Sequence": Sequence, "Path": Path, "datetime": datetime}
    for module in _VALUES:
        for name, found in names.items():
            vars(module).setdefault(name, found)
    return TypeAdapter(kind).json_schema(mode="serialization", schema_generator=_FromDocstrings)


if __name__ == "__main__":
    for file, text in schemas().items():
        write_atomically(SCHEMAS / file, text)
