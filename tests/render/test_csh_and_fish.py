"""setup.csh and setup.fish, in the real tcsh and fish."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlviews.render import escape, setup_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlviews.release import Release

# Without a UTF-8 locale fish itself writes letters beyond ASCII anew.
BARE = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C.UTF-8"}
LIVED_IN = {
    **BARE,
    "PATH": "/opt/a b:/opt/$c*d:/usr/bin:/bin:/usr/bin",
    "PYTHONPATH": "/home/user's/modules:/lcg $x!",
    "PYTHONHOME": "",
    "CONDA_PREFIX": "/opt/conda",
    "XDG_DATA_DIRS": "/usr/share",
    "OTHER": "two\nlines\nPYTHONNOUSERSITE=no",
    "HOSTILE_0": "",
    "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64:/cvmfs/sft.cern.ch/lcg/views/LCG_108/x/lib:/opt/it's mine [*]",
}
TAKEN_OUT = "/usr/local/nvidia/lib64:/opt/it's mine [*]"
AWKWARD = "a b's $(touch pwned) *\u00e9\\! %x"
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@dataclass(frozen=True)
class Dialect:
    """One shell's own words."""

    program: str
    options: tuple[str, ...]
    name: str
    render: Callable[[Release], str]
    quote: Callable[[str], str]
    export: str

    def source(self, release: Release) -> str:
        path = Path(release.prefix, self.name)
        path.write_text(self.render(release), encoding="utf-8")
        return f"source {self.quote(str(path))}"

    def set(self, name: str, value: str) -> str:
        return f"{self.export} {name} {value}"


CSH = Dialect("tcsh", ("-f",), "setup.csh", setup_script.render_csh, escape._csh, "setenv")
FISH = Dialect("fish", ("--no-config",), "setup.fish", setup_script.render_fish, escape._fish, "set -gx")


@pytest.fixture(params=[CSH, FISH], ids=["tcsh", "fish"])
def dialect(request):
    return request.param


@pytest.fixture
def run(dialect, require, run_steps):
    """Return a function that runs steps in the shell and gives the exported variables after each."""
    return lambda steps, before: run_steps([require(dialect.program), *dialect.options], steps, before)


@pytest.fixture
def make_awkward(make_release, hostile, tmp_path):
    values = {f"HOSTILE_{number}": text for number, text in enumerate(hostile)}
    return lambda: make_release(root=tmp_path / AWKWARD, variables=values)


@pytest.mark.parametrize("before", [BARE, LIVED_IN], ids=["bare", "lived-in"])
def test_setup_does_what_the_release_says_and_deactivate_undoes_it(dialect, run, before, make_awkward, own):
    release = make_awkward()
    setup = dialect.source(release)
    start, loaded, again, undone = run(["", setup, setup, "mlviews_deactivate"], before)
    assert start.items() >= before.items()
    assert own(loaded) == {
        **{name: value for name, value in start.items() if name not in ("PYTHONPATH", "PYTHONHOME")},
        **release.activation.set,
        "PATH": f"{release.prefix}/bin:{release.prefix}/more/bin:{before['PATH']}",
        "XDG_DATA_DIRS": f"{release.prefix}/share" + (":/usr/share" if before is LIVED_IN else ""),
        **({"LD_LIBRARY_PATH": TAKEN_OUT} if before is LIVED_IN else {}),
        "MLVIEWS_VIEW": "plotting",
        "MLVIEWS_RELEASE": "2026.11.23",
        "MLVIEWS_LOCK": release.lock_digest,
    }
    assert again == loaded
    assert undone == start


def test_defaults_and_text_around_a_value_are_put_and_undone(dialect, run, make_release, meant):
    before = {**BARE, **meant.before}
    setup = dialect.source(make_release(meant=meant.activation))
    start, loaded, again, undone = run(["", setup, setup, "mlviews_deactivate"], before)
    assert {name: loaded[name] for name in meant.after} == meant.after
    assert loaded["XDG_DATA_DIRS"].endswith("/share:/last")
    assert again == loaded
    assert undone == start


def test_another_view_takes_the_place_of_the_first(dialect, run, make_release):
    first, second = make_release(variables={"ONLY": "first"}), make_release(view="shallow")
    start, _, loaded, undone = run(["", dialect.source(first), dialect.source(second), "mlviews_deactivate"], LIVED_IN)
    assert loaded["MLVIEWS_VIEW"] == "shallow"
    assert first.prefix not in str(loaded)
    assert "ONLY" not in loaded
    assert undone == start


