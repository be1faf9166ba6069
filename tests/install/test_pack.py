"""A release as one file: the same every time, and a program runs from it where the release was built to lie."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def packed(builder: Any, require: Callable[[str], str], tmp_path: Path) -> Any:
    """An image of a release; where the release lay, there is nothing any more."""
    for program in ("mksquashfs", "unsquashfs"):
        require(program)
    builder.recipes.recipe("demo", "python", "greet", "plain")
    assert builder("build", "demo").code == 0
    done = builder("pack", "demo", "-o", tmp_path / "images/demo.sqfs", "--json")
    assert done.code == 0, done.out
    again = builder("pack", "demo", "-o", tmp_path / "again.sqfs")
    assert again.code == 0
    assert (tmp_path / "again.sqfs").read_bytes() == (tmp_path / "images/demo.sqfs").read_bytes()
    shutil.rmtree(builder.root / "envs")
    return done.data["image"]


def run(cli: Any, image: str | Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        cli.command("run", "--image", image, *command), capture_output=True, text=True, check=False, timeout=60
    )


def test_a_program_runs_from_it_where_the_release_was_and_is_not(builder, packed):
    place = Path(packed["place"])

    done = run(builder, packed["path"], "greet")
    status = run(
        builder, packed["path"], "--", "sh", "-c", f"cat {place}/release.json | wc -c; touch {place}/x; exit 5"
    )

    assert (done.returncode, done.stdout) == (0, f"hello from {place}\n"), done.stderr
    assert status.returncode == 5
    assert int(status.stdout) > 100
    assert "Read-only" in status.stderr
    assert not place.exists()
    assert "demo.sqfs" not in Path("/proc/self/mounts").read_text()


def test_what_is_damaged_is_not_packed(builder, tmp_path, require):
    require("mksquashfs")
    builder.recipes.recipe("demo", "plain")
    folder = Path(builder("build", "demo", "--json").data["folder"])
    (folder / "share/plain/data").unlink()

    refused = builder("pack", "demo", "-o", tmp_path / "x.sqfs", "--json")

    assert (refused.code, refused.codes) == (1, ["not-intact"])
    assert not (tmp_path / "x.sqfs").exists()


def test_what_is_no_image_is_said(builder, tmp_path):
    (tmp_path / "x.sqfs").write_text("hsqs, nearly")

    assert (run(builder, tmp_path / "missing.sqfs", "true").returncode) == 1
    told = run(builder, tmp_path / "x.sqfs", "true")

    assert told.returncode == 2
    assert "is no image of a release" in told.stderr


def test_a_kill_while_it_is_written_leaves_none_or_a_whole_one(builder, tmp_path, require):
    require("mksquashfs")
    builder.recipes.recipe("demo", "python", "greet", "plain")
    assert builder("build", "demo").code == 0
    image = tmp_path / "demo.sqfs"
    assert builder("pack", "demo", "-o", image).code == 0
    whole = image.read_bytes()
    for pause in (0.4, 0.8, 1.2, 1.6):
        process = builder.start("pack", "demo", "-o", image)
        time.sleep(pause)
        process.kill()
        process.communicate()
        assert image.read_bytes() == whole
