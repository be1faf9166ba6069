"""What mlviews writes into a release's prefix: setup scripts, ``launch``, and what stands there once it is removed.

All of it is made from the release alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from mlviews.release import Loading, Release, ReleasePackage, default_prefix, loading
from mlviews.render import escape

# What an LCG view, a virtual environment or a conda environment around `launch` would have its program believe, and
# what changes which code Python or the loader runs. Who wants one of them: `launch env LD_PRELOAD=... PROGRAM`.
_FOREIGN = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONEXECUTABLE", "PYTHONPLATLIBDIR", "PYTHONUSERBASE"),
    *("PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONPYCACHEPREFIX", "LD_PRELOAD", "LD_AUDIT"),
    *("VIRTUAL_ENV", "VIRTUAL_ENV_PROMPT"),
)


def render_setup(release: Release) -> str:
    """Return ``setup.sh``, to be sourced by sh, dash, bash, ksh or zsh.

    It prints nothing, may be sourced twice, and works under ``set -eu``. It defines ``mlviews_deactivate``, which puts
    every variable back as it was; what somebody else has added to ``PATH`` in between stays there.
    """
    return escape.render("setup.sh", "sh", _setup_values(release, "aliases.sh"))


def render_csh(release: Release) -> str:
    """Return ``setup.csh``, to be sourced by tcsh or csh; otherwise like `render_setup`.

    ``mlviews_deactivate`` is an alias there: it sources the same file again.
    """
    # csh takes part of a text for a pattern even within quotes: what would be one stands for any character.
    shapes = {
        name: {
            end: re.sub(r"[]*?\[{}^~\\!'\"$`]", "?", text)
            for end, text in (("before", put.before), ("after", put.after))
        }
        for name, put in release.activation.around.items()
    }
    values = {**_setup_values(release, "aliases.csh"), "shapes": shapes, "script": f"{release.prefix}/setup.csh"}
    return escape.render("setup.csh", "csh", values)


def render_fish(release: Release) -> str:
    """Return ``setup.fish``, to be sourced by fish 3.1 or later; otherwise like `render_setup`."""
    return escape.render("setup.fish", "fish", _setup_values(release, "aliases.fish"))


def render_launch(release: Release) -> str:
    """Return ``launch``, an executable ``/bin/sh`` script: ``launch PROGRAM [ARGUMENT...]``.

    The program gets an environment without what other Pythons leave there, and takes the script's place. Its status is
    the program's; 127 where there is no such program, or no such view on this host.
    """
    change = loading(release)
    own = change.activation
    kept = {*own.set, *change.lists, *own.around}
    unset = {*own.unset, *change.conda, *(name for name in _FOREIGN if name not in kept)}
    below = {name: [f"{folder}/" for folder in folders] for name, folders in change.foreign.items()}
    plain = [name for name in (*own.set, *own.around) if not name.startswith("MLVIEWS_")]
    values = {**_values(release, change), "unset": sorted(unset), "below": below, "kept": plain}
    instead = str(default_prefix(release.base.prefix) / "launch") if release.base else ""
    return escape.render("launch", "sh", {**values, "kernel": _KERNEL, "launch": instead})


def render_vscode(release: Release, *, versioned: bool = True) -> str:
    """Return ``settings.json`` for a folder in VS Code: its Python and its terminals are the view's.

    VS Code takes a folder with ``conda-meta`` for conda's, and types ``conda activate`` into each terminal: not here.

    Args:
        versioned: whether the folder keeps to this release, or follows the view's default.
    """
    folder = PurePosixPath(release.prefix) if versioned else default_prefix(release.prefix)
    terminal = {"path": str(folder / "launch"), "args": ["sh", "-c", 'exec "${SHELL:-bash}"']}
    settings = {
        "python.defaultInterpreterPath": str(folder / "bin/python"),
        "python.terminal.activateEnvironment": False,
        "terminal.integrated.profiles.linux": {release.view: terminal},
        "terminal.integrated.defaultProfile.linux": release.view,
    }
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def _setup_values(release: Release, aliases: str) -> dict[str, Any]:
    change = loading(release)
    own = change.activation
    folders = {name: [*own.prepend.get(name, ()), *own.append.get(name, ())] for name in change.lists}
    entries = {name: [f"{folder}:" for folder in folders[name]] for name in change.lists}
    below = {name: [f"{folder}/" for folder in change.foreign.get(name, ())] for name in change.lists}
    told = ["MLVIEWS_CACHE"] if change.caches else []
    plain = list(dict.fromkeys([*own.set, *own.around, *own.unset, *change.conda]))
    return {
        **_values(release, change),
        "own": entries,
        "below": below,
        "folders": folders,
        "heads": {name: [*entries[name], *below[name]] for name in change.lists},
        "changed": list(dict.fromkeys([*change.lists, *plain, *change.trace, *told])),
        "plain": [name for name in plain if not name.startswith("MLVIEWS_")],
        "made": [*own.default, *change.caches],
        "aliases": f"{release.prefix}/{aliases}",
    }


def _values(release: Release, change: Loading) -> dict[str, Any]:
    own = change.activation
    return {
        "bin": release.needed,
        "missing": release.missing,
        "lists": change.lists,
        "first": {name: ":".join(folders) for name, folders in own.prepend.items()},
        "last": {name: ":".join(folders) for name, folders in own.append.items()},
        "set": {**own.set, **change.trace},
        "default": own.default,
        "around": own.around,
        "unset": (*own.unset, *change.conda),
        "conda": change.conda,
        "caches": change.caches,
    }


class PrefixFile(NamedTuple):
    """One file's content."""

    text: str
    executable: bool = False


