"""Source a prefix's activation scripts, more than once, and leave the prefix as it was.

The scripts are other people's, and the prefix's files are the cache's and other releases' too (hard links): what a
script writes must reach none of them. Where the kernel allows it, each run sees the prefix through an overlay whose
upper layer is thrown away. Read-only alone would not do: a script that cannot write fails in ways in which it would not
fail under conda. Where the kernel does not allow it, they get a copy in the prefix's place (`mlviews.prefix.copied`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from mlviews.errors import FailedError
from mlviews.files.reading import paths_in
from mlviews.prefix.copied import Copy, copied

HOST_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
"""Where the scripts find the host's own programs."""
USERS_PATH = "/mlviews/PATH-of-the-user"
"""Stands in PATH for what a user has there."""

_LARGEST_FILE = 256 * 1024  # KiB; no script has cause to write a larger one, an endless loop has
_SHOWN = 2000  # characters of a script's output
_LOOK_SECONDS = 0.05

# Another host, as the programs tell that scripts ask. Twice as many processors and six, so that half of it differs too.
_ELSEWHERE = {
    "hostname": "echo mlviews-elsewhere",
    "whoami": "echo mlviews-somebody",
    "logname": "echo mlviews-somebody",
    "nproc": "echo {cores}",
    "id": "case $* in *u*n*|*n*u*) echo mlviews-somebody ;; *u*) echo {user} ;; *) exec {real} $* ;; esac",
    "uname": "case $* in *n*|*a*) echo mlviews-elsewhere ;; *) exec {real} $* ;; esac",
    "getconf": "case $* in *NPROCESSORS*) echo {cores} ;; *) exec {real} $* ;; esac",
}
_SOMEBODY = 64321  # a user and a group that nobody is

# In a user namespace of its own: the prefix ($1) under an upper layer in memory ($2), then without any rights over that
# as user $3 of group $4 the rest. Relative and through a descriptor, since options cannot hold every path.
_LAYER = """
cd "$1" && mount -t tmpfs -o mode=0700 mlviews "$2" && mkdir "$2/upper" "$2/work" && exec 3< "$2" &&
mount -t overlay -o lowerdir=.,upperdir=/proc/self/fd/3/upper,workdir=/proc/self/fd/3/work,userxattr mlviews "$1" &&
exec 3<&- && cd / && user=$3 group=$4 && shift 4 && exec unshare --user --map-user="$user" --map-group="$group" "$@"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of all scripts.

    Attributes:
        given: variables that they find set.
        elsewhere: whether the host, the user and the number of processors seem to be others.
        watched: whether what each script writes is noted; takes a process a script.
    """

    given: Mapping[str, str]
    elsewhere: bool = False
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Sourced:
    """What came of a run.

    Attributes:
        given: the environment before the first script.
        variables: the environment after the last one.
        prefix: the prefix under the view's name, as the scripts saw it.
        programs: folder of the programs that stood for another host's.
        failed: the scripts that ended with status 1, by name.
        printed: what each script printed, by its name.
        written: paths below the prefix that each script wrote or removed, by its name.
    """

    given: Mapping[str, str]
    variables: Mapping[str, str]
    prefix: str
    programs: str
    failed: frozenset[str]
    printed: Mapping[str, str]
    written: Mapping[str, tuple[str, ...]]


def scripts_of(prefix: Path) -> list[Path]:
    """Return the activation scripts of a prefix, in conda's order."""
    return paths_in(prefix / "etc/conda/activate.d", ".sh")


@contextlib.contextmanager
def sourcing(prefix: Path, name: str, *, timeout: float) -> Iterator[Callable[[Sequence[Run]], list[Sourced]]]:
    """Give a function that sources all scripts in bash, once for each run, side by side; then the prefix is as it was.

    Args:
        name: the view's: the scripts see the prefix in a folder of this name, as that of a conda environment is.
        timeout: seconds that one run may take.

    Raises:
        FailedError: ``activation-failed``, ``activation-timeout`` or ``activation-wrote``.
    """
    bash = shutil.which("bash")
    if bash is None:
        raise FailedError("activation-failed", "Activation scripts need bash, which is not on PATH.", "Install bash.")
    with contextlib.ExitStack() as kept:
        copy = None if _can_layer(prefix) else kept.enter_context(copied(prefix))

        def source(runs: Sequence[Run]) -> list[Sourced]:
            with contextlib.ExitStack() as stack:
                folders = [Path(stack.enter_context(_folder())) for _ in runs]
                prepared = [
                    _prepare(prefix, name, folder, run, bash, layered=copy is None)
                    for run, folder in zip(runs, folders, strict=True)
                ]
                statuses = _run(prepared, copy, timeout=timeout)
                for folder, status in zip(folders, statuses, strict=True):
                    if status != 0 or not (folder / "environment").is_file():
                        raise _failure(prefix, folder, status, timeout=timeout)
                written = copy.changed() if copy else ()
                return [_sourced(prefix, name, one, written) for one in prepared]

        yield source


