"""The files of jobs: the same for the same request, read by bash, shellcheck, HTCondor and PanDA's client."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slurm import processes, wait_for

from mlviews.errors import BadInputError, FailedError, RefusedError
from mlviews.jobs.job import Entry, Job, JobRequest, by_launch, plan_job, queue_for
from mlviews.jobs.render import job_files
from mlviews.jobs.submit import call, interactive_line
from mlviews.release import ReleasePackage
from mlviews.site import batch as units
from mlviews.site.batch import SYSTEMS, BatchSystem

HOSTILE = (
    "it's", 'say "x"', "$HOME $(touch pwned) `touch pwned`", "a\nb\n#SBATCH --account=x\n", "\\ \\n %s %d", "%IN", "",
    "--help", "-", "*", "~", "!x", "{{ x }}", "$(Process) $$(x)", "déjà vu → \U0001f600", "a=b", "\t|&;<>",
)  # fmt: skip
GPU = {"cuda": "12.9", "gpus": ("V100", "A100", "H100")}
TORCH = (
    ReleasePackage(name="python", version="3.12.9", build="0_cpython"),
    ReleasePackage(name="pytorch-gpu", version="2.8.0", build="cuda129_0"),
    ReleasePackage(name="lightning", version="2.5", build="py_0"),
)
CLUSTER = BatchSystem.model_validate(
    {
        "account": "atlas-ml",
        "queues": {
            "short": {"limit": "2h", "gpus": {"T4": "t4"}, "gpus-per-node": 1},
            "gpu": {
                "limit": "3d", "gpus": {"T4": "t4", "A100": "a100", "H100": None}, "gpus-per-node": 4,
                "memory": "500GB",
            },
        },
    }
)  # fmt: skip


@pytest.fixture
def planned(make_view: Any, tmp_path: Path) -> Any:
    """Return a function that plans a job of a view made for it."""

    def plan(
        system: str = "slurm", *, batch: BatchSystem | None = None, view: dict[str, Any] | None = None, **keys: Any
    ) -> Job:
        shutil.rmtree(tmp_path / "envs", ignore_errors=True)
        release = make_view(tmp_path, **(view or {}))
        launch = by_launch(release)
        entry = Entry(release, launch.words, "registry.example/views/x:1") if system == "panda" else launch
        return plan_job(JobRequest(**{"command": ("python", "train.py"), **keys}), entry, system, batch)

    return plan


def text(job: Job, name: str = "x.sh") -> str:
    return next(iter(job_files(job, Path("/jobs") / name).values()))


@pytest.mark.parametrize("system", SYSTEMS)
def test_shellcheck_has_nothing_to_say(planned, tmp_path, require, system):
    require("shellcheck")
    scripts = []
    kinds = itertools.product((False, True), (1, 2), (0, 4), (False, True))
    for number, (resume, nodes, gpus, check) in enumerate(kinds):
        if nodes > 1 and system != "slurm":
            continue
        view = {**GPU, "packages": TORCH}
        keys = {"resume": resume, "nodes": nodes, "gpus": gpus, "check_first": check, "array": 3 * resume}
        job = planned(system, view=view, command=("python", *HOSTILE), megabytes=32000, **keys)
        for name, script in job_files(job, Path(f"/jobs/{number}.sh")).items():
            if script.startswith("#!/bin/bash"):
                scripts.append(tmp_path / f"{number}-{name}")
                scripts[-1].write_text(script)
    assert len(scripts) >= 8
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_request_gives_the_same_bytes(planned, system):
    keys = {"gpus": 4, "resume": True, "view": {**GPU, "packages": TORCH}, "check_first": True}
    assert job_files(planned(system, **keys), Path("/jobs/x")) == job_files(planned(system, **keys), Path("/jobs/x"))


def arguments_of(job: Job, folder: Path, **environment: str) -> list[str]:
    """Run what a job runs on its node; returns the arguments that its program got."""
    files = job_files(job, folder / "x.sub")
    (folder / "worker").write_text(files["x.job.sh"])
    done = subprocess.run(
        ["bash", "worker"], cwd=folder, capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


TELL = "import json, sys; print(json.dumps(sys.argv[1:]))"


def test_hostile_arguments_reach_the_program_as_they_are(planned, tmp_path):
    job = planned("htcondor", command=("python", "-c", TELL, *HOSTILE))
    assert arguments_of(job, tmp_path) == [*HOSTILE]
    assert not (tmp_path / "pwned").exists()


@settings(max_examples=15)
@given(words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))), max_size=4))
def test_any_argument_reaches_the_program_as_it_is(planned, tmp_path, words):
    assert arguments_of(planned("htcondor", command=("python", "-c", TELL, *words)), tmp_path) == words


def test_hostile_arguments_reach_a_program_through_slurm(desk):
    program = f"{TELL}; import os; print(json.dumps([os.environ.get('SECRET'), os.environ['MLVIEWS_TASK']]))"
    os.environ["SECRET"] = "of the shell that submits"
    try:
        number = desk.submit("python", "-c", program, *HOSTILE)
    finally:
        del os.environ["SECRET"]
    desk.slurm.wait(number, "COMPLETED")
    assert [json.loads(line) for line in desk.slurm.output(number).splitlines()] == [[*HOSTILE], [None, "0"]]
    assert not list(desk.folder.glob("**/pwned"))


def test_caches_lie_in_scratch_of_the_node_and_go(desk):
    program = "import os, pathlib; p = os.environ['TRITON_CACHE_DIR']; pathlib.Path(p).mkdir(); print(p)"
    number = desk.submit("python", "-c", program)
    desk.slurm.wait(number, "COMPLETED")
    folder = Path(desk.slurm.output(number).strip())
    assert folder.parent.name.startswith("mlviews-")
    assert not folder.parent.exists()


def test_a_site_fills_in_what_it_knows(planned):
    submit = text(planned(batch=CLUSTER, view=GPU, seconds=86400, gpus=2, megabytes=64000))
    for line in (
        "--partition=gpu",
        "--account=atlas-ml",
        '--constraint="a100"',
        "--gpus-per-node=2",
        "--time=1-00:00:00",
    ):
        assert f"\n#SBATCH {line}\n" in submit
    assert "Fill in" not in submit
    assert "--export=NONE" in submit
    assert "driver must be 575.51.03" in submit
    assert "\n# Fill in the partition" in text(planned(view=GPU))


def test_a_view_whose_binaries_serve_no_gpu_asks_for_any(planned):
    job = planned("htcondor", view={**GPU, "served": {"V100": "none", "A100": "none"}})
    assert job.kinds == ()
    assert "apability" not in text(job)


def test_a_job_that_fits_no_queue_is_told_why(planned):
    for keys, why in (
        ({"seconds": 4 * 86400}, "it ends jobs after 3d, this one asks for 4d"),
        ({"gpus": 8}, "its nodes have 4 GPUs, this one asks for 8"),
        ({"megabytes": 600_000}, "its nodes give 500GB"),
    ):
        with pytest.raises(RefusedError, match="fits into no queue") as raised:
            planned(batch=CLUSTER, view=GPU, **keys)
        assert any(why in fault for fault in raised.value.faults), raised.value.faults
    with pytest.raises(RefusedError) as raised:
        queue_for(CLUSTER, JobRequest(command=("x",)), 1, ("V100",))
    assert "it has T4, A100, H100, the view serves V100" in raised.value.faults[1]


@pytest.mark.parametrize(
    ("system", "keys", "what"),
    [
        ("htcondor", {"nodes": 2}, "needs Slurm"),
        ("slurm", {"gpus": 1, "view": {}}, "without CUDA"),
        ("slurm", {"check_first": True, "view": {}}, "no PyTorch"),
        ("panda", {"resume": True, "lightning": True}, "Lightning"),
        ("slurm", {"command": ("a\0b",)}, "null character"),
    ],
)
def test_a_request_that_cannot_be_is_refused(planned, system, keys, what):
    with pytest.raises(BadInputError, match=what):
        planned(system, **{"view": {**GPU, "packages": TORCH}, **keys})


def test_torchrun_starts_the_processes_of_many_gpus(planned):
    submit = text(planned(view={**GPU, "packages": TORCH}, gpus=4, nodes=2, command=("python", "train.py", "a b")))
    assert "--nnodes=2 --nproc-per-node=4" in submit
    assert "        train.py 'a b'\n" in submit
    assert "torch.distributed.run" not in text(planned(view=GPU, gpus=4))
    lightning = text(planned(view={**GPU, "packages": TORCH}, gpus=4, resume=True, lightning=True))
    assert "--ntasks-per-node=4" in lightning
    assert "--signal=USR1@" in lightning
    assert "torch.distributed.run" not in lightning


def test_htcondor_makes_job_ads_of_it(planned):
    """By its own bindings; tests/jobs/test_pool.py runs them."""
    program = """
