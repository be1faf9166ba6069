"""What is captured from a prefix: real bash, real scripts."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlviews.errors import FailedError
from mlviews.prefix import copied, scripts
from mlviews.prefix.activation import capture
from mlviews.release import Activation, Around


@pytest.fixture
def prefix(tmp_path):
    path = tmp_path / "it's a prefix"
    (path / "bin").mkdir(parents=True)
    return path


def activate(prefix, **scripts):
    """Write activation scripts, by name."""
    folder = prefix / "etc/conda/activate.d"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts.items():
        (folder / f"{name}.sh").write_text(text)


def declare(prefix, path, content):
    file = prefix / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def captured(prefix, **options):
    """Return what a view's packages set beyond what every view sets."""
    return {
        name: value
        for name, value in capture(prefix, **options).set.items()
        if name not in ("CONDA_PREFIX", "PYTHONNOUSERSITE")
    }


def put_after(text):
    return Around(after=text, alone=text)


def test_every_view_gets_its_own_python_and_nothing_of_the_users(prefix):
    assert capture(prefix) == Activation(
        prepend={"PATH": (f"{prefix}/bin",)},
        set={"CONDA_PREFIX": str(prefix), "PYTHONNOUSERSITE": "1"},
        unset=("PYTHONPATH", "PYTHONHOME", "PIP_BREAK_SYSTEM_PACKAGES"),
    )


def test_scripts_run_in_order_in_an_environment_of_their_own(prefix, monkeypatch):
    monkeypatch.setenv("SECRET", "of the build host")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/of/the/build/host")
    activate(
        prefix,
        b='export B="$A two" SEEN="${SECRET-none}"',
        a="export A=one; not_exported=1; cd /; f() { :; }; export -f f; echo noise; echo noise >&2",
        c='export WHERE="$CONDA_PREFIX/share" CONDA_BACKUP_A= _CONDA_SET_A=1',
    )
    assert captured(prefix) == {"A": "one", "B": "one two", "SEEN": "none", "WHERE": f"{prefix}/share"}


def test_lists_are_told_from_values(prefix):
    activate(
        prefix,
        a='export PATH="$CONDA_PREFIX/more:$PATH:/after" MANPATH="$CONDA_PREFIX/man:${MANPATH}"',
        b='export XDG_DATA_DIRS="$XDG_DATA_DIRS:/share" PKG_CONFIG_PATH=/instead LD_LIBRARY_PATH="/l:$LD_LIBRARY_PATH"',
        c='export MANPATH="$CONDA_PREFIX/1st:$CONDA_PREFIX/man:$MANPATH"',
        d='export PYTHONPATH="$CONDA_PREFIX/modules:$PYTHONPATH"',
    )
    activation = capture(prefix)
    assert activation.prepend == {
        "PATH": (f"{prefix}/more", f"{prefix}/bin"),
        "MANPATH": (f"{prefix}/1st", f"{prefix}/man"),
        "LD_LIBRARY_PATH": ("/l",),
    }
    assert activation.append == {"PATH": ("/after",), "XDG_DATA_DIRS": ("/share",)}
    assert activation.set["PKG_CONFIG_PATH"] == "/instead"
    # The user's modules must not reach the view, so the view's own stand alone.
    assert activation.set["PYTHONPATH"] == f"{prefix}/modules"
    assert activation.unset == ("PYTHONHOME", "PIP_BREAK_SYSTEM_PACKAGES")


def test_declared_variables_are_read_as_conda_reads_them(prefix):
    declare(prefix, "etc/conda/env_vars.d/b.json", {"A": "b", "B": "b", "GONE": "x"})
    declare(prefix, "etc/conda/env_vars.d/a.json", {"A": "a", "IFS": ","})
    declare(prefix, "conda-meta/state", {"env_vars": {"B": "state", "GONE": "***unset***"}})
    assert captured(prefix) == {"A": "b", "B": "state"}
    activate(prefix, a='export C="$A $B"')
    assert captured(prefix)["C"] == "b state"


