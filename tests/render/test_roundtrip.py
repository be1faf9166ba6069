"""Load, switch, unload: nothing left behind, whatever the shell, what loads, and what the shell held before.

    pytest tests/render/test_roundtrip.py -s

prints the table.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mlviews.release import Around
from mlviews.render import escape, modulefile, setup_script

LCG = "/cvmfs/sft.cern.ch/lcg/views/LCG_108/x86_64-el9-gcc13-opt"
PATH = "/usr/local/bin:/usr/bin:/bin"
PLAIN = {"PATH": PATH, "HOME": "/tmp", "LC_ALL": "C.UTF-8"}
STARTS = {
    "plain": PLAIN,
    "env -i": {},
    "LCG": {
        **PLAIN,
        "PATH": f"{LCG}/bin:/cvmfs/sft.cern.ch/lcg/releases/gcc/13.1.0/x/bin:{PATH}",
        "LD_LIBRARY_PATH": f"{LCG}/lib:/usr/local/nvidia/lib64:{LCG}/lib64:/cvmfs/sft.cern.ch/lcg/releases/gcc/x/lib64",
        "PYTHONPATH": f"{LCG}/lib:{LCG}/lib/python3.11/site-packages",
        "PYTHONHOME": LCG,
        "LCG_VERSION": "108",
        "CMAKE_PREFIX_PATH": LCG,
        "C_INCLUDE_PATH": f"{LCG}/include",
        "CPLUS_INCLUDE_PATH": f"{LCG}/include",
        "ROOT_INCLUDE_PATH": f"{LCG}/include:/home/user/include:{LCG}/include/python3.11",
        "ROOTSYS": LCG,
    },
    "conda base": {
        **PLAIN,
        "PATH": f"/opt/conda/bin:/opt/conda/condabin:{PATH}",
        "CONDA_PREFIX": "/opt/conda",
        "CONDA_DEFAULT_ENV": "base",
        "CONDA_SHLVL": "1",
        "XDG_DATA_DIRS": "/opt/conda/share:/usr/share",
        "XDG_CONFIG_DIRS": "/etc/xdg",
        "CFLAGS": "-g  -DX='a b'",
        "CARGO_HOME": "/it's mine",
    },
    "venv": {
        **PLAIN,
        "PATH": f"/home/user/my venv/bin:{PATH}",
        "VIRTUAL_ENV": "/home/user/my venv",
        "PYTHONPATH": "/m",
        "NOTEBOOKS": "/a:/b",
        "CFLAGS": "-O1 -O2 $x",
    },
}
# What packages' scripts mean beside values: defaults, and text before and after what the user has.
MEANT = {
    "append": {"PATH": ("/view's last",), "XDG_CONFIG_DIRS": ("/view/xdg", "/view/xdg 2")},
    "default": {"CARGO_HOME": "/the view's $HOME", "LEVEL": "1"},
    "around": {
        "NOTEBOOKS": Around(before="/view/j's $x:", alone="/view/j's $x:"),
        "CFLAGS": Around(after=" -O2 $x", alone=" -O2 $x"),
        "BOTH": Around(before="<", after=">", alone="none"),
    },
}
# What stays of these lists; None where nothing does.
LISTS = {
    "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
    "C_INCLUDE_PATH": None,
    "CPLUS_INCLUDE_PATH": None,
    "ROOT_INCLUDE_PATH": "/home/user/include",
}
SHELLS = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"], "tcsh": ["-f"]}
SETUPS = {
    "bash": ("setup.sh", setup_script.render_setup, shlex.quote),
    "zsh": ("setup.sh", setup_script.render_setup, shlex.quote),
    "fish": ("setup.fish", setup_script.render_fish, escape._fish),
    "tcsh": ("setup.csh", setup_script.render_csh, escape._csh),
}
CACHES = ("MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")
SESSION = r".*this shell was set up by\s+LCG\s+view\s+108.*"


@pytest.fixture(scope="module")
def table():
    """Collect the rows, and print them at the end."""
    rows = []
    yield rows
    heading = ("shell", "loaded by", "before", "load", "switch", "unload")
    print("\n\n" + "\n".join("{:6} {:26} {:11} {:>16} {:>16} {:>16}".format(*row) for row in [heading, *rows]))


SYSTEMS = {
    "Lmod": "lmod",
    "newest Lmod": "newest_lmod",
    "environment-modules": "environment_modules",
    "newest environment-modules": "newest_environment_modules",
}


@pytest.fixture(params=[*SYSTEMS, "setup script"])
def means(request, tmp_path):
    """Return a function that gives what a shell types to start, load the first view, switch to the second, unload."""

    def type_in(shell, first, second):
        if request.param == "setup script":
            name, render, quote = SETUPS[shell]
            for release in (first, second):
                Path(release.prefix, name).write_text(render(release), encoding="utf-8")
            sources = [f"source {quote(str(Path(release.prefix, name)))}" for release in (first, second)]
            return ["true", *sources, "mlviews_deactivate"]
        for release in (first, second):
            folder = tmp_path / "modulefiles" / release.module
            folder.mkdir(parents=True)
            (folder / f"{release.release}.lua").write_text(modulefile.render_lua([release]), encoding="utf-8")
            (folder / release.release).write_text(modulefile.render_tcl([release]), encoding="utf-8")
        start = request.getfixturevalue(SYSTEMS[request.param])(shell)
        use = f"module use {shlex.quote(str(tmp_path / 'modulefiles'))}"
        switch = f"module switch {first.module} {second.module}"
        return [f"{start}\n{use}", f"module load {first.module}", switch, f"module unload {second.module}"]

    return request.param, type_in


@pytest.mark.parametrize("before", STARTS)
@pytest.mark.parametrize("shell", SHELLS)
def test_load_switch_and_unload_leave_the_environment_as_it_was(
    *, own, shell, before, means, require, run_steps, make_release, table
):
    what, type_in = means
    first = make_release(variables={"ONLY": "it's $HOME"}, meant=MEANT)
    second = make_release(view="shallow", variables={"OTHER": "second"}, meant={"default": {"CARGO_HOME": "/second"}})
    told = before == "LCG" and what != "setup script"
    environment = {**STARTS[before], **({} if told else {"LMOD_QUIET": "1"})}
    steps = type_in(shell, first, second)
    start, loaded, switched, unloaded = run_steps(
        [require(shell), *SHELLS[shell]], steps, environment, says=SESSION if told else ""
    )

    if "PATH" not in STARTS[before]:
        # A shell that gets no PATH makes one up, and may show it only when it is changed.
        found = loaded["PATH"].removesuffix(":/view's last")
        start = {**start, "PATH": found.removeprefix(f"{first.prefix}/bin:{first.prefix}/more/bin:")}
        unloaded = {"PATH": start["PATH"], **unloaded}
        assert "/usr/bin" in start["PATH"].split(":")
    assert own(loaded) == expected(first, start, loaded, before)
    assert own(switched) == expected(second, start, switched, before)
    assert unloaded == start
    changes = [changed(start, state) for state in (loaded, switched, unloaded)]
    table.append((shell, what, before, *(f"{count} changed" for count in changes[:2]), f"{changes[2]} left"))


@pytest.mark.parametrize("shell", SHELLS)
def test_what_another_tool_sets_up_meanwhile_stays(shell, means, require, run_steps, make_release):
    """As `lsetup rucio` does: a folder in front of PATH, a PYTHONPATH, and variables of its own."""
    export = {"fish": "set -gx {} {}", "tcsh": "setenv {} {}"}.get(shell, "export {}={}")
    quoted = "$PATH:q" if shell == "tcsh" else '"$PATH"' if shell == "fish" else "$PATH"
    before = {**STARTS["LCG"], "RUCIO_HOME": "/before"}
    tool = {"PATH": f"/rucio/bin:{quoted}", "PYTHONPATH": "/rucio/lib", "RUCIO_HOME": "/rucio"}
    tool["LD_LIBRARY_PATH"] = "/rucio/lib64"
    _, type_in = means
    release, other = make_release(view="shallow"), make_release()
    begin, _, load, unload = type_in(shell, other, release)
    load = load.replace(f"switch {other.module}", "load")
    lines = "\n".join(export.format(name, value) for name, value in tool.items())
    start, _, meanwhile, unloaded, _, again = run_steps(
        [require(shell), *SHELLS[shell]], [begin, load, lines, unload, load, unload], before, says=".*"
    )
    assert meanwhile["PATH"].startswith(f"/rucio/bin:{release.prefix}/bin:")
    assert unloaded == {**start, **tool, "PATH": f"/rucio/bin:{start['PATH']}"}
    assert again == unloaded


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_module_system_prepends_to_pythonpath_does_not_reach_the_view(
    shell, means, require, run_steps, make_release
):
    """environment-modules 5.7 puts a folder of its own there as it starts; here it is done by hand."""
    _, type_in = means
    begin, load, _, _ = type_in(shell, make_release(), make_release(view="shallow"))
    unload = load.replace("load", "unload") if load.startswith("module") else "mlviews_deactivate"
    path = "PYTHONPATH /usr/share/Modules/init:/mine"
    prepend = {"fish": f"set -gx {path}", "tcsh": f"setenv {path}"}.get(shell, f"export {path.replace(' ', '=')}")

    start, loaded, unloaded = run_steps(
        [require(shell), *SHELLS[shell]], [f"{begin}\n{prepend}", load, unload], {**PLAIN, "PYTHONPATH": "/mine"}
    )

    assert "PYTHONPATH" not in loaded
    assert unloaded == start
    assert start["PYTHONPATH"] == "/usr/share/Modules/init:/mine"


def expected(release, start, loaded, before):
    """Return what every way of loading must make of an environment."""
    cache = loaded.get("MLVIEWS_CACHE", "")
    assert cache.startswith("/tmp/mlviews-") == ("HOME" not in start)
    gone = {"PYTHONPATH", "PYTHONHOME", "CONDA_SHLVL", "CONDA_DEFAULT_ENV", *LISTS}
    last = dict(release.activation.append)
    return {
        **{name: value for name, value in start.items() if name not in gone},
        **release.activation.set,
        "PATH": ":".join([f"{release.prefix}/bin:{release.prefix}/more/bin:{start['PATH']}", *last.pop("PATH", ())]),
        "XDG_DATA_DIRS": ":".join([f"{release.prefix}/share", *filter(None, [start.get("XDG_DATA_DIRS")])]),
        **{name: ":".join([*filter(None, [start.get(name)]), *folders]) for name, folders in last.items()},
        **{name: start.get(name, value) for name, value in release.activation.default.items()},
        **{name: put(start.get(name, ""), text) for name, text in release.activation.around.items()},
        **{name: value for name, value in LISTS.items() if value and before == "LCG"},
        **({name: f"{cache}/{folder(name)}" for name in CACHES} if cache else {}),
        **({"MLVIEWS_CACHE": cache} if cache else {}),
        "MLVIEWS_VIEW": release.view,
        "MLVIEWS_RELEASE": release.release,
        "MLVIEWS_LOCK": release.lock_digest,
    }


def put(value, text):
    """Return a variable's value with text around it; one that has it already stays as it is."""
    has = value.startswith(text.before) and value.endswith(text.after)
    return value if value and has else f"{text.before}{value}{text.after}" if value else text.alone


def folder(name):
    return {"MPLCONFIGDIR": "matplotlib", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}.get(
        name, "cache"
    )


def changed(start, now):
    return sum(start.get(name) != now.get(name) for name in {*start, *now})
