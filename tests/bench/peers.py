"""What others need to do the same: conda-lock, conda and conda-workspaces, as commands that a benchmark times.

Their command lines are those of conda-lock 4, conda 26 and conda-workspaces 0.12. None of them reads the user's
settings here, and none asks for a channel's notices.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlviews.recipe.view import ViewSpec


@dataclass(frozen=True)
class Conda:
    """A conda that is not mlviews' own.

    Attributes:
        program: its path.
        packages: folder where it keeps what it has unpacked.
        cuda: version of CUDA that a solve may count on; empty for that of this machine.
    """

    program: Path
    packages: Path
    cuda: str = ""

    def __call__(self, *arguments: str | Path) -> list[str | Path]:
        settings = ["CONDARC=/dev/null", f"CONDA_PKGS_DIRS={self.packages}", "CONDA_NUMBER_CHANNEL_NOTICES=0"]
        hardware = [f"CONDA_OVERRIDE_CUDA={self.cuda}"] if self.cuda else []
        return ["env", *settings, *hardware, self.program, *arguments]

    def has_workspaces(self) -> bool:
        return subprocess.run(self("workspace", "--help"), capture_output=True, check=False).returncode == 0

    def create(self, archives: Iterable[Path], explicit: Path, prefix: Path) -> list[str | Path]:
        """Return the command that installs these archives; writes the list of them to the path `explicit`."""
        lines = [f"{path.as_uri()}#{hashlib.md5(path.read_bytes()).hexdigest()}" for path in archives]
        explicit.write_text("\n".join(["@EXPLICIT", *lines]))
        return self("create", "--quiet", "--yes", "--prefix", prefix, "--file", explicit)


def conda_lock(conda: Path, spec: ViewSpec, channel: Path, work: Path) -> list[str | Path]:
    """Return conda-lock's command for a view; what its source files cannot say (constraints) is left out.

    Args:
        conda: that conda-lock calls.
        spec: the view.
        channel: folder of its metadata.
        work: where the command's files are written.
    """
    source, virtual = work / f"{spec.name}.environment.yml", work / f"{spec.name}.virtual-packages.yml"
    wanted = [request.text for request in spec.dependencies]
    source.write_text(
        yaml.safe_dump({"channels": [channel.as_uri()], "dependencies": wanted, "platforms": list(spec.platforms)})
    )
    stated = {
        subdir: {
            "packages": {
                package.name: f"{package.version} {package.build}" if package.build != "0" else package.version
                for package in spec.hardware.virtual_packages(subdir)
            }
        }
        for subdir in spec.platforms
    }
    virtual.write_text(yaml.safe_dump({"subdirs": stated}))
    lockfile = work / f"{spec.name}.peer.yml"
    lockfile.unlink(missing_ok=True)
    program = "import sys; from conda_lock import main; sys.argv[0] = 'conda-lock'; main()"
    return [
        sys.executable, "-c", program, "lock", "--conda", conda, "--no-mamba", "-k", "lock",
        "-f", source, "--virtual-package-spec", virtual, "--lockfile", lockfile,
    ]  # fmt: skip


def write_workspace(folder: Path, channel: Path, wanted: Mapping[str, str]) -> None:
    """Write the folder of a workspace of conda-workspaces for linux-64.

    Args:
        folder: that is made.
        channel: folder of a channel.
        wanted: a MatchSpec's version and build for each name.
    """
    folder.mkdir()
    # JSON's strings are TOML's, too.
    requests = "\n".join(f"{name} = {json.dumps(version)}" for name, version in wanted.items())
    head = f'[workspace]\nname = "peer"\nchannels = ["{channel.as_uri()}"]\nplatforms = ["linux-64"]\n'
    (folder / "conda.toml").write_text(f"{head}\n[dependencies]\n{requests}\n")
