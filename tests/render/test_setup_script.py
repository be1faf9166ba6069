"""setup.sh in every shell that it is for, and launch."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlviews.render import setup_script

BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"}
LIVED_IN = {
    "PATH": "/opt/a b:/usr/bin:/bin:/usr/bin",
    "HOME": "/tmp",
    "PYTHONPATH": "/home/user's/modules:/lcg $x",
    "PYTHONHOME": "",
    "CONDA_PREFIX": "/opt/conda",
    "XDG_DATA_DIRS": "/usr/share",
    "OTHER": "two\nlines\nPYTHONNOUSERSITE=no",
    "HOSTILE_0": "",
}
AWKWARD = "a b's $(touch pwned) *\u00e9\\"


@pytest.fixture(params=["bash", "bash --posix", "dash", "zsh -f", "ksh93", "mksh"])
def shell(request, require):
    program, *options = request.param.split()
    return [require(program), *options]


def source(release):
    """Write the release's setup.sh and return the line that sources it."""
    path = Path(release.prefix, "setup.sh")
    path.write_text(setup_script.render_setup(release), encoding="utf-8")
    return f". {shlex.quote(str(path))}"


def run(command, environment=None, **options):
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("before", [BARE, LIVED_IN], ids=["bare", "lived-in"])
@pytest.mark.parametrize("options", [":", "set -eu", "set -f -C"])
def test_setup_does_what_the_release_says_and_deactivate_undoes_it(
    *, own, shell, options, before, make_awkward, run_steps
):
    release = make_awkward()
    start, loaded, again, undone = run_steps(
        shell, [options, source(release), source(release), "mlviews_deactivate"], before
    )
    assert own(loaded) == {
        **{name: value for name, value in start.items() if name not in ("PYTHONPATH", "PYTHONHOME")},
        **release.activation.set,
        "PATH": f"{release.prefix}/bin:{release.prefix}/more/bin:{before['PATH']}",
        "XDG_DATA_DIRS": f"{release.prefix}/share" + (":/usr/share" if before is LIVED_IN else ""),
        "MLVIEWS_VIEW": "plotting",
        "MLVIEWS_RELEASE": "2026.11.23",
        "MLVIEWS_LOCK": release.lock_digest,
    }
    assert again == loaded
    assert undone == start


@pytest.fixture
def make_awkward(make_release, hostile, tmp_path):
    values = {f"HOSTILE_{number}": text for number, text in enumerate(hostile)}
    return lambda: make_release(root=tmp_path / AWKWARD, variables=values)


@pytest.mark.parametrize("options", [":", "set -eu"])
def test_defaults_and_text_around_a_value_are_put_and_undone(shell, options, meant, make_release, run_steps):
    setup = source(make_release(meant=meant.activation))
    start, loaded, again, undone = run_steps(
        shell, [options, setup, setup, "mlviews_deactivate"], {**BARE, **meant.before}
    )
    assert {name: loaded[name] for name in meant.after} == meant.after
    assert loaded["XDG_DATA_DIRS"].endswith("/share:/last")
    assert again == loaded
    assert undone == start


def test_a_default_that_was_changed_since_stays(shell, make_release, run_steps):
    setup = source(make_release(meant={"default": {"LEVEL": "1", "OTHER": "1"}}))
    start, _, undone = run_steps(shell, [":", f"{setup}; export LEVEL=2", "mlviews_deactivate"], BARE)
    assert undone == {**start, "LEVEL": "2"}


def test_another_view_takes_the_place_of_the_first(shell, make_release, run_steps):
    first, second = make_release(variables={"ONLY": "first"}), make_release(view="shallow")
    start, _, loaded, undone = run_steps(shell, [":", source(first), source(second), "mlviews_deactivate"], LIVED_IN)
    assert first.prefix not in str(loaded)
    assert "ONLY" not in loaded
    assert undone == start


def test_a_child_shell_that_sources_it_again_has_the_same_path(shell, make_release, run_steps):
    setup = source(make_release())
    child = f"{shlex.join(shell)} -c {shlex.quote(f'{setup}; printenv PATH')}"
    _, loaded, after = run_steps(shell, [":", setup, f'export CHILD="$({child})"'], BARE)
    assert after["CHILD"] == loaded["PATH"]


def test_deactivate_keeps_what_others_did_to_a_path(shell, make_release, run_steps):
    start, *_, undone = run_steps(
        shell,
        [
            ":",
            source(make_release()),
            'export PATH="/first:$PATH:/last" XDG_DATA_DIRS="$XDG_DATA_DIRS:/added" CONDA_PREFIX=/other',
            "mlviews_deactivate",
        ],
        BARE,
    )
    assert undone == {**start, "PATH": f"/first:{BARE['PATH']}:/last", "XDG_DATA_DIRS": "/added"}


