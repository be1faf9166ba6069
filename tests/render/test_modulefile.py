"""Modulefiles, read by Lua, Tcl, Lmod and environment-modules themselves."""

from __future__ import annotations

import shlex
import subprocess

import lupa.lua51
import lupa.lua54
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlviews.errors import FailedError
from mlviews.release import ReleasePackage
from mlviews.render import escape, modulefile
from mlviews.render.defaultfile import default_name, render_default

BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"}
LIVED_IN = {
    "PATH": "/opt/a b:/usr/bin:/bin",
    "HOME": "/tmp",
    "PYTHONPATH": "/home/user's/modules:/lcg $x",
    "PYTHONHOME": "/lcg/python",
    "CONDA_PREFIX": "/opt/conda",
    "XDG_DATA_DIRS": "/usr/share",
    "HOSTILE_0": "mine",
}
# What the module systems' own code survives: Lmod 8.6 loses modules that lie below a folder with letters beyond ASCII,
# environment-modules 5.2 finds none below one with brackets or braces.
AWKWARD = "a b's $(touch pwned) ; `touch pwned` \"x"
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


PYTHON = (ReleasePackage(name="python", version="3.11.7", build="0"),)


def publish(tree, *releases):
    """Write the modulefiles of releases into a folder, the first as default, and return ``module use`` for it."""
    for release in reversed(releases):
        folder = tree / release.module
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{release.release}.lua").write_text(modulefile.render_lua([release]), encoding="utf-8")
        (folder / release.release).write_text(modulefile.render_tcl([release]), encoding="utf-8")
        name = default_name(str(tree))
        target = tree / f"default-{release.view}"
        target.write_text(render_default(name, release, tree / "envs"))
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    return f"module use {shlex.quote(str(tree))}"


