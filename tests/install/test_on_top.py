"""What users put on top of a view, with a Python whose standard library is the view's own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from rattler.package_streaming import extract

from mlviews.hardware import host_glibc
from mlviews.wheels.host_python import write_host_python
from mlviews.wheels.target import host_target

EXTEND = 'mlviews extend {} "PACKAGE"'
OWN = 'python -m venv --system-site-packages MYENV && MYENV/bin/pip install "PACKAGE"'

RUN_CELLS = """
import sys
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=60)
try:
    for cell in sys.argv[2:]:
        said = []
        told = lambda message: said.append(message["content"].get("text", ""))
        client.execute_interactive(cell, timeout=60, output_hook=told)
        print("".join(said), flush=True)
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


@pytest.fixture
def demo(builder: Any, shelf: Any, tmp_path: Path) -> Any:
    """The command line; `demo` holds the tests' own CPython, whole, pip and `greet` 1.1, `bare` the same without pip.

    Both find the tests' own packages, with ipykernel and pip: as another environment's, last on the path of modules.
    """
    archive = tmp_path / "python" / write_host_python(tmp_path / "python", host_target()).archive
    extract(str(archive), tmp_path / "extracted")
    index = json.loads((tmp_path / "extracted/info/index.json").read_text())
    shelf.put(archive, index)
    link = {"site-packages/linked.pth": f"{sysconfig.get_path('purelib')}\n"}
    shelf.add("ipykernel", metadata.version("ipykernel"), files=link, modules={"linked": ""})
    script = ("pip = pip._internal.cli.main:main",)
    shelf.add("pip", metadata.version("pip"), modules={"pip_is_the_tests_own": ""}, entry_points=script)
    shelf.add("greet", "1.1", modules={"greet": "version = 'the view'\n"})
    held = [f"python =={index['version']} {index['build']}", "greet ==1.1", "ipykernel"]
    for view, packages in {"demo": [*held, "pip"], "bare": held}.items():
        builder.recipes.recipe(view, *packages, hardware={"glibc": host_glibc()})
        done = builder("build", view)
        assert done.code == 0, done.err
    return builder


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A folder that holds the wheel of `greet` 2.0."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "greet-2.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("greet.py", "version = 'the user'\n")
        wheel.writestr("greet-2.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 2.0\n")
        wheel.writestr("greet-2.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("greet-2.0.dist-info/RECORD", "")
    return folder


def test_users_put_their_own_on_top(demo, newer, tmp_path):
    """One test: packing and building a whole Python takes its time."""
    before = {view: held(demo, view) for view in ("demo", "bare")}
    the_views_pip_says_what_to_do_instead_and_reads(demo, newer, tmp_path)
    a_view_without_pip_says_it_in_every_way_that_pip_is_called(demo, newer, tmp_path)
    a_notebook_says_it_too(demo, newer, tmp_path)
    assert {view: held(demo, view) for view in before} == before
    what_it_says_works_and_the_users_version_wins(demo, newer, tmp_path, "demo")
    what_it_says_works_and_the_users_version_wins(demo, newer, tmp_path, "bare")
    the_users_site_stays_out(demo, tmp_path)
    for view in before:
        assert demo("verify", view).code == 0


def prefix_of(demo, view):
    (prefix,) = (demo.root / "envs" / view).glob("2*/linux-64")
    return prefix


def held(demo, view):
    paths = sorted(prefix_of(demo, view).rglob("*"))
    return [path for path in paths if "__pycache__" not in path.parts]


def the_views_pip_says_what_to_do_instead_and_reads(demo, newer, tmp_path):
    """Also to those who let pip write into the system's Python."""
    config = tmp_path / "home/.config/pip/pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text("[global]\nbreak-system-packages = true\n[install]\nbreak-system-packages = true\n")
    environment = {**os.environ, "PIP_BREAK_SYSTEM_PACKAGES": "1"}
    pip = ("run", "demo", "--", "python", "-m", "pip")
    for change in (["install", "--no-index", "--find-links", newer, "greet==2.0"], ["uninstall", "-y", "greet"]):
        done = demo.process(*pip, *change, env=environment)
        assert done.code == 1
        assert done.out == ""
        said = done.err.splitlines()
        assert "View demo never changes. Put packages on top of it in one of two ways:" in said[3]
        assert [line.strip() for line in said[4:6]] == [EXTEND.format("demo"), OWN]
    for read in (["list"], ["show", "greet"], ["freeze"]):
        done = demo.process(*pip, *read)
        assert done.code == 0, done.err
        assert "greet" in done.out
    config.unlink()


def a_view_without_pip_says_it_in_every_way_that_pip_is_called(demo, newer, tmp_path):
    """Whatever pip the session holds, in front and behind."""
    said = ["View bare holds no pip, and never changes. Put packages on top of it in one of two ways:"]
    said += [EXTEND.format("bare"), OWN, "What it holds: mlviews packages bare"]
    prefix = prefix_of(demo, "bare")
    session = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    assert shutil.which("pip", path=session["PATH"])
    minor = f"pip{sys.version_info.major}.{sys.version_info.minor}"
    source = {"bash": "setup.sh", "zsh": "setup.sh", "fish": "setup.fish", "tcsh": "setup.csh"}
    for call in ("pip", "pip3", minor, "python -m pip"):
        install = f"{call} install --no-index --find-links '{newer}' greet==2.0"
        for shell, script in source.items():
            line = f"source '{prefix}/{script}'; {install}"
            done = subprocess.run([shell, "-c", line], env=session, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout, done.stderr.splitlines()) == (1, "", said), (shell, call)
        done = subprocess.run(
            [prefix / "launch", *shlex.split(install)], env=session, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr.splitlines()) == (1, "", said), call
    # A program that can do without pip is told that there is none.
    tried = "try: import pip\nexcept ModuleNotFoundError as error: print(error.name)"
    assert demo.process("run", "bare", "--", "python", "-c", tried).out == "pip\n"


def a_notebook_says_it_too(demo, newer, tmp_path):
    """From JupyterLab in an environment of its own, whose pip comes first in the session."""
    assert demo("kernel", "add", "bare").code == 0
    assert demo("kernel", "add", "demo").code == 0
    where = f"install --no-index --find-links {shlex.quote(str(newer))} greet==2.0"
    cells = [f"%pip {where}", f"!pip {where}", "import greet; print(greet.version)"]
    for view in ("bare", "demo"):
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
        command = [sys.executable, "-c", RUN_CELLS, view, *cells]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
        assert done.stdout.count(EXTEND.format(view)) == 2, done.stdout
        assert done.stdout.count(OWN) == 2
        assert done.stdout.endswith("the view\n\n")


def what_it_says_works_and_the_users_version_wins(demo, newer, tmp_path, view):
    shutil.rmtree(tmp_path / "MYENV", ignore_errors=True)
    own = OWN.replace("pip install", f"pip install --no-index --find-links {shlex.quote(str(newer))}")
    own = own.replace("PACKAGE", "greet==2.0")
    made = demo.process("run", view, "--", "sh", "-c", own, cwd=tmp_path)
    assert made.code == 0, made.err
    say = "import greet, linked, sys; print(greet.version, sys.prefix)"
    python = tmp_path / "MYENV/bin/python"
    prefix = prefix_of(demo, view)

    assert demo.process("run", view, "--", "python", "-c", say).out == f"the view {prefix}\n"
    assert demo.process("run", view, "--", python, "-c", say).out == f"the user {tmp_path}/MYENV\n"
    # By itself, on top of setup.sh, and under a session that would take Python over.
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    alone = subprocess.run([python, "-c", say], env=clean, capture_output=True, text=True, check=True)
    assert alone.stdout == f"the user {tmp_path}/MYENV\n"
    lines = f'. "$1/setup.sh"; . MYENV/bin/activate; python -c "{say}"; deactivate; mlviews_deactivate; env'
    taken = {**clean, "PYTHONHOME": "/lcg", "PYTHONPATH": str(newer), "VIRTUAL_ENV": ""}
    said = subprocess.run(
        ["sh", "-euc", lines.replace("$1", str(prefix))],
        env=taken, capture_output=True, text=True, check=True, cwd=tmp_path,
    ).stdout.splitlines()  # fmt: skip
    assert said[0] == f"the user {tmp_path}/MYENV"
    assert {"PYTHONHOME=/lcg", f"PYTHONPATH={newer}", f"PATH={clean['PATH']}"} <= set(said)
    assert "default" not in (tmp_path / "MYENV/pyvenv.cfg").read_text()


def the_users_site_stays_out(demo, tmp_path):
    site = tmp_path / f".local/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    site.mkdir(parents=True)
    (site / "greet.py").write_text("version = 'the user site'\n")
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONUSERBASE": str(tmp_path / ".local")}
    said = demo.process("run", "demo", "--", "python", "-c", "import greet; print(greet.version)", env=environment)
    assert said.out == "the view\n"
