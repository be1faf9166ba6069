"""One view on top of another: nothing of the first reaches the second, whatever loaded the one and loads the other.

    pytest tests/render/test_leaks.py -s

prints the table.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlviews.hardware import host_platform
from mlviews.jupyter import render_kernel
from mlviews.release import Around, sealed
from mlviews.render import modulefile
from mlviews.render.setup_script import prefix_files

START = {
    "PATH": "/mine/bin:/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LC_ALL": "C.UTF-8",
    "LMOD_QUIET": "1",
    "LD_LIBRARY_PATH": "/mine/lib",
    "CC": "my cc",
    "CFLAGS": "-g  -DX='a b'",
    "JAVA_HOME": "/my/java",
    "CARGO_HOME": "/it's mine",
    "NOTEBOOKS": "/a:/b",
}
# What view one changes, of each kind.
MEANT = {
    "append": {"PATH": ("/one's last",), "XDG_CONFIG_DIRS": ("/one/xdg", "/one/xdg 2")},
    "default": {"CARGO_HOME": "/one/cargo", "LEVEL": "one's $HOME"},
    "around": {
        "NOTEBOOKS": Around(before="/one/j's $x:", alone="/one/j's $x:"),
        "CFLAGS": Around(after=" -O2 $x", alone=" -O2 $x"),
        "BOTH": Around(before="<", after=">", alone="of one"),
    },
}
SHELLS = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"], "tcsh": ["-f"]}
FILES = {"bash": "setup.sh", "zsh": "setup.sh", "fish": "setup.fish", "tcsh": "setup.csh"}
MODULES = ("Lmod", "newest Lmod", "environment-modules")
FIRST = (*SHELLS, *MODULES, "launch", "gone")
SECOND = ("launch", "run", "kernel", "Lmod", "environment-modules", *SHELLS)


@pytest.fixture(scope="module")
def table():
    """Collect the cells, and print them at the end."""
    cells = {}
    yield cells
    print("\n\nleft of the first view (down: loaded by; across: the second, started or loaded on top by)")
    for row in [("", "", *SECOND), *((pair, first, *cells[pair, first]) for pair, first in cells)]:
        print(("{:14} {:20}" + " {:>19}" * len(SECOND)).format(*row).rstrip())


@pytest.fixture
def site(tmp_path, make_release, lmod, newest_lmod, environment_modules, require):
    """Return a site with the releases of two views, and what loads one of them in a child of an environment."""
    systems = {"Lmod": lmod, "newest Lmod": newest_lmod, "environment-modules": environment_modules}
    return _Site(tmp_path, make_release, systems, require)


class _Site:
    def __init__(self, root, make_release, systems, require):
        self.root, self._systems, self._require = root, systems, require
        hostile = {"ONLY": "it's $HOME `x` \\ * !", "CC": "one's cc", "MLVIEWS_TEST": "one"}
        self.one = self._write(make_release(variables=hostile, meant=MEANT, platform=host_platform()))
        self.later = self._write(make_release(release="2026.12.1", variables={"CC": "cc"}, platform=host_platform()))
        other = {
            "default": {"CARGO_HOME": "/two", "LEVEL": "2"},
            "around": {"CFLAGS": Around(before="-2 ", alone="-2")},
        }
        self.two = self._write(make_release(view="shallow", meant=other, platform=host_platform()))

    def _write(self, release):
        for name, file in prefix_files(release).items():
            path = Path(release.prefix, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text, encoding="utf-8")
            path.chmod(0o755 if file.executable else 0o644)
        Path(release.prefix, "release.json").write_text(sealed(release), encoding="utf-8")
        Path(release.prefix, "bin/python").write_text("#!/bin/sh\nexec /usr/bin/env -0\n")
        folder = self.root / "modulefiles" / release.module
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{release.release}.lua").write_text(modulefile.render_lua([release]), encoding="utf-8")
        (folder / release.release).write_text(modulefile.render_tcl([release]), encoding="utf-8")
        return release

    def loaded(self, way, release, environment):
        """Return the environment of a child of ``environment`` in which the release is loaded or started so."""
        launch = f"{release.prefix}/launch"
        if way == "launch":
            return self._run([launch, "/usr/bin/env", "-0"], environment)
        if way == "kernel":
            kernel = json.loads(render_kernel(release))["argv"]
            return self._run(kernel, environment)
        if way == "run":
            label = f"{release.view}/{release.release}"
            own = {"PYTHONPATH": str(Path(__file__).parents[2])}
            command = [
                sys.executable,
                "-m",
                "mlviews",
                "run",
                "--root",
                str(self.root),
                label,
                "--",
                "/usr/bin/env",
                "-0",
            ]
            return self._run(command, {**environment, **own})
        shell, lines = way, [f"source '{release.prefix}/{FILES.get(way)}'"]
        if way in MODULES:
            shell, name = "bash", f"{release.module}/{release.release}"
            use = f"module use '{self.root}/modulefiles'"
            word = "switch" if environment.get("MLVIEWS_MODULE") and way == "environment-modules" else "load"
            lines = [self._systems[way]("bash"), use, f"module {word} {name}"]
            if word == "switch":
                lines[-1] = f"module switch {environment['MLVIEWS_MODULE']} {name}"
        script = self.root / "script"
        script.write_text("\n".join([*lines, "/usr/bin/env -0"]) + "\n")
        return self._run([self._require(shell), *SHELLS[shell], str(script)], environment)

    def plain(self, way):
        """Return the environment of the same child without a view: some shells add to it."""
        shell = way if way in SHELLS else "bash"
        return self._run([self._require(shell), *SHELLS[shell], "-c", "/usr/bin/env -0"], START)

    def _run(self, command, environment):
        done = subprocess.run(command, env=environment, cwd=self.root, capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
        entries = done.stdout.decode().split("\0")
        return dict(entry.split("=", 1) for entry in entries if entry)


@pytest.mark.parametrize("pair", ["view, view", "view, release"])
@pytest.mark.parametrize("first", FIRST)
def test_nothing_of_one_view_reaches_another(first, pair, site, table, keep):
    """The second view finds what it would have found if the first had never been loaded."""
    second = site.two if pair == "view, view" else site.later
    before = site.loaded("bash" if first == "gone" else first, site.one, START)
    plain = site.plain(first)
    assert before["CC"] == "one's cc"
    if first == "gone":  # the release was removed, or lies where this host does not see it
        shutil.rmtree(Path(site.one.prefix).parent)

    row = []
    for way in SECOND:
        if first in MODULES and way in MODULES:  # no host has two
            if first.split()[-1] != way:
                row.append("-")
                continue
            way = first  # noqa: PLW2901
        alone, after = (keep(site.loaded(way, second, environment)) for environment in (plain, before))
        left = {name for name in {*alone, *after} if alone.get(name) != after.get(name)}
        assert {name: (after.get(name), alone.get(name)) for name in left} == {}, way
        assert site.one.prefix not in str(after)
        row.append(str(len(left)))
    table[pair, first] = row


def test_a_hostile_trace_is_not_obeyed(site, keep, tmp_path):
    """Anybody who starts a job may have written it."""
    trace = "a;touch${IFS}pwned $(touch pwned) `touch pwned` * x=y [ 0 \\"
    names = ("VIEW", "LISTS", "FOLDERS", "CHANGED", "DEFAULTS")
    planted = {**START, **{f"MLVIEWS_{name}": trace for name in names}}
    for way in (*SECOND, "newest Lmod"):
        after = keep(site.loaded(way, site.two, planted))
        assert after == keep(site.loaded(way, site.two, START)), way
    assert not list(tmp_path.rglob("*pwned*"))


def test_what_was_changed_after_loading_stays_where_it_was_a_default(site, keep):
    before = {**site.loaded("bash", site.one, START), "LEVEL": "mine"}
    for way in SECOND:
        after = keep(site.loaded(way, site.two, before))
        assert after == keep(site.loaded(way, site.two, {**START, "LEVEL": "mine"})), way


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME"])
def test_what_was_set_after_the_view_had_unset_it_comes_back_with_the_second_views_undo(name, site, keep):
    before = {**site.loaded("bash", site.one, START), name: "/set since"}
    for way in (*MODULES, *SHELLS):
        after = keep(site.loaded(way, site.two, before))
        assert after == keep(site.loaded(way, site.two, {**START, name: "/set since"})), way
        assert after[f"MLVIEWS_OLD_{name}"] == "/set since", way


@pytest.mark.parametrize("shell", SHELLS)
def test_undo_in_a_child_shell_leaves_no_view(shell, site, require, run_steps, keep):
    inherited = site.loaded(shell, site.one, START)
    source = f"source '{site.two.prefix}/{FILES[shell]}'"
    begin, undone = run_steps([require(shell), *SHELLS[shell]], ["true", f"{source}\nmlviews_deactivate"], inherited)
    assert begin["MLVIEWS_VIEW"] == "plotting"
    assert undone == keep(site.plain(shell))


@pytest.fixture
def keep():
    """Return a function that leaves out what module systems and shells keep for themselves."""

    def own(environment):
        foreign = (
            "LMOD_",
            "__LMOD_",
            "_ModuleTable",
            "MODULE",
            "_LMFILES_",
            "LOADEDMODULES",
            "BASH_FUNC_",
            "__MODULES_",
        )
        shells = {"_", "SHLVL", "PWD", "OLDPWD", "FPATH", "MANPATH", "BASH_ENV"}
        return {name: text for name, text in environment.items() if name not in shells and not name.startswith(foreign)}

    return own
