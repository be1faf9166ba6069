"""Activation scripts that do what those of well-known packages do, from the capture to every way of loading.

    pytest tests/render/test_feedstocks.py -s

prints the table of what each variable was found to mean, script by script. The texts are this test's own.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from mlviews.prefix.activation import capture
from mlviews.render import escape, modulefile, setup_script

SCRIPTS = {
    # Names of programs, flags after the user's own, and HOST, by names that are put together.
    "activate-gcc": """
_each() {
    local pair name value
    for pair in CC,x86_64-conda-linux-gnu-cc NM,x86_64-conda-linux-gnu-nm HOST,x86_64-conda-linux-gnu; do
        name=${pair%%,*} value=${pair#*,}
        eval "export CONDA_BACKUP_$name=\\"\\${$name:-}\\""
        eval "export $name=\\"$value\\""
    done
}
_each
unset -f _each
export CFLAGS="${CFLAGS:-} -O2 -I${CONDA_PREFIX}/include"
export LDFLAGS="${LDFLAGS:+$LDFLAGS }-Wl,-rpath,${CONDA_PREFIX}/lib"
export MAKEFLAGS="-j$(nproc)" _CONDA_NODE="$(uname -n)" BUILD_LOGS="/var/tmp/$(id -un)/logs"
""",
    # Needs a compiler of the host, says so, and returns 1 where there is none.
    "cuda-nvcc": """
export NVCC_PREPEND_FLAGS_BACKUP="${NVCC_PREPEND_FLAGS:-NOT_SET}"
if [ -z "${CUDAHOSTCXX:-}" ]; then
    echo "no C++ compiler: set CUDAHOSTCXX" >&2
    return 1
fi
export NVCC_PREPEND_FLAGS="${NVCC_PREPEND_FLAGS} -ccbin=${CUDAHOSTCXX}"
""",
    "gdal": """
export GDAL_DATA_BACKUP="${GDAL_DATA:-NOT_SET}"
export GDAL_DATA="$CONDA_PREFIX/share/gdal"
[ -e "$CONDA_PREFIX/lib/gdalplugins" ] && export GDAL_DRIVER_PATH="$CONDA_PREFIX/lib/gdalplugins"
""",
    "julia": """
export JULIA_DEPOT_PATH="$CONDA_PREFIX/share/julia:${JULIA_DEPOT_PATH:-}"
export JULIA_PROJECT="@${CONDA_PREFIX##*/}"
""",
    "jupyter": 'export JUPYTER_PATH="$CONDA_PREFIX/share/jupyter:${JUPYTER_PATH:-}"',
    # Links for gdb, from where the prefix lies.
    "libarrow": """
for folder in usr opt; do
    mkdir -p "$CONDA_PREFIX/share/gdb/auto-load/$folder"
    ln -sfn "$(pwd -P)" "$CONDA_PREFIX/share/gdb/auto-load/$folder/where"
done
""",
    "openmpi": """
export OMPI_MCA_plm_rsh_agent="${OMPI_MCA_plm_rsh_agent:-false}" OPAL_PREFIX="$CONDA_PREFIX"
export XDG_DATA_DIRS="${XDG_DATA_DIRS:+$XDG_DATA_DIRS:}$CONDA_PREFIX/share"
""",
    "proj": """
if [ -n "${PROJ_DATA:-}" ]; then export _CONDA_SET_PROJ_DATA="$PROJ_DATA"; fi
export PROJ_DATA="$CONDA_PREFIX/share/proj" PROJ_NETWORK=ON
""",
    "r-base": 'echo "LDFLAGS = -L$CONDA_PREFIX/lib" >> "$CONDA_PREFIX/lib/R/etc/Makeconf"',
    "rust": """
export CARGO_HOME="${CARGO_HOME:-$CONDA_PREFIX/.cargo}"
if [ -z "$CARGO_TARGET" ]; then export CARGO_TARGET=release; fi
export PATH="$CARGO_HOME/bin:$PATH"
""",
}
MEANINGS = {
    **dict.fromkeys(["CC", "NM", "GDAL_DATA", "JULIA_PROJECT", "OPAL_PREFIX", "PROJ_DATA", "PROJ_NETWORK"], "set"),
    **dict.fromkeys(["CARGO_HOME", "CARGO_TARGET", "OMPI_MCA_plm_rsh_agent"], "default"),
    **dict.fromkeys(["JULIA_DEPOT_PATH", "JUPYTER_PATH", "PATH"], "before"),
    **dict.fromkeys(["CFLAGS", "LDFLAGS", "XDG_DATA_DIRS"], "after"),
    **dict.fromkeys(["HOST", "MAKEFLAGS", "BUILD_LOGS"], "left out"),
}
PATH = "/usr/local/bin:/usr/bin:/bin"
NOBODY = {"PATH": PATH, "HOME": "/tmp", "LC_ALL": "C.UTF-8"}
SOMEBODY = {
    **NOBODY,
    "CFLAGS": "-g -DX='a b'",
    "LDFLAGS": "-L/my lib",
    "JULIA_DEPOT_PATH": "/j1:/j2",
    "JUPYTER_PATH": "/it's mine",
    "CARGO_HOME": "/home/cargo",
    "CARGO_TARGET": "debug",
    "OMPI_MCA_plm_rsh_agent": "ssh",
    "XDG_DATA_DIRS": "/usr/share",
    "GDAL_DATA": "/my/gdal",
    "CC": "clang",
    "NVCC_PREPEND_FLAGS": "-w",
    "HOST": "lxplus",
}


@pytest.fixture
def release(make_release):
    """Return a release of a prefix with all of the scripts, captured as a build does."""
    made = make_release()
    prefix = Path(made.prefix)
    (prefix / "etc/conda/activate.d").mkdir(parents=True)
    (prefix / "lib/R/etc").mkdir(parents=True)
    (prefix / "lib/R/etc/Makeconf").write_text("as the package has it\n")
    for name, text in SCRIPTS.items():
        (prefix / f"etc/conda/activate.d/{name}.sh").write_text(text)
    return made.model_copy(update={"activation": capture(prefix, name=made.view)})


def meaning(activation, name):
    """Return the meaning that was found of a variable, in one word."""
    around = activation.around.get(name)
    found = {
        "set": name in activation.set,
        "default": name in activation.default,
        "before": name in activation.prepend or bool(around and around.before),
        "after": name in activation.append or bool(around and around.after),
        "left out": any(note.startswith(f"{name} is left out") for note in activation.notes),
    }
    return " and ".join(word for word, holds in found.items() if holds)


def script_of(name):
    """Return the script that speaks of a variable."""
    return next(script for script, text in SCRIPTS.items() if re.search(rf"\b{name}\b", text))


def value(activation, name):
    """Return what a variable gets, or what is put before and after the user's, as <user's>."""
    if around := activation.around.get(name):
        return f"{around.before}<user's>{around.after}"
    lists = [*activation.prepend.get(name, ()), "<user's>", *activation.append.get(name, ())]
    return activation.set.get(name) or activation.default.get(name) or (":".join(lists) if len(lists) > 1 else "")


def test_each_variable_is_found_to_mean_what_its_script_means(release):
    activation = release.activation
    rows = {name: meaning(activation, name) for name in MEANINGS}
    print(f"\n\n{'script':13} {'variable':23} {'meaning':8} value")
    for name, word in sorted(rows.items(), key=lambda row: (script_of(row[0]), row[::-1])):
        print(f"{script_of(name):13} {name:23} {word:8} {value(activation, name)}".rstrip())
    print("\n".join(activation.notes))
    assert rows == MEANINGS
    assert activation.set["JULIA_PROJECT"] == "@plotting"
    text = activation.model_dump_json(exclude={"notes"})
    for leak in ("NOT_SET", "BACKUP", "mlviews-", "of-the-user", "/tmp/mlviews"):
        assert leak not in text
    assert "HOST" not in activation.set


def test_what_scripts_print_and_write_is_told_and_the_prefix_stays_as_it_was(release):
    notes = "\n".join(release.activation.notes)
    assert "cuda-nvcc.sh ended with status 1 and printed: no C++ compiler: set CUDAHOSTCXX" in notes
    assert "r-base.sh tried to change lib/R/etc/Makeconf" in notes
    assert "libarrow.sh tried to change share/gdb/auto-load/opt/where, share/gdb/auto-load/usr/where;" in notes
    prefix = Path(release.prefix)
    assert (prefix / "lib/R/etc/Makeconf").read_text() == "as the package has it\n"
    assert not (prefix / "share").exists()


def conda(release, before):
    """Return what conda's own activation gives: the scripts sourced in the user's environment."""
    named = Path(release.prefix).parents[1] / "conda" / release.view
    named.parent.mkdir(exist_ok=True)
    named.symlink_to(release.prefix)
    scripts = sorted((named / "etc/conda/activate.d").iterdir())
    # What writes into the prefix is known not to change a variable.
    lines = [f". {shlex.quote(str(script))}" for script in scripts if script.stem not in {"libarrow", "r-base"}]
    path = f"{named}/bin:{before['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join([*lines, "env -0"])],
        env={**before, "PATH": path, "CONDA_PREFIX": str(named), "CONDA_DEFAULT_ENV": release.view},
        capture_output=True,
        check=True,
    )
    text = os.fsdecode(done.stdout).replace(str(named), release.prefix)
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


SHELLS = {
    "sh": (["dash"], "setup.sh", setup_script.render_setup, shlex.quote),
    "zsh": (["zsh", "-f"], "setup.sh", setup_script.render_setup, shlex.quote),
    "fish": (["fish", "--no-config"], "setup.fish", setup_script.render_fish, escape._fish),
    "tcsh": (["tcsh", "-f"], "setup.csh", setup_script.render_csh, escape._csh),
}


@pytest.fixture(params=[*SHELLS, "Lmod", "environment-modules"])
def loaded(request, require, run_steps, lmod, environment_modules, tmp_path):
    """Return a function that gives the environment before, in, and after a view."""

    def load(release, before):
        if request.param in SHELLS:
            (program, *options), name, render, quote = SHELLS[request.param]
            Path(release.prefix, name).write_text(render(release), encoding="utf-8")
            source = "." if request.param == "sh" else "source"
            steps = ["true", f"{source} {quote(str(Path(release.prefix, name)))}", "mlviews_deactivate"]
            return run_steps([require(program), *options], steps, before)
        folder = tmp_path / "modulefiles" / release.module
        folder.mkdir(parents=True)
        (folder / f"{release.release}.lua").write_text(modulefile.render_lua([release]), encoding="utf-8")
        (folder / release.release).write_text(modulefile.render_tcl([release]), encoding="utf-8")
        start = (lmod if request.param == "Lmod" else environment_modules)("bash")
        use = f"module use {shlex.quote(str(tmp_path / 'modulefiles'))}"
        steps = [f"{start}\n{use}", f"module load {release.module}", f"module unload {release.module}"]
        return run_steps([require("bash"), "--norc"], steps, {**before, "LMOD_QUIET": "1"})

    return load


@pytest.mark.parametrize("before", [NOBODY, SOMEBODY], ids=["nothing set", "all set"])
def test_every_way_of_loading_gives_what_conda_gives_and_undoes_it(release, loaded, before):
    start, inside, after = loaded(release, before)
    meant = conda(release, before)
    for name, word in MEANINGS.items():
        if word == "left out":
            assert inside.get(name) == start.get(name)
        elif (name, before) != ("PATH", SOMEBODY):
            assert inside[name] == meant[name], name
    # PATH's first folder depends on the user's CARGO_HOME: it is what it is without.
    assert inside["PATH"].split(":")[0] == f"{release.prefix}/.cargo/bin"
    assert after == start


@pytest.mark.parametrize("before", [NOBODY, SOMEBODY], ids=["nothing set", "all set"])
def test_launch_gives_what_conda_gives(release, before):
    path = Path(release.prefix, "launch")
    path.write_text(setup_script.render_launch(release), encoding="utf-8")
    path.chmod(0o755)
    done = subprocess.run([path, "env", "-0"], env=before, capture_output=True, check=True)
    inside = dict(entry.split("=", 1) for entry in os.fsdecode(done.stdout).split("\0") if entry)
    meant = conda(release, before)
    for name, word in MEANINGS.items():
        if name != "PATH":
            assert inside.get(name) == (before if word == "left out" else meant).get(name), name
