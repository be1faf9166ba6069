"""What records prove of a lock's GPUs, and who is told."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from mlviews.hardware import host_platform
from mlviews.release import Activation, Release, gpus_in_words
from mlviews.smoke.records import Record, last_results, proved_gpus, read_records, write_record
from mlviews.smoke.report import CheckLine

LOCK = "ab" * 32


def line(status: str = "pass", device: str = "Tesla V100-SXM2-32GB", name: str = "torch-matmul") -> CheckLine:
    return CheckLine(name=name, status=status, reason="", seconds=1, device=device, driver="580.65.06")


def record(*checks: CheckLine, day: int = 1) -> Record:
    return Record(
        mlviews="1", view="demo", release="1", lock=LOCK, platform="linux-64", host="node", level="quick",
        created=datetime(2026, 11, day, tzinfo=timezone.utc), checks=checks,
    )  # fmt: skip


def told(claimed: list[str], *records: Record) -> str:
    return gpus_in_words(proved_gpus(claimed, records))


def test_a_gpu_without_work_done_on_it_is_claimed_and_unproved():
    assert told(["T4", "V100"]) == "T4, V100 claimed, unproved"
    assert told(["V100"], record(line(device="cpu"), line("skip", device=""))) == "V100 claimed, unproved"
    assert told([]) == ""


def test_a_gpu_is_proved_by_checks_that_passed_on_it():
    found = proved_gpus(["T4", "V100"], [record(line(), line(name="torch-train"), line(device="cpu"), day=2)])

    assert gpus_in_words(found) == "V100 proved; T4 claimed, unproved"
    assert [gpu.gpu for gpu in found] == ["T4", "V100"]
    proof = found[1]
    assert (proof.device, proof.driver, proof.checked) == (
        "Tesla V100-SXM2-32GB", "580.65.06", "2026-11-02T00:00:00+00:00",
    )  # fmt: skip
    assert (proof.passed, proof.failed) == (["torch-matmul", "torch-train"], [])


def test_of_each_check_the_last_result_on_each_device_counts():
    full = record(line("fail", name="torch-attention"), line(), day=1)
    one = record(line(), day=2)

    assert told(["V100"], full, one) == "V100 failed"
    (found,) = proved_gpus(["V100"], [full, one])
    assert (found.passed, found.failed) == (["torch-matmul"], ["torch-attention"])
    assert found.checked == "2026-11-02T00:00:00+00:00"
    mended = record(line(name="torch-attention"), day=3)
    assert told(["V100"], full, one, mended) == "V100 proved"
    other = record(line(name="torch-attention", device="Tesla V100-PCIE-16GB"), day=3)
    assert told(["V100"], full, other) == "V100 failed"
    assert last_results([full, other]) == {"torch-attention": False, "torch-matmul": True}


def test_what_could_not_run_on_a_device_proves_nothing_of_it():
    assert told(["V100"], record(line("error"), line("skip"))) == "V100 claimed, unproved"


def test_a_failure_that_came_to_no_device_is_mended_on_any():
    crashed = record(line("fail", device=""), day=1)

    assert last_results([crashed]) == {"torch-matmul": False}
    assert last_results([crashed, record(line(), day=2)]) == {"torch-matmul": True}


def test_one_failure_outweighs_every_pass_and_the_last_result_all_before():
    good, bad = record(line(), day=1), record(line(name="torch-train"), line("fail"), day=2)

    assert told(["V100"], good, bad) == "V100 failed"
    assert told(["V100"], bad, good) == "V100 proved"
    assert told(["V100"], bad, record(line(device="cpu"), day=3)) == "V100 failed"


@pytest.mark.parametrize(
    ("device", "gpu"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA GH200 480GB", "NVIDIA GH200 480GB"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("Tesla T4", "T4"),
    ],
)
def test_a_drivers_name_is_the_claimed_gpu_only_where_it_is_that_word(device, gpu):
    assert next(found.gpu for found in proved_gpus(["A10", "A100", "H100", "T4"], [record(line(device=device))])
                if found.status == "proved") == gpu  # fmt: skip


def test_records_are_read_as_they_were_written_and_what_else_lies_there_is_left_out(tmp_path):
    release = Release(
        mlviews="1", view="demo", release="1", platform=host_platform(), summary="Demo", module="a/demo", site="local",
        prefix="/v", lock_digest=LOCK, created="2026-01-01T00:00:00Z", packages=(),
        activation=Activation(prepend={}, set={}, unset=()),
    )  # fmt: skip
    first = write_record(tmp_path, release, [line()], level="quick")
    write_record(tmp_path, release, [line("fail")], level="full")
    for name, content in {
        "a.json": "not JSON",
        "b.json": record(line()).model_copy(update={"view": "other"}).text(),
        "c.json": record(line()).model_copy(update={"lock": "cd" * 32}).text(),
        "d.json": json.dumps({"lock": LOCK}),
    }.items():
        (first.parent / name).write_text(content)
    (first.parent / "e.json").mkdir()

    found = read_records(tmp_path, "demo", LOCK)

    assert [(item.level, item.checks[0].status) for item in found] == [("quick", "pass"), ("full", "fail")]
    assert read_records(tmp_path, "other", LOCK) == ()
