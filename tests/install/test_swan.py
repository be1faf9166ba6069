"""A session of SWAN, replayed: its start-up, then a kernel that runs, is interrupted, restarted and ended.

    pytest tests/install/test_swan.py -s

prints what the kernel said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

SESSION = Path(__file__).with_name("swan_session.sh")

LCG_SETUP = """\
export LCG_VERSION=LCG_108
export PATH={view}/bin:$PATH
export LD_LIBRARY_PATH=/cvmfs/sft.cern.ch/lcg/views/LCG_108/x/lib:{view}/lib64${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
export PYTHONPATH={view}/lib
export PYTHONHOME={view}
export ROOTSYS={view}
"""

# Started as Jupyter's server starts it: an environment of its own, in which only JUPYTER_PATH leads to the session.
DRIVE = """
import json, sys
from pathlib import Path
from jupyter_client.manager import KernelManager

name, log = sys.argv[1:]
manager = KernelManager(kernel_name=name)
errors = open(log, "w")
manager.start_kernel(stderr=errors)
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
report = {}

def run(code, **options):
    said = []
    reply = client.execute_interactive(
        code, timeout=60, output_hook=lambda message: said.append(message["content"].get("text", "")), **options
    )
    return reply["content"]["status"], "".join(said)

CELL = '''
import json, os, sys
print(json.dumps({
    "prefix": sys.prefix, "view": os.environ.get("MLVIEWS_VIEW"), "path": os.environ["PATH"].split(":")[0],
    "home": os.environ.get("PYTHONHOME"), "libraries": os.environ.get("LD_LIBRARY_PATH"),
    "session": os.environ.get("SWAN_LIB_DIR"), "swan on sys.path": any("swan" in path for path in sys.path),
    "profile": globals().get("profile_was_read"), "pid": os.getpid(),
    "files": [path for path in sys.path if path.startswith(os.environ["LCG_VIEW"])],
}))
'''
report["cell"] = json.loads(run(CELL)[1])
# A kernel aborts what reaches it right after an error, unless it was told that the error stops nothing.
LONG = "import time\\nprint('started', flush=True)\\nfor _ in range(600): time.sleep(0.1)"
client.execute(LONG, stop_on_error=False)
while client.get_iopub_msg(timeout=60)["content"].get("text", "").strip() != "started":
    pass
manager.interrupt_kernel()
report["interrupted"] = client.get_shell_msg(timeout=60)["content"].get("ename")
report["after interrupt"] = run("print(6 * 7)")
manager.restart_kernel()
client.wait_for_ready(timeout=60)
report["restarted"] = json.loads(run(CELL)[1])
manager.shutdown_kernel()
client.stop_channels()
report["alive"] = manager.is_alive()
report["errors"] = Path(log).read_text()
print(json.dumps(report))
"""


@pytest.fixture
def demo(builder: Any, shelf: Any, same_place: Any) -> Any:
    """A view whose ipykernel is the tests' own."""
    for module in ("ipykernel", "jupyter_client"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    link = {"site-packages/the-tests-own.pth": f"{sysconfig.get_path('purelib')}\n"}
    shelf.add("ipykernel", files=link, modules={"ipykernel_is_the_tests_own": ""})
    shelf.add("python-link", links={"bin/python3": "python"})  # which a real package of Python has

    def build() -> None:
        builder.recipes.recipe("demo", "python", "python-link", "greet", "ipykernel")
        assert builder("build", "demo").code == 0

    same_place.once(build)
    return builder


@pytest.fixture
def swan(tmp_path: Path) -> Any:
    """Return a function that starts a session: its environment, and what the start-up said."""
    view = tmp_path / "lcg/LCG_108/x86_64-el9-gcc13-opt"
    (view / "bin").mkdir(parents=True)
    (view / "lib").mkdir()
    (view / "lib/json.py").write_text("raise ImportError('this is the json of another Python')\n")
    for name in ("python", "python3"):
        (view / "bin" / name).symlink_to(sys.executable)
    (view / "setup.sh").write_text(LCG_SETUP.format(view=view))
    extension = tmp_path / "swan/extensions/swankernelenv.py"
    extension.parent.mkdir(parents=True)
    extension.write_text("def load_ipython_extension(shell): pass\n")
    profile = tmp_path / "session/.ipython/profile_default/ipython_kernel_config.py"
    profile.parent.mkdir(parents=True)
    profile.write_text("c = get_config()\nc.InteractiveShellApp.exec_lines = ['profile_was_read = True']\n")

    def start(script: str, **variables: str) -> tuple[dict[str, str], subprocess.CompletedProcess[str]]:
        own = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "cernbox"), "CERNBOX_HOME": str(tmp_path / "cernbox")}
        form = {
            "ROOT_LCG_VIEW_PATH": str(view.parents[1]),
            "ROOT_LCG_VIEW_NAME": view.parent.name,
            "ROOT_LCG_VIEW_PLATFORM": view.name,
            "USER_ENV_SCRIPT": script,
        }
        given = {"SESSION": str(tmp_path / "session"), "SWAN_LIB_DIR": str(tmp_path / "swan"), "PYTHON": sys.executable}
        (tmp_path / "cernbox").mkdir(exist_ok=True)
        environment = {**own, **form, **given, **variables}
        done = subprocess.run(
            ["bash", SESSION], check=False, env=environment, capture_output=True, text=True, timeout=60
        )
        server = {**own, "JUPYTER_PATH": f"{tmp_path}/session/.local/share/jupyter"}
        return server, done

    return start