@contextlib.contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path, *, umask: int = -1
) -> Iterator[subprocess.Popen[bytes]]:
    """Start other people's program; when the context ends, whatever it has left running ends too.

    Args:
        environment: all that it finds set.
        folder: where it starts.
        output: takes what it prints.
        umask: -1 for one's own.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=umask,
        )
    try:
        yield process
    finally:  # also when Ctrl-C came
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def one_line(text: str) -> str:
    """Return what a program printed in one line, without what a terminal or a module system would act on."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mlviews-activation-")


def _can_layer(prefix: Path) -> bool:
    """Tell whether this kernel, and whoever set this host up, let us put an overlay over the prefix."""
    if not all(shutil.which(program, path="/usr/bin:/bin:/usr/sbin:/sbin") for program in ("unshare", "mount", "find")):
        return False
    with _folder() as name:
        (Path(name) / "layer").mkdir()
        command = [*_layered(prefix, Path(name), elsewhere=True), "true"]
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def _layered(prefix: Path, folder: Path, *, elsewhere: bool) -> list[str]:
    user, group = (_SOMEBODY, _SOMEBODY) if elsewhere else (os.getuid(), os.getgid())
    path = f"PATH={':'.join([*HOST_PATH, '/usr/sbin', '/sbin'])}"
    outer = ["/usr/bin/env", path, "unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", _LAYER, "layer"]
    return [*outer, str(prefix), str(folder / "layer"), str(user), str(group)]


@dataclass(frozen=True, slots=True)
class _Prepared:
    command: Sequence[str]
    given: Mapping[str, str]
    folder: Path


def _prepare(prefix: Path, name: str, folder: Path, run: Run, bash: str, *, layered: bool) -> _Prepared:
    """Lay out a run's folder: the prefix under the view's name, a home, the other host's programs."""
    for part in ("env", "home", "bin", "layer"):
        (folder / part).mkdir(exist_ok=True)
    named = folder / "env" / name
    named.symlink_to(prefix)
    if run.elsewhere:
        _write_programs(folder / "bin")
    environment = {**_environment(named, folder, elsewhere=run.elsewhere), **run.given}
    program = [bash, "--noprofile", "--norc", "-c", _program(prefix, named, folder, watched=layered and run.watched)]
    # The environment is the scripts' alone: what lays the layer must not read its LD_LIBRARY_PATH.
    variables = [f"{key}={value}" for key, value in environment.items()]
    clean = ["/usr/bin/env", "-i", *variables, *program]
    outer = _layered(prefix, folder, elsewhere=run.elsewhere) if layered else []
    return _Prepared([*outer, *clean], environment, folder)


def _environment(named: Path, folder: Path, *, elsewhere: bool) -> dict[str, str]:
    """Return what the scripts start from: nothing of the build host's own."""
    home = str(folder / "home")
    user = "mlviews-somebody" if elsewhere else "mlviews-user"
    return {
        "PATH": ":".join([f"{named}/bin", USERS_PATH, *([str(folder / "bin")] if elsewhere else []), *HOST_PATH]),
        "CONDA_PREFIX": str(named),
        "CONDA_DEFAULT_ENV": named.name,
        "CONDA_PROMPT_MODIFIER": "",
        "CONDA_SHLVL": "1",
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "TERM": "dumb",
        "HOME": home,
        "TMPDIR": home,
        "USER": user,
        "LOGNAME": user,
        **({"HOSTNAME": "mlviews-elsewhere"} if elsewhere else {}),
    }


def _write_programs(folder: Path) -> None:
    cores = 2 * (os.cpu_count() or 1) + 6
    for name, text in _ELSEWHERE.items():
        real = shutil.which(name, path=":".join(HOST_PATH)) or "/usr/bin/false"
        program = folder / name
        program.write_text("#!/bin/sh\n" + text.format(cores=cores, real=real, user=_SOMEBODY) + "\n")
        program.chmod(0o755)


