"""conda and views in one shell: in whatever order they come and go, nothing of the one is lost to the other."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from mlviews.release import Around
from mlviews.render import modulefile
from mlviews.render.setup_script import prefix_files

ACTIVATOR = Path(__file__).parents[1] / "data/conda_activator.py"
BASE = {
    "PATH": "/opt/conda/bin:/opt/conda/condabin:/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LC_ALL": "C.UTF-8",
    "LMOD_QUIET": "1",
    "CC": "my cc",
    "CONDA_EXE": "/opt/conda/bin/conda",
    "CONDA_SHLVL": "1",
    "CONDA_PREFIX": "/opt/conda",
    "CONDA_DEFAULT_ENV": "base",
    "CONDA_PROMPT_MODIFIER": "(base) ",
}
NONE = {
    **{name: value for name, value in BASE.items() if not name.startswith("CONDA_")},
    "PATH": "/opt/conda/condabin:/usr/local/bin:/usr/bin:/bin",
    "CONDA_SHLVL": "0",
}
SHELLS = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"], "tcsh": ["-f"]}
CONDA = {
    "fish": ("fish", "function conda; eval ({} fish $argv); end"),
    "tcsh": ("csh", "alias conda 'eval \"`{} csh \\!*`\"'"),
}
FILES = {"fish": "setup.fish", "tcsh": "setup.csh"}
# load and unload the view; activate one of two environments, or stack it; deactivate.
ORDERS = (
    "load one deactivate unload",
    "load one unload deactivate",
    "load deactivate unload",
    "one load deactivate unload deactivate",
    "one load unload deactivate",
    "load one two deactivate deactivate unload",
    "load one two unload deactivate deactivate",
    "load one stack unload deactivate deactivate",
    "one load two unload deactivate deactivate",
    "one stack load two stack unload deactivate deactivate deactivate deactivate",
)


@pytest.fixture(params=["setup script", "Lmod", "environment-modules"])
def lines(request, lmod, environment_modules, make_release, tmp_path):
    """Return a function that gives what a shell types to start, and for each word of `ORDERS`."""
    meant = {"around": {"CFLAGS": Around(after=" -O2", alone="-O2")}}
    release = make_release(variables={"CC": "the view's cc"}, meant=meant)
    for name, file in prefix_files(release).items():
        Path(release.prefix, name).parent.mkdir(parents=True, exist_ok=True)
        Path(release.prefix, name).write_text(file.text)
    folder = tmp_path / "modulefiles" / release.module
    folder.mkdir(parents=True)
    (folder / f"{release.release}.lua").write_text(modulefile.render_lua([release]))
    (folder / release.release).write_text(modulefile.render_tcl([release]))

    def of(shell):
        kind, function = CONDA.get(shell, ("posix", 'conda() {{ eval "$({} posix "$@")"; }}'))
        assert kind in function
        start = function.format(shlex.join([sys.executable, "-IS", str(ACTIVATOR)]))
        words = {
            "one": "conda activate /home/me/envs/one",
            "two": "conda activate /home/me/envs/two",
            "stack": "conda activate --stack /home/me/envs/three",
            "deactivate": "conda deactivate",
            "load": f"source '{release.prefix}/{FILES.get(shell, 'setup.sh')}'",
            "unload": "mlviews_deactivate",
        }
        if request.param != "setup script":
            begin = (lmod if request.param == "Lmod" else environment_modules)(shell)
            start = f"{begin}\nmodule use '{tmp_path}/modulefiles'\n{start}"
            words |= {word: f"module {word} {release.module}" for word in ("load", "unload")}
        return start, words

    return of


@pytest.mark.parametrize("before", [BASE, NONE], ids=["base active", "none active"])
@pytest.mark.parametrize("shell", SHELLS)
def test_views_and_conda_come_and_go_in_any_order(shell, before, lines, require, run_steps):
    begin, words = lines(shell)
    steps = [word for order in ORDERS for word in order.split()]
    start, *states = run_steps([require(shell), *SHELLS[shell]], [begin, *(words[word] for word in steps)], before)

    ran = iter(states)
    for order in ORDERS:
        loaded = False
        for word in order.split():
            state = next(ran)
            loaded = (loaded or word == "load") and word != "unload"
            assert state["CC"] == ("the view's cc" if loaded else "my cc"), (order, word)
            assert ("plotting" in state["PATH"]) == loaded, (order, word)
        assert {name: state.get(name) for name in {*state, *start}} == {
            name: start.get(name) for name in {*state, *start}
        }, order
