"""A view's programs win over the shell's aliases and functions of the same names, which come back as they were.

As in a terminal of SWAN, where ``python`` is an alias of the session's own.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlviews.render import escape, modulefile
from mlviews.render.setup_script import prefix_files

BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8", "LMOD_QUIET": "1"}
PROGRAMS = ("python", "python3.11", "g++", "pip", "ls", "module", "ml", "conda")


@dataclass(frozen=True)
class Shell:
    """One shell's own words.

    Attributes:
        command: what starts it.
        setup: the setup script that is for it.
        language: of its quotes.
        alias: defines an alias: name, text.
        function: defines a function: name, what it prints.
        shows: prints what the shell knows under a name, besides programs.
    """

    command: tuple[str, ...]
    setup: str
    language: str
    alias: str
    function: str
    shows: str


BASH = Shell(
    ("bash", "--norc", "-O", "expand_aliases"),
    "setup.sh", "sh", "alias {}={}", "{} () {{ printf '%s|' {} \"$@\"; }}",
    "{{ alias {0}; declare -f {0}; declare -pF {0}; }} 2>/dev/null",
)  # fmt: skip
ZSH = Shell(
    ("zsh", "-f", "-o", "rcquotes"),
    "setup.sh", "sh", "alias {}={}", BASH.function,
    "alias -L {0}; functions {0}",
)  # fmt: skip
TCSH = Shell(("tcsh", "-f"), "setup.csh", "csh", "alias {} {}", "", "alias {0}")
FISH = Shell(
    ("fish", "--no-config"),
    "setup.fish", "fish", "alias {} {}", "function {}; printf '%s|' {} $argv; end",
    "functions --no-details {0}",
)  # fmt: skip
SHELLS = {"bash": BASH, "zsh": ZSH, "tcsh": TCSH, "fish": FISH}


@pytest.fixture(params=SHELLS)
def shell(request) -> Shell:
    return SHELLS[request.param]


@pytest.fixture
def view(make_release) -> Callable[..., tuple[object, str]]:
    """Return a function that writes a view with programs that say ``view``, and gives it."""

    def write(name="plotting"):
        release = make_release(view=name)
        for path, file in prefix_files(release).items():
            target = Path(release.prefix, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.text)
        for program in PROGRAMS:
            path = Path(release.prefix, "bin", program)
            path.write_text("#!/bin/sh\nprintf 'view|'\n")
            path.chmod(0o755)
        return release

    return write


@pytest.fixture(params=["setup script", "Lmod", "environment-modules"])
def means(request, lmod, environment_modules, tmp_path):
    """Return a function that gives what a shell types to start, to load a view, to undo it."""

    def type_in(shell, release):
        if request.param == "setup script":
            path = escape.quote(shell.language, f"{release.prefix}/{shell.setup}")
            return ":", f"source {path}", "mlviews_deactivate"
        folder = tmp_path / "modulefiles" / release.module
        folder.mkdir(parents=True)
        (folder / f"{release.release}.lua").write_text(modulefile.render_lua([release]))
        (folder / release.release).write_text(modulefile.render_tcl([release]))
        start = (lmod if request.param == "Lmod" else environment_modules)(shell.command[0])
        use = f"module use {shlex.quote(str(tmp_path / 'modulefiles'))}"
        return f"{start}\n{use}", f"module load {release.module}", f"module unload {release.module}"

    return type_in


@pytest.fixture
def say(require, tmp_path):
    """Return a function that runs lines in a shell, and gives what they print, each."""

    def run(shell, lines, *, told=""):
        script = tmp_path / "script"
        script.write_text("\n".join(f"{line}\necho '<>'" for line in lines) + "\n")
        done = subprocess.run(
            [require(shell.command[0]), *shell.command[1:], script],
            check=False, env=BARE, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, told)
        return done.stdout.split("<>\n")[:-1]

    return run


def test_the_views_programs_win_and_all_comes_back(shell, means, view, say):
    begin, load, undo = means(shell, view())
    names = ("python", "python3.11", "g++", "pip", "other")
    define = [shell.alias.format(name, "'echo mine'") for name in names[:3]]
    define += [(shell.function or shell.alias).format(name, "'mine'") for name in names[3:]]
    shown = "\n".join(shell.shows.format(name) for name in names)

    *_, before, _, ran, _, after = say(
        shell, [begin, "\n".join(define), shown, load, "\n".join(names[:4]), undo, shown]
    )

    assert ran == "view|" * 4
    assert "mine" in before
    assert after == before


def test_what_is_the_module_systems_own_or_condas_stays(shell, means, view, say):
    begin, load, undo = means(shell, view())
    # `module` itself is defined by the module system, where there is one.
    names = ("ml", "conda", "mamba") if "load" in load else ("module", "ml", "conda", "mamba")
    define = "\n".join(shell.alias.format(name, "'echo mine'") for name in names)
    shown = "\n".join(shell.shows.format(name) for name in names)

    *_, before, _, loaded, _, after = say(shell, [begin, define, shown, load, shown, undo, shown])

    assert before == loaded == after


def test_an_alias_that_begins_with_its_own_name_stays(shell, means, view, say):
    """It runs the view's program, as people write `alias ls='ls --color'`."""
    begin, load, _ = means(shell, view())
    define = shell.alias.format("ls", "'ls --color'")
    *_, before, _, loaded = say(shell, [begin, define, "ls\n" + shell.shows.format("ls"), load, "ls"])
    assert loaded == "view|"
    assert "color" in before


