"""A real Slurm of two nodes on this host's loopback: started and ended here, in a folder of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NODES = ("n1", "n2")
_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "DEADLINE", "OUT_OF_MEMORY"}

# cred_expire: with the default of 120 s a node's restart takes two minutes. preempt_send_user_signal: USR1 before TERM.
_CONF = """\
ClusterName=mlviews
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1,sched_interval=1,requeue_delay=1
SlurmctldParameters=preempt_send_user_signal
ReturnToService=2
KillWait=2
MinJobAge=600
SlurmdTimeout=10
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=DEFAULT CPUs=4 RealMemory=16000 Feature=v100
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={first} Gres=gpu:tesla_v100:2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={last} Gres=gpu:a100:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=5 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""
_GRES = """\
AutoDetect=off
NodeName=n1 Name=gpu Type=tesla_v100 File={folder}/dev/nvidia[0-1]
NodeName=n2 Name=gpu Type=a100 File={folder}/dev/nvidia[0-1]
"""


@dataclass
class Slurm:
    """A cluster; `start` it, `stop` it.

    Attributes:
        folder: where everything of it lies; removed by nobody but its maker.
        daemons: the processes that run, by name: ``munged``, ``slurmctld``, ``n1``, ``n2``.
    """

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's clients need; nothing of a job that this may run in."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH", "MLVIEWS"))}
        return {**own, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start munge, the controller and two nodes, and wait until both nodes are idle."""
        for name in ("munge", "state", "dev", "spool-n1", "spool-n2"):
            (self.folder / name).mkdir()
        first = _free_ports(2)
        values = {"folder": self.folder, "user": getpass.getuser(), "first": first, "last": first + 1}
        (self.folder / "slurm.conf").write_text(_CONF.format(**values, controller=_free_ports(1)))
        (self.folder / "gres.conf").write_text(_GRES.format(**values))
        for number in range(2):  # the character device of /dev/null: Slurm gives out device files alone
            os.mknod(self.folder / f"dev/nvidia{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        (self.folder / "munge/key").write_bytes(os.urandom(1024))
        (self.folder / "munge/key").chmod(0o400)
        (self.folder / "munge").chmod(0o755)
        munge = self.folder / "munge"
        files = (f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid")
        self._run(
            "munged",
            "munged",
            "--foreground",
            "--force",
            *files,
            f"--log-file={munge}/log",
            f"--seed-file={munge}/seed",
        )
        wait_for((munge / "socket").exists, "munge's socket")
        self.start_controller()
        for node in _NODES:
            self.start_node(node)
        wait_for(
            lambda: self.client("sinfo", "-h", "-N", "-p", "main", "-o", "%t").split() == ["idle"] * 2, "two idle nodes"
        )

    def start_controller(self) -> None:
        self._run("slurmctld", "slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))

    def start_node(self, node: str) -> None:
        self._run(node, "slurmd", "-D", "-N", node, "-f", str(self.folder / "slurm.conf"))

    def _run(self, name: str, *command: str) -> None:
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        program = shutil.which(command[0], path=path)
        assert program, f"{command[0]} is missing: run .ci/system-packages"
        with (self.folder / f"{name}.out").open("ab") as out:
            # Whoever kills the tests kills these, too.
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, *command[1:]],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                env=self.environment, cwd=self.folder,
            )  # fmt: skip

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Kill one of the daemons, and wait for its end."""
        process = self.daemons.pop(name)
        process.send_signal(number)
        process.wait(20)

    def stop(self) -> None:
        """End all jobs and all processes of the cluster, whatever state it is in."""
        if "slurmctld" in self.daemons:
            with contextlib.suppress(subprocess.SubprocessError):
                self.client("scancel", "--signal=KILL", "--full", "--user", getpass.getuser())
                self.client("scancel", "--user", getpass.getuser())
        for name in [name for name in self.daemons if name != "munged"] + ["munged"]:
            if name in self.daemons:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.kill(name, signal.SIGTERM if name == "munged" else signal.SIGKILL)
        wait_for(lambda: kill_all(self.folder), "the end of what the cluster's jobs left")

    def client(self, *command: str | Path, check: bool = True, **options: Any) -> str:
        """Run one of Slurm's programs; what it prints comes back."""
        done = subprocess.run(
            [*map(str, command)], check=False, capture_output=True, text=True, timeout=60, env=self.environment,
            **options,
        )  # fmt: skip
        dead = [name for name, process in self.daemons.items() if process.poll() is not None]
        assert not dead, f"{dead} died by itself; {self.folder}"
        if check and done.returncode:
            raise subprocess.SubprocessError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def submit(self, script: Path, *options: str, arguments: tuple[str, ...] = ()) -> str:
        """Submit a file from its folder; returns the job's number."""
        return self.client("sbatch", "--parsable", *options, script.name, *arguments, cwd=script.parent)

    def job(self, number: str) -> Mapping[str, str]:
        """Return what the controller says of a job; empty for one that it has forgotten."""
        shown = self.client("scontrol", "-o", "show", "job", number, check=False)
        return dict(re.findall(r"(\w+)=(\S*)", shown.splitlines()[0])) if shown else {}

    def state(self, number: str) -> str:
        return self.job(number).get("JobState", "")

    def jobs(self) -> dict[str, str]:
        """Return the state of every job that is known, by its number."""
        lines = self.client("squeue", "-h", "-a", "-t", "all", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait(self, number: str, state: str, seconds: float = 120) -> None:
        """Wait until a job is in a state.

        Raises:
            AssertionError: it ended in another one, or the time is over.
        """

        def there() -> bool:
            now = self.state(number)
            assert now == state or now not in _ENDED, f"job {number} is {now}, not {state}: {self.output(number)}"
            return now == state

        wait_for(there, f"job {number} to be {state}; it is {self.state(number)}", seconds)

    def cancel_all(self) -> None:
        """Cancel every job, and wait until none is left and both nodes are idle."""

        def quiet() -> bool:
            self.client("scancel", "--user", getpass.getuser(), check=False)
            running = self.client("squeue", "-h", "-o", "%i")
            return not running and self.client("sinfo", "-h", "-N", "-p", "main", "-o", "%t").split() == ["idle"] * 2

        wait_for(quiet, "the cluster to be idle")

    def output(self, number: str) -> str:
        """Return what a job has printed."""
        path = Path(self.job(number).get("StdOut", "/nowhere"))
        return path.read_text(errors="replace") if path.is_file() else ""


def wait_for(true: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait until something is true.

    Raises:
        AssertionError: it is not within that time.
    """
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)


def processes(text: str) -> list[int]:
    """Return the processes whose command line or environment holds a text, but for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(folder.name) == os.getpid() or (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            if any(text.encode() in (folder / name).read_bytes() for name in ("cmdline", "environ")):
                found.append(int(folder.name))
    return found


def kill_all(folder: Path) -> bool:
    """Kill what names a folder in its command line or its environment; tell whether there was nothing."""
    found = processes(str(folder))
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not found


def _free_ports(count: int) -> int:
    """Return the first of some ports in a row that nobody listens on."""
    for _ in range(100):
        with contextlib.ExitStack() as stack:
            first = 0
            with contextlib.suppress(OSError):
                for number in range(count):
                    taken = stack.enter_context(socket.socket())
                    taken.bind(("127.0.0.1", first + number if first else 0))
                    first = first or taken.getsockname()[1]
                return first
    raise AssertionError("no free ports")


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm of two nodes, for as long as the tests run."""
    for program in ("munged", "slurmctld", "slurmd"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is missing: run .ci/system-packages")
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
