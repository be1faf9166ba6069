"""What stands in the place of a removed release: it says so to shells, to programs, and in a notebook's cells."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from mlviews import jupyter
from mlviews.release import ReleaseBase
from mlviews.render import setup_script
from mlviews.render.setup_script import removed_files

RUN_A_CELL = """
import sys
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=30)
try:
    for attempt in range(2):
        reply = client.execute_interactive("open('ran', 'w')", timeout=30, output_hook=lambda message: None)
        print(reply["content"]["status"], reply["content"]["evalue"])
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


@pytest.fixture
def gone(make_release, tmp_path):
    """A release that was removed, beside the default, which has the tests' own Python."""
    root = tmp_path / "a b's $(touch pwned)"
    default = make_release(root=root, release="2026.11.24")
    Path(default.prefix, "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    launch = Path(default.prefix, "launch")
    launch.write_text(setup_script.render_launch(default))
    launch.chmod(0o755)
    release = make_release(root=root)
    (root / "envs/plotting/default").symlink_to(default.release)
    files = removed_files(release.view, release.release, str(root / "envs/plotting/default"), "linux-64")
    for name, file in files.items():
        Path(release.prefix, name).write_text(file.text)
        Path(release.prefix, name).chmod(0o755)
    return release


def said(gone, tmp_path: Path) -> str:
    default = tmp_path / "a b's $(touch pwned)/envs/plotting/default"
    return f"mlviews: release 2026.11.23 of plotting was removed; the default is 2026.11.24, in {default}"


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "ksh"])
def test_sourced_it_says_so_and_leaves_no_trace(gone, tmp_path, require, shell):
    script = f'before=$(set | grep mlviews); . \'{tmp_path}/setup\'; echo $?; [ "$before" = "$(set | grep mlviews)" ]'
    (tmp_path / "setup").symlink_to(Path(gone.prefix, "setup.sh"))

    done = subprocess.run(
        [require(shell), "-c", script], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )

    assert (done.stdout, done.stderr) == ("127\n", said(gone, tmp_path) + "\n")


def test_without_a_default_it_tells_how_to_see_what_there_is(gone, tmp_path):
    (tmp_path / "a b's $(touch pwned)/envs/plotting/default").unlink()

    done = subprocess.run(
        [f"{gone.prefix}/launch", "python", "-m", "ipykernel_launcher"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 127
    assert "was removed; it has no default: mlviews releases plotting lists what there is" in done.stderr


def run_cells(release, tmp_path: Path, **keys) -> str:
    """Run two cells in a kernel of a release, as Jupyter would; return what they answer."""
    if find_spec("ipykernel") is None:
        pytest.fail("ipykernel is not installed: it is one of the tests' own packages")
    folder = tmp_path / "share/kernels" / jupyter.kernel_name(release)
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(jupyter.render_kernel(release, **keys), encoding="utf-8")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "JUPYTER_PATH": str(tmp_path / "share")}
    done = subprocess.run(
        [sys.executable, "-c", RUN_A_CELL, folder.name],
        check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()
    assert list(tmp_path.glob("pwned")) == []
    return done.stdout


@pytest.mark.parametrize("swan", [False, True])
def test_a_notebook_of_it_is_told_in_every_cell_and_runs_none(gone, tmp_path, swan):
    assert run_cells(gone, tmp_path, swan=swan, removed=True) == f"error {said(gone, tmp_path)}\n" * 2
    name = json.loads(next(tmp_path.glob("share/kernels/*/kernel.json")).read_text())["display_name"]
    assert name == "plotting 2026.11.23, removed (mlviews)"


def test_without_a_default_jupyters_own_python_tells_a_notebook(gone, tmp_path):
    (tmp_path / "a b's $(touch pwned)/envs/plotting/default").unlink()

    assert "was removed; it has no default: mlviews releases plotting lists" in run_cells(gone, tmp_path)


@pytest.mark.parametrize("default", [True, False])
def test_a_notebook_of_a_view_whose_base_is_gone_is_told(gone, make_release, tmp_path, default):
    root = tmp_path / "a b's $(touch pwned)"
    shutil.rmtree(Path(gone.prefix).parent)
    if not default:
        (root / "envs/plotting/default").unlink()
    base = ReleaseBase(view=gone.view, release=gone.release, prefix=gone.prefix, lock_digest=gone.lock_digest)
    release = make_release(root=root, view="mine", base=base)
    launch = Path(release.prefix, "launch")
    launch.write_text(setup_script.render_launch(release))
    launch.chmod(0o755)

    told = f"mlviews: this host has no folder {gone.prefix}/bin, which mine needs; mlviews build mine takes another"
    assert run_cells(release, tmp_path) == f"error {told} release of plotting\n" * 2
