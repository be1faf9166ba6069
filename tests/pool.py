"""A real HTCondor pool of one host on its loopback: started and ended here, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from slurm import kill_all, wait_for

GPUS = {"V100": "GPU-a0223334", "A100": "GPU-b1223334"}
"""What the pool's slot seems to have: HTCondor simulates them."""
HTCONDOR = Path("/usr/local/lib/htcondor")
"""Where .ci/system-packages puts it."""

# Periods as short as they can be: by default a pool takes a minute for each of its steps.
_CONFIG = """\
RELEASE_DIR = {release}/usr
LOCAL_DIR = {folder}
LIB = $(RELEASE_DIR)/lib/condor
LIBEXEC = $(RELEASE_DIR)/libexec/condor
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
ETC = $(LOCAL_DIR)
CONDOR_HOST = 127.0.0.1
BIND_ALL_INTERFACES = false
NETWORK_INTERFACE = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:0
COLLECTOR_ADDRESS_FILE = $(LOG)/collector
SHARED_PORT_PORT = 0
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
use FEATURE:GPUs
GPU_DISCOVERY_EXTRA = -extra -simulate:2,1,4,1
use SECURITY:HOST_BASED
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_ADMINISTRATOR = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
SEC_DEFAULT_AUTHENTICATION = OPTIONAL
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
NUM_CPUS = 8
MEMORY = 32000
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = true
NUM_SLOTS_TYPE_1 = 1
START = true
PREEMPT = false
SUSPEND = false
KILL = false
RUNBENCHMARKS = 0
NEGOTIATOR_INTERVAL = 1
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 1
SCHEDD_MIN_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 1
MAX_PERIODIC_EXPR_INTERVAL = 2
UPDATE_INTERVAL = 2
STARTER_UPDATE_INTERVAL = 2
SHADOW_QUEUE_UPDATE_INTERVAL = 2
"""


@dataclass
class Pool:
    """A pool; `start` it, `stop` it.

    Attributes:
        folder: where everything of it lies, its jobs too; removed by nobody but its maker.
        master: the process that starts the others.
    """

    folder: Path
    master: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def environment(self) -> dict[str, str]:
        """What HTCondor's programs need, and where they are: they run as somebody who may submit."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("_CONDOR", "MLVIEWS"))}
        path = f"{self.folder}/bin:{own['PATH']}"
        return {**own, "PATH": path, "CONDOR_CONFIG": str(self.folder / "condor_config")}

    def start(self) -> None:
        """Start all daemons, and wait until there is a slot."""
        for name in ("bin", "log", "spool", "execute", "lock", "run"):
            (self.folder / name).mkdir()
        for program in HTCONDOR.glob("usr/*bin/condor_*"):
            shim = self.folder / "bin" / program.name
            shim.write_text(f'#!/bin/sh\nexec {_AS_SOMEBODY}{program} "$@"\n')
            shim.chmod(0o755)
        (self.folder / "condor_config").write_text(_CONFIG.format(release=HTCONDOR, folder=self.folder))
        with (self.folder / "master.out").open("ab") as out:
            # Whoever kills the tests kills this, too.
            self.master = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", self.folder / "bin/condor_master", "-f"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                env=self.environment, cwd=self.folder,
            )  # fmt: skip
        wait_for(lambda: bool(self.client("condor_status", "-af", "Name", check=False)), "a slot")
        wait_for(lambda: bool(self.client("condor_q", "-totals", check=False)), "the queue")

    def stop(self) -> None:
        """End all jobs and all daemons."""
        if self.master:
            with contextlib.suppress(subprocess.SubprocessError):
                self.client("condor_off", "-fast", "-master", check=False)
                self.master.wait(20)
        wait_for(lambda: kill_all(self.folder), "the end of what the pool left")

    def client(self, *command: str | Path, check: bool = True, **options: Any) -> str:
        """Run one of HTCondor's programs; what it prints comes back."""
        program, *arguments = map(str, command)
        done = subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            check=False, capture_output=True, text=True, timeout=60, env=self.environment, **options,
        )  # fmt: skip
        assert self.master, "the pool has not been started"
        assert self.master.poll() is None, f"the pool died by itself; {self.folder}"
        if check and done.returncode:
            raise subprocess.SubprocessError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout.strip() if not done.returncode else ""

    def submit(self, file: Path) -> str:
        """Submit a file from its folder; returns the number of its cluster of jobs."""
        return self.client("condor_submit", "-terse", file.name, cwd=file.parent).partition(".")[0]

    def ask(self, cluster: str, *attributes: str) -> list[list[str]]:
        """Return these attributes of each job of a cluster that is still in the queue."""
        lines = self.client("condor_q", cluster, "-af:t", *attributes).splitlines()
        return [line.split("\t") for line in lines]

    def wait(self, cluster: str, seconds: float = 120) -> None:
        """Wait until a cluster has left the queue.

        Raises:
            AssertionError: one of its jobs is held, or the time is over.
        """

        def gone() -> bool:
            states = self.ask(cluster, "JobStatus", "HoldReason")
            assert all(state != "5" for state, _ in states), states
            return not states

        wait_for(gone, f"the end of jobs {cluster}", seconds)


# HTCondor takes no jobs of root. To somebody else, by the name of nobody, root's own files belong here.
_AS_SOMEBODY = "unshare --user --map-user=65534 --map-group=65534 " if os.geteuid() == 0 else ""


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """An HTCondor of one host, for as long as the tests run."""
    if not (HTCONDOR / "usr/sbin/condor_master").exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("condor_master is missing: run .ci/system-packages")
    # Not pytest's own folder: names of sockets have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="pool-"))
    one = Pool(folder)
    try:
        one.start()
        yield one
    finally:
        one.stop()
        shutil.rmtree(folder)
