"""Views start with byte code: made once, shared, noted in the packages' records, the same wherever they lie."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from typing import Any

import pytest
from rattler import PrefixRecord

from mlviews.conda.records import read_conda_records
from mlviews.errors import FailedError
from mlviews.hardware import host_platform
from mlviews.prefix import bytecode as work
from mlviews.prefix.bytecode import compile_modules, find_modules, module_of
from mlviews.prefix.verify import verify

PLACEHOLDER = "/opt/placehold" + "_placehold" * 24
UNCHECKED = (1).to_bytes(4, "little")
TELLING = """
import boom
try:
    boom.boom()
except ValueError as error:
    print(error.__traceback__.tb_next.tb_frame.f_code.co_filename)
"""


@pytest.fixture
def build(builder: Any) -> Callable[..., Path]:
    """Return a function that builds a view of packages beside Python, and gives its prefix."""

    def make(*packages: str, view: str = "demo", options: tuple[str, ...] = ()) -> Path:
        builder.recipes.recipe(view, "python", *packages)
        assert builder("lock", view).code == 0
        built = builder("build", view, *options, "--json")
        assert built.code == 0, built.out
        return Path(built.data["folder"])

    return make


def compiled(prefix: Path) -> set[str]:
    """Return the modules that byte code lies beside."""
    return {module_of(str(path.relative_to(prefix))) for path in prefix.rglob("*.pyc")}


def record(prefix: Path, package: str) -> dict[str, Any]:
    return json.loads(next(prefix.glob(f"conda-meta/{package}-[0-9]*.json")).read_bytes())


def forget(prefix: Path, package: str) -> None:
    """Take byte code out of a package's record, as if its installation had been interrupted before that was written."""
    path = next(prefix.glob(f"conda-meta/{package}-[0-9]*.json"))
    noted = json.loads(path.read_bytes())
    entries = [entry for entry in noted["paths_data"]["paths"] if entry["path_type"] != "pyc_file"]
    path.write_text(json.dumps({**noted, "paths_data": {"paths": entries}}))


def test_modules_start_from_byte_code_that_python_does_not_check(build, builder, site_packages):
    prefix = build("greet")
    module = prefix / site_packages / "greet.py"
    code = prefix / cache_from_source(f"{site_packages}/greet.py")

    assert code.read_bytes()[:8] == MAGIC_NUMBER + UNCHECKED
    os.utime(module, (1, 1))
    log = builder.process("run", "demo", "--", "python", "-v", "-c", "import greet").err
    assert f"code object from '{code}'" in log
    assert f"# code object from {module}" not in log


def test_tracebacks_name_the_module_where_it_lies(build, builder, shelf, site_packages):
    shelf.add("boom", modules={"boom": "def boom():\n    raise ValueError\n"})
    prefix = build("boom")

    said = builder.process("run", "demo", "--", "python", "-c", TELLING).out

    assert said == f"{prefix}/{site_packages}/boom.py\n"


def test_it_stands_in_the_records_as_conda_notes_it(build, site_packages):
    prefix = build("greet")
    code = cache_from_source(f"{site_packages}/greet.py")

    found = record(prefix, "greet")

    assert code in found["files"]
    (entry,) = (entry for entry in found["paths_data"]["paths"] if entry["_path"] == code)
    assert entry["path_type"] == "pyc_file"
    assert entry["size_in_bytes"] == (prefix / code).stat().st_size
    for path in prefix.glob("conda-meta/*.json"):
        PrefixRecord.from_path(path)  # tools that are built on rattler read it too
    assert code not in json.loads((prefix / "files.json").read_text())["files"]


def test_what_bears_the_prefix_or_nobody_imports_is_left_as_it_is(build, shelf, site_packages):
    cached = cache_from_source(f"{site_packages}/old.py")
    modules = {
        "whole": "",
        "templates/v1.0.a": "",
        "templates/broken": "def :\n",
        "tests/of": "",
        "inside/test/of": "",
        "testing/of": "",
        "both": "a = 1",
    }
    shelf.add("mixed", modules=modules)
    shelf.add("again", modules={"both": "a = 2\n"})
    shelf.add(
        "native",
        "2.0",
        subdir="linux-64",
        files={
            f"{site_packages}/bears.py": f"prefix = '{PLACEHOLDER}'\n",
            f"{site_packages}/old.py": "",
            cached: "its own",
            f"{site_packages}/led/astray.py": "",
            "share/script.py": "",
        },
        links={f"{site_packages}/led/__pycache__": "/tmp", f"{site_packages}/alias.py": "old.py"},
        depends=["mixed"],
    )

    prefix = build("again", "native")

    assert compiled(prefix) == {
        f"{site_packages}/{name}.py" for name in ("whole", "templates/v1.0.a", "testing/of", "both", "old")
    }
    assert (prefix / cached).read_text() == "its own"
    assert verify(prefix).faults == ()


