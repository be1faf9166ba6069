"""A view that is proved on each kind of GPU: Slurm is real, its GPUs are not, so the checks are the CPU's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.jobs import prove
from mlviews.jobs.prove import GpuNodes, gpu_nodes
from mlviews.site.batch import BatchSystem

if TYPE_CHECKING:
    from slurm import Slurm


@pytest.fixture
def built(builder: Any, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A GPU view on a site that has this Slurm."""
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setattr(prove, "_POLL_SECONDS", 0.2)
    builder.recipes.recipe(
        "demo", "python", "greet", hardware={"glibc": "2.17", "cuda": "12.4", "gpus": ["V100", "A100"]}
    )
    builder.site("here", batch={"slurm": {"queues": {"main": {"limit": "1d"}}}})
    assert builder("build", "demo", "--site", "here").code == 0
    return builder


def test_each_kind_of_gpu_leaves_a_record(built: Any, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {*(built.root / "records").rglob("*.json")}
    done = built("smoke", "demo", "--site", "here", "--cluster", "--json")
    assert done.code == 0, done.err
    assert [(line["gpu"], line["queue"], line["problem"]) for line in done.data["gpus"]] == [
        ("V100", "main", ""), ("A100", "main", ""),
    ]  # fmt: skip
    records = [Path(line["record"]) for line in done.data["gpus"]]
    assert {*records} == {*(built.root / "records").rglob("*.json")} - before
    assert len({*records}) == 2
    assert [slurm.job(line["job"])["NodeList"] for line in done.data["gpus"]] == ["n1", "n2"]
    asked = [slurm.job(line["job"])["TresPerNode"] for line in done.data["gpus"]]
    assert [each.replace("gres/", "gres:") for each in asked] == [  # Slurm 26.05 writes a slash
        "gres:gpu:tesla_v100:1", "gres:gpu:a100:1",
    ]  # fmt: skip
    assert {check["status"] for line in done.data["gpus"] for check in line["checks"]} == {"pass"}


def test_a_job_that_does_not_start_in_time_is_cancelled(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    monkeypatch.setattr(prove, "_POLL_SECONDS", 0.2)
    kinds = [GpuNodes("V100", "main", ("--hold",)), GpuNodes("A100", "main", ("--partition=none",))]
    slow, refused = prove.run_on(
        kinds, ("true",), tmp_path, account="", seconds=60, wait=1, done=lambda job: None
    )  # fmt: skip
    assert slow.problem == f"job {slow.number} had not ended after 1m, and was cancelled"
    assert slurm.state(slow.number) == "CANCELLED"
    assert "invalid partition" in refused.problem


def test_what_has_no_gpu_or_no_recipe_is_told(built: Any, tmp_path: Path) -> None:
    assert built("smoke", "demo", "--cluster", "--queue", "none", "--json").codes == ["no-gpus"]
    recipes = ("--recipes", str(tmp_path))
    assert built("smoke", "demo", "--cluster", "--json", *recipes).codes == ["view-unknown"]
    built.recipes.recipe("plain", "python", "greet")
    assert built("build", "plain", "--site", "here").code == 0
    assert built("smoke", "plain", "--site", "here", "--cluster", "--json").codes == ["no-gpu-view"]


LISTING = """\
short|gpu:t4:1(S:0-1)|el9|257000
gpu|gpu:nvidia_a100_80gb_pcie:4(S:0,1),gpu:1g.10gb:7(S:0)|el9,a100|515000+
gpu|gpu:2,craynetwork:1|el9,v100|15800
gpu|gpu:2|el9|15800
mystery|gpu:odd_9:2|(null)|1
cpu|(null)|el9|1
"""


def test_kinds_are_known_by_type_or_feature() -> None:
    queues = {"gpu": {"gpus": {"V100": "v100", "A100": "a100"}}, "short": {}}
    batch = BatchSystem.model_validate({"queues": queues})
    assert gpu_nodes(LISTING, batch) == (
        GpuNodes("A100", "gpu", ("--partition=gpu", "--mem=16384M", "--gres=gpu:nvidia_a100_80gb_pcie:1")),
        GpuNodes("1g.10gb", "gpu", ("--partition=gpu", "--mem=16384M", "--gres=gpu:1g.10gb:1")),
        GpuNodes("V100", "gpu", ("--partition=gpu", "--mem=15800M", "--gres=gpu:1", "--constraint=v100")),
        GpuNodes("GPU", "gpu", ("--partition=gpu", "--mem=15800M", "--gres=gpu:1")),
        GpuNodes("T4", "short", ("--partition=short", "--mem=16384M", "--gres=gpu:t4:1")),
    )
    assert [nodes.kind for nodes in gpu_nodes(LISTING, BatchSystem())] == ["T4", "A100", "1g.10gb", "GPU", "odd_9"]
    assert [nodes.kind for nodes in gpu_nodes(LISTING, batch, "mystery")] == ["odd_9"]
    only = BatchSystem.model_validate({"queues": {"gpu": {"gpus": {"H100": None}}}})
    assert "H100" in [nodes.kind for nodes in gpu_nodes(LISTING, only)]