@pytest.fixture(params=["lmod", "environment_modules"])
def start(request):
    """Return a function that gives the line which makes ``module`` known in a shell."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["bash --norc", "zsh -f"])
def session(request, start, require, run_steps):
    """Return a function that runs ``module`` commands in a shell, the first of them right after ``module`` is known."""
    program, *options = request.param.split()

    def run(steps, environment):
        first, *others = steps
        return run_steps(
            [require(program), *options], [f"{start(program)}\n{first}", *others], {**environment, "LMOD_QUIET": "1"}
        )

    return run


@pytest.fixture
def module_says(require, tmp_path):
    """Return a function that runs lines in bash and gives what they print."""

    def say(*lines, status=0):
        environment = {**BARE, "LC_ALL": "C.UTF-8", "LMOD_PAGER": "none"}
        done = subprocess.run(
            [require("bash"), "--norc", "-c", "\n".join(["exec 2>&1", *lines])],
            check=False,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status, done.stdout
        assert list(tmp_path.glob("pwned")) == []
        return done.stdout

    return say


@pytest.mark.parametrize("before", [BARE, LIVED_IN], ids=["bare", "lived-in"])
def test_load_switch_and_unload_leave_nothing(*, own, session, before, make_release, hostile, tmp_path):
    root = tmp_path / AWKWARD
    values = {f"HOSTILE_{number}": text for number, text in enumerate(hostile)}
    first = make_release(root=root, variables=values)
    second = make_release(root=root, release="2026.11.24", variables={"ONLY": "second"})
    other = make_release(root=root, view="shallow")
    clean, loaded, newer, switched, unloaded, again, purged = session(
        [
            publish(root / "modulefiles", first, second, other),
            "module load atlasml/plotting/2026.11.23",
            "module switch atlasml/plotting atlasml/plotting/2026.11.24",
            "module switch atlasml/plotting atlasml/shallow",
            "module unload atlasml/shallow",
            "module load atlasml/shallow",
            "module purge",
        ],
        before,
    )
    for release, environment in [(first, loaded), (second, newer), (other, switched), (other, again)]:
        assert own(environment) == {
            **{name: value for name, value in clean.items() if name not in ("PYTHONPATH", "PYTHONHOME")},
            **release.activation.set,
            "PATH": f"{release.prefix}/bin:{release.prefix}/more/bin:{before['PATH']}",
            "XDG_DATA_DIRS": f"{release.prefix}/share" + (":/usr/share" if before is LIVED_IN else ""),
            "MLVIEWS_VIEW": release.view,
            "MLVIEWS_RELEASE": release.release,
            "MLVIEWS_LOCK": release.lock_digest,
        }
    assert unloaded == clean
    assert purged == clean


def test_what_was_changed_between_two_loads_comes_back_as_it_is(session, make_release, tmp_path):
    release = make_release(variables={"CC": "the view's"})
    load, unload = f"module load {release.module}", f"module unload {release.module}"
    steps = [publish(tmp_path / "modulefiles", release), load, unload, "export CC=second", load, unload, "unset CC"]
    *_, second, loaded, unloaded, without, _, last = session([*steps, load, unload], {**BARE, "CC": "first"})
    assert (second["CC"], loaded["CC"]) == ("second", "the view's")
    assert unloaded == second
    assert last == without


def test_defaults_and_text_around_a_value_are_put_and_undone(session, meant, make_release, tmp_path):
    release, other = make_release(meant=meant.activation), make_release(view="shallow", meant=meant.activation)
    clean, loaded, switched, unloaded = session(
        [
            publish(tmp_path / "modulefiles", release, other),
            f"module load {release.module}",
            f"module switch {release.module} {other.module}",
            f"module unload {other.module}",
        ],
        {**BARE, **meant.before},
    )
    # Lmod 8.6 spoils letters beyond ASCII in a value that it gives back.
    kept = {name: value for name, value in meant.after.items() if meant.before.get(name, "").isascii()}
    for environment in (loaded, switched):
        assert {name: environment[name] for name in kept} == kept
        assert environment["XDG_DATA_DIRS"].endswith("/share:/last")
    assert {name: unloaded.get(name) for name in kept} == {name: clean.get(name) for name in kept}
    assert unloaded.keys() == clean.keys()


def test_lmod_puts_another_view_in_the_place_of_the_first(lmod, make_release, run_steps, require, tmp_path):
    first, second = make_release(), make_release(view="shallow")
    use = publish(tmp_path / "modulefiles", first, second)
    clean, swapped, back, purged = run_steps(
        [require("bash"), "--norc"],
        [
            f"{lmod('bash')}\n{use}",
            "module load atlasml/plotting\nmodule load atlasml/shallow",
            "module load atlasml/plotting/2026.11.23",
            "module purge",
        ],
        {**LIVED_IN, "LMOD_QUIET": "1"},
    )
    assert (swapped["MLVIEWS_VIEW"], back["MLVIEWS_VIEW"]) == ("shallow", "plotting")
    assert first.prefix not in str(swapped)
    assert second.prefix not in str(back)
    assert purged == clean


def test_a_job_without_path_finds_its_programs(session, make_release, tmp_path):
    release = make_release()
    _, loaded, purged = session(
        [
            publish(tmp_path / "modulefiles", release),
            "module load atlasml/plotting; ls >/dev/null",
            "module purge; ls >/dev/null",
        ],
        {},
    )
    assert loaded["PATH"].startswith(f"{release.prefix}/bin:")
    assert release.prefix not in purged["PATH"]


def test_environment_modules_refuses_a_second_view(environment_modules, make_release, module_says, tmp_path):
    use = publish(tmp_path / "modulefiles", make_release(), make_release(view="shallow"))
    said = module_says(
        environment_modules("bash"),
        use,
        "module load atlasml/plotting",
        "module load atlasml/shallow && echo loaded",
        "echo $MLVIEWS_VIEW",
    )
    assert "module unload atlasml/plotting" in said
    assert said.splitlines()[-1] == "plotting"


def test_any_summary_comes_back_from_whatis_and_help(start, make_release, module_says, hostile, tmp_path):
    releases = [
        make_release(root=tmp_path / AWKWARD, view=f"view{number}", summary=text) for number, text in enumerate(hostile)
    ]
    lines = [f"module whatis {item.module}; echo; module help {item.module}; echo {'=' * 40}" for item in releases]
    said = module_says(start("bash"), publish(tmp_path / "modulefiles", *releases), *lines)
    for release, part in zip(releases, said.split("=" * 40 + "\n"), strict=False):
        shown = [line.removesuffix("\r") for line in part.split("\n")]
        assert any(line.endswith(f": Description: {release.summary}") for line in shown), part
        assert release.summary in shown
        assert any(line.endswith(f": Lock: {release.lock_digest}") for line in shown)


def test_help_tells_what_is_in_it_and_what_is_missing(make_release):
    release = make_release(gaps={"xrootd": "not in the channel"}, absent={"root": "has no wheel"})
    for text in (modulefile.render_lua([release]), modulefile.render_tcl([release])):
        assert "Holds pytorch-gpu 2.6.0, uproot 5.6" in text
        assert "Lacks xrootd: not in the channel" in text
        assert "Lacks root: has no wheel" in text


def test_the_default_need_not_be_the_newest(start, make_release, module_says, tmp_path):
    old, new = make_release(release="2026.11.23"), make_release(release="2026.11.23.2")
    use = publish(tmp_path / "modulefiles", old, new)
    assert (tmp_path / "modulefiles/atlasml/plotting/.version").is_symlink()
    said = module_says(start("bash"), use, "module load atlasml/plotting", "echo $MLVIEWS_RELEASE")
    assert said.splitlines()[-1] == "2026.11.23"


@pytest.mark.parametrize(
    "folder", ["a b", "\u00e9\u00e9", "$(touch pwned)", "[exec touch pwned]", "it's", '"', "{", ";"]
)
def test_lmod_finds_the_default_wherever_the_tree_lies(folder, lmod, make_release, module_says, tmp_path):
    old, new = make_release(release="2026.11.23"), make_release(release="2026.11.23.2")
    use = publish(tmp_path / folder, old, new)
    said = module_says(lmod("bash"), use, "module load atlasml/plotting", "echo $MLVIEWS_RELEASE")
    assert said.splitlines()[-1] == "2026.11.23"


def test_spider_finds_what_the_recipe_asks_for(lmod, make_release, module_says, tmp_path):
    use = publish(tmp_path / "modulefiles", make_release())
    said = module_says(lmod("bash"), use, "module spider torch", "module spider uproot/5.6")
    assert "torch/2.6.0 (E)" in said
    assert "uproot/5.6 (E)" in said
    assert "numpy" not in said
    assert "python" not in modulefile._extensions([make_release(requested=("python", "numpy"), packages=PYTHON)])


@pytest.mark.parametrize("change", [{"platform": "linux-aarch64"}, {"prefix": "/nowhere/a'b"}])
def test_a_module_that_cannot_work_here_does_not_load(start, change, make_release, module_says, tmp_path):
    release = make_release(**change)
    said = module_says(
        start("bash"),
        publish(tmp_path / "modulefiles", release),
        "module load atlasml/plotting && echo loaded",
        "echo PATH $PATH",
    )
    told = "is for aarch64 machines" if "platform" in change else "this host has no folder /nowhere/a'b"
    assert told in " ".join(said.split())  # Lmod breaks lines
    assert "loaded" not in said.splitlines()
    assert said.splitlines()[-1] == f"PATH {BARE['PATH']}"


# --- the files by themselves, read by bare Lua and Tcl ------------------------------------------------------------


def read_lua(text, *, machine="x86_64", runtime=lupa.lua54.LuaRuntime, variables=None):
    """Return what a modulefile calls, in order; the variables are its process's besides PATH and HOME."""
    environ = {"PATH": "/bin", "HOME": "/", **(variables or {})}
    calls = []
    lua = runtime(encoding="utf-8", register_eval=False)
    names = ("help", "whatis", "family", "extensions", "prepend_path", "pushenv", "setenv", "LmodError", "LmodMessage")
    environment = {name: lambda *values, name=name: calls.append((name, *values)) for name in names}
    environment |= {"mode": lambda: "load", "isDir": lambda folder: True, "isFile": lambda path: True}
    environment |= {"myShellType": lambda: "sh", "execute": lambda told: calls.append(("execute", told["cmd"]))}
    environment |= {"LmodVersion": lambda: "8.6.19", "convertToCanonical": lambda version: version}
    posix = {"uname": lambda field: machine, "stat": lambda path: None, "setenv": environ.__setitem__}
    environment["posix"] = lua.table_from(posix)
    environment["io"] = lua.table_from({"open": lambda path: None})
    kept = {name: lua.globals()[name] for name in ("ipairs", "pairs", "string", "table", "tonumber")}
    for name in list(lua.globals()):
        lua.globals()[name] = None
    environment |= kept
    for name, value in environment.items():
        lua.globals()[name] = value
    lua.globals()["os"] = lua.table_from({"getenv": environ.get})
    lua.execute(text)
    return calls


