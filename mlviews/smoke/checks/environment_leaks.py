"""What another view or the user's own packages put into the environment does not reach programs of this view.

Starts the view's ``launch`` in a session as an LCG view leaves it: ``PYTHONHOME`` and ``PYTHONPATH`` of another Python,
``LD_LIBRARY_PATH`` with other copies of the libraries that this Python loads, and packages in the user's own folder.
What the view takes from the host (a view of wheels: libstdc++) is the environment's to choose: a figure, no fault.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from _protocol import Check, SkipCheck, last_line, run

GLIBC = {"ld-linux-x86-64", "ld-linux-aarch64", "libc", "libdl", "libm", "libpthread", "librt", "libresolv", "libutil"}

# Runs in the view: which poisoned modules can be imported, where sys.path leads, which libraries came from where.
PROBE = """
import contextlib, importlib, importlib.util, json, os, sys
for name in ("bz2", "ctypes", "lzma", "sqlite3", "ssl", "zlib", "numpy", "h5py"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
maps = open("/proc/self/maps").read().splitlines()
print(json.dumps({
    "prefix": sys.prefix,
    "path": sys.path,
    "modules": [name for name in sys.argv[1:] if importlib.util.find_spec(name)],
    "stdlib": os.__file__,
    "libraries": sorted({line.split(None, 5)[5] for line in maps if ".so" in line and line.count("/")}),
}))
"""


def main(check: Check) -> str:
    launch = Path(sys.prefix) / "launch"
    if not launch.is_file():
        raise SkipCheck("this Python does not belong to a view: there is no launch beside it")
    clean = _probe(launch, {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        poisoned = _probe(launch, _poison(folder, clean["libraries"]))
        leaks = [f"{module} from the poisoned environment is found" for module in poisoned["modules"]]
        leaks += [f"sys.path holds {path}" for path in poisoned["path"] if str(folder) in path]
        replaced = {Path(path).name for path in poisoned["libraries"] if str(folder) in path}
        own = {Path(path).name for path in clean["libraries"] if path.startswith(sys.prefix)}
        leaks += [f"{library} of the poisoned LD_LIBRARY_PATH replaces the view's" for library in replaced & own]
    for key in ("prefix", "stdlib"):
        if clean[key] != poisoned[key]:
            leaks.append(f"{key} is {poisoned[key]}, not {clean[key]}")
    check.figures.update({"own libraries": len(own), "host libraries replaced": ", ".join(sorted(replaced - own))})
    check.expect(not leaks, "; ".join(leaks).replace(str(folder), "poison"))
    return "PYTHONPATH, PYTHONHOME, LD_LIBRARY_PATH and the user's packages replace nothing of the view's"


def _probe(launch: Path, poison: dict[str, str]) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    command = [str(launch), "python", "-c", PROBE, "leaked_path", "leaked_user"]
    found: dict[str, Any] = json.loads(last_line(command, "Python does not start", env={**environment, **poison}))
    return found


def _poison(folder: Path, libraries: list[str]) -> dict[str, str]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    modules, user = folder / "path", folder / "home/.local/lib" / version / "site-packages"
    shelf = folder / "libraries"
    for place in (modules, user, shelf):
        place.mkdir(parents=True)
    (modules / "leaked_path.py").touch()
    (user / "leaked_user.py").touch()
    for library in libraries:
        path = Path(library)
        name, dot, number = path.name.partition(".so.")
        # A second C library beside the host's own loader would end any program.
        if not path.is_file() or not dot or name in GLIBC:
            continue
        shutil.copy(path, shelf)
        parts = number.split(".")
        for count in range(1, len(parts)):  # what asks for libz.so.1 must find libz.so.1.3
            (shelf / f"{name}.so.{'.'.join(parts[:count])}").symlink_to(path.name)
    return {
        "PYTHONPATH": str(modules),
        "PYTHONHOME": str(folder / "nowhere"),
        "PYTHONUSERBASE": str(folder / "home/.local"),
        "HOME": str(folder / "home"),
        "LD_LIBRARY_PATH": str(shelf),
    }


if __name__ == "__main__":
    run(main)
