"""The parts of the reference that mlviews knows itself, as Markdown; `python docs/generated.py` writes them.

They stand in the pages between two comments, so that a page can be read without the site. tests/test_schema.py fails
when they are no longer true.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlviews.cli import cli
from mlviews.errors import BadInputError, FailedError, RefusedError
from mlviews.lock.lockfile import lock_path
from mlviews.lock.parse import read_lock
from mlviews.recipe.catalogue import open_catalogue
from mlviews.schema import SCHEMAS
from mlviews.smoke.programs import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REPOSITORY = Path(__file__).parents[1]
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
_FRAMEWORKS = {
    "python": "Python",
    "pytorch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "jax": "JAX",
    "tensorflow": "TensorFlow",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "root_base": "ROOT",
}
_END = "<!-- end of what is generated -->"
_PLACE = re.compile(rf"^<!-- generated: ([a-z-]+) -->$.*?^{_END}$", re.MULTILINE | re.DOTALL)


def put_in(text: str) -> str:
    """Return a page with what stands between `<!-- generated: ... -->` and the comment that ends it made anew.

    Raises:
        KeyError: there is no part of that name.
    """
    return _PLACE.sub(lambda place: f"<!-- generated: {place[1]} -->\n\n{PARTS[place[1]]()}\n\n{_END}", text)


def commands() -> str:
    """Return every command: how it is called, what it does, its own options."""
    return "\n\n".join(_command(path, command) for path, command in _walk("mlviews", cli) if path != "mlviews")


def shared_options() -> str:
    """Return the options that every command takes."""
    return _options(_shared())


def _walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below
            yield from _walk(f"{path} {name}", below)


def _shared() -> list[click.Option]:
    return [option for option in cli.params if isinstance(option, click.Option) and not option.hidden]


def _command(path: str, command: click.Command) -> str:
    shared = {(option.name, option.help) for option in _shared()}
    options = (option for option in command.params if isinstance(option, click.Option))
    own = [option for option in options if (option.name, option.help) not in shared and not option.hidden]
    usage = " ".join([path, *command.collect_usage_pieces(click.Context(command))])
    parts = [f"## {path}", f"```text\n{usage}\n```", _prose(command.help or "")]
    return "\n\n".join([*parts, _options(own)] if own else parts)


def _prose(text: str) -> str:
    r"""Return a help text as Markdown; click marks what is to stay as it is with \b."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        f"```text\n{part[1:].strip(chr(10))}\n```" if part.startswith("\b") else _escape(part) for part in paragraphs
    )


def _options(options: Iterable[click.Option]) -> str:
    rows = []
    for option in options:
        record = option.get_help_record(click.Context(cli))
        rows.append((f"`{record[0]}`", _escape(record[1])) if record else (f"`{option.opts[0]}`", ""))
    return _table(("option", "what it does"), rows)


def recipe_keys() -> str:
    """Return the keys of a recipe."""
    return _keys("recipe")


def site_keys() -> str:
    """Return the keys of a site's file."""
    return _keys("site")


def _keys(name: str) -> str:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    rows = []
    for key, part, required in _flat(schema, schema["$defs"], ""):
        default = "must be there" if required else _default(part)
        rows.append((f"`{key}`", _type(part, schema["$defs"]), default, _escape(part.get("description", ""))))
    return _table(("key", "value", "if left out", "what it says"), rows)