def prefix_files(release: Release) -> Mapping[str, PrefixFile]:
    """Return the files that a release gets besides its packages and its lock, by their path below the prefix."""
    files = {
        "setup.sh": PrefixFile(render_setup(release)),
        "setup.csh": PrefixFile(render_csh(release)),
        "setup.fish": PrefixFile(render_fish(release)),
        "launch": PrefixFile(render_launch(release), executable=True),
        **{f"aliases.{shell}": PrefixFile(_aliases(release, shell)) for shell in ("sh", "csh", "fish")},
        "conda-meta/frozen": PrefixFile(_frozen()),
    }
    if python := next((package for package in release.packages if package.name == "python"), None):
        files |= _about_pip(release, python)
    return files


# The module systems' own, and what `conda activate` is: without them nothing could be undone.
_UNTOUCHED = ("module", "ml", "conda", "mamba", "micromamba")


def _aliases(release: Release, shell: str) -> str:
    """Return what a shell sources once a view is loaded: its aliases and functions hide no program of the view then.

    Args:
        shell: ``sh``, ``csh`` or ``fish``.
    """
    values = {"programs": release.activation.prepend.get("PATH", ()), "untouched": _UNTOUCHED}
    return escape.render(f"aliases.{shell}", shell, values)


def _frozen() -> str:
    """Return CEP 22's file: conda and mamba then refuse to change the environment, and say this."""
    message = "A release of a view never changes; `mlviews new` starts a view of your own."
    return json.dumps({"message": message}) + "\n"


def _about_pip(release: Release, python: ReleasePackage) -> dict[str, PrefixFile]:
    """Return what makes every way to call pip install nothing into the view, and say where packages can go instead.

    Where the view holds pip, its reading verbs work. Where it holds none, the shell would find another environment's
    ``pip``, and Python perhaps another's module: both would install there, and report success. An environment made by
    ``venv`` on top of the view has a pip of its own, which is found before these. A view that extends another one is
    such an environment itself, into which the base's pip would install: it is hidden.
    """
    version = ".".join(python.version.split(".")[:2])
    free_threaded = "t" if python.build.endswith("t") else ""
    stdlib = f"lib/python{version}{free_threaded}"
    lines = _instead_of_pip(release)
    # PEP 668: pip and uv refuse to install here, and say this.
    files = {f"{stdlib}/EXTERNALLY-MANAGED": PrefixFile("[externally-managed]\nError=" + "\n  ".join(lines) + "\n")}
    if any(package.name == "pip" for package in release.packages):
        return files | {"pip.conf": PrefixFile(_PIP_CONF)}
    if release.base is None:
        lines[0] = lines[0].replace(" never changes", " holds no pip, and never changes")
    lines.append(f"What it holds: mlviews packages {release.view}")  # who typed `pip list` wants that
    script = PrefixFile(escape.render("pip", "sh", {"lines": lines}), executable=True)
    module = _PIP_MODULE.format(text=ascii("\n".join(lines)))
    return (
        files
        | dict.fromkeys(("bin/pip", "bin/pip3", f"bin/pip{version}"), script)
        | {f"{stdlib}/site-packages/pip.py": PrefixFile(module)}
    )


