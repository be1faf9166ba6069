"""A store of its own for the storm and the crowd: a channel of archives, recipes and locks, and calls of mlviews.

Each call runs in a fork of this process, which has imported everything and started nothing: a call costs what it does.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import re
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    import random
    from collections.abc import Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shelf import PLACEHOLDER, Shelf

PACKAGES = 12
_MODULE = "".join(f"def f{n}(a, b={n}):\n    return [a, b, 'f{n}', a in {{None, {n}}}]\n" for n in range(60))


@dataclass(frozen=True)
class Fork:
    """A call that runs in a process of its own."""

    pid: int
    _pipe: int

    def end(self) -> tuple[int | None, str]:
        """Wait for it; return its status, None if it was killed, and all that it wrote into the pipe."""
        parts = []
        while part := os.read(self._pipe, 1 << 16):
            parts.append(part)
        os.close(self._pipe)
        _, status = os.waitpid(self.pid, 0)
        return (os.WEXITSTATUS(status) if os.WIFEXITED(status) else None), b"".join(parts).decode(errors="replace")

    def kill(self) -> None:
        """Kill it and nothing that it has started, as the kernel does when memory runs out."""
        os.kill(self.pid, signal.SIGKILL)


def fork(work: Callable[[int], int]) -> Fork:
    """Run ``work`` in a fork; it is given the pipe's descriptor to write to, and returns the status."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Fork(pid, reading)
    os.close(reading)
    status = 99
    try:
        status = work(writing)
    except BaseException:  # noqa: BLE001
        os.write(writing, traceback.format_exc().encode())
    os._exit(status)  # this process must never return into the caller's


def mlviews(pipe: int, *arguments: str) -> int:
    """Call mlviews with ``--json`` in this process; its envelope goes into the pipe."""
    from mlviews.__main__ import run

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = run([*arguments, "--json"])
    os.write(pipe, out.getvalue().encode())
    return code


def add_small(options: argparse.ArgumentParser) -> None:
    """Give a program the option of a store that is small enough for every day; see `size`."""
    options.add_argument("--small", action="store_true", help="packages with few files")


def size(*, small: bool) -> dict[str, int]:
    """Return what a `Place` is told of its packages."""
    return {"bulk": 5, "modules": 4} if small else {}


@dataclass
class Place:
    """A root, a channel, and versions of views to build.

    Attributes:
        bulk: files of each of the packages that do nothing.
        modules: how many a build compiles.
        versions: for each view and step, its recipe and its lock.
    """

    folder: Path
    draw: random.Random
    bulk: int = 150
    modules: int = 40
    versions: dict[tuple[str, int], tuple[str, bytes]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def make(self, views: tuple[str, ...], steps: int) -> None:
        """Write the channel, and recipes and locks of each step of each view."""
        for name, value in {
            "MLVIEWS_RECIPES": self.folder / "recipes",
            "MLVIEWS_LOCKFILES": self.folder / "lockfiles",
            "MLVIEWS_ROOT": self.root,
            "MLVIEWS_MIRROR": f"conda-forge={self.folder / 'channel'}",
        }.items():
            os.environ[name] = str(value)
        (self.folder / "recipes").mkdir(parents=True)
        self._channel(steps)
        recipes = {(view, step): _recipe(view, step) for view in views for step in range(steps)}
        for (view, _), text in recipes.items():
            (self.folder / f"recipes/{view}.yaml").write_text(text)

        def lock(pipe: int) -> int:
            for (view, step), text in recipes.items():
                (self.folder / f"recipes/{view}.yaml").write_text(text)
                if code := mlviews(pipe, "lock", view):
                    return code
                self._lock(view).replace(self.folder / f"{view}-{step}.lock")
            return 0

        code, said = fork(lock).end()
        assert code == 0, said
        for (view, step), text in recipes.items():
            self.versions[view, step] = (text, (self.folder / f"{view}-{step}.lock").read_bytes())

    def choose(self, view: str, step: int) -> None:
        """Make a step of a view what its next build builds."""
        text, lock = self.versions[view, step]
        (self.folder / f"recipes/{view}.yaml").write_text(text)
        self._lock(view).parent.mkdir(exist_ok=True)
        self._lock(view).write_bytes(lock)

    def call(self, *arguments: str) -> Any:
        """Call mlviews; return what it gives.

        Raises:
            AssertionError: it failed.
        """
        code, said = fork(lambda pipe: mlviews(pipe, *arguments)).end()
        assert code == 0, (arguments, said)
        return json.loads(said)["data"]

    def default(self, view: str) -> str | None:
        try:
            return (self.root / "envs" / view / "default").readlink().name
        except OSError:
            return None

    def _lock(self, view: str) -> Path:
        return self.folder / f"lockfiles/{view}.conda-lock.yml"

    def _channel(self, steps: int) -> None:
        shelf = Shelf(self.folder / "channel")
        shelf.add_python()
        shelf.add(
            "greet",
            modules={"greet": "def main():\n    import sys\n    print('hello from', sys.prefix)\n"},
            entry_points=("greet = greet:main",),
        )
        shelf.add(
            "native", subdir="linux-64", files={"bin/native": f"#!/bin/sh\necho {PLACEHOLDER}/share\n"},
            links={"lib/link": "../bin/native"},
        )  # fmt: skip
        shelf.add("ipykernel", modules={"ipykernel": ""})
        for number in range(PACKAGES):
            content = {f"share/bulk{number}/{n}": self.draw.randbytes(2000) for n in range(self.bulk)}
            shelf.add(f"bulk{number}", files=content)
        for step in range(steps):
            content = {f"share/step/{n}": self.draw.randbytes(1000) for n in range(50)}
            modules = {f"step/m{n}": f"step = {step}\n" + _MODULE for n in range(self.modules)} | {"step/__init__": ""}
            shelf.add("step", f"{step}.0", files=content, modules=modules)


def _recipe(view: str, step: int) -> str:
    bulk = ", ".join(f"bulk{number}" for number in range(PACKAGES))
    return (
        f"schema: 1\nname: {view}\nsummary: About {view}\nmodule: storm/{view}\nplatforms: [linux-64]\n"
        f'hardware: {{glibc: "2.17"}}\ndependencies: [python, greet, native, ipykernel, {bulk}, step =={step}.0]\n'
    )


def import_all() -> None:
    """Import what calls import, so that forks need not."""
    import mlviews

    for module in pkgutil.walk_packages(mlviews.__path__, "mlviews."):
        if not re.search(r"\.checks|_program$|\.schema$", module.name):  # programs of views' own Python
            importlib.import_module(module.name)


@contextlib.contextmanager
def timed() -> Iterator[Callable[[], float]]:
    began = time.perf_counter()
    yield lambda: time.perf_counter() - began