def test_values_name_the_place_where_the_view_will_lie(prefix, tmp_path):
    declare(
        prefix, "etc/conda/env_vars.d/a.json", {"A": f"{prefix}/a:{prefix}", "B": f"{prefix}-other", "C": f"x{prefix}/"}
    )
    activate(prefix, a='export PATH="$CONDA_PREFIX/more:$PATH"')
    final = tmp_path / r"cvmfs\1"
    activation = capture(prefix, baked=final)
    assert activation.prepend["PATH"] == (f"{final}/more", f"{final}/bin")
    assert activation.set["CONDA_PREFIX"] == str(final)
    assert (activation.set["A"], activation.set["B"]) == (f"{final}/a:{final}", f"{prefix}-other")
    assert str(prefix) not in activation.set["C"]


def test_text_that_means_something_to_a_shell_stays_text(prefix):
    text = """$(touch pwned) `touch pwned` ${HOME} "'\\ ]] {{ x }} %s \u2192 \U0001f600"""
    declare(prefix, "conda-meta/state", {"env_vars": {"A": text}})
    activate(prefix, a='export B="$A"')
    assert captured(prefix) == {"A": text, "B": text}
    assert list(prefix.rglob("pwned")) == []


def test_what_a_script_leaves_empty_is_unset(prefix):
    activate(prefix, a="export A= B=b")
    activation = capture(prefix)
    assert activation.unset == ("PYTHONPATH", "PYTHONHOME", "PIP_BREAK_SYSTEM_PACKAGES", "A")
    assert "A" not in activation.set


def test_a_script_that_ends_with_a_false_test_is_fine(prefix):
    activate(prefix, a='export A=1\n[ -n "$NOTHING" ] && echo x', b="export B=2; false")
    assert captured(prefix) == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("echo about to fail; return 3", "activation-failed", r"b\.sh failed with status 3.*about to fail"),
        ("exit 0", "activation-failed", r"b\.sh ended the shell"),
        ("exec true", "activation-failed", r"b\.sh ended the shell"),
        ("kill -9 $$", "activation-failed", r"b\.sh failed with status -9"),
        ("if then", "activation-failed", r"b\.sh failed with status 2.*syntax error"),
        ("no-such-program", "activation-failed", r"b\.sh failed with status 127.*not found"),
        ("yes > file", "activation-failed", r"b\.sh failed with status 153"),
        ("sleep 60", "activation-timeout", r"b\.sh did not end within 1 seconds"),
        ("trap '' TERM INT HUP; sleep 60", "activation-timeout", r"b\.sh did not end"),
        ("export A=$'one\\ntwo'", "activation-value", r"A .*control characters.*'one\\ntwo'"),
        ("export A=$'\\e]0;title\\a'", "activation-value", r"A .*control characters"),
        ("export A=$'\\xff'", "activation-value", r"A .*not UTF-8"),
        ("export PATH=/bin", "activation-value", r"PATH .*leaves out"),
        ("unset PATH; export PATH=x", "activation-value", r"PATH .*leaves out"),
    ],
)
def test_a_script_that_goes_wrong_is_named(prefix, script, code, said):
    activate(prefix, a="export FINE=1", b=script)
    with pytest.raises(FailedError, match=rf"(?s){said}") as caught:
        capture(prefix, timeout=1 if code == "activation-timeout" else 20)
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize(
    ("script", "meant"),
    [
        ("export A=a", {"set": {"A": "a"}}),
        ('export A="${A:-a}"', {"default": {"A": "a"}}),
        ('[ "$A" ] || export A=a', {"default": {"A": "a"}}),
        ('export A="a:$A"', {"around": {"A": Around(before="a:", alone="a:")}}),
        ('export A="${A:+$A }-a"', {"around": {"A": Around(after=" -a", alone="-a")}}),
        ('export A="<$A>"', {"around": {"A": Around(before="<", after=">", alone="<>")}}),
        # A list with a value of its own where the user has none is more than folders in front.
        ('export CPATH="/c:${CPATH:-/d}"', {"around": {"CPATH": Around(before="/c:", alone="/c:/d")}}),
        ('export CPATH="${CPATH:-/c}"', {"default": {"CPATH": "/c"}}),
        ('export CPATH="/c:$CPATH:/d"', {"prepend": {"CPATH": ("/c",)}, "append": {"CPATH": ("/d",)}}),
        ("export A_BACKUP=${A:-NOT_SET}", {}),
        ("A=local; unset A", {}),
        ("export lower=${lower:-a}", {"default": {"lower": "a"}}),
        # Two scripts' worth: what one sets is a constant to the next.
        ('export CC=cc; export A="$A --with=$CC"', {"set": {"CC": "cc"}, "around": {"A": put_after(" --with=cc")}}),
    ],
)
def test_a_meaning_is_told_from_what_a_script_gives(prefix, script, meant):
    activate(prefix, a=script)
    activation = capture(prefix)
    given = activation.model_dump(include={"set", "default", "around", "prepend", "append"})
    for name in ("CONDA_PREFIX", "PYTHONNOUSERSITE"):
        given["set"].pop(name)
    given["prepend"].pop("PATH")
    expected = Activation(**{"prepend": {}, "set": {}, "unset": (), **meant}).model_dump(include=set(given))
    assert given == expected
    assert activation.notes == ()


