"""A stand-in for conda's activator, which is in no package index: the same variables, the same order, the same PATH.

What `conda activate [--stack] PREFIX` and `conda deactivate` do is told in https://docs.conda.io/projects/conda/
(dev-guide/deep-dives/activation). It prints one line for the shell to evaluate, as `$CONDA_EXE shell.posix` does.
"""

import os
import sys
from pathlib import PurePath

FORMS = {
    "posix": ("export {}='{}'; ", "unset {}; "),
    "fish": ("set -gx {} '{}'; ", "set -e {}; "),
    "csh": ("setenv {} '{}'; ", "unsetenv {}; "),
}


def main(shell, command, *arguments):
    level, top = int(os.environ.get("CONDA_SHLVL", "").strip() or 0), os.environ.get("CONDA_PREFIX")
    path = os.environ["PATH"].split(":")
    if command == "activate":
        stack, prefix = "--stack" in arguments, arguments[-1]
        changes = {"CONDA_SHLVL": level + 1, **named(prefix)}
        if level and not stack:
            changes["PATH"] = replaced(path, top, prefix)
        else:
            changes["PATH"] = [f"{prefix}/bin", *path]
        if level:
            changes[f"CONDA_PREFIX_{level}"] = top
        if level and stack:
            changes[f"CONDA_STACKED_{level + 1}"] = "true"
    elif not top or level < 1:
        changes = {}
    elif level == 1:
        changes = {"PATH": replaced(path, top, None), "CONDA_SHLVL": 0, **dict.fromkeys(named(top))}
    else:
        prefix, stacked = os.environ[f"CONDA_PREFIX_{level - 1}"], f"CONDA_STACKED_{level}"
        below = None if stacked in os.environ else prefix
        changes = {"PATH": replaced(path, top, below), "CONDA_SHLVL": level - 1, **named(prefix)}
        changes |= {f"CONDA_PREFIX_{level - 1}": None, stacked: None}
    put, take = FORMS[shell]
    for name, value in changes.items():
        if value is not None:
            print(put.format(name, ":".join(value) if isinstance(value, list) else value), end="")
        elif name in os.environ:
            print(take.format(name), end="")


def named(prefix):
    name = PurePath(prefix).name if PurePath(prefix).parent.name == "envs" else "base"
    return {"CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": name, "CONDA_PROMPT_MODIFIER": f"({name}) "}


def replaced(path, old, new):
    where = path.index(f"{old}/bin") if f"{old}/bin" in path else 0
    return [*path[:where], *([f"{new}/bin"] if new else []), *path[where + (f"{old}/bin" in path) :]]


main(*sys.argv[1:])
