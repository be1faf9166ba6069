"""Hand a job's file to its batch system, and the line that gives a shell on a node."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING

from mlviews.errors import FailedError, RefusedError, last_line
from mlviews.smoke.report import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlviews.jobs.job import Job
    from mlviews.site.batch import System

TITLES: dict[System, str] = {"slurm": "Slurm", "htcondor": "HTCondor", "panda": "PanDA"}
"""What people call each system."""
SUBMITTERS: dict[System, str] = {"slurm": "sbatch", "htcondor": "condor_submit", "panda": "prun"}
"""The program of each system that takes jobs."""
QUEUES: dict[System, tuple[str, ...]] = {
    "slurm": ("squeue", "--noheader", "--me", "--format=%i"),
    "htcondor": ("condor_q", "-format", "%d.", "ClusterId", "-format", "%d\n", "ProcId"),
}
"""What prints the numbers of this user's jobs that have not ended."""
_AWAY = re.compile("Could not establish a configuration source|Unable to (contact slurm controller|process config)")
"""How sbatch says that no Slurm is in reach (22.05)."""
CALL_SECONDS = 60
"""For a program of a batch system: it may wait for a controller that is away."""


def call(command: Sequence[str], *, given: str = "") -> str:
    """Run a program of a batch system; what it prints comes back.

    Args:
        given: its standard input.
    """
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=CALL_SECONDS, errors="replace"
        )
    except FileNotFoundError as error:
        raise FailedError(
            "submitter-missing", f"there is no {command[0]} here", "Run this on a host that has it."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise FailedError("system-silent", f"{command[0]} does not answer", "Try again later.") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = "; ".join(printable(line.removeprefix(f"{command[0]}: error: ")) for line in lines)
        raise FailedError("system-refuses", f"{command[0]} refuses: {said}", "Change the request, or try again later.")
    return done.stdout


def queued(system: System) -> frozenset[str] | None:
    """Return the numbers of this user's jobs that have not ended; None where the system does not say."""
    try:
        return frozenset(call(QUEUES[system]).split())
    except FailedError:
        return None


def submit(system: System, path: Path) -> str:
    """Submit a file from the folder that one is in; what the system says comes back, with the job's number in it.

    Raises:
        FailedError: the system's program is not here, reaches no batch system, or refuses the job.
    """
    program = "bash" if system == "panda" else SUBMITTERS[system]
    try:
        done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise FailedError(
            "submitter-missing", f"there is no {program} here", "Submit the file from a host that has it."
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        if _AWAY.search(said):
            hint = f"Submit {path} where the batch system is, such as on the cluster's login node, or try again later."
            last = printable(last_line(said))
            raise FailedError("submitter-away", f"{program} reaches no batch system from here: {last}", hint)
        raise FailedError("submit-failed", f"{program} refuses {path}: {said}", "Change the file or the request.")
    return done.stdout.strip()


def interactive_line(job: Job) -> str:
    """Return the line that gives a shell in the view on a node of the batch system.

    Args:
        job: its resources are asked for; its command is the shell.

    Raises:
        RefusedError: the system has none.
    """
    shell = [*job.entry.words, "bash"]
    if job.system == "slurm":
        options = {
            "partition": job.queue,
            "account": job.account,
            "gpus-per-node": str(job.gpus or ""),
            "cpus-per-task": str(job.cores),
            "mem": f"{job.request.megabytes}M" if job.request.megabytes else "",
            "constraint": "|".join(job.features),
            "time": str(-(-job.request.seconds // 60)),
        }
        return shlex.join(["srun", *(f"--{name}={value}" for name, value in options.items() if value), "--pty", *shell])
    if job.system == "htcondor":
        lines = [
            f"request_gpus = {job.gpus}" if job.gpus else "",
            f"request_cpus = {job.cores}",
            f"request_memory = {job.request.megabytes}MB" if job.request.megabytes else "",
            f"gpus_minimum_capability = {job.capabilities[0][0]}" if job.capabilities[0] else "",
            f'+JobFlavour = "{job.queue}"' if job.queue else f"+MaxRuntime = {job.request.seconds}",
        ]
        asked = [word for line in lines if line for word in ("-append", line)]
        return f"{shlex.join(['condor_submit', '-interactive', *asked])}   # then: {shlex.join(shell)}"
    raise RefusedError("job-interactive", "PanDA has no interactive jobs", "Take Slurm or HTCondor: --system.")
