"""Figures that mean something: times, published peaks, and what earlier records of a GPU say."""

from __future__ import annotations

import importlib
import json
import math
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.smoke.programs import PROGRAMS
from mlviews.smoke.records import Record, drops, view_records
from mlviews.smoke.report import CheckLine

CHECKS = PROGRAMS["imports"].path.parent
H100 = "NVIDIA H100 80GB HBM3 (sm_90)"


@pytest.fixture
def of_checks(monkeypatch):
    """Import what checks share, as a check does; the modules go with the test."""
    monkeypatch.setattr(sys, "path", [str(CHECKS), *sys.path])
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == CHECKS:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "multiprocessors", "float16", "bandwidth"),
    [
        ("Tesla V100-SXM2-32GB", 80, 125, 900),
        ("Tesla V100-PCIE-16GB", 80, 112, 900),
        ("Tesla T4", 40, 65, 320),
        ("NVIDIA GeForce RTX 2080 Ti", 68, 53.8, 616),
        ("GeForce GTX 1080 Ti", 28, None, 484),
        ("NVIDIA A100-SXM4-40GB", 108, 312, 1555),
        ("NVIDIA A100-SXM4-80GB", 108, 312, 2039),
        ("NVIDIA A100 80GB PCIe", 108, 312, 1935),
        ("NVIDIA A30", 56, 165, 933),
        ("NVIDIA A10", 72, 125, 600),
        ("NVIDIA A40", 84, 149.7, 696),
        ("NVIDIA L4", 58, 121, 300),
        ("NVIDIA L40S", 142, 362.05, 864),
        ("NVIDIA H100 80GB HBM3", 132, 989.5, 3350),
        ("NVIDIA H100 PCIe", 114, 756.5, 2000),
        ("NVIDIA H100 NVL", 132, 835.5, 3900),
        ("NVIDIA H200", 132, 989.5, 4800),
        ("NVIDIA H200 NVL", 132, 835.5, 4800),
        ("NVIDIA GH200 480GB", 132, 990, 4000),
        ("NVIDIA B200", 148, 2250, 8000),
        # a slice has its part of the multiprocessors, and its eighths of the memory
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 14, 312 * 14 / 108, 1555 / 8),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 42, 312 * 42 / 108, 1555 / 2),
        ("NVIDIA H200 MIG 1g.18gb", 16, 989.5 * 16 / 132, 600),
        ("NVIDIA A30 MIG 1g.6gb", 14, 165 / 4, 933 / 4),
    ],
)
def test_the_peak_of_a_gpu_is_found_by_the_name_that_its_driver_gives(
    of_checks, name, multiprocessors, float16, bandwidth
):
    peak = of_checks("_peaks").peak_of(name, multiprocessors)

    assert peak.products.get("float16") == (float16 and pytest.approx(float16))
    assert peak.bandwidth == pytest.approx(bandwidth)


@pytest.mark.parametrize(
    "name", ["", "NVIDIA RTX A4000", "NVIDIA A100X", "Tesla P100-PCIE-16GB", "NVIDIA L4 MIG 1g.5gb"]
)
def test_a_gpu_that_the_table_does_not_know_has_no_peak(of_checks, name):
    assert of_checks("_peaks").peak_of(name, 10) is None


def test_every_row_of_the_table_is_whole_and_no_two_are_one(of_checks):
    peaks = of_checks("_peaks").PEAKS

    assert len({peak.words for peak in peaks}) == len(peaks)
    for peak in peaks:
        assert peak.bandwidth > 0
        assert peak.products["float32"] > 0
        # Dense figures: each halving of the width doubles the rate at most fourfold; a sparse one among them would not.
        assert peak.products.get("int8", 0) <= 4.01 * peak.products.get("float16", math.inf)


def test_a_time_is_the_median_of_samples_that_are_long_enough(of_checks):
    speed, asked = of_checks("_speed"), []

    def timed(work, runs):
        asked.append(runs)
        return runs * (0.003 if len(asked) % 4 else 5.0)  # now and then a neighbour takes the machine

    assert speed.seconds(timed, None, "work") == pytest.approx(0.003)
    assert asked[0] == speed.WARM_UP
    assert set(asked[4:]) == {4}  # 4 runs of 3 ms are longer than 10 ms


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=12))
def test_whatever_a_clock_says_a_time_is_a_time_or_a_failure(times):
    sys.path.insert(0, str(CHECKS))
    try:
        speed, wrong = importlib.import_module("_speed"), importlib.import_module("_protocol").WrongError
        said = iter(times)
        took = speed.seconds(lambda work, runs: next(said, 1.0), None, "work")
    except wrong:
        return
    finally:
        sys.path.remove(str(CHECKS))
    assert 0 < took < math.inf