@pytest.mark.parametrize("runtime", [lupa.lua51.LuaRuntime, lupa.lua54.LuaRuntime])
@settings(max_examples=60, deadline=None)
@given(text=TEXT)
def test_lua_gives_any_text_back(runtime, text):
    assert read_lua(f"help({escape._lua(text)})", runtime=runtime) == [("help", text)]


@settings(max_examples=15, deadline=None)
@given(texts=st.lists(TEXT))
def test_tcl_gives_any_text_back(require, texts):
    puts = [f"puts -nonewline {escape._tcl(text)}; puts -nonewline \\0" for text in texts]
    program = "\n".join(["fconfigure stdout -encoding utf-8 -translation binary", *puts])
    done = subprocess.run(
        [require("tclsh")], input=program.encode(), check=True, capture_output=True, env={"LC_ALL": "C", **BARE}
    )
    assert done.stdout.decode().split("\0")[:-1] == texts


def test_one_file_serves_every_platform(make_release):
    releases = [make_release(platform=platform) for platform in ("linux-64", "linux-aarch64")]
    text = modulefile.render_lua(releases)
    for release, machine in zip(releases, ("x86_64", "aarch64"), strict=True):
        calls = read_lua(text, machine=machine)
        assert ("pushenv", "CONDA_PREFIX", release.prefix) in calls
        assert [folder for name, *_, folder in calls if name == "prepend_path"][:2] == [
            f"{release.prefix}/more/bin",
            f"{release.prefix}/bin",
        ]
    assert read_lua(text, machine="riscv64")[-1] == (
        "LmodError",
        "mlviews: plotting 2026.11.23 is for aarch64 and x86_64 machines.",
    )


