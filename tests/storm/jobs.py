"""Kill trainings on a real Slurm at random moments, and see that each ends with the bits of one that nobody disturbed.

    python tests/storm/jobs.py --kills 100 [--seed N] [--side-by-side 6] [--folder DIR]

A Slurm of two nodes runs trainings side by side. At random moments a random one is told by USR1, preempted, or loses
its program, its step (srun), its stepd, its batch shell, or its whole node: slurmd and all that runs there. After three
kills a training is left alone. In the end: each result is right; no start of a job named a checkpoint after a newer one
had; no start began before the last checkpoint; and no job is left.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from desk import Desk, kill, make_view, members
from slurm import Slurm, wait_for

KINDS = ("told", "preempted", "program", "step", "stepd", "shell", "node")
WEIGHTS = (4, 4, 8, 6, 4, 6, 1)
KILLS_EACH, STEPS, SECONDS = 3, 80, 0.06
PATIENCE_SECONDS = 300


@dataclass
class Training:
    """One training.

    Attributes:
        node: where it was last seen to run.
    """

    desk: Desk
    number: str
    kills: int = 0

    @property
    def folder(self) -> Path:
        return self.desk.folder / f"tagging-{self.number}"

    @property
    def done(self) -> bool:
        return "the program is done" in self.desk.said()

    def job(self) -> str:
        """Return the job that runs the training now: its first one or a successor; empty where none does."""
        wanted = {self.number, *(path.read_text().strip() for path in self.folder.glob("successor-of-*"))}
        found = [number for number, state in self.desk.slurm.jobs().items() if number in wanted and state == "RUNNING"]
        return found[-1] if found else ""


class Storm:
    """The cluster, the trainings that run, and what was done to them."""

    def __init__(self, slurm: Slurm, folder: Path, dice: random.Random, kinds: tuple[str, ...]) -> None:
        self.slurm, self.folder, self.dice, self.kinds = slurm, folder, dice, kinds
        self.trainings: list[Training] = []
        self.done: Counter[str] = Counter()
        self.controller_deaths = 0

    def start(self) -> None:
        home = self.folder / str(len(self.trainings))
        home.mkdir()
        desk = Desk(self.slurm, home, make_view(home))
        self.trainings.append(Training(desk, desk.train(STEPS, SECONDS, later=SECONDS)))

    def strike(self) -> bool:
        """Do one thing to one training; tell whether there was something to do it to."""
        live = [training for training in self.trainings if training.kills < KILLS_EACH and not training.done]
        if not live:
            return False
        training, (kind,) = self.dice.choice(live), self.dice.choices(self.kinds, WEIGHTS[: len(self.kinds)])
        job = training.job()
        if not job:
            return False
        if not self._do(kind, job):
            return False
        training.kills += 1
        self.done[kind] += 1
        print(f"{self.done.total()}: {kind}, training {training.desk.folder.name}", file=sys.stderr, flush=True)
        return True

    def _do(self, kind: str, job: str) -> bool:
        node = self.slurm.job(job).get("NodeList", "")
        if kind == "told":
            self.slurm.client("scancel", "--batch", "--signal=USR1", job, check=False)
        elif kind == "preempted":
            other = self.folder / "other.sh"
            other.write_text("#!/bin/bash\nsleep 1\n")
            options = ("--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null")
            self.slurm.submit(other, *options)
        elif kind == "node":
            self._lose(node)
        else:
            victims = members(job)[kind]
            kill(victims)
            return bool(victims)
        return True

    def _lose(self, node: str) -> None:
        """Kill a node with all that runs there; it comes back once Slurm has noticed."""
        here = [number for number, state in self.slurm.jobs().items()
                if state == "RUNNING" and self.slurm.job(number).get("NodeList") == node]  # fmt: skip
        self.slurm.kill(node)
        kill(pid for number in here for pids in members(number).values() for pid in pids)
        wait_for(lambda: "*" in self._state(node), f"Slurm to notice that {node} is lost")
        # Slurm 22.05's controller may crash when a job starts again on a node that has just come back.
        time.sleep(3)
        self.slurm.start_node(node)

    def _state(self, node: str) -> str:
        return self.slurm.client("sinfo", "-h", "-n", node, "-p", "main", "-o", "%t", check=False)

    def _tend(self) -> bool:
        """Start what waits at once, and the controller where it has died by itself; always False."""
        process = self.slurm.daemons.get("slurmctld")
        if process and process.poll() is not None:
            self.controller_deaths += 1
            self.slurm.start_controller()
            time.sleep(2)
        for number, state in self.slurm.jobs().items():
            if state == "PENDING" and self.slurm.job(number).get("Reason") == "BeginTime":
                self.slurm.client("scontrol", "update", f"jobid={number}", "StartTime=now", check=False)
        return False

    def run(self, kills: int, side_by_side: int) -> None:
        while self.done.total() < kills or not all(training.done for training in self.trainings):
            active = [training for training in self.trainings if not training.done]
            if len(active) < side_by_side and self.done.total() < kills:
                self.start()
            self._tend()
            time.sleep(self.dice.uniform(0, 0.8))
            if self.done.total() < kills:
                self.strike()
            elif active:
                wait_for(self._all_done, f"the end of {[t.desk.folder for t in active]}", PATIENCE_SECONDS)

    def _all_done(self) -> bool:
        return self._tend() or all(training.done for training in self.trainings)

    def judge(self) -> None:
        want = ""
        for step in range(STEPS):
            want = hashlib.sha256((want + str(step)).encode()).hexdigest()
        for training in self.trainings:
            desk = training.desk
            assert (desk.folder / "result").read_text() == want, f"{desk.folder} has another result"
            last, newest = 0, {0}  # two, where a kill fell while a checkpoint was named
            for kind, start, step in desk.history():
                assert start >= last, f"{desk.folder}: start {start} wrote after start {last}"
                assert kind != "begins" or step in newest, (
                    f"{desk.folder}: start {start} begins at {step}, not {newest}"
                )
                last, newest = start, {*newest, step} if kind == "would-name" else {step}
        wait_for(lambda: not self.slurm.client("squeue", "-h", "-o", "%i"), "the queue to be empty")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--side-by-side", type=int, default=6)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--small", action="store_true", help="lose no node: Slurm takes a minute to notice, all wait")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="jobs-", dir=options.folder))
    folder.chmod(0o755)
    (folder / "slurm").mkdir()
    began, slurm = time.monotonic(), Slurm(folder / "slurm")
    storm = Storm(slurm, folder, random.Random(options.seed), KINDS[:-1] if options.small else KINDS)
    try:
        slurm.start()
        storm.run(options.kills, options.side_by_side)
        storm.judge()
    finally:
        slurm.stop()
    starts = sum(len(list(training.folder.glob("start-*"))) for training in storm.trainings)
    print(f"{storm.done.total()} kills of {len(storm.trainings)} trainings, which took {starts} starts")
    print("every result is right, there never were two writers, no checkpoint was lost")
    for kind in KINDS:
        print(f"  {kind:10} {storm.done[kind]:3}")
    print(f"slurmctld died by itself {storm.controller_deaths} times\n{time.monotonic() - began:.0f} s")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
