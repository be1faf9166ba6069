"""What is captured from a prefix: real bash, real scripts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlviews.errors import FailedError
from mlviews.prefix.activation import capture
from mlviews.release import Activation


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


def test_every_view_gets_its_own_python_and_nothing_of_the_users(prefix):
    assert capture(prefix) == Activation(
        prepend={"PATH": (f"{prefix}/bin",)},
        set={"CONDA_PREFIX": str(prefix), "PYTHONNOUSERSITE": "1"},
        unset=("PYTHONPATH", "PYTHONHOME"),
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
        "PATH": (f"{prefix}/more", f"{prefix}/bin", "/after"),
        "MANPATH": (f"{prefix}/1st", f"{prefix}/man"),
        "XDG_DATA_DIRS": ("/share",),
        "LD_LIBRARY_PATH": ("/l",),
    }
    assert activation.set["PKG_CONFIG_PATH"] == "/instead"
    # The user's modules must not reach the view, so the view's own stand alone.
    assert activation.set["PYTHONPATH"] == f"{prefix}/modules"
    assert activation.unset == ("PYTHONHOME",)


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
    assert activation.unset == ("PYTHONPATH", "PYTHONHOME", "A")
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
        ('export A="$HOME/.cache"', "activation-value", r"A .*home folder"),
        ('export A="x$LD_LIBRARY_PATH"', "activation-value", r"A .*the user's"),
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
    ],
)
def test_an_activation_cannot_hold_what_shells_or_modules_run(change):
    with pytest.raises(ValidationError):
        Activation(**{"prepend": {}, "set": {}, "unset": (), **change})