def test_what_lmod_9_keeps_from_its_own_process_is_put_aside_all_the_same(make_release):
    lcg = "/cvmfs/sft.cern.ch/lcg/x/lib"
    hidden = {"LD_LIBRARY_PATH": "", "__LMOD_PROTECTED_LD_LIBRARY_PATH": f"{lcg}:/mine"}
    calls = read_lua(modulefile.render_lua([make_release()]), variables=hidden)
    assert ("pushenv", "LD_LIBRARY_PATH", "/mine") in calls


def test_luac_reads_every_hostile_file(make_release, hostile, require, tmp_path):
    for number, text in enumerate(hostile):
        release = make_release(summary=text, gaps={text: text}, variables={"X": text})
        (tmp_path / f"{number}.lua").write_text(modulefile.render_lua([release]), encoding="utf-8")
    subprocess.run([require("luac"), "-p", *sorted(tmp_path.glob("*.lua"))], check=True, cwd=tmp_path)


def test_releases_of_different_locks_are_not_mixed(make_release):
    releases = [make_release(), make_release(platform="linux-aarch64", lock_digest="sha256:other")]
    with pytest.raises(FailedError, match="one lock") as caught:
        modulefile.render_lua(releases)
    assert caught.value.code == "release-mixed"


def test_a_platform_without_modules_is_refused(make_release):
    with pytest.raises(FailedError, match="osx-arm64") as caught:
        modulefile.render_tcl([make_release(platform="osx-arm64")])
    assert caught.value.code == "platform-unknown"
