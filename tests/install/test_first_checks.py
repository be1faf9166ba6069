"""What the checks of a new release say of packages that do not work; each by a whole build."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mlviews.release import Release
from mlviews.smoke.routes import chosen_routes


@pytest.fixture
def check(builder: Any, shelf: Any):
    """Return a function that builds a view of one module and gives the result."""

    def check(
        source: str,
        *,
        name: str = "faulty",
        requires: tuple[str, ...] = (),
        beside: tuple[str, ...] = (),
        keys: dict[str, Any] | None = None,
    ) -> Any:
        shelf.add(name, modules={name: source}, requires=requires)
        builder.recipes.recipe("demo", "python", "greet", *beside, name, **(keys or {}))
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


def test_modules_that_cannot_share_a_process_are_each_imported(check, shelf):
    shelf.add("before", modules={"before": "import sys\nsys.modules['faulty'] = None\n"})
    check_source = "import sys\nassert 'before' not in sys.modules\n"

    built = check(check_source, beside=("before",))

    assert built.code == 0, built.out
    assert built.data["checks"][0]["reason"] == "3 modules: greet, before, faulty"


def test_a_module_after_which_python_crashes_is_named(check):
    failed = check("import atexit, os\natexit.register(os.abort)\nprint('last words', flush=True)\n")

    assert failed.codes == ["check-failed"]
    assert "faulty: Python ended by SIGABRT after the import: last words" in failed.json["errors"][0]["message"]


WAIVER = [{"package": "faulty", "why": "its metadata names a module of the standard library"}]


def test_a_waived_requirement_is_told_and_the_reason_is_part_of_the_release(check, builder):
    built = check("", requires=("absent-wheel>=2",), keys={"pip_check_waivers": WAIVER})

    assert built.code == 0, built.out
    reason = built.data["checks"][1]["reason"]
    assert reason == ("0 of 1 requirements are met; waived: faulty 1.0 needs absent-wheel>=2, which is not installed")
    stated = json.loads((Path(built.data["folder"]) / "release.json").read_bytes())
    assert stated["pip_check_waivers"] == {"faulty": WAIVER[0]["why"]} == built.data["pip-check-waivers"]
    assert builder("show", "demo", "--json").data["recipe"]["pip-check-waivers"] == WAIVER
    assert WAIVER[0]["why"] in builder("show", "demo").out
    assert WAIVER[0]["why"] in builder("build", "demo").out


def test_a_waiver_lets_no_other_package_pass(check, shelf):
    shelf.add("other", modules={"other": ""}, requires=("absent-too",))

    failed = check("", requires=("absent-wheel>=2",), beside=("other",), keys={"pip_check_waivers": WAIVER})

    assert failed.codes == ["check-failed"]
    message = failed.json["errors"][0]["message"]
    assert "other 1.0 needs absent-too" in message
    assert "absent-wheel" not in message


# Views without Python


@pytest.fixture
def tools(builder: Any) -> Any:
    """The command line, with a built view of programs alone, and what the build gave."""
    builder.recipes.recipe("tools", "native", "plain", smoke=["hdf5-roundtrip"])
    built = builder("build", "tools", "--json")
    assert built.code == 0, built.out
    return builder, built.data


def test_a_view_without_python_is_built_and_its_checks_say_why_they_are_skipped(tools):
    cli, built = tools

    assert {(line["name"], line["status"]) for line in built["checks"]} == {
        ("imports", "skip"), ("pip-check", "skip"), ("hdf5-roundtrip", "skip"),
    }  # fmt: skip
    assert {line["reason"] for line in built["checks"]} == {"this view holds no Python, and every check needs it"}
    prefix = Path(built["folder"])
    assert not (cli.root / "kernels").exists()
    for start in (f". {prefix}/setup.sh; native", f"{prefix}/launch native"):
        said = subprocess.run(["env", "-i", "/bin/sh", "-c", start], capture_output=True, text=True, check=True).stdout
        assert said == f"{prefix}/share\n"
    assert cli("verify", "tools").code == 0
    assert "-- PROGRAM" in cli("build", "tools").out


def test_a_view_without_python_can_be_tested_rendered_and_removed(tools):
    cli, built = tools

    tested = cli("smoke", "tools", "--via", "prefix", "--via", "module", "--json")
    assert tested.code == 0, tested.out
    assert not tested.data["proved"]
    assert [route["route"] for route in tested.data["routes"]] == ["prefix", "module"]
    release = Release.model_validate_json((Path(built["folder"]) / "release.json").read_bytes())
    assert chosen_routes(["all"], release) == ("prefix", "module", "container")
    assert cli("smoke", "tools", "--via", "kernel", "--json").codes == ["kernel-missing"]
    assert cli("smoke", "tools", "--check", "torch-matmul", "--require-gpu", "--json").code == 1
    assert cli("render", "tools", "kernel", "--json").codes == ["kernel-missing"]
    assert 'CMD ["sh"]' in cli("render", "tools", "dockerfile").out
    assert "import sys" not in cli("render", "tools", "apptainer").out
    assert "python" not in cli("render", "tools", "batch").out
    cli.recipes.recipe("tools", "native")
    assert cli("lock", "tools").code == 0
    assert cli("build", "tools").code == 0
    assert cli("remove", f"tools/{built['release']}").code == 0
    assert not (cli.root / "kernels").exists()


def test_a_default_that_loses_python_loses_its_kernel(builder):
    builder.recipes.recipe("demo", "python", "greet")
    first = builder("build", "demo", "--json").data["release"]
    builder.recipes.recipe("demo", "native")
    assert builder("lock", "demo").code == 0

    assert builder("build", "demo").code == 0

    assert [path.name for path in (builder.root / "kernels").iterdir()] == [f"demo-{first}"]


# A build ends with the release's own verify


@pytest.mark.parametrize("length", [1, 100_000])  # a small file and a large one are not read in one way
def test_a_package_with_wrong_checksums_is_named_and_refused_each_time(builder, shelf, length):
    shelf.add("liar", files={"share/liar/data": "x" * length}, claims={"share/liar/data": "0" * 64})
    builder.recipes.recipe("demo", "python", "greet", "liar")

    for _ in range(2):
        refused = builder("build", "demo", "--json")
        assert (refused.code, refused.codes) == (1, ["package-wrong"])
        assert "liar-1.0-h0_0.conda: share/liar/data" in refused.json["errors"][0]["message"]
    assert builder("releases", "demo", "--json").data["releases"] == []


@pytest.mark.parametrize("ending", [".conda", ".tar.bz2"])
def test_a_link_that_is_not_to_be_linked_is_recorded_as_the_file_that_it_becomes(builder, shelf, ending):
    """As in openssl-1.0.2o-0: no release with it was ever intact."""
    shelf.add(
        "copied",
        files={"lib/libx.so.1": "x\n"},
        links={"lib/libx.so": "libx.so.1"},
        no_link=("lib/libx.so",),
        ending=ending,
    )
    builder.recipes.recipe("demo", "python", "greet", "copied")
    built = builder("build", "demo", "--json")
    assert built.code == 0, built.out
    copy = Path(built.data["folder"]) / "lib/libx.so"
    assert (copy.is_symlink(), copy.read_text()) == (False, "x\n")

    assert builder("verify", "demo").code == 0
    copy.unlink()
    assert builder("verify", "demo").code == 1
    assert builder("verify", "demo", "--repair").code == 0
    assert copy.read_text() == "x\n"


@pytest.mark.parametrize(
    ("shared", "at"),
    [(True, "capture"), (False, "capture"), (True, "run_link_scripts")],
    ids=["shared", "own", "early"],
)
def test_what_was_changed_since_it_was_linked_is_found_before_there_is_a_release(builder, monkeypatch, shared, at):
    """By a script of a package, for instance; what is shared with the cache is compared once, unless its time moved."""
    from mlviews.prefix import assemble

    def meddle(prefix: Path, *rest: Any, **keys: Any) -> Any:
        path = prefix / ("share/native/data" if shared else "bin/native")
        times = path.stat()
        with path.open("r+b") as file:
            file.write(b"#" if shared else b"?")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        time.sleep(0.02)  # several ticks of the clock by which a file system notes changes
        return then(prefix, *rest, **keys)

    then = getattr(assemble, at)
    monkeypatch.setattr(assemble, at, meddle)
    builder.recipes.recipe("demo", "python", "greet", "native")

    refused = builder("build", "demo", "--json")

    assert (refused.code, refused.codes) == (1, ["not-as-recorded"])
    path = "share/native/data" if shared else "bin/native"
    assert f"native-1.0-h123_4: {path} (changed)" in refused.json["errors"][0]["message"]


def test_what_nothing_has_touched_is_not_read_twice(builder, monkeypatch):
    from mlviews.prefix import verify

    read: list[str] = []
    hashed = verify.file_sha256
    monkeypatch.setattr(verify, "file_sha256", lambda path, told: read.append(str(path)) or hashed(path))
    builder.recipes.recipe("demo", "python", "greet", "native")

    assert builder("build", "demo").code == 0

    assert not [path for path in read if path.endswith("share/native/data")]
    assert [path for path in read if path.endswith("bin/greet")]
