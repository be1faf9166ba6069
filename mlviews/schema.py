"""JSON Schemas of what people write and of what ``--json`` prints; they travel with mlviews, in ``mlviews/schemas/``.

``python -m mlviews.schema`` writes them anew. An editor checks a recipe against ``recipe.schema.json`` as it is typed.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlviews import results
from mlviews.files import write_atomically
from mlviews.recipe.model import Layer, Recipe
from mlviews.results.base import Problem  # noqa: TC001  (pydantic reads it)
from mlviews.site.profile import SiteFile

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["SCHEMAS", "Envelope", "schemas"]

SCHEMAS = Path(__file__).resolve().parent / "schemas"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Envelope(BaseModel):
    """All that ``--json`` prints on stdout."""

    model_config = ConfigDict(extra="forbid")

    mlviews: Literal[1] = Field(description="Version of this envelope.")
    command: str = Field(description="The verb; empty if the call names none.")
    status: Literal["ok", "failed"] = Field(description="ok goes with exit code 0.")
    data: dict[str, Any] | None = Field(description="The verb's result, see result-VERB.schema.json; null if none.")
    errors: list[Problem]


def schemas() -> dict[str, str]:
    """Return the text of every schema by its file name."""
    written: dict[str, type[BaseModel]] = {"recipe": Recipe, "layer": Layer, "site": SiteFile}
    printed: dict[str, type[BaseModel]] = {"envelope": Envelope} | {
        f"result-{name.removesuffix('Result').lower()}": getattr(module, name)
        for module in _result_modules()
        for name in module.__all__
        if name.endswith("Result") and name != "Result"
    }
    models = {
        **{name: model.model_json_schema(mode="validation") for name, model in written.items()},
        **{name: model.model_json_schema(mode="serialization") for name, model in printed.items()},
    }
    return {
        f"{name}.schema.json": json.dumps({"$schema": _DIALECT, **schema}, indent=2) + "\n"
        for name, schema in models.items()
    }


def _result_modules() -> list[ModuleType]:
    return [import_module(f"{results.__name__}.{found.name}") for found in iter_modules(results.__path__)]


if __name__ == "__main__":
    for file, text in schemas().items():
        write_atomically(SCHEMAS / file, text)
