"""What loading a view changes in the environment: found out once, when the view is built.

A conda package may bring shell scripts that are sourced whenever its environment is activated. mlviews sources them
three times, in environments of its own, and keeps what they mean: a value, a default, text put before or after the
user's own. So loading a view runs no program of the view, and every way of loading it changes the same variables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mlviews.errors import FailedError
from mlviews.files.reading import is_file, paths_in
from mlviews.prefix.scripts import HOST_PATH, USERS_PATH, Run, Sourced, one_line, scripts_of, sourcing
from mlviews.release import NEVER_INHERITED, Activation, Around, with_paths_in

# Variables that hold a list of folders: what is added is taken out again, whatever else came to the list meanwhile.
_LISTS = frozenset(
    {
        *("ACLOCAL_PATH", "CMAKE_PREFIX_PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "GI_TYPELIB_PATH"),
        *("INFOPATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "MANPATH", "PATH", "PERL5LIB", "PKG_CONFIG_PATH"),
        *("ROOT_INCLUDE_PATH", "XDG_CONFIG_DIRS", "XDG_DATA_DIRS"),
    }
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a shell keeps for itself: setting some of these from outside is an error in one shell or another.
_SHELLS_OWN = re.compile(
    r"_|PWD|OLDPWD|SHLVL|IFS|OPT(ARG|IND|ERR)|PS[1-4]|PROMPT_COMMAND|PPID|E?[UG]ID|RANDOM|SECONDS|LINENO|GROUPS"
    r"|SHELLOPTS|BASH.*|HIST.*|DIRSTACK|FUNCNAME|(?i:PIPESTATUS)|(HOST|MACH|OS)TYPE|status|argv|path"
)
# What activation scripts remember for their deactivation halves, which never run.
_BOOKKEEPING = re.compile(r".*CONDA_BACKUP.*|_CONDA_SET_.*|.*_BACKUP")
# What no user's value stands for: conda's own, and what every run is given.
_NOT_THE_USERS = re.compile(
    r"_?CONDA.*|PATH|HOME|TMPDIR|USER|LOGNAME|HOSTNAME|SHELL|TERM|LANG|LC_.*|PYTHON(PATH|HOME|NOUSERSITE)|LD_PRELOAD"
    r"|POSIXLY_CORRECT|GLOBIGNORE|ENV|CDPATH|MLVIEWS_.*"
)

_CONDA_UNSET = "***unset***"  # how conda's state file says that a variable was taken back
_LONGEST_NOTE = 1000
_PATHS_SHOWN = 5


def capture(prefix: Path, *, name: str | None = None, baked: Path | None = None, timeout: float = 60.0) -> Activation:
    """Return what loading the environment in ``prefix`` changes.

    Reads what ``conda activate`` reads, in its order: ``etc/conda/env_vars.d/*.json``, ``conda-meta/state``, then
    ``etc/conda/activate.d/*.sh`` by name. Those are sourced where nothing is set, where all that they speak of is set,
    and where host, user and number of processors seem to be others: the three tell a variable's meaning. A variable
    that they leave empty is unset. ``CONDA_PREFIX`` is set, since packages and build tools find their files by it.
    ``LD_LIBRARY_PATH`` changes only where a package's own script changes it, as under conda.

    Args:
        prefix: an installed conda environment; its scripts are run, and it is afterwards what it was.
        name: the view's, which is that of the environment to the scripts; the folder's where None.
        baked: the path under which it will be loaded, where that is another one.
        timeout: seconds that all scripts may take together.

    Raises:
        FailedError: ``activation-failed``, ``activation-timeout``, ``activation-wrote``, ``activation-file`` or
            ``activation-value``.
    """
    final = str(baked or prefix)
    if ":" in f"{prefix}{final}" or not final.startswith("/"):
        raise FailedError(
            "activation-value", f"PATH cannot hold {final}/bin.", "Use an absolute path without a colon as root."
        )
    declared = _kept(_declared(prefix))
    if not scripts_of(prefix):
        meanings = [_Meaning("prepend", "PATH", (f"{final}/bin",))]
        for key, value in declared.items():
            meanings += _meanings(key, _moved(value, {str(prefix): final}), None, None)
        return _activation(meanings, final, ())

    with sourcing(prefix, name or prefix.name, timeout=timeout) as source:
        here, elsewhere = source([Run(declared, watched=True), Run(declared, elsewhere=True)])
        marks = {key: f"/mlviews/{key}-of-the-user" for key in _users(prefix, here) if key not in declared}
        (marked,) = source([Run({**marks, **declared})])
    states = [_state(run, {run.prefix: final, str(prefix): final}) for run in (here, elsewhere, marked)]
    base = _base(here, declared, {here.prefix: final})
    meanings = [*_compared(states[0], states[1], states[2], marks, base)]
    # Where there is no layer, what both runs wrote is told of the first.
    places = dict.fromkeys([here.prefix, elsewhere.prefix, str(prefix)], final)
    return _activation(meanings, final, _notes(here, places))


class _Meaning(NamedTuple):
    """What scripts make of one variable; ``note`` is told to whoever builds the view."""

    kind: Literal["set", "default", "around", "prepend", "append", "unset", "nothing"]
    name: str
    value: str | tuple[str, ...] | Around = ""
    note: str = ""


def _users(prefix: Path, here: Sourced) -> set[str]:
    """Return the variables that a user may have set and that the scripts speak of or change."""
    text = " ".join(script.read_text(errors="replace") for script in scripts_of(prefix))
    found = {*re.findall(r"\b[A-Z][A-Z0-9_]*\b", text), *here.variables}
    return {name for name in _kept(dict.fromkeys(found, "")) if not _NOT_THE_USERS.fullmatch(name)}


def _state(run: Sourced, places: Mapping[str, str]) -> dict[str, str]:
    """Return the variables after a run as they are in the view's final place."""
    variables = {name: value.replace(f":{run.programs}:", ":") for name, value in run.variables.items()}
    return {name: _moved(value, places) for name, value in _kept(variables).items()}


def _base(run: Sourced, declared: Mapping[str, str], places: Mapping[str, str]) -> dict[str, str]:
    """Return what the scripts found set and no package had declared: what stays so is no change."""
    return {name: _moved(value, places) for name, value in run.given.items() if name not in declared}


def _compared(
    here: Mapping[str, str],
    elsewhere: Mapping[str, str],
    marked: Mapping[str, str],
    marks: Mapping[str, str],
    base: Mapping[str, str],
) -> Iterator[_Meaning]:
    """Tell the meaning of every variable from its values in the three runs.

    Args:
        here: where nothing of the user's was set.
        elsewhere: the same, on what seemed another host.
        marked: where each of ``marks`` was set.
        marks: the values that stood for the user's.
        base: what was set before the scripts came.
    """
    for name in dict.fromkeys([*here, *marks]):
        bare = here.get(name)
        if name != "PATH" and bare is not None and base.get(name) == bare:
            continue
        if bare != elsewhere.get(name):
            why = "a script gives it another value on another host or to another user"
            yield _Meaning("nothing", name, note=f"{name} is left out: {why}.")
        elif name == "HOST" and bare:
            yield _Meaning("nothing", name, note=f"{name} is left out: zsh and tcsh keep values of the host in it.")
        elif name != "PATH" and USERS_PATH in (bare or ""):
            yield _Meaning("nothing", name, note=f"{name} is left out: it repeats the user's PATH.")
        else:
            mark, given = marks.get(name), marked.get(name)
            # Where it repeats another variable of the user's, it is what it is where that is not set.
            alone = _without(given, {other: here.get(key, "") for key, other in marks.items() if key != name})
            found = _meanings(name, bare, alone, mark)
            if found and (alone != given or (found[0].kind == "set" and mark and alone != bare)):
                depends = (
                    f"{name} depends on what the user has set; the release has the value of a user who set nothing."
                )
                found[0] = found[0]._replace(note=depends)
            yield from found


def _meanings(name: str, bare: str | None, marked: str | None, mark: str | None) -> list[_Meaning]:
    """Tell one variable's meaning.

    Args:
        bare: what the scripts make of it where the user has nothing set; None where they leave it unset.
        marked: what they make of it where the user has set it to ``mark``, and other variables too.
        mark: None where no value stood for the user's.
    """
    if name == "PATH":
        return _folders(name, *_parted(name, bare or "", USERS_PATH))
    if name in NEVER_INHERITED:  # the view's own modules, in front of nothing: the user's are gone
        own = ":".join(filter(None, (bare or "").split(":")))
        return [_Meaning("set", name, own)] if own else []
    if mark and marked and marked.count(mark) == 1:
        return _kept_by(name, bare or "", marked, mark)
    if bare is None:
        return []
    return [_Meaning("set" if bare else "unset", name, bare)]


def _without(value: str | None, marks: Mapping[str, str]) -> str | None:
    for mark, instead in marks.items():
        value = value and value.replace(mark, instead)
    return value


def _kept_by(name: str, bare: str, marked: str, mark: str) -> list[_Meaning]:
    """Tell the meaning of a variable in which scripts keep the user's own value, once."""
    if marked == mark:
        return [_Meaning("default", name, bare)] if bare else []
    if not bare:
        note = f"{name} is left out: a script changes it only where the user has set it."
        return [_Meaning("nothing", name, note=note)]
    return _put(name, *_parted(name, marked, mark), bare)


def _parted(name: str, value: str, mark: str) -> tuple[str, str]:
    before, found, after = value.partition(mark)
    if not found:
        raise _bad_value(name, value, "leaves out what PATH held before")
    return before, after


def _put(name: str, before: str, after: str, bare: str) -> list[_Meaning]:
    """Tell whether text is put around the user's as folders are into a list of them, or as it stands."""
    if name in _LISTS and before[-1:] in ("", ":") and after[:1] in ("", ":"):
        meanings = _folders(name, before, after)
        folders = [folder for meaning in meanings for folder in meaning.value]
        if folders and folders == list(dict.fromkeys(filter(None, bare.split(":")))):
            return meanings
    return [_Meaning("around", name, Around(before=before, after=after, alone=bare))]


def _folders(name: str, before: str, after: str) -> list[_Meaning]:
    first = tuple(dict.fromkeys(filter(None, before.split(":"))))
    known = {*first, *(HOST_PATH if name == "PATH" else ())}
    last = tuple(folder for folder in dict.fromkeys(filter(None, after.split(":"))) if folder not in known)
    return [*([_Meaning("prepend", name, first)] if first else []), *([_Meaning("append", name, last)] if last else [])]


def _activation(meanings: Sequence[_Meaning], final: str, notes: Iterable[str]) -> Activation:
    found: dict[str, dict[str, Any]] = {"set": {"CONDA_PREFIX": final, "PYTHONNOUSERSITE": "1"}}
    for meaning in meanings:
        _check(meaning.name, meaning.value)
        found.setdefault(meaning.kind, {})[meaning.name] = meaning.value
    unset = [name for name in dict.fromkeys([*NEVER_INHERITED, *found.get("unset", {})]) if name not in found["set"]]
    return Activation(
        prepend=found.get("prepend", {}),
        append=found.get("append", {}),
        set={name: value for name, value in found["set"].items() if name not in found.get("unset", {})},
        default=found.get("default", {}),
        around=found.get("around", {}),
        unset=tuple(unset),
        notes=tuple(
            one_line(note)[:_LONGEST_NOTE] for note in [*notes, *(meaning.note for meaning in meanings if meaning.note)]
        ),
    )


def _notes(run: Sourced, places: Mapping[str, str]) -> list[str]:
    """Say what scripts printed, and what they wanted to write."""
    notes = []
    for script, text in run.printed.items():
        if text:
            how = "ended with status 1 and printed" if script in run.failed else "printed"
            notes.append(f"{script} {how}: {_moved(text, places)}")
    for script, written in run.written.items():
        paths = list(dict.fromkeys(_moved(f"/{path}", places)[1:] for path in written))
        more = f" and {len(paths) - _PATHS_SHOWN} more" if len(paths) > _PATHS_SHOWN else ""
        shown = ", ".join(paths[:_PATHS_SHOWN])
        notes.append(f"{script} tried to change {shown}{more}; the release keeps the files of its packages.")
    return notes


def _moved(value: str, places: Mapping[str, str]) -> str:
    for old, new in places.items():
        value = with_paths_in(value, old, new)
    return value


def _kept(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in variables.items()
        if _NAME.fullmatch(name)  # an exported shell function has another name
        and not _SHELLS_OWN.fullmatch(name)
        and not _BOOKKEEPING.fullmatch(name)
    }


def _declared(prefix: Path) -> dict[str, str]:
    """Return the variables that files in ``prefix`` declare, as conda reads them."""
    variables: dict[str, str] = {}
    for file in paths_in(prefix / "etc/conda/env_vars.d", ".json"):
        variables |= _strings(file, _json(file))
    state = prefix / "conda-meta/state"
    if is_file(state):
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
            raise _bad_file(file, f"the value of {name} is not a string")
        _check(name, value)
    return content


def _check(name: str, meant: str | tuple[str, ...] | Around) -> None:
    texts = (meant.before, meant.after, meant.alone) if isinstance(meant, Around) else meant
    value = meant if isinstance(meant, str) else ":".join(texts)
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
