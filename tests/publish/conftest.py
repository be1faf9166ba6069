"""A CVMFS repository that is published into by a stand-in for ``cvmfs_server``, and a site that builds for it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from mlviews.prefix import catalogs

NAME = "atlasml.example.org"
SERVER = Path(__file__).with_name("cvmfs_server")


@dataclass(frozen=True)
class Repository:
    """The repository, and what stands in for its server.

    Attributes:
        state: the stand-in's folder.
    """

    state: Path

    @property
    def mount(self) -> Path:
        """Where clients see it; ``/cvmfs`` for mlviews."""
        return self.state / "mnt" / NAME

    @property
    def views(self) -> Path:
        """The site's prefix."""
        return self.mount / "views"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CVMFS_STANDIN": str(self.state), "PATH": f"{SERVER.parent}:{os.environ['PATH']}"}

    def publish(self, *commands: str) -> None:
        """Type what a plan says."""
        for command in commands:
            done = subprocess.run(
                shlex.split(command), env=self.environment, check=False, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr

    def revisions(self) -> int:
        return len(list((self.state / "revisions" / NAME).iterdir()))

    def tags(self) -> dict[str, str]:
        path = self.state / f"{NAME}.tags.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def catalogs(self) -> dict[str, int]:
        """Return how many entries each catalog lists, as CVMFS makes them of markers; ``.`` is the root's."""
        marked = {path.parent for path in self.mount.resolve().rglob(".cvmfscatalog")}
        found: dict[str, int] = {}
        for path in self.mount.resolve().rglob("*"):
            owner = next((folder for folder in path.parents if folder in marked), self.mount.resolve())
            place = str(owner.relative_to(self.mount.resolve()))
            found[place] = found.get(place, 0) + 1
        return found


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An empty repository, mounted where mlviews looks for one."""
    made = Repository(tmp_path / "cvmfs")
    first = made.state / "revisions" / NAME / "0"
    first.mkdir(parents=True)
    made.mount.parent.mkdir()
    made.mount.symlink_to(first)
    monkeypatch.setattr(catalogs, "MOUNT", PurePosixPath(made.mount.parent))
    return made


@pytest.fixture
def publisher(builder: Any, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line at a site that builds for the repository, with one recipe."""
    monkeypatch.delenv("MLVIEWS_ROOT")
    monkeypatch.setenv("MLVIEWS_SITE", "publisher")
    builder.site("publisher", root=str(tmp_path / "staging"), prefix=str(repository.views), promote="manual")
    builder.recipes.recipe("demo", "greet", "native", "plain")
    return builder


@pytest.fixture
def build(publisher: Any, tmp_path: Path) -> Callable[..., str]:
    """A function that builds a release and gives its name; of the tests' own python a script is left."""
    from mlviews.files.storefile import parse
    from mlviews.prefix.inventory import read_tree, take
    from mlviews.prefix.inventory import write as write_inventory
    from mlviews.release import Release, sealed

    def build(view: str = "demo", *options: str) -> str:
        built = publisher("build", view, *options, "--json")
        assert built.code == 0, built.out
        prefix = tmp_path / f"staging/envs/{view}/{built.data['release']}/linux-64"
        for path in (prefix / "bin").glob("python3.*"):
            host = path.resolve()
            path.unlink()
            path.write_text(f'#!/bin/bash\nexec -a "$0" {host} "$@"\n')
            path.chmod(0o755)
        for record in (prefix / "conda-meta").glob("python-*.json"):
            record.unlink()
        file = prefix / "release.json"
        release = parse(Release, file.read_bytes(), file)
        file.write_text(sealed(release.model_copy(update={"files": write_inventory(prefix, take(read_tree(prefix)))})))
        return built.data["release"]

    return build


@pytest.fixture
def carry_out(publisher: Any, repository: Repository, tmp_path: Path) -> Callable[..., Any]:
    """A function that plans, packs, and types what the plan says; it gives the plan."""

    def carry_out(view: str, *options: str) -> Any:
        planned = publisher("publish", view, "--plan", "--tar", tmp_path / "change.tar", *options, "--json")
        assert planned.code == 0, planned.out
        repository.publish(*planned.data["commands"])
        return planned.data

    return carry_out