def test_a_child_shell_that_sources_it_again_has_the_same_path(dialect, run, make_release, require):
    setup = dialect.source(make_release())
    child = " ".join([require(dialect.program), *dialect.options, "-c", dialect.quote(f"{setup}; printenv PATH")])
    value = f'"`{child}`"' if dialect is CSH else f"({child})"
    _, loaded, after = run(["", setup, dialect.set("CHILD", value)], BARE)
    assert after["CHILD"] == loaded["PATH"]


def test_deactivate_keeps_what_others_did_to_a_path(dialect, run, make_release):
    before = {**BARE, "LD_LIBRARY_PATH": "/cvmfs/sft.cern.ch/lcg/views/x/lib"}
    changed = [
        dialect.set("PATH", '"/first:$PATH:/last"' if dialect is FISH else "/first:$PATH:q/last"),
        dialect.set("XDG_DATA_DIRS", '"$XDG_DATA_DIRS:/added"' if dialect is FISH else "$XDG_DATA_DIRS:q/added"),
        dialect.set("CONDA_PREFIX", "/other"),
        dialect.set("LD_LIBRARY_PATH", "/mine"),
    ]
    start, *_, undone = run(["", dialect.source(make_release()), "\n".join(changed), "mlviews_deactivate"], before)
    last = ":/last" if dialect is FISH else "/last"
    data = "/added" if dialect is FISH else None
    assert undone["PATH"] == f"/first:{BARE['PATH']}{last}"
    assert undone["LD_LIBRARY_PATH"] == "/mine"
    assert "CONDA_PREFIX" not in undone
    assert data is None or undone["XDG_DATA_DIRS"] == data
    assert undone.keys() - {"XDG_DATA_DIRS"} == start.keys()


def test_deactivate_leaves_no_name_behind(dialect, run, make_release):
    listing = "set -gx LEFT (set -n; functions -a)" if dialect is FISH else 'setenv LEFT "`set; alias`"'
    if dialect is FISH:
        listing = 'set -gx LEFT (begin; set -n; functions -an; end | string join " ")'
    _, _, _, after = run(["", dialect.source(make_release()), "mlviews_deactivate", listing], {"PATH": BARE["PATH"]})
    assert after["LEFT"]
    assert re.findall(r"\b_?mlviews_\w+", after["LEFT"]) == []


def test_a_host_without_the_folder_is_told(dialect, make_release, require, tmp_path):
    (tmp_path / dialect.name).write_text(dialect.render(make_release(prefix="/nowhere/a'b")))
    done = subprocess.run(
        [require(dialect.program), *dialect.options, "-c", f"source ./{dialect.name}; printenv PATH"],
        check=False, env=BARE, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == f"{BARE['PATH']}\n"
    assert done.stderr == "mlviews: this host has no folder /nowhere/a'b/bin\n"


@settings(max_examples=25)
@given(texts=st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")), min_size=20))
def test_the_filter_gives_any_text_back(dialect, run, texts):
    """Control characters too, which no release holds."""
    lines = [dialect.set(f"TEXT_{number}", dialect.quote(text)) for number, text in enumerate(texts)]
    (said,) = run(["\n".join(lines)], BARE)
    assert [said[f"TEXT_{number}"] for number in range(len(texts))] == texts


@settings(max_examples=15)
@given(texts=st.lists(TEXT, min_size=20, max_size=20))
def test_any_text_comes_through(dialect, run, texts, make_release):
    release = make_release(variables={f"TEXT_{number}": text for number, text in enumerate(texts)})
    start, loaded, undone = run(["", dialect.source(release), "mlviews_deactivate"], BARE)
    assert {name: loaded[name] for name in release.activation.set} == release.activation.set
    assert undone == start


@settings(max_examples=15)
@example(texts=["--", "-x", "/usr/bin", "--"])
@given(texts=st.lists(TEXT.filter(lambda text: ":" not in text), min_size=20, max_size=20, unique=True))
def test_any_folder_comes_through_and_is_given_back(dialect, run, texts, make_release):
    before = {**BARE, "XDG_DATA_DIRS": ":".join(texts)}
    release = make_release()
    setup = dialect.source(release)
    start, loaded, undone = run(["", f"{setup}\n{setup}", "mlviews_deactivate"], before)
    assert loaded["XDG_DATA_DIRS"] == f"{release.prefix}/share:{before['XDG_DATA_DIRS']}"
    assert undone == start
