"""A site demands proofs of a default: what is missing is told, comes from other hosts, or is overridden."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mlviews.smoke.records import read_records

CHECKS = ("imports", "pip-check", "torch-matmul", "torch-train")


@pytest.fixture
def site(builder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line at a site that demands a full run on a V100 and an A100, not older than a week."""
    monkeypatch.setenv("MLVIEWS_SITE", "careful")
    demands = {"gpus": ["V100", "A100", "T4"], "level": "full", "within": "7d"}
    builder.site("careful", promotion=demands)
    hardware = {"glibc": "2.17", "cuda": "12.4", "gpus": ["V100", "A100"]}
    builder.recipes.recipe("demo", "python", "greet", hardware=hardware, smoke=["torch-matmul", "torch-train"])
    return builder


@pytest.fixture
def built(site: Any, same_place: Any) -> Any:
    def build() -> Any:
        # The view holds no torch: its checks cannot be run here, and say so.
        site("build", "demo")
        hardware = {"glibc": "2.17", "cuda": "12.4", "gpus": ["V100", "A100"]}
        site.recipes.recipe("demo", "python", "greet", hardware=hardware)
        built = site("build", "demo", "--json")
        assert built.code == 0, built.out
        return built.data

    return same_place.once(build)


def record(folder: Path, built: Any, gpu: str, /, *, age: timedelta = timedelta(), **keys: Any) -> Path:
    """Write what a host with a GPU would: a record of a full run."""
    status = keys.pop("status", "pass")
    checks = [
        {"name": name, "status": status if name in CHECKS[2:] else "pass", "reason": "", "seconds": 1.0}
        | {"device": gpu if name in CHECKS[2:] else "", "driver": "575.1"}
        for name in CHECKS
    ]
    stated = {
        "schema": 1, "mlviews": "0.1.0", "view": "demo", "release": built["release"], "lock": built["lock"],
        "platform": "linux-64", "host": "far", "created": (datetime.now(timezone.utc) - age).isoformat(),
        "level": "full", "checks": checks, **keys,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(stated))
    return path


def promote(site: Any, built: Any, *options: str) -> Any:
    return site("promote", f"demo/{built['release']}", *options, "--json")


def test_a_build_of_what_is_not_proved_is_no_default(built):
    assert built["default"] is False


def test_what_is_missing_is_told_with_the_way_to_prove_it(site, built, tmp_path):
    record(tmp_path / "far", built, "Tesla V100-PCIE-16GB")
    site("records", "gather", *(tmp_path / "far").iterdir())

    refused = promote(site, built)

    assert (refused.code, refused.codes) == (1, ["unproved"])
    (error,) = refused.json["errors"]
    assert "full checks on V100, A100, T4, no older than 7d" in error["message"]
    assert "A100: no full record of torch-matmul, torch-train" in error["message"]
    assert "V100:" not in error["message"]
    assert "T4:" not in error["message"]  # the recipe does not name it
    assert "records gather" in error["hint"]


def test_what_other_hosts_proved_makes_it_the_default(site, built, tmp_path):
    for gpu in ("Tesla V100-PCIE-16GB", "NVIDIA A100-SXM4-40GB"):
        record(tmp_path / "far", built, gpu)

    gathered = site("records", "gather", *sorted((tmp_path / "far").iterdir()), "--json")
    again = site("records", "gather", *sorted((tmp_path / "far").iterdir()), "--json")

    assert [line["status"] for line in gathered.data["records"]] == ["new", "new"]
    assert [line["status"] for line in again.data["records"]] == ["known", "known"]
    assert promote(site, built).code == 0
    assert "V100, A100 proved" in site("releases", "demo").out


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"age": timedelta(days=8)}, "no full record of torch-matmul, torch-train"),
        ({"level": "quick"}, "no full record of torch-matmul, torch-train"),
        ({"status": "fail"}, "failed torch-matmul, torch-train"),
        ({"status": "skip"}, "no full record of torch-matmul, torch-train"),
    ],
)
def test_what_is_old_quick_or_failed_does_not_count(site, built, tmp_path, keys, said):
    record(tmp_path / "far", built, "Tesla V100-PCIE-16GB")
    record(tmp_path / "far", built, "NVIDIA A100-SXM4-40GB", **keys)
    assert site("records", "gather", *(tmp_path / "far").iterdir()).code == 0

    assert f"A100: {said}" in promote(site, built).json["errors"][0]["message"]


def test_an_override_is_kept_with_its_reason(site, built):
    done = promote(site, built, "--override", "the A100\nare down")

    assert done.code == 0
    assert (done.data["override"], len(done.data["missing"])) == ("the A100 are down", 3)
    (change,) = json.loads((site.root / "envs/demo/.history.json").read_text())["changes"]
    assert change["override"] == "the A100 are down"
    assert f"{built['release']} was promoted without proof: the A100 are down" in site("releases", "demo").out


@pytest.mark.parametrize(
    ("keys", "code", "status"),
    [
        ({"lock": "0" * 64}, "record-foreign", 1),
        ({"view": "../../etc"}, "record-foreign", 1),
        ({"view": "other"}, "record-foreign", 1),
        ({"age": timedelta(days=-2)}, "record-invalid", 2),
        ({"checks": "none"}, "record-invalid", 2),
        ({"schema": 2}, "unreadable", 3),
    ],
)
def test_a_record_of_something_else_is_refused(site, built, tmp_path, keys, code, status):
    path = record(tmp_path / "far", built, "Tesla V100-PCIE-16GB", **keys)

    refused = site("records", "gather", path, "--json")

    assert (refused.code, refused.codes) == (status, [code])
    assert not list((site.root / "records").rglob("*-0000.json"))


def test_one_that_is_refused_stops_no_other(site, built, tmp_path):
    good = record(tmp_path / "far", built, "Tesla V100-PCIE-16GB")
    bad = tmp_path / "bad.json"
    bad.write_text("{}")

    gathered = site("records", "gather", bad, good, "--json")

    assert (gathered.code, gathered.codes, len(gathered.data["records"])) == (1, ["record-invalid"], 1)


def test_what_a_record_holds_acts_on_nothing(site, built, tmp_path):
    record(tmp_path / "far", built, 'Tesla V100 \x1b[2J]] os.exit()\n"', host="far\x07")
    assert site("records", "gather", *(tmp_path / "far").iterdir()).code == 0

    (taken,) = (line for line in read_records(site.root, "demo", built["lock"]) if line.host.startswith("far"))
    assert (taken.host, taken.checks[2].device.isprintable()) == ("far ", True)
