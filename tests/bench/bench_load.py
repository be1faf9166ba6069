"""How long loading a view takes: beside a hand-written modulefile, and beside a setup script of an LCG view's shape.

    python tests/bench/bench_load.py [--rounds 40]

In bash, with real Lmod and environment-modules (see .ci/system-packages), in a shell that knows as many aliases and
functions as one with bash-completion, and with a view that holds a thousand programs. The rounds take turns; each
figure is the median of the time that the one command takes in a shell that is running, by the clock and of processors:
on a busy machine the second is the steadier one. The setup script stands for an LCG view's as
they are published (github.com/dmwm/CMSSpark has a copy): the same kinds of steps, tests of folders, lists, and a
`dirname $(dirname $(readlink ...))` for each package that has a variable. It starts none of R, Java, Geant4's tools and
the compiler's own script, which a real one does when its view holds them.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from mlviews.release import Activation, Release, ReleasePackage
from mlviews.render.modulefile import render_lua, render_tcl
from mlviews.render.setup_script import prefix_files

HAND_LUA = """\
help("Plots and histograms")
whatis("Name: plotting")
whatis("Version: 1")
family("views")
prepend_path("PATH", "{prefix}/bin")
setenv("CONDA_PREFIX", "{prefix}")
setenv("PYTHONNOUSERSITE", "1")
setenv("VIEW", "plotting")
unsetenv("PYTHONPATH")
unsetenv("PYTHONHOME")
"""
HAND_TCL = """\
#%Module1.0
proc ModulesHelp {{}} {{ puts stderr "Plots and histograms" }}
module-whatis "Name: plotting"
module-whatis "Version: 1"
prepend-path PATH {prefix}/bin
setenv CONDA_PREFIX {prefix}
setenv PYTHONNOUSERSITE 1
setenv VIEW plotting
unsetenv PYTHONPATH
unsetenv PYTHONHOME
"""
LISTS = ("LD_LIBRARY_PATH", "PYTHONPATH", "MANPATH", "CMAKE_PREFIX_PATH", "CPLUS_INCLUDE_PATH", "C_INCLUDE_PATH")
LISTS += ("ACLOCAL_PATH", "ROOT_INCLUDE_PATH", "JUPYTER_PATH", "PKG_CONFIG_PATH")
PACKAGES = 24  # blocks of that script which follow a link to a package, as counted there
PROGRAMS = 1000
ALIASES, FUNCTIONS, HELPERS = 30, 60, 300  # of a login shell with bash-completion; helpers begin with an underscore
SINGLES = 20  # further substitutions of one small program: readlink, ls, head, cat, grep, expr, sed, find


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        release = make_release(folder)
        write_modules(folder, release)
        write_lcg(folder / "lcg")
        for label, start in module_systems().items():
            report(label, measure(folder, start, release, given.rounds))
    return 0


def make_release(folder: Path) -> Release:
    prefix = folder / "envs/plotting/2026.11.23/linux-64"
    (prefix / "bin").mkdir(parents=True)
    release = Release(
        mlviews="0",
        view="plotting",
        release="2026.11.23",
        platform="linux-64",
        summary="Plots and histograms",
        module="atlasml/plotting",
        site="local",
        prefix=str(prefix),
        lock_digest="0" * 64,
        created=datetime(2026, 11, 23, tzinfo=timezone.utc),
        cuda="12.9",
        requested=("pytorch-gpu", "uproot", "matplotlib"),
        packages=tuple(ReleasePackage(name=name, version="1", build="0") for name in ("pytorch-gpu", "uproot")),
        activation=Activation(
            prepend={"PATH": (f"{prefix}/bin",), "XDG_DATA_DIRS": (f"{prefix}/share",)},
            set={"CONDA_PREFIX": str(prefix), "PYTHONNOUSERSITE": "1", "GSETTINGS_SCHEMA_DIR": f"{prefix}/share/glib"},
            unset=("PYTHONPATH", "PYTHONHOME"),
        ),
    )
    for name in ("python", *(f"program{number}" for number in range(PROGRAMS))):
        (prefix / "bin" / name).write_text("#!/bin/sh\n")
        (prefix / "bin" / name).chmod(0o755)
    (prefix / "conda-meta").mkdir()
    for name, file in prefix_files(release).items():
        (prefix / name).write_text(file.text)
    return release


def write_modules(folder: Path, release: Release) -> None:
    tree = folder / "modulefiles"
    for name, lua, tcl in (
        ("view", render_lua([release]), render_tcl([release])),
        ("hand", HAND_LUA.format(prefix=release.prefix), HAND_TCL.format(prefix=release.prefix)),
    ):
        (tree / name).mkdir(parents=True)
        (tree / name / "1.lua").write_text(lua)
        (tree / name / "1").write_text(tcl)


def write_lcg(view: Path) -> None:
    (view / "bin").mkdir(parents=True)
    (view / "lib64").mkdir()
    lines = ['thisdir=$(cd "$(dirname "${BASH_SOURCE[0]}")"; pwd)', "thisdir=$(readlink -f ${thisdir})"]
    lines += ["LCG_VERSION=108; export LCG_VERSION", "PATH=${thisdir}/bin:$PATH; export PATH"]
    for name in LISTS:
        lines += [
            f'if [ -z "${{{name}}}" ]; then {name}=${{thisdir}}/lib; export {name}',
            f"else {name}=${{thisdir}}/lib:${name}; export {name}; fi",
        ]
    lines.append("if [ -d ${thisdir}/lib64 ]; then export LD_LIBRARY_PATH=${thisdir}/lib64:$LD_LIBRARY_PATH; fi")
    lines += ["export FC=`command -v gfortran` CC=`command -v gcc` CXX=`command -v g++`", "[ Linux = `uname` ]"]
    for number in range(PACKAGES):
        program = view / "bin" / f"program{number}"
        program.symlink_to(f"/releases/package{number}/1.0/bin/program")
        home = f"$(dirname $(dirname $(readlink ${{thisdir}}/bin/program{number})))"
        lines.append(f"if [ -L ${{thisdir}}/bin/program{number} ]; then PACKAGE{number}_HOME={home}; ")
        lines.append(f"export PACKAGE{number}_HOME; fi")
    lines += [
        f"SINGLE{number}=$(readlink ${{thisdir}}/bin/program{number}); export SINGLE{number}"
        for number in range(SINGLES)
    ]
    (view / "setup.sh").write_text("\n".join([*lines, ""]))


def module_systems() -> dict[str, str]:
    """Return what starts each module system that is there."""
    found = {}
    if Path("/usr/share/lmod/lmod/init/bash").exists():
        found["Lmod"] = ". /usr/share/lmod/lmod/init/bash"
    folder = os.environ.get("MLVIEWS_TEST_MODULES") or Path.home() / ".cache/mlviews-tests/environment-modules"
    commands = [*Path(folder).glob("usr/lib/*/modulecmd.tcl"), *Path("/usr/lib").glob("*/modulecmd.tcl")]
    if commands and (tclsh := shutil.which("tclsh")):
        found["environment-modules"] = f'eval "$({shlex.join([tclsh, str(commands[0])])} bash autoinit)"'
    if not found:
        sys.exit("neither Lmod nor environment-modules is here: run .ci/system-packages")
    return found


def measure(folder: Path, start: str, release: Release, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median milliseconds of each way: by the clock, and of processors."""
    script = f"""
{start}
module use {folder}/modulefiles
TIMEFORMAT="%R %U %S"
alias python=/usr/bin/python3
for number in $(seq {ALIASES}); do alias a$number="ls -l $number"; done
for number in $(seq {FUNCTIONS}); do eval "f$number() {{ :; }}"; done
for number in $(seq {HELPERS}); do eval "_helper_$number() {{ :; }}"; done
time_of() {{
    local label=$1
    shift
    {{ time "$@"; }} 2> {folder}/time
    echo "$label $(< {folder}/time)"
}}
for round in $(seq {rounds}); do
    for name in hand view; do
        time_of $name module load $name/1
        module unload $name/1
    done
    ( time_of setup.sh source {release.prefix}/setup.sh )
    ( time_of lcg source {folder}/lcg/setup.sh )
done
"""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(Path.home())}
    done = subprocess.run(["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=True)
    if done.stderr:
        sys.exit(done.stderr)
    times: dict[str, list[tuple[float, float]]] = {}
    for line in done.stdout.splitlines():
        label, wall, user, system = line.split()  # anything else that was said would be one word too many
        times.setdefault(label, []).append((float(wall), float(user) + float(system)))
    medians = {}
    for label, pairs in times.items():
        walls, processors = zip(*pairs, strict=True)
        medians[label] = (statistics.median(walls) * 1000, statistics.median(processors) * 1000)
    return medians


def report(label: str, times: dict[str, tuple[float, float]]) -> None:
    print(f"{label:32} {'ms':>8} {'CPU ms':>8}")
    for name, what in (("hand", "module load, ten lines by hand"), ("view", "module load, a view")):
        print(f"  {what:30} {times[name][0]:8.1f} {times[name][1]:8.1f}")
    for name, what in (("setup.sh", "source setup.sh of the view"), ("lcg", "source an LCG-like setup.sh")):
        print(f"  {what:30} {times[name][0]:8.1f} {times[name][1]:8.1f}")
    for above, below, what in (("view", "hand", "a view / by hand"), ("lcg", "view", "LCG-like / a view")):
        ratios = [times[above][number] / times[below][number] for number in range(2)]
        print(f"  {what:30} {ratios[0]:8.2f} {ratios[1]:8.2f}")


if __name__ == "__main__":
    sys.exit(main())
