"""`mlviews doctor`: what it finds on this host, and why a view does not fit."""

from __future__ import annotations

import grp
import json
import os
import platform
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from mlviews.doctor import Finding, Host, drivers, examine, fits, left_out
from mlviews.release import Release
from mlviews.site.profile import open_site


@pytest.fixture
def host() -> Host:
    return Host("linux-64", "2.34", "12.6", "x86_64_v3", ())


@pytest.fixture
def why(cli, host):
    """Return a function that writes a view and tells why it does not run on a host; empty if it does."""
    from mlviews.recipe.catalogue import open_catalogue

    def why(host: Host = host, **keys: object) -> str:
        cli.recipes.recipe("demo", "plain", **keys)
        (fit,) = fits(open_catalogue(cli.recipes.folder), host)
        assert fit.runs == (not fit.why)
        return fit.why

    return why


def gpu(glibc: str = "2.28", cuda: str = "12.4") -> dict[str, object]:
    return {"hardware": {"glibc": glibc, "cuda": cuda, "gpus": ["T4"]}}


def test_a_view_that_fits_runs(why):
    assert why() == ""
    assert why(**gpu()) == ""


def test_each_reason_against_a_view_is_said_with_both_sides(why, host):
    assert why(platforms=["linux-aarch64"]) == "is for linux-aarch64 only"
    assert why(hardware={"glibc": "2.35"}) == "needs glibc 2.35; this host has 2.34"
    assert why(hardware={"glibc": "2.9"}) == ""  # 9 comes before 34
    assert "level x86_64_v4; this host has x86_64_v3" in why(hardware={"glibc": "2.28", "archspec": "x86_64_v4"})
    assert why(**gpu(cuda="12.9")) == "needs a driver for CUDA 12.9; this one serves 12.6"
    assert why(replace(host, cuda=""), **gpu()) == "needs an NVIDIA driver; this host has none"
    assert why(replace(host, compute=(60, 61)), **gpu()) == (
        "needs a GPU of compute capability 7.5 (T4) or newer; this host has 6.1"
    )
    assert why(replace(host, compute=(60, 100)), **gpu()) == ""
    assert why(replace(host, glibc="")) == "needs glibc 2.34; this host has none"


def test_the_driver_that_each_cuda_version_needs_is_told_with_the_views_that_ask_for_it(cli, host):
    from mlviews.recipe.catalogue import open_catalogue

    cli.recipes.recipe("faulty", "plain", layers=["no-such-layer"])
    cli.recipes.recipe("plain", "plain")
    for name, cuda in {"new": "13.0", "old-a": "12.4", "old-b": "12.4"}.items():
        cli.recipes.recipe(name, "plain", **gpu(cuda=cuda))

    lines = drivers(open_catalogue(cli.recipes.folder), host)

    assert [(line.cuda, line.driver, line.here, line.views) for line in lines] == [
        ("12.4", "550.54.14", True, ["old-a", "old-b"]),
        ("13.0", "580.65.06", False, ["new"]),
    ]
    assert not any(line.here for line in drivers(open_catalogue(cli.recipes.folder), replace(host, cuda="")))
    out = cli("doctor").out
    assert "580.65.06 or newer" in out


def test_a_host_with_too_old_a_driver_is_told_what_to_ask_for(cli, host, monkeypatch):
    cli.recipes.recipe("new", "plain", **gpu(cuda="13.0"))
    card = Finding(name="GPU", status="ok", found="Tesla T4, 560.28.03, 15360 MiB; CUDA 12.6")
    monkeypatch.setattr("mlviews.doctor.examine", lambda site: replace(host, findings=(card,)))

    assert "ask the administrator of this host for driver 580.65.06 or newer" in cli("doctor").out


def test_a_release_without_code_for_this_hosts_gpu_is_a_note(host):
    def release(view: str, **served: str) -> Release:
        return Release.model_construct(view=view, release="2026.1", served=served)

    releases = (release("old", V100="none", T4="native"), release("new", V100="ptx"), release("cpu"))
    volta = replace(host, compute=(70,))
    (note,) = left_out(releases, volta)
    assert (note.status, note.name) == ("note", "GPU code")
    assert note.found == "old/2026.1 holds no code for this host's GPU (V100)"
    assert left_out(releases, replace(host, compute=(75,))) == []
    assert left_out(releases, host) == []


def test_a_faulty_recipe_is_no_end_of_the_list(cli, host):
    from mlviews.recipe.catalogue import open_catalogue

    cli.recipes.recipe("good", "plain")
    cli.recipes.recipe("faulty", "plain", layers=["no-such-layer"])

    found = {fit.view: fit for fit in fits(open_catalogue(cli.recipes.folder), host)}

    assert found["good"].runs
    assert "no-such-layer" in found["faulty"].why


def test_this_host_is_what_other_tools_say_it_is(tmp_path: Path):
    found = examine(open_site("local", root=tmp_path / "not" / "there"))

    assert found.glibc == platform.libc_ver()[1]
    by_name = {finding.name: finding for finding in found.findings}
    assert list(by_name) == ["platform", "glibc", "GPU", "modules", "containers", "site", "space", "locks"]
    assert by_name["site"].found == "local: conda-forge"
    free = shutil.disk_usage(tmp_path).free / 1e9
    assert abs(float(by_name["space"].found.split()[0]) - free) < 5
    assert not (tmp_path / "not").exists()


