"""Prove mlviews on a machine without network: ``python3 kit/tests/gpu/kit.py``, as root, in less than 8 minutes.

First the machine's own Python: every check, thoroughly, then each fault planted in what passed. Then a view made of
what is installed: built at the pypi site, loaded, proved through prefix and kernel, its GPUs compared with cuobjdump.
What there was no time for, or what is not there, is told. Leaves report.json and report.md.

With ``--cpu`` it is a rehearsal: no GPU is asked for, and nothing is said of one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
KIT = HERE.parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="the Python to prove")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to put before what that Python has")
    parser.add_argument("--out", type=Path, default=Path("kit-report"), help="folder for the report")
    parser.add_argument("--work", type=Path, default=Path("kit-work"), help="folder for all else; it may go afterwards")
    parser.add_argument("--seconds", type=float, default=470, help="when to end, whatever is left to do")
    parser.add_argument("--cpu", action="store_true", help="rehearse without a GPU")
    parser.add_argument("--started", type=float, default=time.time(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    own = options.work.absolute() / "own"
    if Path(sys.prefix) != own:
        _restart(own, options)
    sys.path.insert(0, str(HERE.parent))
    from gpu.proof import prove  # it needs mlviews

    sys.exit(prove(options, KIT))


def _restart(own: Path, options: argparse.Namespace) -> None:
    """Go on in an environment that has the kit's packages, and nothing of the machine's."""
    _environment(own, [KIT / "site"])
    python = put_first(options) if options.wheels else options.python
    arguments = [*sys.argv[1:], "--python", str(python), "--started", str(options.started)]
    environment = {**os.environ, "PATH": f"{KIT / 'site/bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"}
    os.execve(own / "bin/python", [str(own / "bin/python"), str(Path(__file__).resolve()), *arguments], environment)


def put_first(options: argparse.Namespace) -> Path:
    """Return a Python that has the wheels, and behind them what the Python to prove has."""
    paths = subprocess.run(
        [options.python, "-c", "import sys; print(*[p for p in sys.path[1:] if p.endswith('-packages')], sep='\\n')"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    front = options.work.absolute() / "front"
    _environment(front, [Path(path) for path in paths if path])
    # Not with --target: RECORD would name programs where they are not.
    command = [sys.executable, KIT / "site/pip", "--python", front / "bin/python", "install", "-q"]
    alone = ["--no-index", "--no-deps", "--no-cache-dir", "--ignore-installed"]
    subprocess.run([*command, *alone, *sorted(options.wheels.glob("*.whl"))], check=True)
    return front / "bin/python"


def _environment(folder: Path, behind: Sequence[Path]) -> None:
    """Make an environment of this Python that sees further packages."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    (site / "behind.pth").write_text("".join(f"{path}\n" for path in behind))


if __name__ == "__main__":
    main()