def test_undoing_compares_before_it_gives_back(shell, means, view, say):
    begin, load, undo = means(shell, view())
    define = "\n".join(shell.alias.format(name, "'echo before'") for name in ("python", "pip"))
    since = shell.alias.format("python", "'echo since'")
    *_, undone = say(shell, [begin, define, load, since, undo, "python\npip"])
    assert undone == "since\nbefore\n"


def test_another_view_and_a_second_load_keep_what_is_aside(shell, means, view, say):
    first, second = view(), view("shallow")
    begin, load, _ = means(shell, first)
    _, switch, undo = means(shell, second)
    if "module" in load:
        switch = f"module switch {first.module} {second.module}"
    define = shell.alias.format("python", "'echo mine'")
    *_, again, _, switched, _, undone = say(
        shell,
        [begin, define, load, load, "python", switch, "python", undo, "python"],
    )
    assert (again, switched, undone) == ("view|", "view|", "mine\n")


def test_nothing_is_left_behind(shell, means, view, say):
    begin, load, undo = means(shell, view())
    listing = {"fish": "set -n; functions -an", "tcsh": "set; alias"}.get(shell.command[0], "set; typeset -f")
    define = shell.alias.format("python", "'echo mine'")
    *_, left = say(shell, [begin, define, load, undo, listing])
    assert left
    assert "_mlviews" not in left


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1)


@settings(max_examples=15)
@example(texts=["a\nalias python=x\nb\n", 'it\'s "$HOME" `date` \\ !x ^a^b', "alias pip='", " two  spaces ", "\n\n"])
@given(texts=st.lists(TEXT, min_size=5, max_size=5))
@pytest.mark.parametrize("program", SHELLS)
def test_any_text_comes_back(program, texts, view, say):
    """Quotes, newlines, what looks like the listing of another alias: in aliases, and in what functions print."""
    shell = SHELLS[program]
    if shell is TCSH:  # it has no such texts: they end the lexer, or are cut
        texts = [text for text in texts if text.strip("\n ") and text.isprintable()]
    quoted = [escape.quote(shell.language, text) for text in texts]
    names = PROGRAMS[:5]
    for define in filter(None, (shell.alias, shell.function)):
        if define == shell.alias and shell is FISH:
            continue  # its aliases are functions, whose text has to be one
        lines = "\n".join(define.format(name, text) for name, text in zip(names, quoted, strict=False))
        shown = "\n".join(shell.shows.format(name) for name in names)
        path = escape.quote(shell.language, f"{view().prefix}/{shell.setup}")
        _, before, _, loaded, _, after = say(
            shell, [lines, shown, f"source {path}", shown, "mlviews_deactivate", shown]
        )
        assert after == before
        assert loaded.strip() == "" or "ls" in loaded


