"""`mlviews job`: from a built view to a file that Slurm takes and runs."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def demo(builder: Any) -> Any:
    builder.recipes.recipe("demo", "python", "greet")
    assert builder("build", "demo").code == 0
    builder.site(
        "here",
        batch={
            "slurm": {"queues": {"main": {"limit": "1d"}}},
            "htcondor": {"queues": {"workday": {"limit": "8h"}}},
        },
    )
    return builder


def test_a_job_goes_from_the_line_to_slurm_and_back(demo, slurm, tmp_path, monkeypatch):
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    tmp_path.chmod(0o755)
    program = "import sys, greet; print(greet.__file__, sys.argv[1:])"

    done = demo(
        "job",
        "demo",
        "--site",
        "here",
        "--submit",
        "-o",
        tmp_path / "j.sh",
        "--json",
        "--",
        "python",
        "-c",
        program,
        "a b",
    )

    assert done.code == 0, done.out
    number = done.data["submitted"].split()[-1]
    slurm.wait(number, "COMPLETED")
    said = slurm.output(number)
    assert f"{demo.root}/envs/demo/" in said
    assert "['a b']" in said
    assert (done.data["system"], done.data["queue"]) == ("slurm", "main")


def test_a_job_runs_from_an_image_that_it_copies_to_its_node(demo, slurm, tmp_path, monkeypatch, require):
    require("mksquashfs")
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    tmp_path.chmod(0o755)
    image = demo("pack", "demo", "-o", tmp_path / "demo.sqfs", "--json").data["image"]
    shutil.rmtree(demo.root / "envs")
    options = ("--site", "here", "--system", "slurm", "--image", image["path"], "--time", "1h")
    program = """
