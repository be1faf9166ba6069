"""Rooms and modules import each other one way round, and docstrings say what is so."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.fixture(scope="module")
def modules() -> dict[str, list[ast.AST]]:
    """All that stands in each module, by the module's name; the first is the module itself."""
    found = {}
    for path in (ROOT / "mlviews").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    return found


def imported(nodes: list[ast.AST]) -> set[str]:
    """Return what of mlviews a module imports, wherever in it and for whatever cause, types too."""
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlviews")]
    return {f"{node.module}.{alias.name}" for node in froms for alias in node.names}


def test_no_part_imports_one_that_imports_it(modules):
    def part(name: str) -> str:
        return ".".join(name.split(".")[:2])

    parts: dict[str, set[str]] = {}
    for name, nodes in modules.items():
        parts.setdefault(part(name), set()).update({part(each) for each in imported(nodes)} - {part(name)})
    assert parts["mlviews.store"] >= {"mlviews.prefix", "mlviews.render"}

    TopologicalSorter(parts).prepare()


def test_no_module_imports_one_that_imports_it(modules):
    imports = {
        name: {each if each in modules else each.rpartition(".")[0] for each in imported(nodes)} - {name}
        for name, nodes in modules.items()
    }
    assert imports["mlviews.store.history"] >= {"mlviews.store.layout"}

    TopologicalSorter(imports).prepare()


def test_no_annotation_is_one_that_an_older_python_cannot_evaluate(modules):
    """pydantic evaluates them all, and ``ClassVar`` without a type is an error in Python 3.10."""
    for name, nodes in modules.items():
        for node in nodes:
            bare = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) in {"ClassVar", "Final"}
            assert not bare, f"{name}:{node.lineno}"


_ELSEWHERE = re.compile(r"(?:[Ss]ee|as for|[Aa]rguments?|[Ee]rrors?)(?: \w+){0,5} `(?P<name>[A-Za-z_][\w.]*)`")


def test_a_docstring_that_sends_the_reader_elsewhere_names_what_is_there(modules):
    """A bare name is of the same module or imported there; any other is told with its module."""
    there: dict[str, set[str]] = {}
    sent: list[tuple[str, str]] = []
    for module, nodes in modules.items():
        told = [node for node in nodes if isinstance(node, (*FUNCTIONS, ast.ClassDef))]
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


def test_a_public_function_that_refuses_says_so(modules):
    silent = []
    for module, nodes in modules.items():
        if module.startswith(("mlviews.cli.", "mlviews.smoke.checks.")):  # verbs say it in their help, checks in words
            continue
        for node in (node for node in nodes if isinstance(node, FUNCTIONS) and not node.name.startswith("_")):
            raises = [each.exc for each in ast.walk(node) if isinstance(each, ast.Raise) and each.exc]
            refuses = {"BadInputError", "RefusedError"} & {ast.unparse(each).partition("(")[0] for each in raises}
            if refuses and not re.search("Raises:|[Ee]rrors", ast.get_docstring(node) or ""):
                silent.append(f"{module}:{node.lineno} {node.name}")
    assert not silent, "\n".join(silent)


def test_a_name_with_an_underscore_is_its_modules_own(modules):
    for name, nodes in modules.items():
        assert not any(isinstance(node, ast.Name) and node.id == "__all__" for node in nodes), name
        private = {each for each in imported(nodes) if each.rpartition(".")[2].startswith("_")}
        assert private <= {"mlviews.__version__"}, name