def _flat(model: dict[str, Any], models: dict[str, Any], before: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield a model's keys with those of the models below it: `hardware.cuda`, and `batch.NAME.account` in a map."""
    for key, part in model["properties"].items():
        yield f"{before}{key}", part, key in model.get("required", ())
        for below in _models(part, models):
            yield from _flat(below, models, f"{before}{key}.")
        for below in (found for value in _values(part) for found in _models(value, models)):
            yield from _flat(below, models, f"{before}{key}.NAME.")


def _values(part: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the names of a map lead to; nothing if it is no map."""
    other = part.get("additionalProperties")
    return [other] if isinstance(other, dict) else list(part.get("patternProperties", {}).values())


def _models(part: dict[str, Any], models: dict[str, Any]) -> list[dict[str, Any]]:
    inside = [part, *part.get("anyOf", ()), *([part["items"]] if isinstance(part.get("items"), dict) else ())]
    names = [found["$ref"].rpartition("/")[2] for found in inside if "$ref" in found]
    return [models[name] for name in names if "properties" in models[name]]


def _type(part: dict[str, Any], models: dict[str, Any]) -> str:
    if "$ref" in part:
        return _type(models[part["$ref"].rpartition("/")[2]], models)
    if "anyOf" in part:
        kinds = [_type(kind, models) for kind in part["anyOf"] if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in part or "enum" in part:
        return " or ".join(f"`{value}`" for value in part.get("enum", [part.get("const")]))
    if part.get("type") == "array":
        return f"list of {_type(part.get('items', {}), models)}"
    if part.get("type") == "object":
        values = _values(part)
        return f"map of names to {_type(values[0], models)}" if values else "keys below"
    return {"string": "text", "integer": "number", "boolean": "yes or no"}.get(part.get("type", ""), "text")


def _default(part: dict[str, Any]) -> str:
    default = part.get("default")
    if not default or isinstance(default, dict):  # what is below has rows of its own
        return ""
    return f"`{', '.join(map(str, default))}`" if isinstance(default, list) else f"`{default}`"


def checks() -> str:
    """Return every smoke check: its name, whether it works on GPUs, what its program says of itself."""
    rows = []
    for name, program in sorted(PROGRAMS.items()):
        told = ast.get_docstring(ast.parse(program.path.read_text(encoding="utf-8"))) or ""
        rows.append((f"`{name}`", "yes" if program.gpu else "", program.level, _escape(told.partition("\n\n")[0])))
    return _table(("check", "GPU", "level", "what it proves"), rows)


def schema_files() -> str:
    """Return every JSON Schema, and what it describes."""
    rows = []
    for path in sorted(SCHEMAS.glob("*.json")):
        told = json.loads(path.read_text(encoding="utf-8")).get("description", "").partition("\n\n")[0]
        rows.append((f"[{path.name}](../../mlviews/schemas/{path.name})", _escape(told)))
    return _table(("schema", "of what"), rows)


def exit_codes() -> str:
    """Return what each exit code says."""
    kinds = (RefusedError, BadInputError, FailedError)
    told = [(f"{kind.exit_code}", _escape((kind.__doc__ or "").strip())) for kind in kinds]
    return _table(("code", "what it says"), [("0", "It is done."), *told, ("130", "You pressed Ctrl-C.")])


def variables() -> str:
    """Return the environment variables that stand for options."""
    named = [option for option in _shared() if option.envvar]
    rows = [(f"`{option.envvar}`", f"`{option.opts[0]}`", _escape(option.help or "")) for option in named]
    return _table(("variable", "stands for", "which is"), rows)


def views() -> str:
    """Return what the catalogue is for: each view, its module and its summary; variants are of the same view."""
    rows = [
        (f"`{view.name}`", f"`{view.module}`", _escape(view.summary))
        for view in open_catalogue(REPOSITORY / "recipes").views()
        if view.variant is None
    ]
    return _table(("view", "module", "what it is for"), rows)


def versions() -> str:
    """Return the version that each committed lock has of what users ask for first, on its first platform."""
    rows = []
    for view in open_catalogue(REPOSITORY / "recipes").views():
        path = lock_path(REPOSITORY / "lockfiles", view.name)
        if path.exists():
            locked = {
                each.name: each.version for each in read_lock(path).packages if each.platform == view.platforms[0]
            }
            told = (f"{name} {locked[package]}" for package, name in _FRAMEWORKS.items() if package in locked)
            rows.append((f"`{view.name}`", view.hardware.cuda or "", ", ".join(told)))
    return _table(("view", "CUDA", "versions"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line; what stands between backquotes stays code."""
    pieces = re.split(r"(`[^`]+`)", " ".join(text.split()))
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_\[\]<>#])", r"\\\1", p) for p in pieces)


PARTS = {
    "checks": checks,
    "commands": commands,
    "exit-codes": exit_codes,
    "recipe-keys": recipe_keys,
    "schemas": schema_files,
    "shared-options": shared_options,
    "site-keys": site_keys,
    "variables": variables,
    "versions": versions,
    "views": views,
}

if __name__ == "__main__":
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        if (now := put_in(before)) != before:
            page.write_text(now, encoding="utf-8")