def test_the_group_that_shares_the_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def told(group: str) -> tuple[str, str]:
        site = replace(open_site("local", root=tmp_path), group=group)
        found = next(finding for finding in examine(site).findings if finding.name == "site")
        return found.status, found.found

    own, other = grp.getgrgid(os.getegid()).gr_name, grp.getgrgid(1).gr_name
    assert told(own) == ("ok", f"local: conda-forge; {tmp_path} is shared by the group {own}")
    assert told("no-such-group") == ("problem", "local: this host knows no group 'no-such-group'")
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    monkeypatch.setattr("os.getgroups", list)
    assert told(own)[0] == "ok"
    assert told(other) == (
        "note",
        f"local: conda-forge; {tmp_path} is shared by the group {other}, and you are not in it",
    )


def test_a_shell_with_modules_is_recognised(tmp_path, monkeypatch):
    for name in ("LMOD_CMD", "LMOD_VERSION", "MODULESHOME"):
        monkeypatch.delenv(name, raising=False)

    def modules() -> tuple[str, str]:
        found = examine(open_site("local", root=tmp_path)).findings
        return next((finding.status, finding.found) for finding in found if finding.name == "modules")

    assert modules()[0] == "note"
    monkeypatch.setenv("MODULESHOME", "/usr/share/modules")
    assert modules() == ("ok", "environment-modules in /usr/share/modules")
    monkeypatch.setenv("LMOD_CMD", "/usr/share/lmod/lmod/libexec/lmod")
    monkeypatch.setenv("LMOD_VERSION", "8.6.19")
    assert modules() == ("ok", "Lmod 8.6.19")


def test_a_smi_that_hangs_on_nothing_or_fails_is_no_gpu(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    found = next(f for f in examine(open_site("local", root=tmp_path)).findings if f.name == "GPU")

    assert "failed" not in found.found


def test_the_json_is_what_its_schema_says(cli):
    cli.recipes.recipe("demo", "plain")

    done = cli("doctor", "--json")

    problems = any(finding["status"] == "problem" for finding in done.data["findings"])
    assert done.code == int(problems)
    schemas = resources.files("mlviews") / "schemas"
    jsonschema.validate(done.json, json.loads((schemas / "envelope.schema.json").read_text()))
    jsonschema.validate(done.data, json.loads((schemas / "result-doctor.schema.json").read_text()))


def test_people_get_two_tables(cli):
    cli.recipes.recipe("demo", "plain")

    out = cli("doctor").out

    assert "glibc" in out
    assert any(line.split()[:3] == ["demo", "would", "run"] for line in out.splitlines())
    assert "`mlviews build VIEW` builds a view that would run." in out


def test_what_is_built_runs_and_what_is_not_would(builder):
    for name in ("demo", "other"):
        builder.recipes.recipe(name, "greet")
    assert builder("build", "demo").code == 0
    told = builder("doctor", "--json").data["views"]
    found = {fit["view"]: (fit["runs"], fit["built"]) for fit in told}
    assert (found["demo"], found["other"]) == ((True, True), (True, False))
    words = [line.split()[:3] for line in builder("doctor").out.splitlines() if line.startswith(("demo", "other"))]
    assert words == [["demo", "runs"], ["other", "would", "run"]]


def test_a_root_that_others_fill_is_no_problem_for_who_reads_it(cli, monkeypatch):
    cli.recipes.recipe("demo", "plain")
    cli.root.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    (space,) = [line for line in cli("doctor", "--json").data["findings"] if line["name"] == "space"]
    assert (space["status"], space["found"]) == ("note", f"{cli.root} is not writable for you")


def test_a_slurm_that_does_not_answer_is_the_problem_and_not_the_partitions_that_a_site_names(tmp_path, monkeypatch):
    for name in ("sbatch", "sinfo"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "mine.yaml").write_text(
        f"schema: 1\nname: mine\nsummary: Mine\nroot: {tmp_path}\nchannels: [conda-forge]\n"
        "batch: {slurm: {queues: {main: {}}}}\n"
    )

    found = next(
        finding for finding in examine(open_site(str(tmp_path / "mine.yaml"))).findings if finding.name == "Slurm"
    )

    assert (found.status, found.found) == ("problem", "sbatch is here, but sinfo names no partition")


def test_a_quota_that_nobody_tells_and_a_folder_that_nobody_may_see_are_findings(tmp_path, monkeypatch):
    import mlviews.doctor as module

    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "fs").write_text("#!/bin/sh\nexec sleep 60\n")
    (programs / "fs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(module, "_AFS", tmp_path)
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.3)

    hangs = {finding.name: finding for finding in examine(open_site("local", root=tmp_path / "a/b")).findings}["space"]

    assert (hangs.status, "does not answer" in hangs.found, "aklog" in hangs.advice) == ("problem", True, True)

    def unseen(path: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    site = open_site("local", root=tmp_path / "a/b")
    monkeypatch.setattr(module.Path, "exists", unseen)
    monkeypatch.setattr(module.shutil, "disk_usage", unseen)
    hidden = {finding.name: finding for finding in examine(site).findings}["space"]
    assert (hidden.status, "Permission denied" in hidden.found) == ("problem", True)
