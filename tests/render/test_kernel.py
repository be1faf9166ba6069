"""kernel.json, and a kernel that really starts from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlviews import jupyter
from mlviews.errors import FailedError
from mlviews.release import ReleasePackage
from mlviews.render import setup_script

RUN_A_CELL = """
import json, os, sys
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name=sys.argv[1], startup_timeout=30)
try:
    said = []
    client.execute_interactive(
        "import os; print(os.environ['MLVIEWS_VIEW'], os.environ['PATH'].split(':')[0], 'PYTHONHOME' in os.environ)",
        timeout=30,
        output_hook=lambda message: said.append(message["content"].get("text", "")),
    )
    print("".join(said), end="")
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
"""


def test_kernel_json_gives_every_text_back(make_release, hostile):
    for text in hostile:
        release = make_release(summary=text)
        specification = json.loads(jupyter.render_kernel(release))
        assert specification["metadata"]["mlviews"] == {
            "view": "plotting",
            "release": "2026.11.23",
            "follows": "release",
            "summary": text,
            "lock": "sha256:0123456789abcdef",
        }
        assert specification["argv"] == [
            f"{release.prefix}/launch",
            *("python", "-m", "ipykernel_launcher", "-f", "{connection_file}"),
        ]
        assert specification["language"] == "python"


def test_one_kernel_keeps_to_its_release_and_one_follows_the_default(make_release, tmp_path):
    release = make_release()
    assert jupyter.kernel_name(release) == "plotting-2026.11.23"
    assert jupyter.kernel_name(release, versioned=False) == "plotting"
    follower = json.loads(jupyter.render_kernel(release, versioned=False))
    assert follower["argv"][0] == f"{tmp_path}/envs/plotting/default/linux-64/launch"
    assert follower["display_name"] != json.loads(jupyter.render_kernel(release))["display_name"]


def test_names_that_jupyter_does_not_know_are_refused(make_release):
    with pytest.raises(FailedError) as caught:
        jupyter.kernel_name(make_release(view="a b"))
    assert caught.value.code == "kernel-name"


def test_a_path_that_jupyter_would_change_is_refused(make_release, tmp_path):
    with pytest.raises(FailedError) as caught:
        jupyter.render_kernel(make_release(root=tmp_path / "{resource_dir}"))
    assert caught.value.code == "kernel-path"


def test_a_cell_runs_where_pythonhome_would_stop_a_bare_python(make_release, require, tmp_path):
    require_module("ipykernel")
    release = make_release(root=tmp_path / "a b's $(touch pwned)")
    Path(release.prefix, "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    launch = Path(release.prefix, "launch")
    launch.write_text(setup_script.render_launch(release))
    launch.chmod(0o755)
    folder = tmp_path / "share/kernels" / jupyter.kernel_name(release)
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(jupyter.render_kernel(release), encoding="utf-8")
    starter = ["import os; os.environ['PYTHONHOME'] = os.environ['PYTHONPATH'] = '/lcg'", RUN_A_CELL]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "JUPYTER_PATH": str(tmp_path / "share")}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(starter), jupyter.kernel_name(release)],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == f"plotting {release.prefix}/bin False\n", done.stderr
    assert list(tmp_path.glob("pwned")) == []


@pytest.mark.parametrize(("version", "starts"), [("7.2.0", False), ("7.3.0", True), ("10.0", True)])
def test_a_server_that_wants_encryption_starts_a_kernel_that_can(make_release, tmp_path, version, starts):
    """jupyter_client starts none, if it is told so, of which the kernelspec does not say that it can."""
    require_module("ipykernel")
    own = tuple(ReleasePackage(name=name, version=version, build="0") for name in ("python", "ipykernel"))
    release = make_release(packages=own)
    Path(release.prefix, "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    launch = Path(release.prefix, "launch")
    launch.write_text(setup_script.render_launch(release))
    launch.chmod(0o755)
    folder = tmp_path / "share/kernels/plotting"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(jupyter.render_kernel(release), encoding="utf-8")
    program = RUN_A_CELL.replace("startup_timeout=30", "startup_timeout=30, transport_encryption='required'")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "JUPYTER_PATH": str(tmp_path / "share")}
    done = subprocess.run(
        [sys.executable, "-c", program, "plotting"],
        check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.stdout == f"plotting {release.prefix}/bin False\n") == starts, done.stderr
    assert starts or "does not declare 'curve'" in done.stderr


def require_module(name):
    import os
    from importlib.util import find_spec

    if find_spec(name) is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed")