import os, sys
copies = f"{os.environ.get('TMPDIR', '/tmp')}/mlviews-{os.getuid()}"
print(sys.prefix, sys.argv[1:], copies, *os.listdir(copies))
"""

    done = demo("job", *options, "--submit", "-o", tmp_path / "j.sh", "--json", "--", "python", "-c", program, "a b")

    assert done.code == 0, done.out
    number = done.data["submitted"].split()[-1]
    slurm.wait(number, "COMPLETED")
    said, found, rest = slurm.output(number).partition("['a b'] ")
    assert (said, found) == (f"{image['place']} ", "['a b'] ")
    copies, *names = rest.split()
    assert f"{image['sha256']}.sqfs" in names
    assert not Path(copies, f"{image['sha256']}.sqfs").exists(), "the last job of the node removes it"
    assert (done.data["view"], done.data["lock"]) == ("demo", image["lock"])
    assert not Path(image["place"]).exists()
    line = demo("job", *options, "--interactive").out
    assert line.endswith(f"{image['launch']} bash\n")
    assert demo("job", "--image", image["path"], "--system", "panda", "--", "x").code == 2
    Path(image["launch"]).unlink()
    assert demo("job", *options, "--json", "--", "x").codes == ["image-launch-missing"]


def test_a_job_is_written_beside_what_it_needs(demo, tmp_path):
    done = demo(
        "job", "demo", "--system", "slurm", "--resume", "-o", tmp_path / "new/train.sh", "--", "python", "train.py"
    )
    assert done.out.split() == [f"{tmp_path}/new/train.sh", f"{tmp_path}/new/train.files/mlviews_resume.py"]
    assert (tmp_path / "new/train.sh").stat().st_mode & 0o111
    assert str(tmp_path / "new/train.files") in (tmp_path / "new/train.sh").read_text()
    printed = demo("job", "demo", "--resume", "--", "python", "train.py")
    assert printed.out.startswith("#!/bin/bash\n")
    assert "-o FILE also writes demo.slurm.files/mlviews_resume.py" not in printed.out
    assert "-o FILE also writes" in printed.err


def test_the_first_system_of_a_site_is_the_usual_one(demo):
    assert demo("job", "demo", "--site", "here", "--json", "--", "x").data["system"] == "slurm"
    condor = demo("job", "demo", "--site", "lxplus", "--root", demo.root, "--time", "2h", "--json", "--", "x").data
    assert (condor["system"], condor["queue"]) == ("htcondor", "longlunch")


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        ([], 2, "name a program after --"),
        (["--time", "3", "--", "x"], 2, "is not a time such as 3d"),
        (["--memory", "lots", "--", "x"], 2, "is not a size such as"),
        (["--queue", "a b; rm", "--", "x"], 2, "must be letters"),
        (["--lightning", "--", "x"], 2, "--lightning needs --resume"),
        (["--system", "panda", "--via", "launch", "--", "x"], 2, "cannot read this root"),
        (["--site", "here", "--time", "2d", "--", "x"], 1, "fits into no queue"),
        (["--site", "here", "--system", "panda", "--interactive"], 1, "no interactive jobs"),
        (["--submit", "--system", "htcondor", "--", "x"], 3, "there is no condor_submit here"),
    ],
)
def test_what_cannot_be_is_said(demo, monkeypatch, arguments, code, what):
    done = demo("job", "demo", *arguments)
    assert (done.code, done.out) == (code, "")
    assert what in " ".join(done.err.split())


def test_what_is_left_to_fill_in_is_told_where_a_file_is_written(demo, tmp_path):
    assert "to fill in, in j.sh: the partition" in demo("job", "demo", "-o", tmp_path / "j.sh", "--", "x").err
    assert demo("job", "demo", "--site", "here", "-o", tmp_path / "j.sh", "--", "x").err == ""


def test_a_script_that_is_not_there_is_told_before_the_job_waits(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    assert demo("job", "demo", "--site", "here", "--", "python", "-u", "train.py", "to/come.py").err == ""
    wrong = ("job", "demo", "--site", "here", "--", "python", "-u", "tarin.py", "--seed", "1")
    assert demo(*wrong).err == "note: there is no tarin.py here; did you mean 'train.py'?\n"
    found = demo("--json", *wrong)
    assert (found.code, found.data["absent"]) == (0, "tarin.py")
    submitted = demo("--json", *wrong[:4], "--submit", *wrong[4:])
    assert (submitted.code, submitted.codes) == (1, ["script-missing"])
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["train.py"], "nothing was written"


def test_a_job_runs_where_it_is_submitted_and_not_where_its_file_lies(demo, slurm, tmp_path, monkeypatch):
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/fit.py").write_text("import os, helper; print(os.getcwd(), helper.word)")
    (tmp_path / "src/helper.py").write_text("word = 'beside it'")
    monkeypatch.chdir(tmp_path)
    done = demo("job", "demo", "--site", "here", "--submit", "-o", "jobs/j.sh", "--json", "--", "python", "src/fit.py")
    number = done.data["submitted"].split()[-1]
    slurm.wait(number, "COMPLETED")
    assert slurm.output(number) == f"{tmp_path} beside it\n"
    done = demo(
        "job", "demo", "--system", "htcondor", "--resume", "-o", "jobs/j.sub", "--", "python", "-u", "src/fit.py"
    )
    assert done.err == ""
    lines = [line.replace(" ", "") for line in (tmp_path / "jobs/j.sub").read_text().splitlines()]
    assert {"executable=jobs/j.job.sh", "transfer_input_files=src,jobs/j.files"} <= {*lines}
    panda = demo("job", "demo", "--system", "panda", "-o", "jobs/j.panda.sh", "--", "python", "src/fit.py")
    assert "there is no src/fit.py in " in panda.err, "PanDA takes the folder of the job's file along"
    assert demo("job", "demo", "--", "bash", "-c", "cd /tmp; python x.py").err == ""


def test_the_programs_options_are_its_own(demo, tmp_path):
    options = ("--time", "3h", "-o", tmp_path / "j.sh")
    program = ("python", "fit.py", "--time", "9", "-o", "x.sh", "--epochs=2", "--json", "-v")
    with_line = demo("job", "demo", *options, "--", *program)
    text = (tmp_path / "j.sh").read_text()
    assert "    enter python fit.py --time 9 -o x.sh '--epochs=2' --json -v\n" in text
    without = demo("job", "demo", *options, *program)
    assert (without.code, without.out) == (0, with_line.out)
    assert (tmp_path / "j.sh").read_text() == text


def test_a_host_that_reaches_no_slurm_is_no_fault_of_the_job(demo, tmp_path, monkeypatch, require):
    require("sbatch")
    conf = ["ClusterName=x", "SlurmctldHost=localhost(127.0.0.1)", "SlurmctldPort=9", "AuthType=auth/none"]
    conf += ["MessageTimeout=2", "NodeName=a", "PartitionName=p Nodes=a", ""]
    (tmp_path / "slurm.conf").write_text("\n".join(conf))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    done = demo("job", "demo", "--submit", "-o", tmp_path / "j.sh", "--json", "--", "x")
    assert (done.code, done.codes) == (3, ["submitter-away"])
    assert f"Submit {tmp_path}/j.sh where the batch system is" in done.json["errors"][0]["hint"]


def test_the_interactive_line_starts_a_shell_in_the_view(demo, slurm):
    line = demo("job", "demo", "--site", "here", "--interactive").out
    assert line.endswith("/launch bash\n")
    done = subprocess.run(
        line.replace("--pty ", "").replace("--cpus-per-task=4", "--cpus-per-task=1"), shell=True, text=True, check=True,
        input='echo "$MLVIEWS_VIEW"\n', capture_output=True, env=slurm.environment, timeout=60,
    )  # fmt: skip
    assert done.stdout == "demo\n"


def test_the_page_holds_the_files_that_the_verb_writes(demo):
    page = demo("render", "demo", "batch", "--site", "here").out
    file = demo("job", "demo", "--site", "here", "--via", "image", "--", "python", "train.py").out
    assert f"```sh\n{file}```" in page


def test_the_image_is_entered_with_nothing_of_the_job_but_what_it_needs(demo):
    submit = demo("job", "demo", "--via", "image", "--resume", "--", "python", "train.py").out
    assert "apptainer exec -e /cvmfs/unpacked.cern.ch/registry.example/views/demo:lock-" in submit
    assert "APPTAINER_BIND=$folder,$files" in submit


def test_doctor_tells_of_the_site_s_batch_systems(demo, slurm, monkeypatch):
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    demo.site("lost", batch={"slurm": {"queues": {"main": {"limit": "1d"}, "nowhere": {}}}, "htcondor": {}})
    found = {line["name"]: line for line in demo("doctor", "--site", "lost", "--json").data["findings"]}
    assert found["Slurm"]["status"] == "problem"
    assert "nowhere" in found["Slurm"]["found"]
    assert found["HTCondor"]["status"] == "note"
    assert json.dumps(demo("doctor", "--site", "here", "--json").data).count("main (up to 1d)") == 1