LCG = "/cvmfs/sft.cern.ch/lcg/views/LCG_108/x86_64-el9-gcc13-opt"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"{LCG}/lib", None),
        (f"{LCG}/lib:{LCG}/lib64", None),
        (
            f"/mine:{LCG}/lib:/usr/local/nvidia/lib64:/cvmfs/sft-nightlies.cern.ch/lcg/x",
            "/mine:/usr/local/nvidia/lib64",
        ),
        ("/cvmfs/sft.cern.ch/lcg-not:/cvmfs/atlas.cern.ch/repo/sw/software/25.0/lib", "/cvmfs/sft.cern.ch/lcg-not"),
        ("/mine:/yours", "/mine:/yours"),
    ],
)
def test_libraries_of_lcg_views_are_taken_out_and_others_stay(*, shell, before, after, make_release, run_steps, launch):
    release = make_release()
    start, loaded, undone = run_steps(
        [*shell, "-eu"], [":", source(release), "mlviews_deactivate"], {**BARE, "LD_LIBRARY_PATH": before}
    )
    assert loaded.get("LD_LIBRARY_PATH") == after
    assert undone == start
    done = run([launch(release), "sh", "-c", 'echo "${LD_LIBRARY_PATH-none}"'], {"LD_LIBRARY_PATH": before})
    assert done.stdout == f"{after or 'none'}\n"


@pytest.mark.parametrize("home", [None, "", "/nowhere", "/dev/null"])
def test_caches_find_a_place_in_a_job_without_home(*, shell, home, make_release, run_steps, launch, tmp_path):
    before = {"PATH": BARE["PATH"], "TMPDIR": str(tmp_path), "TRITON_CACHE_DIR": "/mine", "MPLCONFIGDIR": ""}
    before |= {} if home is None else {"HOME": home}
    release = make_release()
    steps = [":", source(release), 'export MODE="$(stat -c %a "${MLVIEWS_CACHE-/}")"', "mlviews_deactivate; unset MODE"]
    start, loaded, told, undone = run_steps([*shell, "-eu"], steps, before)
    assert undone == start
    assert not list(tmp_path.glob("mlviews-*"))
    done = run([launch(release), "env"], before)
    launched = dict(line.split("=", 1) for line in done.stdout.splitlines())
    # zsh asks the system for a home where the environment holds none.
    for environment in [launched] if start.get("HOME") != home else [launched, loaded]:
        assert re.fullmatch(re.escape(str(tmp_path)) + r"/mlviews-\w{8}", cache := environment["MLVIEWS_CACHE"])
        assert environment["TORCHINDUCTOR_CACHE_DIR"] == f"{cache}/inductor"
        assert environment["XDG_CACHE_HOME"] == f"{cache}/cache"
        assert (environment["TRITON_CACHE_DIR"], environment["MPLCONFIGDIR"]) == ("/mine", "")
    assert told["MODE"] in ("700", f"{Path('/').stat().st_mode & 0o777:o}")
    assert [path.stat().st_mode & 0o777 for path in tmp_path.glob("mlviews-*")] == [0o700]


def test_without_a_place_of_the_users_own_no_cache_is_named(shell, make_release, run_steps, launch):
    """A folder that another user could have made first would hold code that Triton runs."""
    before = {"PATH": BARE["PATH"], "TMPDIR": "/nowhere", "HOME": "/nowhere"}
    release = make_release()
    start, loaded, undone = run_steps([*shell, "-eu"], [":", source(release), "mlviews_deactivate"], before)
    launched = run([launch(release), "env"], before).stdout
    assert "CACHE" not in f"{launched}{sorted(loaded)}"
    assert undone == start


def test_a_view_that_says_where_its_caches_lie_is_heard(shell, make_release, run_steps):
    release = make_release(variables={"MPLCONFIGDIR": "/of/the/view"})
    _, loaded, _ = run_steps(shell, [":", source(release), "mlviews_deactivate"], {"PATH": BARE["PATH"]})
    assert loaded["MPLCONFIGDIR"] == "/of/the/view"


def test_a_variable_of_the_shell_alone_stays_so(shell, make_release, run_steps):
    start, loaded, undone, shown = run_steps(
        shell,
        [
            "PYTHONPATH='a b'; CONDA_PREFIX=mine",
            source(make_release()),
            "mlviews_deactivate",
            'export SHOWN="$PYTHONPATH $CONDA_PREFIX"',
        ],
        BARE,
    )
    assert "CONDA_PREFIX" in loaded
    assert undone == start
    assert shown["SHOWN"] == "a b mine"


def test_deactivate_leaves_no_name_behind(shell, make_release, run_steps):
    *_, after = run_steps(
        shell, [":", source(make_release()), "mlviews_deactivate", 'export LEFT="$(set; typeset -f 2>/dev/null)"'], BARE
    )
    assert re.findall(r"^_?mlviews_\w+(?==| *\()", after["LEFT"], re.MULTILINE) == []


