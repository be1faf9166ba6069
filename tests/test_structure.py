"""Rooms and modules import each other one way round."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def imported(path: Path) -> Iterator[str]:
    """Return the parts of mlviews that a module imports, wherever in it and for whatever cause."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            first, *rest = node.module.split(".")
            if first == "mlviews":
                yield from rest[:1] or (alias.name for alias in node.names)


def test_no_part_imports_one_that_imports_it(repository):
    parts: dict[str, set[str]] = {}
    for path in (repository / "mlviews").rglob("*.py"):
        name = path.relative_to(repository / "mlviews").with_suffix("").parts[0]
        parts.setdefault(name, set()).update(set(imported(path)) - {name})
    assert parts["store"] >= {"prefix", "render"}

    TopologicalSorter(parts).prepare()


def imported_modules(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Return the modules of mlviews that a module imports, wherever in it and for whatever cause, types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
            yield from found or {node.module} & modules.keys()


def test_no_module_imports_one_that_imports_it(repository):
    paths = [path for path in (repository / "mlviews").rglob("*.py") if path.name != "__init__.py"]
    modules = {".".join(path.relative_to(repository).with_suffix("").parts): path for path in paths}
    imports = {name: set(imported_modules(path, modules)) - {name} for name, path in modules.items()}
    assert imports["mlviews.store.history"] >= {"mlviews.store.layout"}

    TopologicalSorter(imports).prepare()


def test_no_annotation_is_one_that_an_older_python_cannot_evaluate(repository):
    """pydantic evaluates them all, and ``ClassVar`` without a type is an error in Python 3.10."""
    for path in (repository / "mlviews").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bare = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) in {"ClassVar", "Final"}
            assert not bare, f"{path}:{node.lineno}"


_ELSEWHERE = re.compile(r"(?:[Ss]ee|as for|[Aa]rguments?|[Ee]rrors?)(?: \w+){0,5} `(?P<name>[A-Za-z_][\w.]*)`")


def test_a_docstring_that_sends_the_reader_elsewhere_names_what_is_there(repository):
    """A bare name is of the same module or imported there; any other is told with its module."""
    there: dict[str, set[str]] = {}
    sent: list[tuple[str, str]] = []
    for path in (repository / "mlviews").rglob("*.py"):
        module = ".".join(path.relative_to(repository).with_suffix("").parts).removesuffix(".__init__")
        nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
        told = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
        imports = (alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names)
        there[module] = {*(node.name for node in told), *imports}
        texts = (" ".join((ast.get_docstring(node) or "").split()) for node in (nodes[0], *told))
        sent += [(module, match["name"]) for text in texts for match in _ELSEWHERE.finditer(text)]
    assert len(sent) > 20

    def is_known(module: str, name: str) -> bool:
        places = [place for place in there if name.startswith(f"{place}.")] or [module]
        return name in there or any(name.rpartition(".")[2] in there[place] for place in places)

    lost = [f"{module}: {name}" for module, name in sent if not is_known(module, name)]
    assert not lost, "\n".join(lost)


def test_a_public_function_that_refuses_says_so(repository):
    silent = []
    for path in (repository / "mlviews").rglob("*.py"):
        if {"cli", "checks"} & {*path.parts}:  # verbs say it in their help, checks in their verdict
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
                raised = {
                    ast.unparse(each.exc).partition("(")[0]
                    for each in ast.walk(node)
                    if isinstance(each, ast.Raise) and each.exc
                }
                if (
                    raised & {"BadInputError", "RefusedError"}
                    and "rrors" not in (said := ast.get_docstring(node) or "")
                    and "Raises:" not in said
                ):
                    silent.append(f"{path}:{node.lineno} {node.name}")
    assert not silent, "\n".join(silent)


def test_a_name_with_an_underscore_is_its_modules_own(repository):
    for path in (repository / "mlviews").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "__all__" not in text, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlviews"):
                private = {alias.name for alias in node.names if alias.name.startswith("_")} - {"__version__"}
                assert not private, path