def _instead_of_pip(release: Release) -> list[str]:
    view = release.view
    if release.base:
        return [
            f"View {view} never changes. Write packages under `pypi` in its recipe, then type:",
            f"mlviews lock {view} && mlviews build {view}",
        ]
    return [
        f"View {view} never changes. Put packages on top of it in one of two ways:",
        f'mlviews extend {view} "PACKAGE"',
        'python -m venv --system-site-packages MYENV && MYENV/bin/pip install "PACKAGE"',
    ]


# Who lets pip write into the system's Python, in a configuration of their own, does not mean a view. pip reads this
# file last; in an environment on top it reads that environment's.
_PIP_CONF = """\
[install]
break-system-packages = false
[uninstall]
break-system-packages = false
"""

# A program that can do without pip finds none.
_PIP_MODULE = """\
# Written by mlviews: the view holds no pip, and another environment's would install elsewhere.
import sys

TEXT = {text}
if __name__ == "__main__":
    sys.exit(TEXT)
raise ModuleNotFoundError(TEXT, name="pip")
"""


REMOVED_FILES = frozenset({"launch", "setup.sh", "setup.csh", "setup.fish"})
"""What stays of a platform's folder, to tell who still uses it: kernels and batch scripts hold their paths."""

# A kernel that ends at once tells whoever opened the notebook nothing: this one answers every cell with what happened.
_KERNEL = """
import sys
said, sys.argv[1:] = sys.argv[1], sys.argv[-2:]
try:
    from ipykernel.kernelapp import IPKernelApp
    from ipykernel.kernelbase import Kernel
except ImportError:
    print(said, file=sys.stderr)
    sys.exit(127)

class Gone(Kernel):
    implementation, implementation_version, banner = "mlviews", "0", ""
    language_info = {"name": "python", "mimetype": "text/x-python", "file_extension": ".py"}

    def do_execute(self, code, silent, *rest, **keys):
        error = {"ename": "ReleaseGone", "evalue": said, "traceback": [said]}
        if not silent:
            self.send_response(self.iopub_socket, "error", error)
        return {"status": "error", "execution_count": self.execution_count, **error}

IPKernelApp.launch_instance(kernel_class=Gone)
"""


def removed_files(view: str, release: str, default: str, platform: str) -> Mapping[str, PrefixFile]:
    """Return, by name, scripts that say which release is gone and what there is instead, and fail; run or sourced.

    Where ``launch`` should start a kernel, it starts one that says the same, with the default's Python or Jupyter's: it
    runs none of the notebook's code.

    Args:
        default: path of the view's ``default`` link, which the scripts for sh look at when they are asked.
        platform: of the folder that they lie in.
    """
    gone = f"mlviews: release {release} of {view} was removed"
    values = {
        "gone": gone,
        "default": default,
        "launch": f"{default}/{platform}/launch",
        "without": f"it has no default: mlviews releases {view} lists what there is",
        "kernel": _KERNEL,
    }
    script = escape.render("gone.sh", "sh", values)
    told = {"told": f"{gone}; the default is in {default}"}
    return {
        "launch": PrefixFile(script, executable=True),
        "setup.sh": PrefixFile(script),
        "setup.csh": PrefixFile(escape.render("gone.csh", "csh", told)),
        "setup.fish": PrefixFile(escape.render("gone.fish", "fish", told)),
    }
