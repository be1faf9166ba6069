"""What workers ask batch systems for; tests/nightly/test_slurm.py runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlviews.errors import RefusedError
from mlviews.jobs import cluster
from mlviews.site.batch import BatchSystem

QUEUES = {
    "short": {"limit": "2h"},
    "gpu": {"limit": "3d", "gpus": {"A100": "a100"}, "gpus-per-node": 4},
}


def _site(system: str, queues: Any = QUEUES, **keys: Any) -> dict[Any, BatchSystem]:
    return {system: BatchSystem.model_validate({"queues": queues, **keys})}


@pytest.mark.parametrize(
    ("site", "gpu", "queue", "seconds", "gpus"),
    [
        (_site("slurm", {}), True, "", 4 * 3600, 0),
        (_site("slurm"), False, "gpu", 4 * 3600, 0),
        (_site("slurm"), True, "gpu", 4 * 3600, 1),
        (_site("slurm", {"short": QUEUES["short"]}), True, "short", 2 * 3600, 0),
        ({**_site("panda"), **_site("htcondor")}, True, "gpu", 4 * 3600, 1),
    ],
)
def test_workers_go_where_they_fit(site: Any, gpu: bool, queue: str, seconds: int, gpus: int) -> None:
    planned = cluster.plan_workers(site, 2, Path("/data"), gpu=gpu)
    assert (planned.queue, planned.seconds, planned.gpus) == (queue, seconds, gpus)


def test_panda_alone_has_no_workers() -> None:
    with pytest.raises(RefusedError) as raised:
        cluster.plan_workers(_site("panda"), 1, Path("/data"), gpu=False)
    assert raised.value.code == "cluster-missing"


@pytest.mark.parametrize("root", ["/data/my views", "/data/$(touch x)", "/data/%j", "/data/a;b"])
def test_a_root_that_a_job_cannot_name_is_refused(root: str) -> None:
    with pytest.raises(RefusedError) as raised:
        cluster.plan_workers(_site("slurm"), 1, Path(root), gpu=False)
    assert raised.value.code == "cluster-path"


def _script(folder: Path, site: Any) -> str:
    made = cluster._cluster(cluster.plan_workers(site, 1, folder, gpu=True), folder)
    try:
        return made.job_script()
    finally:
        made.close()


def test_slurm_is_asked_for_a_gpu_and_one_cell_at_a_time(tmp_path: Path) -> None:
    script = _script(tmp_path, _site("slurm", account="atlas"))
    lines = {line.removeprefix("#SBATCH ") for line in script.splitlines()}
    assert {"-p gpu", "-A atlas", "-t 04:00:00", "--cpus-per-task=2", "--gpus-per-node=1"} <= lines
    assert f"--tls-key {tmp_path}/key.pem" in script
    assert re.findall(r"--nthreads (\d)", script)[-1] == "1"  # the last one counts
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600


_ADS = """
import htcondor, json, sys
(ad,) = htcondor.Submit(sys.stdin.read()).jobs(count=1, clusterid=7, owner="me")
print(json.dumps({name: str(ad.get(name)) for name in sys.argv[1:]}))
"""


def test_htcondor_makes_a_job_ad_of_a_worker(tmp_path: Path) -> None:
    script = _script(tmp_path, _site("htcondor", account="group_u_ATLAS"))
    names = ("Args", "Arguments", "JobFlavour", "AcctGroup", "RequestGPUs")
    done = subprocess.run(
        [sys.executable, "-c", _ADS, *names], input=script, check=True, capture_output=True, text=True,
        env={**os.environ, "CONDOR_CONFIG": "/dev/null"},
    )  # fmt: skip
    ad = json.loads(done.stdout)
    assert (ad["JobFlavour"], ad["RequestGPUs"]) == ("gpu", "1")
    assert ad["AcctGroup"] in {"group_u_ATLAS", "group_u_ATLAS.me"}
    assert "distributed.cli.dask_worker" in ad["Args"] + ad["Arguments"]
