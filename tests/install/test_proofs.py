"""What people are told of the GPUs that proved a view: by `show`, by `releases`, and by the modulefiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlviews.smoke.report import CheckLine

CLAIMED = "V100, T4 claimed, unproved"
PROVED = "V100 proved; T4 claimed, unproved"


@pytest.fixture
def built(builder: Any, shelf: Any, same_place: Any, binaries: Any) -> Any:
    """The command line, with a GPU view that was built here."""
    code = binaries.container(binaries.Piece("sm_70"), binaries.Piece("sm_75"))
    shelf.add("kernels", subdir="linux-64", files={"lib/libkernels.so": binaries.library(code)})

    def build() -> None:
        hardware = {"glibc": "2.17", "cuda": "12.4", "gpus": ["V100", "T4"]}
        builder.recipes.recipe("demo", "python", "greet", "kernels", hardware=hardware)
        done = builder("build", "demo")
        assert done.code == 0, done.err

    same_place.once(build)
    return builder


def modulefiles(builder: Any) -> list[str]:
    folder = builder.root / "modulefiles/atlasml/demo"
    return [path.read_text() for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def told(builder: Any, words: str) -> None:
    assert words in builder("show", "demo").out
    assert words in builder("releases", "demo").out
    found = modulefiles(builder)
    assert len(found) == 2
    assert all(f"GPUs: {words}" in text for text in found)


def on_a_gpu(builder: Any, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """Test the view on a host with a GPU, which stands in for the checks' processes: there is none to be had."""
    line = CheckLine(name="torch-matmul", status=status, reason="", seconds=1, device="Tesla V100-PCIE-16GB")
    monkeypatch.setattr("mlviews.smoke.runner.run_checks", lambda *_, **__: (line,))
    assert builder("smoke", "demo").code == (0 if status == "pass" else 1)


def test_a_build_on_a_host_without_gpu_claims_and_proves_nothing(built):
    told(built, CLAIMED)


def test_a_test_on_a_gpu_is_told_by_all_until_another_one_fails(built, monkeypatch):
    on_a_gpu(built, monkeypatch, "pass")
    told(built, PROVED)
    proof = built("show", "demo", "--json").data["recipe"]["gpus"][0]
    assert (proof["gpu"], proof["device"], proof["passed"]) == ("V100", "Tesla V100-PCIE-16GB", ["torch-matmul"])
    assert built("releases", "demo", "--json").data["releases"][0]["gpus"][0] == proof

    on_a_gpu(built, monkeypatch, "fail")
    told(built, "V100 failed; T4 claimed, unproved")


def test_a_proof_is_of_one_lock(built, monkeypatch):
    on_a_gpu(built, monkeypatch, "pass")
    built.recipes.recipe("demo", "greet", hardware={"glibc": "2.17", "cuda": "12.4", "gpus": ["V100", "T4"]})
    built("lock", "demo")

    assert CLAIMED in built("show", "demo").out
    assert PROVED in built("releases", "demo").out


def test_a_store_whose_modulefiles_cannot_be_written_keeps_the_record(built, monkeypatch):
    folder = built.root / "modulefiles/atlasml/demo"
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.touch()
    line = CheckLine(name="torch-matmul", status="pass", reason="", seconds=1, device="Tesla V100-PCIE-16GB")
    monkeypatch.setattr("mlviews.smoke.runner.run_checks", lambda *_, **__: (line,))

    done = built("smoke", "demo", "--json")

    assert (done.code, done.codes) == (0, ["write-failed"])
    assert Path(done.data["record"]).is_file()


def test_a_view_for_the_cpu_speaks_of_no_gpu(builder):
    builder.recipes.recipe("demo", "python", "greet")
    builder("build", "demo")

    assert "GPU" not in "".join(modulefiles(builder))
    assert "GPUs" not in builder("show", "demo").out
    assert "GPUs" not in builder("releases", "demo").out
