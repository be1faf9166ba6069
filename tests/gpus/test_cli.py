"""``mlviews gpus`` on folders: what it prints, and its exit code. Views are in tests/install/test_gpus.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlviews.gpus.coverage import USUAL


@pytest.fixture
def folder(tmp_path: Path, binaries: Any) -> Path:
    """An unpacked wheel whose library holds nothing for V100 and PTX for B200."""
    folder = tmp_path / "some [bold]wheel"
    (folder / "kernels-1.0.dist-info").mkdir(parents=True)
    code = binaries.container(binaries.Piece("sm_80"), binaries.Piece("sm_90a"), binaries.Piece("compute_80"))
    for name in ("libx.so", "liby.so"):
        (folder / name).write_bytes(binaries.library(code, needed=("libcudart.so.12",)))
    (folder / "kernels-1.0.dist-info/RECORD").write_text("libx.so,,\nliby.so,,\n")
    return folder


def test_the_table_says_it_all(cli, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    done = cli("gpus", folder)
    assert done.code == 0
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert lines[0] == "Library V100 T4 A100 L4 H100 B200 Made for"
    assert lines[1] == "kernels 1.0 no no native native native PTX"
    assert lines[2] == "libx.so and 1 alike - - native native native PTX sm_80 90a, PTX 80"
    assert "V100 no kernels 1.0" in lines
    assert "A100 native 525.60.13 or newer" in lines
    assert "B200 PTX 570.26 or newer" in lines


def test_the_json_is_what_its_schema_says(cli, folder):
    data = cli("gpus", folder, "--json").data
    assert (data["view"], data["release"], data["folder"]) == (None, None, str(folder))
    assert [library["path"] for library in data["libraries"]] == ["libx.so", "liby.so"]
    assert data["libraries"][0]["cuda"] == "12.0"
    assert data["libraries"][0]["code"][2] == {
        "kind": "ptx", "target": "compute_80", "isa": "8.0", "modules": 1, "linked": True,
    }  # fmt: skip
    verdict = {verdict["gpu"]: verdict for verdict in data["gpus"]}
    assert (verdict["V100"]["way"], verdict["V100"]["lacking"]) == ("none", ["kernels 1.0"])
    assert (verdict["B200"]["way"], verdict["B200"]["driver"]) == ("ptx", "570.26")


@pytest.mark.parametrize(
    ("asked", "code"),
    [(["A100"], 0), (["H200", "B200"], 0), (["V100"], 1), (["T4", "A100"], 1)],
)
def test_a_gpu_that_is_asked_for_must_be_served(cli, folder, asked, code):
    done = cli("gpus", folder, *(word for name in asked for word in ("--gpu", name)), "--json")
    assert done.code == code
    assert [verdict["gpu"] for verdict in done.data["gpus"] if verdict["asked"]] == asked


def test_a_folder_without_device_code_serves_nobody(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    done = cli("gpus", "./empty")
    assert (done.code, done.out) == (0, f"{tmp_path}/empty holds no GPU code; 0 files were read\n")
    assert cli("gpus", "./empty", "--gpu", "V100").code == 1


def test_what_is_damaged_is_said(cli, folder):
    (folder / "libcut.so").write_bytes((folder / "libx.so").read_bytes()[:1300])
    assert "not read libcut.so: " in cli("gpus", folder).out
    assert list(cli("gpus", folder, "--json").data["unread"]) == ["libcut.so"]


def test_wrong_usage(cli, tmp_path):
    unknown = cli("gpus", tmp_path, "--gpu", "V1000", "--json")
    assert (unknown.code, unknown.codes) == (2, ["gpu-unknown"])
    missing = cli("gpus", "./nowhere", "--json")
    assert (missing.code, missing.codes) == (2, ["folder-missing"])
    no_view = cli("gpus", "nowhere", "--json")
    assert (no_view.code, no_view.codes) == (1, ["view-unknown"])


def test_a_narrow_terminal_keeps_the_answers(cli, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = cli("gpus", folder).out.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["Library", *USUAL]
    assert "no room for: Made for" in lines