def test_what_repeats_another_variable_is_what_it_is_without(prefix):
    activate(prefix, a='export CC=${CC:-cc}; export A="$A -$CC"')
    activation = capture(prefix)
    assert activation.default == {"CC": "cc"}
    assert activation.around == {"A": put_after(" -cc")}
    assert activation.notes == (
        "A depends on what the user has set; the release has the value of a user who set nothing.",
    )


@pytest.mark.parametrize(
    ("script", "value", "note"),
    [
        ("export A=$(nproc)", None, "A is left out: a script gives it another value on another host"),
        ("export A=-j$(($(nproc) / 2))", None, "A is left out"),
        ("export A=$(getconf _NPROCESSORS_ONLN)", None, "A is left out"),
        ("export A=$(uname -n)", None, "A is left out"),
        ("export A=$HOSTNAME", None, "A is left out"),
        ("export A=$(hostname)", None, "A is left out"),
        ("export A=$(id -un)", None, "A is left out"),
        ("export A=/tmp/$(id -u)", None, "A is left out"),
        ("export A=$USER", None, "A is left out"),
        ("export A=$UID", None, "A is left out"),
        ("export A=$RANDOM$RANDOM", None, "A is left out"),
        ('export A="$HOME/.cache"', None, "A is left out"),
        ('export A="${A:-$HOME/.cache}"', None, "A is left out"),
        ("export A=$PATH", None, "A is left out: it repeats the user's PATH"),
        ("export HOST=x", None, "HOST is left out: zsh and tcsh"),
        ('[ -z "$A" ] || export A="$A:a"', None, "A is left out: a script changes it only where the user has set it"),
        ('export A="x$LD_LIBRARY_PATH"', "x", "A depends on what the user has set"),
        ('[ "$B" ] && export A=b || export A=a', "a", "A depends on what the user has set"),
        ("export A=$(uname -m)", os.uname().machine, None),
        ("export A=a; echo 'it works'", "a", "a.sh printed: it works"),
        ("export A=a; printf '\\033[31mno\\n compiler\\a\\377' >&2; return 1", "a",
         "a.sh ended with status 1 and printed: no compiler \ufffd"),
    ],
)  # fmt: skip
def test_what_is_left_out_or_printed_is_told(prefix, script, value, note):
    activate(prefix, a=script)
    activation = capture(prefix)
    assert activation.set.get("A") == value
    assert "A" not in {*activation.default, *activation.around}
    notes = [text for text in activation.notes if note and text.startswith(note)]
    assert len(notes) == len(activation.notes) == (1 if note else 0)


@pytest.mark.parametrize(("name", "seen"), [("analysis", "@analysis"), (None, "@it's a prefix")])
def test_scripts_see_the_views_name_as_that_of_the_environment(prefix, name, seen):
    activate(prefix, a="export A=@${CONDA_PREFIX##*/} B=@$CONDA_DEFAULT_ENV C=$CONDA_PREFIX/x")
    assert captured(prefix, name=name) == {"A": seen, "B": seen, "C": f"{prefix}/x"}