import htcondor, json, sys
names = sys.argv[1].split()
ads = htcondor.Submit(sys.stdin.read()).jobs(count=0, clusterid=7, owner="me")
print(json.dumps([{name: str(ad.get(name)) for name in names} for ad in ads]))
"""
    names = "Args RequestGPUs RequireGPUs JobFlavour SuccessCheckpointExitCode TransferCheckpoint OnExitRemove"
    queues = BatchSystem.model_validate({"queues": {"espresso": {"limit": "20m"}, "testmatch": {"limit": "3d"}}})
    served = {"T4": "none", "V100": "native", "A100": "native", "H100": "ptx"}
    job = planned(
        "htcondor", batch=queues, view={**GPU, "packages": TORCH, "served": served}, gpus=4, array=2, seconds=2 * 86400,
        resume=True,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program, names], input=text(job), capture_output=True, text=True, check=False,
        env={**os.environ, "CONDOR_CONFIG": "/dev/null"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ads = json.loads(done.stdout)
    assert [ad["Args"] for ad in ads] == ["0", "1"]
    assert {name: value for name, value in ads[0].items() if name != "Args"} == {
        "RequestGPUs": "4",
        "RequireGPUs": "Capability >= 7.000000000000000E+00 && Capability != 7.500000000000000E+00",
        "JobFlavour": "testmatch",
        "SuccessCheckpointExitCode": "85",
        "TransferCheckpoint": "checkpoints.tar",
        "OnExitRemove": "ExitBySignal == false || NumJobStarts >= 50",
    }


@pytest.mark.parametrize("again", [(), ("-p", "user.me.earlier")])
def test_panda_makes_a_task_of_it(planned, tmp_path, again):
    """By its own client, which submits nothing and needs no network."""
    import pandaclient

    files = job_files(planned("panda", view=GPU, resume=True, array=3), tmp_path / "x.panda.sh")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    folder = Path(sys.prefix)
    settings = {
        "PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": "/nowhere", "USER": "me", "PANDA_NICKNAME": "me",
        "PANDA_SYS": str(folder), "PANDA_PYTHON_EXEC": sys.executable, "PANDA_CONFIG_ROOT": str(tmp_path),
        "PANDA_PYTHONPATH": str(Path(pandaclient.__file__).parent.parent), "PANDA_BEHIND_REAL_LB": "1",
        "PANDA_AUTH": "oidc", "PANDA_AUTH_VO": "atlas", "PANDA_AUTH_ID_TOKEN": token(),
    }  # fmt: skip
    dump = tmp_path / "task.json"
    done = subprocess.run(
        ["bash", "x.panda.sh", *again, "--noSubmit", "--dumpTaskParams", str(dump)], cwd=tmp_path, env=settings,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert dump.exists(), done.stdout + done.stderr
    task = json.loads(dump.read_text())
    assert task["architecture"] == "&nvidia:driver>=575.51"
    assert task["maxAttempt"] == 50
    assert "docker://registry.example/views/x:1" in json.dumps(task)
    assert "x.job.sh" in json.dumps(task)


def token() -> str:
    """Return an identity token without a signature: the client reads a name from it."""
    claims = {"sub": "me", "name": "me", "preferred_username": "me", "exp": 4102444800}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims)]
    return f"{parts[0].decode()}.{parts[1].decode()}."


def test_the_line_for_a_shell_asks_for_what_a_job_would(planned):
    line = interactive_line(planned(batch=CLUSTER, view=GPU))
    assert line.startswith("srun --partition=gpu --account=atlas-ml --gpus-per-node=1 ")
    assert line.endswith("/launch bash")
    assert "'+MaxRuntime = 3600'" in interactive_line(planned("htcondor", view=GPU))
    with pytest.raises(RefusedError, match="no interactive jobs"):
        interactive_line(planned("panda", view=GPU))


@pytest.mark.parametrize("wrong", ["", "3", "3 d", "0h", "1h1d", "-1h", "1.5h", "0:00:00", "10:00", "1:60:00"])
def test_what_is_no_time_is_refused(wrong):
    with pytest.raises(ValueError, match="is not a time"):
        units.seconds(wrong)


@pytest.mark.parametrize(("text", "read"), [("24:00:00", 86400), ("1-12:00:00", 129600), ("00:10:30", 630)])
def test_times_are_read_as_slurm_writes_them(text, read):
    assert units.seconds(text) == read


@given(st.integers(1, 60 * 24 * 365))
def test_times_are_written_as_they_are_read(minutes):
    assert units.seconds(units.span(minutes * 60)) == minutes * 60


def _worker(planned, folder: Path, program: str, **keys) -> list[str]:
    """Write what a job runs on its node; returns the command that runs it."""
    job = planned("htcondor", command=("python", "-c", program), resume=True, **keys)
    for name, content in job_files(job, folder / "x.sub").items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return ["bash", str(folder / "x.job.sh")]


def test_nothing_of_a_job_outlives_its_killed_shell_but_the_program(planned, tmp_path):
    program = f"import pathlib, time; pathlib.Path({str(tmp_path / 'on')!r}).touch(); time.sleep(1)"
    shell = subprocess.Popen(_worker(planned, tmp_path, program), cwd=tmp_path, stdout=subprocess.DEVNULL)
    wait_for((tmp_path / "on").exists, "the program")
    time.sleep(0.3)
    shell.kill()
    shell.wait()
    wait_for(lambda: not processes(str(tmp_path / "x.job.sh")), "the end of the shell's own helpers", 15)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_is_told_before_it_can_tell_its_program_is_not_lost(planned, tmp_path, number):
    """A busy node may take a second to get there."""
    (tmp_path / "programs").mkdir()
    slow = tmp_path / "programs/mkdir"
    slow.write_text(f'#!/bin/sh\ntouch {tmp_path}/on; sleep 1\nexec /bin/mkdir "$@"\n')
    slow.chmod(0o755)
    program = (
        "import mlviews_resume, time\n"
        "checkpoints = mlviews_resume.Checkpoints()\n"
        "while not checkpoints.due():\n    time.sleep(0.05)\n"
        "checkpoints.save(lambda file: file.write(b'x'))"
    )
    command = _worker(planned, tmp_path, program)
    path = {**os.environ, "PATH": f"{slow.parent}:{os.environ['PATH']}"}
    shell = subprocess.Popen(command, cwd=tmp_path, env=path, stdout=subprocess.PIPE, text=True)
    wait_for((tmp_path / "on").exists, "the shell")
    shell.send_signal(number)
    said, _ = shell.communicate(timeout=60)
    assert (shell.returncode, "is told to save" in said) == (85, True), said


@pytest.mark.parametrize(("torchrun", "starts"), [(True, 3), (False, 1)])
def test_a_failure_before_the_first_checkpoint(planned, tmp_path, monkeypatch, torchrun, starts):
    """Status 1 is the program's own word, but not torchrun's: a signal may have ended a process of it."""
    smi = tmp_path / "programs/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho A100, 575.51\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    keys = {"view": {**GPU, "packages": TORCH}, "gpus": 2} if torchrun else {}
    command = _worker(planned, tmp_path, "import sys; sys.exit(1)", **keys)
    codes = []
    while not codes or codes[-1] == 85:
        codes.append(subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode)
    assert codes == [*[85] * (starts - 1), 1]


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("slurmstepd: error: StepId=1.0 exceeded memory limit (413114368 > 157286400), being killed", True),  # 22.05
        (
            "[2026-11-27T14:27:18.735] error: StepId=1.0 exceeded memory limit (413114368 > 157286400), being killed",
            True,
        ),
        (
            "slurmstepd: error: Detected 1 oom_kill event in StepId=42.0. Some of the step tasks have been OOM Killed.",
            True,
        ),
        ("srun: error: n1: task 0: Out Of Memory", True),
        ("srun: error: n1: task 0: Killed", False),
        ("the program says: error: it exceeded memory limit", False),
    ],
)
def test_what_slurm_says_of_memory_is_known(planned, line, known):
    script = text(planned("slurm", resume=True))
    pattern = re.search(r"grep -Eq '(\^[^']*memory limit\))'", script)[1]
    done = subprocess.run(["grep", "-E", pattern], input=line, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == known


def test_what_a_batch_system_refuses_is_told_on_one_line_without_its_own_name(tmp_path, monkeypatch):
    program = tmp_path / "sbatch"
    program.write_text(
        "#!/bin/sh\nprintf 'sbatch: error: no memory\\nsbatch: error: Batch job submission failed\\n' >&2; exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(FailedError) as refused:
        call(["sbatch"])
    assert refused.value.message == "sbatch refuses: no memory; Batch job submission failed"