def test_another_view_shares_it_and_gc_takes_it_with_the_last(build, builder, shelf, site_packages):
    shelf.add("calm", modules={"calm": ""})
    code = cache_from_source(f"{site_packages}/greet.py")
    first, second = build("greet"), build("greet", "calm", view="other")
    kept = builder.root / "cache/bytecode" / f"python-{record(first, 'python')['version']}-0_cpython"

    assert (first / code).samefile(second / code)
    assert (first / code).samefile(kept / "greet-1.0-h0_0" / code)
    assert builder("gc", "--json").data["cache"] == []
    build("calm")
    build("calm", view="other")
    collected = builder("gc", "--keep", "0", "--keep-days", "0", "--json").data
    assert collected["cache"] == [f"bytecode/{kept.name}/greet-1.0-h0_0", "pkgs/greet-1.0-h0_0"]
    assert not (kept / "greet-1.0-h0_0").exists()
    assert builder("gc", "--dry-run", "--json").data["debris"] == []


def test_another_archive_of_the_same_name_gets_its_own(build, builder, shelf):
    build("greet")
    shelf.add("greet", modules={"greet": "def main():\n    print('another')\n"})

    second = build("greet", view="other")

    assert builder.process("run", "other", "--", "python", "-c", "import greet; greet.main()").out == "another\n"
    assert verify(second).faults == ()


def test_byte_code_for_another_python_goes(build, builder):
    build("greet")
    other = builder.root / "cache/bytecode/python-3.1-0/greet-1.0-h0_0"
    other.mkdir(parents=True)

    assert builder("gc", "--dry-run", "--json").data["cache"] == ["bytecode/python-3.1-0"]
    builder("gc")

    assert not other.parent.exists()


def test_what_a_dead_process_left_goes(build, builder):
    prefix = build("greet")
    left = builder.root / f"cache/bytecode/python-{record(prefix, 'python')['version']}-0_cpython/.abc"
    left.mkdir()

    assert builder("gc", "--json").data["debris"] == [str(left)]
    assert not left.exists()


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("lib/__pycache__/a.cpython-311.pyc", "lib/a.py"),
        ("lib/__pycache__/a.cpython-311.opt-1.pyc", "lib/a.py"),
        ("lib/__pycache__/a.cpython-313t.pyc", "lib/a.py"),
        ("__pycache__/v3.0.0.a.cpython-311.opt-2.pyc", "v3.0.0.a.py"),
        ("lib/__pycache__/a.pyc", None),
        ("lib/a.cpython-311.pyc", None),
        ("lib/__pycache__/a.cpython-311.pyc.140231", None),
    ],
)
def test_byte_code_is_known_by_its_name(code, module):
    assert module_of(code) == module


def damage(path: Path) -> None:
    """Flip a bit in place: whatever shares the file has it too."""
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("which", ["greet.*.pyc", "kept.json"])
def test_no_damaged_byte_code_gets_into_a_release(build, builder, site_packages, which):
    first = build("greet")
    good = (first / cache_from_source(f"{site_packages}/greet.py")).read_bytes()
    damage(next(builder.root.glob(f"cache/bytecode/*/greet-1.0-h0_0/**/{which}")))

    second = build("greet", view="other")

    code = second / cache_from_source(f"{site_packages}/greet.py")
    assert code.read_bytes() == good
    assert verify(second).faults == ()
    assert builder("verify", "demo").code == (1 if which != "kept.json" else 0)
    assert builder("verify", "demo", "--repair").code == 0
    third = build("greet", "plain")
    assert (third / cache_from_source(f"{site_packages}/greet.py")).samefile(code)


def test_the_same_modules_give_the_same_bytes_wherever_they_lie(build, shelf, tmp_path):
    source = "".join(
        f"def f{n}(x, y=({n}, None, 'a b')):\n    return x in {{None, 'b{n}', 'c', 1.5, ...}} or x == {n}.25 + y\n"
        for n in range(300)
    )
    shelf.add("many", modules={f"many{n}": source for n in range(3)} | {"greet_too": "from many1 import f1\n"})
    here = build("many", "greet")
    there = build("many", "greet", options=("--root", str(tmp_path / "some where else/root")))

    def codes(prefix: Path) -> dict[str, bytes]:
        return {str(path.relative_to(prefix)): path.read_bytes() for path in prefix.rglob("*.pyc")}

    assert len(codes(here)) == 5
    assert codes(here) == codes(there)


def test_a_cache_on_another_file_system_is_copied_from(build, monkeypatch, site_packages):
    link = os.link

    def refuse(source: str, target: str) -> None:
        if source.endswith(".pyc"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target)

    monkeypatch.setattr(os, "link", refuse)

    prefix = build("greet")

    assert (prefix / cache_from_source(f"{site_packages}/greet.py")).stat().st_nlink == 1
    assert verify(prefix).faults == ()


