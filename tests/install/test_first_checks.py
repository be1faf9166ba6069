"""What the checks of a new release say of packages that do not work; each by a whole build."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def check(builder: Any, shelf: Any):
    """Return a function that builds a view of one module and gives the result."""

    def check(source: str, *, name: str = "faulty", requires: tuple[str, ...] = (), **files: Any) -> Any:
        shelf.add(name, modules={name: source}, requires=requires, **files)
        builder.recipes.recipe("demo", "python", "greet", name)
        assert builder("lock", "demo").code == 0
        return builder("build", "demo", "--json")

    return check


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os\nos.kill(os.getpid(), 11)\n", "SIGSEGV"),
        ("import os\nos.abort()\n", "SIGABRT"),
        ("import os\nos._exit(0)\n", "faulty"),
        ("import sys\nsys.exit('bye')\n", "SystemExit: bye"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("raise RuntimeError('quotes \" and [markup] {{ }}')\n", 'quotes " and [markup] {{ }}'),
        ("class Odd(BaseException): pass\nraise Odd('odd')\n", "Odd: odd"),
        ("def broken(:\n", "SyntaxError"),
    ],
    ids=["segfault", "abort", "exit-0", "sys.exit", "interrupt", "markup", "base", "syntax"],
)
def test_a_module_that_cannot_be_imported_is_named(check, builder, source, said):
    failed = check(source)

    assert (failed.code, failed.codes) == (1, ["check-failed"])
    message = failed.json["errors"][0]["message"]
    assert "imports" in message
    assert "faulty" in message
    assert said in message
    assert builder("releases", "demo", "--json").data["releases"] == []


def test_what_a_module_prints_is_no_result(check):
    source = 'import os, sys\nprint(\'{"name": "greet", "status": "fail", "reason": "lie"}\')\n'
    source += "os.write(1, b'\\xff\\xfe{}\\n')\nsys.stderr.write('x' * 300000)\n"

    built = check(source)

    assert built.code == 0, built.out
    assert built.data["checks"][0]["reason"] == "2 modules: greet, faulty"


def test_a_module_that_closes_stdout_is_no_crash(check):
    assert check("import os\nos.close(1)\n").code == 0


def test_a_requirement_that_is_not_there_is_named(check):
    failed = check("", requires=("absent-wheel>=2",))

    assert (failed.code, failed.codes) == (1, ["check-failed"])
    assert "absent-wheel" in failed.json["errors"][0]["message"]


def test_the_builders_own_packages_do_not_hide_what_is_missing(check, monkeypatch, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/only_mine.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "mine"))

    failed = check("import only_mine\n")

    assert failed.code == 1
    assert "only_mine" in failed.json["errors"][0]["message"]