def drive(server: dict[str, str], name: str, tmp_path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVE, name, tmp_path / "kernel.log"],
        check=False, env=server, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + (tmp_path / "kernel.log").read_text()
    return json.loads(done.stdout.splitlines()[-1])


def test_a_kernel_runs_is_interrupted_restarted_and_ended(demo, swan, tmp_path, monkeypatch):
    monkeypatch.setenv("CERNBOX_HOME", str(tmp_path / "cernbox"))
    assert demo("kernel", "add", "demo", "--swan").code == 0
    server, done = swan("$CERNBOX_HOME/mlviews-swan/environment.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the session is there\n", "")

    report = drive(server, "demo", tmp_path)

    (release,) = [line["release"] for line in demo("releases", "demo", "--json").data["releases"]]
    prefix = f"{demo.root}/envs/demo/{release}/linux-64"
    print("\n" + json.dumps(report, indent=1))
    cell = report["cell"]
    assert (cell["prefix"], cell["path"], cell["view"]) == (prefix, f"{prefix}/bin", "demo")
    assert (cell["home"], cell["files"], cell["swan on sys.path"]) == (None, [], False)
    assert cell["libraries"] == f"{tmp_path}/lcg/LCG_108/x86_64-el9-gcc13-opt/lib64"  # none of /cvmfs/sft.cern.ch
    # The session's environment and IPython's profile did reach it.
    assert (cell["session"], cell["profile"]) == (f"{tmp_path}/swan", True)
    assert report["interrupted"] == "KeyboardInterrupt"
    assert report["after interrupt"] == ["ok", "42\n"]
    assert report["restarted"]["pid"] != cell["pid"]
    assert {**report["restarted"], "pid": 0} == {**cell, "pid": 0}
    assert report["alive"] is False
    assert "swankernelenv" not in report["errors"]
    assert "Error" not in report["errors"]