def state(folder):
    """Return every path below a folder with its inode, mode, time and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        # A folder's own time changes when its content is put aside and back; a file's never does.
        time = None if content is None else status.st_mtime_ns
        found[str(path.relative_to(folder))] = (status.st_ino, status.st_mode, time, content)
    return found


WRITES = {
    "appends": 'echo x >> "$CONDA_PREFIX/lib/Makeconf"',
    "replaces": 'rm "$CONDA_PREFIX/lib/Makeconf"; echo x > "$CONDA_PREFIX/lib/Makeconf"',
    "edits": 'sed -i s/old/new/ "$CONDA_PREFIX/lib/Makeconf"',
    "removes": 'rm "$CONDA_PREFIX/lib/Makeconf"',
    "links": 'ln -sfn / "$CONDA_PREFIX/root"',
    "makes": 'mkdir -p "$CONDA_PREFIX/share/new"; : > "$CONDA_PREFIX/share/new/file"',
    "closes": 'chmod 600 "$CONDA_PREFIX/lib/Makeconf"',
}


@pytest.fixture(params=["layer", "copy"])
def way(request, monkeypatch):
    """Return how the prefix is kept: as this kernel allows, or as where it does not."""
    if request.param == "copy":
        monkeypatch.setattr(scripts, "_can_layer", lambda *_: False)
    return request.param


@pytest.mark.parametrize("script", WRITES.values(), ids=WRITES)
def test_the_prefix_and_the_cache_stay_as_they_were(prefix, tmp_path, way, script):
    cached = tmp_path / "cache"
    cached.mkdir()
    (prefix / "lib").mkdir()
    for name in ("Makeconf", "other"):
        (cached / name).write_text("old")
        (prefix / "lib" / name).hardlink_to(cached / name)
    (prefix / "lib/link").symlink_to("other")
    # By its own path too: packages have it in their files.
    activate(prefix, a=f"export A=1; {script}", b=f"echo y >> {shlex.quote(str(prefix))}/lib/other; export B=2")
    before = state(tmp_path)
    activation = capture(prefix)
    assert state(tmp_path) == before
    assert captured(prefix) == {"A": "1", "B": "2"}
    path = re.search(r"CONDA_PREFIX/([\w/]+)\"[^\"]*$", script).group(1)
    told = [note for note in activation.notes if "tried to change" in note]
    if way == "layer":
        assert told[0].startswith(f"a.sh tried to change {path};")
        assert told[1].startswith("b.sh tried to change lib/other;")
    else:
        assert told == [f"a.sh or b.sh tried to change {both(path)}; the release keeps the files of its packages."]


def test_what_is_told_names_the_view_where_it_will_lie(prefix, way, tmp_path):
    activate(prefix, a='echo "$CONDA_PREFIX"; mkdir -p "$CONDA_PREFIX/share/$CONDA_PREFIX/lib"')
    assert capture(prefix, name="demo", baked=tmp_path / "there").notes == (
        f"a.sh printed: {tmp_path}/there",
        f"a.sh tried to change share{tmp_path}/there/lib; the release keeps the files of its packages.",
    )


def both(path):
    return ", ".join(sorted([path, "lib/other"]))


@pytest.fixture
def library(prefix, tmp_path, monkeypatch):
    """A file of the prefix so large that a copy does without it, and that is the cache's too."""
    monkeypatch.setattr(scripts, "_can_layer", lambda *_: False)
    monkeypatch.setattr(copied, "_can_clone", lambda *_: False)
    (prefix / "bin/library").write_bytes(bytes((1 << 20) + 1))
    (tmp_path / "cached").hardlink_to(prefix / "bin/library")
    return prefix / "bin/library"


@pytest.mark.parametrize("how", ["echo y >>", "echo y >", "truncate -s 0", "touch"])
def test_a_file_that_is_too_large_to_copy_is_guarded(prefix, tmp_path, library, how):
    activate(
        prefix, a=f'cat "$CONDA_PREFIX/bin/library" > /dev/null; {how} "$CONDA_PREFIX/bin/library"'.replace('= "', '="')
    )
    before = state(tmp_path)
    began = time.monotonic()
    with pytest.raises(FailedError, match="tried to write to bin/library") as caught:
        capture(prefix)
    assert caught.value.code == "activation-wrote"
    assert state(tmp_path) == before
    assert time.monotonic() - began < 20


