"""What the tests of the checks share: Pythons with frameworks in them, and faults planted from outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from smoke.faults import plant

from mlviews.hardware import host_platform
from mlviews.release import Activation, Release, ReleasePackage
from mlviews.render.setup_script import render_launch
from mlviews.smoke.process import Limits
from mlviews.smoke.runner import Interpreter, choose, run_checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Cli

    from mlviews.smoke.programs import Level
    from mlviews.smoke.report import CheckLine


@dataclass
class Bed:
    """A Python to run checks with, and a folder on its path where faults grow."""

    python: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def plant(self, module: str, code: str) -> None:
        """Run ``code`` in whatever Python imports ``module``, right after it; ``module`` is its name there."""
        plant(self.folder, {module: code})

    def run(
        self,
        name: str,
        *,
        claims_gpu: bool = False,
        require_gpu: bool = False,
        limits: Limits | None = None,
        level: Level = "quick",
    ) -> CheckLine:
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(self.folder), **self.environment}
        target = Interpreter((str(self.python),), environment, claims_gpu, self.arguments)
        plan = choose([name], level, named=True)
        limits = limits or Limits(seconds=240)
        return run_checks(target, plan, level=level, limits=limits, require_gpu=require_gpu)[0]


@pytest.fixture
def bed(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Bed]:
    def make(python: str) -> Bed:
        folder = tmp_path / "planted"
        folder.mkdir()
        return Bed(Path(sys.executable) if python == "own" else request.getfixturevalue(python), folder)

    return make


@pytest.fixture
def demo(cli: Cli) -> Release:
    """A release named demo, whose Python is a bare virtual environment."""
    prefix = cli.root / "envs/demo/2026.01.01" / host_platform()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    activation = Activation(
        prepend={"PATH": (f"{prefix}/bin",)}, set={"PYTHONNOUSERSITE": "1"}, unset=("PYTHONPATH", "PYTHONHOME")
    )
    release = Release(
        mlviews="1", view="demo", release="2026.01.01", platform=host_platform(), summary="Demo", module="a/demo",
        site="local", prefix=str(prefix), lock_digest="ab" * 32, created="2026-01-01T00:00:00Z", activation=activation,
        packages=(ReleasePackage(name="python", version="3.12", build="0"),),
    )  # fmt: skip
    (prefix / "launch").write_text(render_launch(release))
    (prefix / "launch").chmod(0o755)
    (prefix / "release.json").write_text(release.text())
    (prefix.parents[1] / "default").symlink_to("2026.01.01")
    return release


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a driver's library that offers one GPU, which nobody can compute on."""
    return _driver(
        tmp_path_factory, "int cuInit(unsigned f) { return 0; } int cuDeviceGetCount(int *n) { *n = 1; return 0; }"
    )


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a driver's library that knows any address as its GPU's memory; the host's where ON_HOST is set."""
    return _driver(tmp_path_factory, (Path(__file__).parent / "standin/driver.c").read_text())


def _driver(tmp_path_factory: pytest.TempPathFactory, source: str) -> Path:
    # What stands in for CuPy compiles C++.
    if not (shutil.which("gcc") and shutil.which("g++")):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no C and C++ compiler")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(source)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "cuda.c"], check=True)
    return folder