def test_without_its_stand_in_swans_extension_would_be_missed(demo, swan, tmp_path, monkeypatch):
    """That the replay would notice: the same kernel without what is made for SWAN."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "session/.local/share/jupyter"))
    assert demo("kernel", "add", "demo").code == 0
    server, done = swan("")
    assert done.returncode == 0
    assert "swankernelenv" in drive(server, "demo", tmp_path)["errors"]


def test_a_python_that_is_started_bare_dies_in_such_a_session(demo, swan, tmp_path):
    """What `launch` is for."""
    swan("")
    kernel = json.loads((tmp_path / "session/.local/share/jupyter/kernels/python3/kernel.json").read_text())
    (python,) = (demo.root / "envs/demo").glob("2*/*/bin/python")
    bare = subprocess.run([python, "-c", "1"], env=kernel["env"], capture_output=True, text=True, check=False)
    assert bare.returncode != 0
    launched = subprocess.run(
        [python.parents[1] / "launch", "python", "-c", "1"], env=kernel["env"], capture_output=True, check=False
    )
    assert launched.returncode == 0


def test_a_view_can_stand_in_for_the_lcg_view(demo, swan, tmp_path):
    """The form's three variables lead to views/<view>; SWAN's own kernel is then the view's Python."""
    where = {"ROOT_LCG_VIEW_PATH": f"{demo.root}/views", "ROOT_LCG_VIEW_NAME": "demo"}
    _, done = swan("", **where, ROOT_LCG_VIEW_PLATFORM="linux-64")
    assert (done.returncode, done.stderr) == (0, "")
    kernel = json.loads((tmp_path / "session/.local/share/jupyter/kernels/python3/kernel.json").read_text())
    (release,) = [line["release"] for line in demo("releases", "demo", "--json").data["releases"]]
    assert kernel["argv"][0] == f"{demo.root}/envs/demo/{release}/linux-64/bin/python3"


@pytest.mark.parametrize(
    "spoil",
    [
        "rm -r mlviews-swan/kernels",
        "rm mlviews-swan/environment.sh",
        "rm mlviews-swan/kernels/demo/kernel.json",
        ": > mlviews-swan/kernels/demo/kernel.json",
        "rm -r ../root/envs",
        "mkdir -p mlviews-swan/kernels/empty; touch mlviews-swan/kernels/file",
    ],
)
def test_nothing_stops_the_session(demo, swan, spoil, tmp_path, monkeypatch):
    monkeypatch.setenv("CERNBOX_HOME", str(tmp_path / "cernbox"))
    assert demo("kernel", "add", "demo", "--swan").code == 0
    subprocess.run(spoil, shell=True, check=True, cwd=tmp_path / "cernbox")
    _, done = swan("$CERNBOX_HOME/mlviews-swan/environment.sh")
    assert (done.returncode, done.stdout) == (0, "the session is there\n")
    kernels = tmp_path / "session/.local/share/jupyter/kernels"
    for folder in kernels.iterdir():
        assert "env" in json.loads((folder / "kernel.json").read_text())
    assert sorted(path.name for path in kernels.parent.iterdir()) == ["kernels"]


def test_a_kernel_of_the_sessions_own_stays(demo, swan, tmp_path, monkeypatch):
    monkeypatch.setenv("CERNBOX_HOME", str(tmp_path / "cernbox"))
    demo("kernel", "add", "demo", "--swan")
    own = tmp_path / "session/.local/share/jupyter/kernels/demo/kernel.json"
    own.parent.mkdir(parents=True)
    own.write_text('{"argv": ["mine"]}')
    _, done = swan("$CERNBOX_HOME/mlviews-swan/environment.sh")
    assert json.loads(own.read_text())["argv"] == ["mine"]
    assert "another kernel demo" in done.stderr
    assert done.returncode == 0


def test_outside_of_swan_it_does_nothing_and_says_so(demo, tmp_path, monkeypatch):
    monkeypatch.setenv("CERNBOX_HOME", str(tmp_path / "a b's $(touch pwned)"))
    script = demo("kernel", "add", "demo", "--swan", "--json").data["script"]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-euc", 'source "$1"; echo on', "bash", script], env=environment, capture_output=True, text=True,
        check=True, cwd=tmp_path,
    )  # fmt: skip
    assert (done.stdout, "no SWAN session" in done.stderr) == ("on\n", True)
    assert not list(tmp_path.rglob("pwned"))
