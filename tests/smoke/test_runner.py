"""The runner: whatever a check does to itself, the others run, and what is reported is true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from mlviews.recipe.catalogue import open_catalogue
from mlviews.smoke import runner
from mlviews.smoke.process import Ended, Limits, run_limited
from mlviews.smoke.programs import PROGRAMS
from mlviews.smoke.report import CheckLine, failures, junit
from mlviews.smoke.runner import Interpreter, choose, run_checks

if TYPE_CHECKING:
    from mlviews.progress import Advance

QUICK = Limits(seconds=3, memory=400_000_000)


@pytest.fixture
def own(bed):
    return bed("own")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "ended by SIGABRT without a report"),
        ("import os; os._exit(0)", "ended with status 0 without a report"),
        ("import time; time.sleep(60)", "no end after 3 s"),
        ("hoard = [b'x' * 10_000_000 for _ in range(10_000)]", "out of memory: "),
        ("import json; json.dumps = lambda *a, **k: '{}'", "without a report"),
        ("import json; json.dumps = lambda *a, **k: 'x' * 5_000_000", "without a report"),
        ("import atexit, os; atexit.register(os.abort)", "said pass, then ended by SIGABRT"),
        ("import sys; sys.argv[0] = 'other.py'", "without a report"),
    ],
)
def test_a_check_that_cannot_run_is_an_error_and_the_others_run(code, words, own):
    own.plant("_protocol", f"import sys\nif 'pip_check' in sys.argv[0]:\n    {code}")
    own.arguments["imports"] = ("json",)
    target = Interpreter((str(own.python),), {"PYTHONPATH": str(own.folder)}, arguments=own.arguments)

    notes: list[str] = []

    @contextmanager
    def bar(label: str, *, total: int | None = None, unit: str = "items") -> Iterator[Advance]:
        assert (label, total, unit) == ("Testing", 2, "items")
        yield lambda step=1, *, total=None, note="": notes.append(note)

    lines = run_checks(target, choose(["pip-check", "imports"], "quick"), limits=QUICK, progress=bar)

    assert [(line.name, line.status) for line in lines] == [("pip-check", "error"), ("imports", "pass")]
    assert notes[-1] == ""
    assert "sleep" not in code or "pip-check, 3 s at most" in notes
    assert words in lines[0].reason


def test_what_a_check_prints_does_not_reach_its_report(own):
    own.plant("_protocol", "print('{\"status\": \"fail\"}'); import sys; print('noise', file=sys.stderr)")

    assert own.run("pip-check").status == "pass"


def test_the_cause_of_a_failed_import_is_told_and_not_the_advice_before_it(own):
    cause = "raise ImportError('libx.so.6: cannot open shared object file')"
    (own.folder / "loud.py").write_text(
        f"try:\n    {cause}\nexcept ImportError as error:\n    raise ImportError('PLEASE READ') from error\n"
    )
    own.arguments["imports"] = ("loud",)

    found = own.run("imports")

    assert (found.status, found.reason) == ("fail", "loud: ImportError: libx.so.6: cannot open shared object file")


def test_nothing_is_written_beside_modules(own):
    own.plant("_protocol", "")

    assert own.run("pip-check").status == "pass"

    assert (own.folder / "sitecustomize.py").exists()
    assert not (own.folder / "__pycache__").exists()


def test_a_check_with_a_process_a_gpu_may_take_as_much_for_each(monkeypatch):
    allowed = []

    def see(command, *, limits, **_):
        allowed.append(limits.memory)
        return Ended(1, 0.0, "", "")

    monkeypatch.setattr(runner, "_gpus", lambda: 3)
    monkeypatch.setattr(runner, "run_limited", see)

    run_checks(Interpreter(("python",), {}), choose(["pip-check", "torch-nccl"], "quick"), limits=Limits(memory=5))

    assert allowed == [5, 15]


def test_control_characters_do_not_reach_the_terminal(own):
    own.plant("_protocol", r"module._verdict = lambda work, check: ('fail', '\x1b]0;owned\x07')")

    assert own.run("pip-check").reason == " ]0;owned "


def test_a_report_is_whole_whatever_a_figure_or_an_error_holds(own):
    own.plant(
        "_protocol",
        r"""
        def verdict(work, check):
            check.figures.update(inf=float("inf"), nan=float("nan"), one=1.0)
            return "fail", "there is no file a\udc80.root"
        module._verdict = verdict
        """,
    )

    found = own.run("pip-check")

    assert (found.status, found.reason, found.figures) == ("fail", "there is no file a?.root", {"one": 1.0})


def test_a_python_that_cannot_be_started_is_an_error(tmp_path):
    line = run_checks(Interpreter((str(tmp_path / "python"),), {}), choose(["pip-check"], "quick"))[0]

    assert (line.status, line.reason) == (
        "error",
        f"cannot be started: No such file or directory: {tmp_path}/python",
    )


@pytest.mark.parametrize("detach", [False, True])
def test_nothing_that_a_check_starts_outlives_it(detach, tmp_path):
    child = "import time; time.sleep(60)"
    program = (
        f"import subprocess, sys, time\n"
        f"print(subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session={detach}).pid, flush=True)\n"
    )

    ended = run_limited([sys.executable, "-c", program], environment={}, folder=tmp_path, limits=QUICK)

    assert ended.returncode == 0
    assert not _alive(int(ended.log))


def test_memory_is_counted_over_a_checks_children_too(tmp_path):
    child = "data = b'x' * 300_000_000\nimport time\ntime.sleep(60)"
    program = (
        "import subprocess, sys\n"
        f"for process in [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in range(2)]:\n    process.wait()"
    )

    ended = run_limited(
        [sys.executable, "-c", program], environment={}, folder=tmp_path, limits=Limits(30, 400_000_000)
    )

    assert ended.stopped.startswith("out of memory")
    assert ended.seconds < 20


def test_address_space_that_is_reserved_and_not_used_is_no_memory(tmp_path):
    """CUDA and PyTorch reserve far more than any host has."""
    program = "import mmap; space = mmap.mmap(-1, 200 << 30, flags=mmap.MAP_PRIVATE | 0x4000); print(len(space))"

    ended = run_limited([sys.executable, "-c", program], environment={}, folder=tmp_path, limits=QUICK)

    assert (ended.returncode, ended.stopped, ended.log) == (0, "", f"{200 << 30}\n")


def test_a_check_ends_when_the_runner_is_killed(own, tmp_path, repository):
    started = tmp_path / "started"
    own.plant(
        "_protocol",
        f"""
        import os, time
        def hang(*arguments, **settings):
            open({str(started)!r}, "w").write(str(os.getpid()))
            time.sleep(60)
        module.Check.__init__ = hang
        """,
    )
    command = [sys.executable, "-m", "mlviews", "smoke", "--python", str(own.python), "--check", "pip-check"]
    environment = {**os.environ, "PYTHONPATH": str(own.folder)}
    runner = subprocess.Popen(command, env=environment, cwd=repository, stderr=subprocess.DEVNULL)
    _wait(lambda: started.exists() and started.read_text())

    runner.kill()
    runner.wait()

    _wait(lambda: not _alive(int(started.read_text())))


def test_a_view_for_gpus_is_not_proved_by_the_cpu(own, fake_driver):
    """A check that worked on the CPU: right for a CPU view, no proof for a GPU view, a fault where a GPU lay idle."""
    own.plant(
        "_protocol",
        "module.Check.need = lambda *a: (_ for _ in ()).throw(SystemExit)\n"
        "def verdict(work, check):\n    check.device = 'cpu'\n    return 'pass', 'done'\nmodule._verdict = verdict",
    )

    def status(**settings):
        return own.run("torch-matmul", **settings).status

    assert [status(), status(claims_gpu=True), status(require_gpu=True)] == ["pass", "skip", "error"]
    own.environment["LD_LIBRARY_PATH"] = str(fake_driver)
    line = own.run("torch-matmul", claims_gpu=True)
    assert line.status == "fail"
    assert line.reason == "the driver offers 1 GPU(s), and the work was done on the CPU (done)"


def test_checks_run_alone_and_print_their_report(repository):
    program = repository / "mlviews/smoke/checks/pip_check.py"

    said = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, env={}).stdout

    assert json.loads(said)["status"] == "pass"


def test_checks_import_nothing_of_mlviews(repository):
    for path in (repository / "mlviews/smoke/checks").glob("*.py"):
        assert "mlviews" not in [
            line.split()[1].split(".")[0]
            for line in path.read_text().splitlines()
            if line.strip().startswith(("import ", "from "))
        ], path


def test_every_name_has_its_program():
    assert [name for name, program in PROGRAMS.items() if not program.path.is_file()] == []


def test_every_check_that_recipes_name_is_there(repository):
    wanted = {name for view in open_catalogue(repository / "recipes").views() for name in view.smoke}

    assert wanted <= set(PROGRAMS)


def test_unknown_names_are_errors():
    plan = choose(["no-such", "torch-compile", "pip-check", "kernel-strat"], "quick")
    lines = run_checks(Interpreter((sys.executable,), {}), plan)

    assert plan.left_out == ("torch-compile",)
    assert [(line.name, line.status) for line in lines] == [
        ("pip-check", "pass"),
        ("no-such", "error"),
        ("kernel-strat", "error"),
    ]
    assert [line.reason for line in lines[1:]] == ["no such check", "no such check; did you mean 'kernel-start'?"]
    assert failures(lines) == (), "it tells of the recipe, and nothing of the release"
    said = CheckLine(name="pip-check", status="error", reason="no such check, I say", seconds=0)
    assert failures([said]), "a check cannot say so of itself"


def test_junit_counts_and_escapes():
    lines = [
        CheckLine(name="a", status="pass", reason="", seconds=1.5, device="cpu", versions={"torch": "2.13"}),
        CheckLine(name="b", status="fail", reason='<&">', seconds=0),
        CheckLine(name="c", status="skip", reason="no GPU", seconds=0),
        CheckLine(name="d", status="error", reason="gone", seconds=0),
    ]

    suite = ET.fromstring(junit("demo", lines))

    assert [suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")] == [
        "4",
        "1",
        "1",
        "1",
        "1.500",
    ]
    assert suite.find("testcase[@name='b']/failure").get("message") == '<&">'
    assert "torch: 2.13" in suite.find("testcase[@name='a']/system-out").text


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] not in "ZX"
    except OSError:
        return False


def _wait(until) -> None:
    for _ in range(200):
        if until():
            return
        time.sleep(0.1)
    pytest.fail("it never came to be")