def test_a_host_without_the_folder_is_told(shell, make_release, tmp_path):
    (tmp_path / "setup.sh").write_text(setup_script.render_setup(make_release(prefix="/nowhere/a'b")))
    done = run([*shell, "-c", '. ./setup.sh; echo "status $? $PATH"'], BARE, cwd=tmp_path)
    assert done.stdout == f"status 1 {BARE['PATH']}\n"
    assert done.stderr == "mlviews: this host has no folder /nowhere/a'b/bin\n"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1), min_size=20, max_size=20))
@example(texts=["=0", "a:=ls", "~", "a:~"])
@pytest.mark.parametrize("program", ["dash", "zsh"])
def test_any_text_comes_through(program, texts, make_release, run_steps, require):
    release = make_release(variables={f"TEXT_{number}": text for number, text in enumerate(texts)})
    _, loaded = run_steps([require(program)], [":", source(release)], BARE)
    assert {name: loaded[name] for name in release.activation.set} == release.activation.set


@pytest.fixture
def launch():
    def write(release):
        path = Path(release.prefix, "launch")
        path.write_text(setup_script.render_launch(release), encoding="utf-8")
        path.chmod(0o755)
        return path

    return write


def test_launch_takes_away_what_other_pythons_left(make_awkward, launch, tmp_path, own):
    release = make_awkward()
    foreign = {"PYTHONSTARTUP": "/x", "VIRTUAL_ENV": "/venv", "CONDA_SHLVL": "2", "CONDA_DEFAULT_ENV": "base"}
    foreign |= {"PYTHONINSPECT": "1", "PYTHONOPTIMIZE": "2", "PYTHONPYCACHEPREFIX": "/x", "LD_AUDIT": "", "CPATH": LCG}
    foreign |= {"LD_PRELOAD": "", "LIBRARY_PATH": f"{LCG}/lib"}
    done = run([launch(release), "env", "-0"], {**LIVED_IN, **foreign}, cwd=tmp_path)
    after = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    after.pop("PWD", None)  # dash exports it
    assert own(after) == {
        **release.activation.set,
        "PATH": f"{release.prefix}/bin:{release.prefix}/more/bin:{LIVED_IN['PATH']}",
        "XDG_DATA_DIRS": f"{release.prefix}/share:/usr/share",
        "MLVIEWS_VIEW": "plotting",
        "MLVIEWS_RELEASE": "2026.11.23",
        "MLVIEWS_LOCK": release.lock_digest,
        "OTHER": LIVED_IN["OTHER"],
        "HOME": "/tmp",
    }
    assert list(tmp_path.glob("pwned")) == []


def test_launch_knows_what_is_meant(meant, make_release, launch):
    release = make_release(meant=meant.activation)
    done = run([launch(release), launch(release), "env", "-0"], {**BARE, **meant.before})
    after = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    assert {name: after[name] for name in meant.after} == meant.after
    assert after["XDG_DATA_DIRS"].startswith(f"{release.prefix}/share:")


def test_launch_hands_over_every_argument_and_the_status(make_release, launch, hostile):
    release = make_release()
    done = run([launch(release), "python", *hostile, ""], {})
    assert done.stdout == "\n".join([f"{release.prefix}/bin/python", *hostile, "", ""])
    assert run([launch(release), "sh", "-c", "exit 7"]).returncode == 7
    assert run([launch(release), "no-such-program"]).returncode == 127


def test_launch_gives_its_process_to_the_program(make_release, launch):
    with subprocess.Popen(
        [launch(make_release()), "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert int(process.stdout.read()) == process.pid


def test_launch_needs_a_program_and_its_folder(make_release, launch, tmp_path):
    for arguments in ([], ["-c", "env"], [""]):
        usage = run([launch(make_release()), *arguments])
        assert (usage.returncode, usage.stderr) == (2, "usage: launch PROGRAM [ARGUMENT...]\n")
    elsewhere = tmp_path / "launch"
    elsewhere.write_text(setup_script.render_launch(make_release(prefix="/nowhere")))
    done = run(["sh", elsewhere, "true"])
    assert (done.returncode, done.stderr) == (127, "mlviews: this host has no folder /nowhere/bin\n")


@pytest.mark.parametrize("options", ["-xT", "-xTU", "-TUx", "-x -T -U"])
@pytest.mark.parametrize("strict", [":", "set -eu"])
def test_a_list_that_zsh_ties_to_an_array_is_exported_still_after_undo(
    options, strict, require, make_release, run_steps
):
    """People write `typeset -xTU LD_LIBRARY_PATH ld_library_path` so that no folder stands in it twice."""
    name = "LD_LIBRARY_PATH"
    lcg = "/cvmfs/sft.cern.ch/lcg/views/LCG_108/x/lib"
    tie = f"typeset {options} {name} ld_library_path; ld_library_path=(/a {lcg} /b)"

    start, loaded, undone = run_steps(
        [require("zsh"), "-f"], [f"{tie}; {strict}", source(make_release()), "mlviews_deactivate"], BARE
    )

    assert (start[name], loaded[name]) == (f"/a:{lcg}:/b", "/a:/b")
    assert undone == start