@pytest.mark.parametrize("clock", [0.0, -1.0, math.nan, math.inf])
def test_a_clock_that_stands_still_or_goes_back_is_a_failure_and_no_infinity(of_checks, clock):
    speed, protocol = of_checks("_speed"), of_checks("_protocol")

    with pytest.raises(protocol.WrongError, match=r"^work: the clock says that 1 run\(s\) took"):
        speed.seconds(lambda work, runs: clock, None, "work")


def test_a_rate_has_a_share_of_the_peak_where_a_gpu_that_is_known_did_it(of_checks, monkeypatch):
    speed, check = of_checks("_speed"), of_checks("_protocol").Check(full=True)
    monkeypatch.setattr(speed, "gpu_name", lambda: H100)
    monkeypatch.setattr(speed, "gpu_multiprocessors", lambda: 132)

    speed.tell(check, "cuda product", 7e14, "TFLOP/s", 1.0, kind="float16")
    speed.tell(check, "cuda copy", 3e12, "GB/s", 1.0, kind="bandwidth")
    speed.tell(check, "cpu product", 1e12, "TFLOP/s", 2.0)

    assert check.figures == {
        "cuda product: TFLOP/s": 700, "cuda product: share of the peak": 0.707,
        "cuda copy: GB/s": 3000, "cuda copy: share of the peak": 0.896,
        "cpu product: TFLOP/s": 0.5,
    }  # fmt: skip
    json.dumps(check.figures, allow_nan=False)


def test_work_that_is_faster_than_its_gpu_is_a_failure(of_checks, monkeypatch):
    """What a missing wait for the GPU gives: the time to start the work, and not of the work."""
    speed, protocol = of_checks("_speed"), of_checks("_protocol")
    monkeypatch.setattr(speed, "gpu_name", lambda: H100)
    monkeypatch.setattr(speed, "gpu_multiprocessors", lambda: 132)

    with pytest.raises(protocol.WrongError, match="the GPU's best is 67: work was left out"):
        speed.tell(protocol.Check(full=True), "cuda product", 2e14, "TFLOP/s", 1.0, kind="float64")


def line(device: str = H100, status: str = "pass", **figures: float) -> CheckLine:
    told = {f"cuda {name}: {unit}": value for name, value in figures.items() for unit in [UNITS[name]]}
    return CheckLine(name="torch-matmul", status=status, reason="", seconds=1, device=device, figures=told)


UNITS = {"product": "TFLOP/s", "copy": "GB/s", "step": "milliseconds", "share": "share of the peak"}


def record(*checks: CheckLine, lock: str = "ab" * 32, day: int = 1) -> Record:
    return Record(
        mlviews="1", view="demo", release="1", lock=lock, platform="linux-64", host="node", level="full",
        created=datetime(2026, 11, day, tzinfo=timezone.utc), checks=checks,
    )  # fmt: skip


def test_a_figure_far_below_what_the_gpu_did_before_is_told():
    earlier = [record(line(product=p, copy=3000, step=10)) for p in (600, 620, 100)]

    found = drops([line(product=300, copy=2900, step=30)], earlier)

    assert [(drop.figure, drop.now, drop.before, drop.records) for drop in found] == [
        ("cuda product: TFLOP/s", 300, 600, 3),
        ("cuda step: milliseconds", 30, 10, 3),  # of a time, less is better
    ]
    assert drops([line(product=500, copy=2200, step=14)], earlier) == ()
    assert drops([line(product=6000, copy=30000, step=1)], earlier) == ()


@pytest.mark.parametrize(
    "earlier",
    [
        [],
        [record(line(device="Tesla T4 (sm_75)", product=600))],
        [record(line(device="cpu", product=600))],
        [record(line(status="fail", product=600))],
        [record(line(share=600))],
        [record(line(product=math.inf))],
    ],
    ids=["no record", "another GPU", "a CPU", "a failure", "a share", "an infinity"],
)
def test_no_band_without_a_record_of_that_gpu(earlier):
    assert drops([line(product=1, share=1)], earlier) == ()


def test_what_a_cpu_did_has_no_band_even_beside_a_gpu():
    told = CheckLine(
        name="a", status="pass", reason="", seconds=1, device=H100,
        figures={"cpu product: TFLOP/s": 1.0, "CPUExecutionProvider: seconds an event": 1.0},
    )  # fmt: skip
    slow = told.model_copy(
        update={"figures": {"cpu product: TFLOP/s": 0.1, "CPUExecutionProvider: seconds an event": 9.0}}
    )

    assert drops([slow], [record(told)]) == ()


def test_records_of_every_lock_of_a_view_are_read_and_nothing_else(tmp_path):
    for lock, day in (("ab" * 32, 2), ("cd" * 32, 1)):
        folder = tmp_path / "records/demo" / lock
        folder.mkdir(parents=True)
        (folder / "1.json").write_text(record(line(), lock=lock, day=day).text())
    (folder / "2.json").write_text("{}")
    (folder / "3.json").write_text(record(line()).model_copy(update={"view": "other"}).text())

    assert [found.created.day for found in view_records(tmp_path, "demo")] == [1, 2]
    assert view_records(tmp_path, "other") == ()