def _program(prefix: Path, named: Path, folder: Path, *, watched: bool) -> str:
    """Return what bash runs: note which script comes, source it; after the last one, write the environment."""
    # Found now: a script may change PATH.
    env, find = (shutil.which(name, path=":".join(HOST_PATH)) or name for name in ("env", "find"))
    quoted = {name: shlex.quote(str(folder / name)) for name in ("running", "environment", "layer/upper", "home")}
    lines = [f"ulimit -f {_LARGEST_FILE}; cd {quoted['home']}"]
    for number, script in enumerate(scripts_of(prefix)):
        path = shlex.quote(str(named / script.relative_to(prefix)))
        output, status, written = (
            shlex.quote(str(folder / f"{name}-{number}")) for name in ("output", "status", "written")
        )
        lines.append(f"printf %s {number} > {quoted['running']}")
        # Many scripts end with a test that is false, and conda never looks: 1 is no failure. A syntax error gives 2.
        lines.append(f". {path} > {output} 2>&1 || case $? in 1) : > {status} ;; *) exit $? ;; esac")
        if watched:
            lines.append(f"{find} {quoted['layer/upper']} -mindepth 1 -printf '%y%P\\0' > {written}")
    return "\n".join([*lines, f"{env} -0 > {quoted['environment']}"])


def _run(prepared: Sequence[_Prepared], copy: Copy | None, *, timeout: float) -> list[int | None]:
    """Run all side by side; return each status, or None where it was ended after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(started(one.command, {}, one.folder, one.folder / "output")) for one in prepared
        ]
        return [_waited(process, copy, deadline) for process in processes]


def _waited(process: subprocess.Popen[bytes], copy: Copy | None, deadline: float) -> int | None:
    """Return a process's status, or None where it has not ended in time; meanwhile see to what a copy guards."""
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(min(left, _LOOK_SECONDS) if copy else left)
        if copy:
            copy.refuse_writers()
        if process.returncode is not None:
            break
    return process.poll()


def _failure(prefix: Path, folder: Path, status: int | None, *, timeout: float) -> FailedError:
    running = folder / "running"
    number = int(running.read_text()) if running.is_file() else None
    script = "bash" if number is None else str(scripts_of(prefix)[number])
    shown = "".join(_shown(folder / name) for name in ("output", f"output-{number}"))
    said = f" It printed:\n{shown}" if shown else ""
    hint = "Leave out the package that brought the script, or report it there."
    if status is None:
        message = f"The activation script {script} did not end within {timeout:g} seconds.{said}"
        return FailedError("activation-timeout", message, hint)
    why = "ended the shell" if status == 0 else f"failed with status {status}"
    return FailedError("activation-failed", f"The activation script {script} {why}.{said}", hint)


def _shown(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as output:
        return output.read(_SHOWN).decode(errors="replace").strip()


def _sourced(prefix: Path, name: str, one: _Prepared, changed: Sequence[str]) -> Sourced:
    folder = one.folder
    names = [script.name for script in scripts_of(prefix)]
    written = dict(zip(names, _new_writes(prefix, folder, len(names)), strict=True))
    if changed:  # in a copy that all scripts shared
        written = {" or ".join(names): tuple(changed)}
    return Sourced(
        given=one.given,
        variables=_parse((folder / "environment").read_bytes()),
        prefix=str(folder / "env" / name),
        programs=str(folder / "bin"),
        failed=frozenset(script for number, script in enumerate(names) if (folder / f"status-{number}").exists()),
        printed={script: _shown(folder / f"output-{number}") for number, script in enumerate(names)},
        written={script: _leaves(paths) for script, paths in written.items() if paths},
    )


def _leaves(paths: Sequence[str]) -> tuple[str, ...]:
    """Leave out the folders that only lead to other paths."""
    leading = {str(parent) for path in paths for parent in PurePath(path).parents}
    return tuple(path for path in paths if path not in leading)


def _new_writes(prefix: Path, folder: Path, scripts: int) -> Iterator[tuple[str, ...]]:
    """Give what each script added to the upper layer; a folder there may only lead to what was written."""
    known: set[str] = set()
    for number in range(scripts):
        listed = folder / f"written-{number}"
        entries = listed.read_bytes().split(b"\0")[:-1] if listed.is_file() else []
        found = {os.fsdecode(entry[1:]): entry[:1] for entry in entries}
        paths = [path for path, kind in found.items() if kind != b"d" or not (prefix / path).is_dir()]
        yield tuple(sorted(set(paths) - known))
        known |= set(paths)


def _parse(dump: bytes) -> dict[str, str]:
    pairs = (entry.partition(b"=") for entry in dump.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
