"""What users put on top of a view, with a Python whose standard library is the view's own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import sysconfig
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from rattler.package_streaming import extract

from mlviews.hardware import host_glibc
from mlviews.wheels.host_python import open_host_python
from mlviews.wheels.target import host_target

if TYPE_CHECKING:
    from pathlib import Path

OWN = "python -m venv --system-site-packages MYENV && MYENV/bin/pip install PACKAGE"


@pytest.fixture
def demo(builder: Any, shelf: Any, tmp_path: Path) -> Any:
    """The command line, with a view of the tests' own CPython, whole, pip and `greet` 1.1."""
    with open_host_python(host_target()) as python:
        archive = python.write(tmp_path / "python")
    extract(str(archive), tmp_path / "extracted")
    index = json.loads((tmp_path / "extracted/info/index.json").read_text())
    shelf.put(archive, index)
    link = {"site-packages/the-tests-own.pth": f"{sysconfig.get_path('purelib')}\n"}
    shelf.add("pip-link", files=link, modules={"pip_is_the_tests_own": ""})
    shelf.add("greet", "1.1", modules={"greet": "version = 'the view'\n"})
    hardware = {"glibc": host_glibc()}
    builder.recipes.recipe(
        "demo", f"python =={index['version']} {index['build']}", "greet ==1.1", "pip-link", hardware=hardware
    )
    done = builder("build", "demo")
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
    pip_says_in_one_line_what_to_do_instead(demo, newer)
    what_it_says_works_and_the_users_version_wins(demo, newer, tmp_path)
    the_users_site_stays_out(demo, tmp_path)


def pip_says_in_one_line_what_to_do_instead(demo, newer):
    (prefix,) = (demo.root / "envs/demo").glob("2*/linux-64")
    before = sorted(prefix.rglob("*"))
    install = ["python", "-m", "pip", "install", "--no-index", "--find-links", newer, "greet==2.0"]

    done = demo.process("run", "demo", "--", *install)

    assert done.code == 1
    said = [line for line in done.err.splitlines() if OWN in line]
    assert said == [f"╰─> View demo never changes; put your own on top of it: {OWN}"]
    assert [path for path in sorted(prefix.rglob("*")) if "__pycache__" not in path.parts] == [
        path for path in before if "__pycache__" not in path.parts
    ]


def what_it_says_works_and_the_users_version_wins(demo, newer, tmp_path):
    own = OWN.replace("pip install", f"pip install --no-index --find-links {shlex.quote(str(newer))}")
    own = own.replace("PACKAGE", "greet==2.0")
    made = demo.process("run", "demo", "--", "sh", "-c", own, cwd=tmp_path)
    assert made.code == 0, made.err
    say = "import greet, pip_is_the_tests_own, sys; print(greet.version, sys.prefix)"
    python = tmp_path / "MYENV/bin/python"
    (prefix,) = (demo.root / "envs/demo").glob("2*/linux-64")

    assert demo.process("run", "demo", "--", "python", "-c", say).out == f"the view {prefix}\n"
    assert demo.process("run", "demo", "--", python, "-c", say).out == f"the user {tmp_path}/MYENV\n"
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