def test_it_is_made_once_more_after_an_interruption(build, tmp_path, site_packages):
    prefix = build("greet")
    code = prefix / cache_from_source(f"{site_packages}/greet.py")
    forget(prefix, "greet")
    inode = code.stat().st_ino

    compile_modules(prefix, read_conda_records(prefix), platform=host_platform(), cache=tmp_path / "cache")

    assert code.stat().st_ino != inode  # what shared the file has it still
    records = read_conda_records(prefix)
    assert [modules.sources for modules in find_modules(records)] == [()] * len([*prefix.glob("conda-meta/*.json")])


def test_a_record_that_has_lost_it_is_repaired(build, builder, shelf, site_packages):
    shelf.add("mixed", subdir="linux-64", files={f"{site_packages}/mixed.py": "x = 1\n"})
    prefix = build("greet", "mixed")
    forget(prefix, "mixed")

    assert builder("verify", "demo").code == 1
    assert builder("verify", "demo", "--repair").code == 0
    assert verify(prefix).faults == ()


def test_another_platforms_python_is_not_run(build, tmp_path):
    prefix = build("greet")
    forget(prefix, "greet")

    compile_modules(prefix, read_conda_records(prefix), platform="linux-aarch64", cache=tmp_path / "cache")

    assert not (tmp_path / "cache").exists()


def test_without_python_nothing_is_compiled(build, tmp_path):
    prefix = build("greet")
    forget(prefix, "greet")
    next(prefix.glob("conda-meta/python-*.json")).unlink()

    compile_modules(prefix, read_conda_records(prefix), platform=host_platform(), cache=tmp_path / "cache")

    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("#!/no/such/interpreter\n", "cannot be run"),
        ("#!/bin/sh\necho 'broken python' >&2\nexit 5\n", "ended with 5: broken python"),
        ("#!/bin/sh\nkill -9 $$\n", "ended with -9"),
    ],
)
def test_a_python_that_fails_fails_the_build(build, tmp_path, program, message):
    prefix = build("greet")
    forget(prefix, "greet")
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").write_text(program)
    (prefix / "bin/python").chmod(0o755)

    with pytest.raises(FailedError, match=message) as failed:
        compile_modules(prefix, read_conda_records(prefix), platform=host_platform(), cache=tmp_path / "cache")

    assert failed.value.code == "bytecode-failed"
    assert [*(tmp_path / "cache/bytecode").rglob("*")] == [*(tmp_path / "cache/bytecode").glob("*")]


def test_a_disk_that_fails_the_compiler_is_told_as_one(build, builder, monkeypatch, tmp_path):
    full = tmp_path / "program.py"
    full.write_text(work._PROGRAM.read_text().replace('f"{target}/{cache', 'f"/dev/full/{target}/{cache'))
    monkeypatch.setattr(work, "_PROGRAM", full)
    builder.recipes.recipe("demo", "python", "greet")

    failed = builder("build", "demo", "--json")

    assert (failed.code, failed.codes) == (3, ["write-failed"])
    assert os.strerror(errno.ENOTDIR) in failed.json["errors"][0]["message"]
    assert builder("releases", "demo", "--json").data["releases"] == []
    assert not [*(builder.root / "cache/bytecode").rglob(".*")]


def test_interrupted_it_ends_at_once_and_the_compiler_with_it(builder, shelf):
    heavy = "x = [" + "(1, 'a', 2.5, None), " * 20_000 + "]\n"
    shelf.add("heavy", modules={f"heavy{n}": heavy for n in range(40)})
    builder.recipes.recipe("demo", "python", "heavy")
    builder("lock", "demo")
    with builder.start("build", "demo") as process:
        while "Compiling" not in (line := process.stderr.readline()):
            assert line
        compilers = _wait_for_children(process.pid)

        os.kill(process.pid, signal.SIGINT)

        assert process.wait(timeout=10) == 130
    assert not [pid for pid in compilers if Path(f"/proc/{pid}/stat").exists()]
    assert not [*(builder.root / "cache/bytecode").rglob(".*")]


def _wait_for_children(pid: int) -> list[str]:
    found: list[str] = []
    while not found:
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(FileNotFoundError):  # a thread that has ended
                found += path.read_text().split()
    return found


def test_left_alone_the_compiler_ends(tmp_path):
    for number in range(200):
        (tmp_path / f"m{number}.py").write_text("x = [" + "(1, 'a', 2.5), " * 5000 + "]\n")
    process = subprocess.Popen(
        [sys.executable, "-B", work._PROGRAM, tmp_path, tmp_path / "out"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"\0".join(b"m%d.py" % number for number in range(200)))
    process.stdin.close()
    process.stdout.read(1)

    process.stdout.close()  # as when who started it was killed

    assert process.wait(timeout=10) != 0
    assert process.stderr
    process.stderr.close()
    assert len([*(tmp_path / "out").rglob("*.pyc")]) < 150