@pytest.mark.parametrize("options", ["set -eu", "set -f -C", "IFS=an", "unset IFS", "shopt -s failglob extglob"])
def test_whatever_bash_is_told_a_function_and_an_alias_of_one_name_come_back(options, view, say, require):
    """The function was read without the aliases that there are now: they do not change its text."""
    setup = f"source {view().prefix}/setup.sh"
    define = "f=1; ls () { python -x; }; python () { ls; }; export -f python; alias python='echo x' ls='echo y'"
    shown = "alias python ls; declare -f python ls; declare -F; (shopt -p; set -o; declare -p IFS 2>&1) | cksum"
    _, _, before, _, loaded, _, after = say(
        BASH, [define, options, shown, setup, 'python; "$BASH" -c python', "mlviews_deactivate", shown]
    )
    assert loaded == "view|view|"
    if options == "unset IFS":  # which means the same as what it has then
        before, after = (text.rpartition("\n")[0].rpartition("\n")[0] for text in (before, after))
    assert after == before


@pytest.mark.parametrize(
    ("define", "shown"),
    [
        ("alias -g python='echo mine' ; alias -s python3.11=vi", "alias -L"),
        ("autoload -Uz python; typeset -ft pip; pip () { emulate -L sh; print '#' ${1:#x}; }", "functions python pip"),
    ],
)
def test_what_zsh_alone_has_comes_back(define, shown, view, say):
    setup = f"source {view().prefix}/setup.sh"
    ran = "\\python" if "alias" in define else "python"
    if "autoload" in define:
        define = f"print 'print autoloaded' > python; fpath=($PWD $fpath); {define}"
    _, _, loaded, _, after, again = say(
        ZSH, [define, setup, ran, "mlviews_deactivate", shown, "python" if "autoload" in define else ":"]
    )
    assert loaded == "view|"
    assert "python" in after
    assert again == ("autoloaded\n" if "autoload" in define else "")


def test_a_function_that_cannot_be_put_aside_is_told(view, say):
    setup = f"source {view().prefix}/setup.sh"
    told = "mlviews: the shell's function python hides this view's program, and cannot be put aside\n"
    define = "python () { echo mine; }; readonly -f python"
    *_, loaded, _, undone = say(BASH, [define, setup, "python", "mlviews_deactivate", "python"], told=told)
    assert (loaded, undone) == ("mine\n", "mine\n")


@pytest.mark.parametrize("program", ["dash", "ksh93", "mksh"])
def test_other_shells_put_their_aliases_aside(program, view, say):
    shell = Shell((program,), "setup.sh", "sh", BASH.alias, BASH.function, "alias {0}")
    setup = f". {view().prefix}/setup.sh"
    define = "alias python='echo mine' ls='ls -l'"
    *_, loaded, kept, _, undone = say(shell, [define, setup, "python", "alias ls", "mlviews_deactivate", "python"])
    assert (loaded, undone) == ("view|", "mine\n")
    assert "ls -l" in kept


def test_a_child_shell_puts_its_own_aside(shell, view, say, tmp_path):
    setup = f"source {view().prefix}/{shell.setup}"
    define = shell.alias.format("python", "'echo mine'")
    (tmp_path / "child").write_text(f"{define}\n{setup}\npython\nmlviews_deactivate\npython\n")
    child = f"{shlex.join(shell.command)} child"
    *_, in_child, _, undone = say(shell, [define, setup, child, "mlviews_deactivate", "python"])
    assert (in_child, undone) == ("view|mine\n", "mine\n")
