"""What loading a view changes in the environment: captured once, when the view is built.

A conda package may bring shell scripts that are sourced whenever its environment is activated. mlviews sources them
once, in an environment of its own, and keeps the difference. So loading a view runs no program of the view, and every
way of loading it changes the same variables.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.errors import FailedError
from mlviews.release import Activation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["capture"]

# A view must not see the user's own packages: these never reach it.
_UNSET = ("PYTHONPATH", "PYTHONHOME")

# Variables that hold a list of folders. Each starts as _MARK, which tells what a script adds from what it sets.
_LISTS = (
    *("ACLOCAL_PATH", "CMAKE_PREFIX_PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "GI_TYPELIB_PATH"),
    *("INFOPATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "MANPATH", "PATH", "PERL5LIB", "PKG_CONFIG_PATH", "PYTHONPATH"),
    *("ROOT_INCLUDE_PATH", "XDG_CONFIG_DIRS", "XDG_DATA_DIRS"),
)
_MARK = "/mlviews/the-users-own"
_HOST_PATH = ("/usr/local/bin", "/usr/bin", "/bin")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a shell keeps for itself: setting some of these from outside is an error in one shell or another.
_SHELLS_OWN = re.compile(
    r"_|PWD|OLDPWD|SHLVL|IFS|OPT(ARG|IND|ERR)|PS[1-4]|PROMPT_COMMAND|PPID|E?[UG]ID|RANDOM|SECONDS|LINENO|GROUPS"
    r"|SHELLOPTS|BASH.*|HIST.*|DIRSTACK|FUNCNAME|(?i:PIPESTATUS)|(HOST|MACH|OS)TYPE|status|argv|path"
)
# What activation scripts remember for their deactivation halves, which never run.
_BOOKKEEPING = re.compile(r".*CONDA_BACKUP.*|_CONDA_SET_.*")

_CONDA_UNSET = "***unset***"  # how conda's state file says that a variable was taken back
_LARGEST_FILE = 256 * 1024  # KiB; no script has cause to write a larger one, an endless loop has
_SHOWN = 2000  # characters of a failed script's output


def capture(prefix: Path, *, baked: Path | None = None, timeout: float = 60.0) -> Activation:
    """Return what loading the environment in ``prefix`` changes.

    Reads what ``conda activate`` reads, in its order: ``etc/conda/env_vars.d/*.json``, ``conda-meta/state``, then
    ``etc/conda/activate.d/*.sh`` by name. What a script adds to either end of a list of folders goes to the front; a
    variable that it leaves empty is unset. ``CONDA_PREFIX`` is set, since packages and build tools find their files by
    it. ``LD_LIBRARY_PATH`` changes only where a package's own script changes it, as under conda.

    Args:
        prefix: an installed conda environment; its scripts are run.
        baked: the path under which it will be loaded, where that is another one.
        timeout: seconds that all scripts may take together.

    Raises:
        FailedError: ``activation-failed``, ``activation-timeout``, ``activation-file`` or ``activation-value``.
    """
    final = str(baked or prefix)
    if ":" in f"{prefix}{final}" or not final.startswith("/"):
        raise FailedError(
            "activation-value", f"No PATH can hold {final}/bin.", "Use an absolute path without a colon as root."
        )
    before = _environment(prefix)
    after = _source(_scripts(prefix), {**before, **_declared(prefix)}, timeout=timeout)
    variables, lists = _difference(before, after)

    moved = re.compile(re.escape(str(prefix)) + r"(?![\w.+-])")
    variables = {name: moved.sub(lambda _: final, value) for name, value in variables.items()}
    variables = {"CONDA_PREFIX": final, "PYTHONNOUSERSITE": "1", **variables}
    prepend = {name: tuple(moved.sub(lambda _: final, entry) for entry in entries) for name, entries in lists.items()}
    for name, value in [*variables.items(), *((name, ":".join(entries)) for name, entries in prepend.items())]:
        _check(name, value)
    return Activation(
        prepend=prepend,
        set={name: value for name, value in variables.items() if value},
        unset=tuple(name for name in dict.fromkeys([*_UNSET, *variables]) if not variables.get(name)),
    )


def _environment(prefix: Path) -> dict[str, str]:
    """Return the environment that the scripts start from: nothing of the build host's own."""
    return {
        **dict.fromkeys(_LISTS, _MARK),
        "PATH": ":".join([f"{prefix}/bin", _MARK, *_HOST_PATH]),
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": str(prefix),
        "CONDA_PROMPT_MODIFIER": "",
        "CONDA_SHLVL": "1",
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "TERM": "dumb",
    }


def _declared(prefix: Path) -> dict[str, str]:
    """Return the variables that files in ``prefix`` declare, as conda reads them."""
    variables: dict[str, str] = {}
    for file in sorted((prefix / "etc/conda/env_vars.d").glob("*.json")):
        variables |= _strings(file, _json(file))
    state = prefix / "conda-meta/state"
    if state.is_file():
        content = _json(state)
        variables |= _strings(state, content.get("env_vars", {}) if isinstance(content, dict) else content)
    return {name: value for name, value in variables.items() if value != _CONDA_UNSET}


def _json(file: Path) -> object:
    try:
        content: object = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _bad_file(file, str(error)) from error
    return content


def _strings(file: Path, content: object) -> dict[str, str]:
    if not isinstance(content, dict):
        raise _bad_file(file, "it holds no object of variables")
    for name, value in content.items():
        if not _NAME.fullmatch(name):
            raise _bad_file(file, f"{name!r} cannot be a variable's name")
        if not isinstance(value, str):
            raise _bad_file(file, f"the value of {name} is no string")
        _check(name, value)
    return content


def _scripts(prefix: Path) -> list[Path]:
    return sorted((prefix / "etc/conda/activate.d").glob("*.sh"), key=lambda file: file.name)


def _source(scripts: Sequence[Path], environment: Mapping[str, str], *, timeout: float) -> dict[str, str]:
    """Return the environment after bash has sourced ``scripts``, one after another."""
    if not scripts:
        return _kept(environment)
    bash = shutil.which("bash")
    if bash is None:
        raise FailedError("activation-failed", "Activation scripts need bash, which is not on PATH.", "Install bash.")
    with tempfile.TemporaryDirectory(prefix="mlviews-activation-") as name:
        folder = Path(name)
        own = {"HOME": name, "TMPDIR": name}
        command = [bash, "--noprofile", "--norc", "-c", _program(scripts, folder)]
        status = _run(command, {**environment, **own}, folder, timeout=timeout)
        if status != 0 or not (folder / "environment").is_file():
            raise _failure(folder, status, timeout=timeout)
        after = _kept(_parse((folder / "environment").read_bytes()))
    after = {variable: value for variable, value in after.items() if own.get(variable) != value}
    for variable, value in after.items():
        if name in value:
            raise _bad_value(variable, value, "lies in the home folder of whoever builds the view")
    return after


def _program(scripts: Sequence[Path], folder: Path) -> str:
    """Return what bash runs: note which script comes, source it; after the last one, write the environment."""
    env = shutil.which("env", path=":".join(_HOST_PATH)) or "env"  # found now: a script may change PATH
    running, result = (shlex.quote(str(folder / name)) for name in ("running", "environment"))
    lines = [f"ulimit -f {_LARGEST_FILE}"]
    for script in map(shlex.quote, map(str, scripts)):
        lines.append(f"printf '%s' {script} > {running}")
        # Many scripts end with a test that is false, and conda never looks: 1 is no failure. A syntax error gives 2.
        lines.append(f". {script} || case $? in 1) ;; *) exit $? ;; esac")
    return "\n".join([*lines, f"{env} -0 > {result}"])


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path, *, timeout: float) -> int | None:
    """Run ``command`` in ``folder``; return its status, or None where it was ended after ``timeout`` seconds."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:  # also what a script left running, and when Ctrl-C came
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(folder: Path, status: int | None, *, timeout: float) -> FailedError:
    running = folder / "running"
    script = running.read_text(errors="replace") if running.is_file() else "bash"
    with (folder / "output").open("rb") as output:
        shown = output.read(_SHOWN).decode(errors="replace").strip()
    said = f" It printed:\n{shown}" if shown else ""
    hint = "Leave out the package that brought the script, or report it there."
    if status is None:
        message = f"The activation script {script} did not end within {timeout:g} seconds.{said}"
        return FailedError("activation-timeout", message, hint)
    why = "ended the shell" if status == 0 else f"failed with status {status}"
    return FailedError("activation-failed", f"The activation script {script} {why}.{said}", hint)


def _parse(dump: bytes) -> dict[str, str]:
    pairs = (entry.partition(b"=") for entry in dump.split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def _kept(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in variables.items()
        if _NAME.fullmatch(name)  # an exported shell function has another name
        and not _SHELLS_OWN.fullmatch(name)
        and not _BOOKKEEPING.fullmatch(name)
    }


def _difference(
    before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Return the variables that were set and the folders that were added, variable by variable."""
    variables: dict[str, str] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for name, value in after.items():
        entries = value.split(":")
        if name in _LISTS and _MARK in entries:
            known = (_MARK, "", *_HOST_PATH) if name == "PATH" else (_MARK, "")
            lists[name] = tuple(dict.fromkeys(entry for entry in entries if entry not in known))
        elif name == "PATH":
            raise _bad_value(name, value, "leaves out what PATH held before")
        elif value not in (before.get(name), _MARK):
            variables[name] = value
    # The view's own modules, in front of nothing: the user's are gone by then.
    for name in _UNSET:
        if entries_of_view := lists.pop(name, ()):
            variables[name] = ":".join(entries_of_view)
    return variables, {name: entries for name, entries in lists.items() if entries}


def _check(name: str, value: str) -> None:
    if _MARK in value:
        raise _bad_value(name, value, "repeats a variable of the user's")
    if re.search(r"[\x00-\x1f\x7f]", value):
        # Lmod 8.6 and environment-modules 5.2 run the text behind a newline as a command.
        raise _bad_value(name, value, "holds control characters, which no module system can carry")
    if re.search(r"[\ud800-\udfff]", value):
        raise _bad_value(name, value, "is not UTF-8")


def _bad_file(file: Path, why: str) -> FailedError:
    return FailedError("activation-file", f"{file} cannot be used: {why}.", "The package that brought it is at fault.")


def _bad_value(name: str, value: str, why: str) -> FailedError:
    hint = "Leave out the package whose activation script sets it, or report it there."
    return FailedError("activation-value", f"Activation sets {name} to a value that {why}: {value[:200]!r}", hint)