def test_one_that_nobody_guards_and_a_script_changes_ends_the_build(prefix, library, monkeypatch):
    monkeypatch.setattr(copied, "_leases", lambda *_: {})
    activate(prefix, a='echo y >> "$CONDA_PREFIX/bin/library"')
    with pytest.raises(FailedError, match="changed bin/library") as caught:
        capture(prefix)
    assert caught.value.code == "activation-wrote"
    assert sorted(path.name for path in prefix.iterdir()) == ["bin", "etc"]


@pytest.mark.parametrize(
    "script",
    [
        "chmod 600",
        "rm -f",
        'f() { rm -rf "$1"; mkdir -p "$1"; }; f',
        "ln -sf other",
        "python3 -c 'import os, sys; os.utime(sys.argv[1], (0, 0))'",
    ],
)
def test_what_else_a_script_does_to_one_is_undone(prefix, tmp_path, library, script):
    activate(prefix, a=f'{script} "$CONDA_PREFIX/bin/library"')
    before = state(tmp_path)
    # The runs share a copy: what one has removed, the other may miss, and say so.
    assert "a.sh tried to change bin/library" in [note.partition(";")[0] for note in capture(prefix).notes]
    assert state(tmp_path) == before


def test_a_script_that_goes_wrong_leaves_the_copied_prefix_whole(prefix, monkeypatch):
    monkeypatch.setattr(scripts, "_can_layer", lambda *_: False)
    activate(prefix, a='echo y > "$CONDA_PREFIX/new"; return 3')
    before = state(prefix)
    with pytest.raises(FailedError):
        capture(prefix)
    assert state(prefix) == before


def test_nothing_that_a_script_started_lives_on(prefix, tmp_path):
    activate(prefix, a=f"sleep 60 & echo $! > '{tmp_path}/pid'; export A=1")
    began = time.monotonic()
    assert captured(prefix) == {"A": "1"}
    assert time.monotonic() - began < 5
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/status")
    while status.exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() - began < 5
        time.sleep(0.01)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        "{",
        '{"A": 1}',
        '{"A B": "x"}',
        '{"A": "a\\nb"}',
        '{"A": "\\ud800"}',
        '{"A": "\\u0000"}',
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("path", ["etc/conda/env_vars.d/a.json", "conda-meta/state"])
def test_a_bad_file_is_named(prefix, path, content):
    text = f'{{"env_vars": {content}}}' if path == "conda-meta/state" else content
    declare(prefix, path, text)
    with pytest.raises(FailedError) as caught:
        capture(prefix)
    assert caught.value.code in ("activation-file", "activation-value")
    assert path in str(caught.value) or "A" in str(caught.value)


@pytest.mark.parametrize("final", ["/a:b", "relative"])
def test_a_path_that_no_list_can_hold_is_refused(prefix, final):
    with pytest.raises(FailedError) as caught:
        capture(prefix, baked=Path(final))
    assert caught.value.code == "activation-value"


@pytest.mark.parametrize(
    "change",
    [
        {"set": {"A": "one\ntwo"}},
        {"set": {"A": "ends\n"}},
        {"set": {"A": ""}},
        {"set": {"A B": "x"}},
        {"set": {"A\n": "x"}},
        {"prepend": {"PATH": ("/a:/b",)}},
        {"unset": ("PYTHON-PATH",)},
        {"append": {"PATH": ("/a:/b",)}},
        {"default": {"A": "one\ntwo"}},
        {"around": {"A": {"before": "x\n", "alone": "x"}}},
        {"around": {"A": {"before": "x", "alone": ""}}},
        {"notes": ("\x1b[31m",)},
    ],
)
def test_an_activation_cannot_hold_what_shells_or_modules_run(change):
    with pytest.raises(ValidationError):
        Activation(**{"prepend": {}, "set": {}, "unset": (), **change})
