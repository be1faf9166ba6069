"""What the tests of rendered files share: releases to render, and the real programs that read them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

import pytest

from mlviews.release import Activation, Around, Release, ReleasePackage

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_SHELLS_OWN = ("_", "SHLVL", "PWD", "OLDPWD")
_MODULE_SYSTEMS_OWN = re.compile(
    r"LMOD_.*|__LMOD_.*|_ModuleTable.*|MODULE(SHOME|PATH|S_CMD).*|LOADEDMODULES|_LMFILES_|__MODULES_.*|BASH_FUNC_.*|FPATH"
)

# Each string means something to one of the readers: Lua, Tcl, shells, Jinja, Lmod, printf.
_HOSTILE = (
    "plain",
    """She said "it's ]] ]==] [[ done" """.strip(),
    "$(touch pwned) `touch pwned` ${HOME} $HOME $0 ;touch pwned; |touch pwned& > pwned",
    "[exec touch pwned] {a} } { [ ] # \\",
    "\\ \\\\ \\n \\x41 \\u0041 \\101 %s %d %% {{ x }} {% raw %} {# c #} <% %>",
    "  two  spaces, a tab's \u00a0, d\u00e9j\u00e0 vu, \u2192 \u2028 \U0001f600 \U0001d6d1 \u202e",
    "~ * ? !! !x ^a^b -n --help @ = : , . /",
    "-- ]] os.execute('touch pwned') --[[",
)


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    """Return strings without control characters that each reader has to give back as they are."""
    return _HOSTILE


@dataclass(frozen=True)
class Meant:
    """Defaults and text around values, for `make_release`; what a user has set, and what loading must make of it."""

    activation: Mapping[str, Any]
    before: Mapping[str, str]
    after: Mapping[str, str]


@pytest.fixture(scope="session")
def meant() -> Meant:
    """Return each hostile text as a default, as a text put before and after, and as what is there already."""
    default, around, before, after = {}, {}, {}, {}
    for number, text in enumerate(_HOSTILE):
        default |= {f"DEFAULT_{number}": text, f"OWN_{number}": "the view's"}
        around |= {
            f"BEFORE_{number}": Around(before=text, alone=text),
            f"AFTER_{number}": Around(after=text, alone="alone"),
            f"BOTH_{number}": Around(before="<", after=">", alone="alone"),
            f"HAS_{number}": Around(before=text, after=text, alone="alone"),
        }
        before |= {f"{name}_{number}": text for name in ("OWN", "BEFORE", "BOTH")}
        before |= {f"HAS_{number}": f"{text} {text}"}
        after |= {f"DEFAULT_{number}": text, f"OWN_{number}": text, f"AFTER_{number}": "alone"}
        after |= {f"BEFORE_{number}": text, f"BOTH_{number}": f"<{text}>", f"HAS_{number}": f"{text} {text}"}
    return Meant({"default": default, "around": around, "append": {"XDG_DATA_DIRS": ("/last",)}}, before, after)


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """Return a function that finds a program; where it is missing the test is skipped, in CI it fails."""

    def find(program: str) -> str:
        found = shutil.which(program, path=f"{_SYSTEM_PATH}:{os.environ.get('PATH', '')}")
        if found is None:
            _missing(program)
        return found

    return find


def _missing(what: str) -> NoReturn:
    message = f"{what} is missing: run .ci/system-packages"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _unpacked(kind: str = "") -> Path:
    """Return where `.ci/system-packages` unpacks environment-modules, or, ``-newest``, the newest of both systems."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = os.environ.get("MLVIEWS_TEST_MODULES") or cache / "mlviews-tests/environment-modules"
    return Path(f"{folder}{kind}")


@pytest.fixture(scope="session")
def lmod() -> Callable[[str], str]:
    """Return a function that gives the line which makes ``module`` mean Lmod in a shell."""
    return _start_lmod("/usr/share/lmod/lmod/init", os.environ.get("LMOD_PKG", "/nowhere") + "/init")


@pytest.fixture(scope="session")
def own_driver(require: Callable[[str], str]) -> list[str]:
    """Return what gives a program a /proc/driver of its own."""
    command = [require("unshare"), "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/proc/driver"], check=False).returncode:
        pytest.skip("this kernel gives no mount namespace")
    return command


@pytest.fixture(scope="session")
def newest_lmod() -> Callable[[str], str]:
    """Return the same of the newest Lmod that the distribution has."""
    return _start_lmod(str(_unpacked("-newest") / "usr/share/lmod/lmod/init"))


def _start_lmod(*folders: str) -> Callable[[str], str]:
    def start(shell: str) -> str:
        for folder in folders:
            if Path(folder, shell).exists():
                return f"{'.' if shell in {'bash', 'zsh'} else 'source'} {folder}/{shell}"
        _missing(f"Lmod in {' or '.join(folders)}")

    return start


@pytest.fixture(scope="session")
def environment_modules(
    require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Return a function that gives the line which makes ``module`` mean environment-modules in a shell."""
    found = [*_unpacked().glob("usr/lib/*/modulecmd.tcl"), *Path("/usr/lib").glob("*/modulecmd.tcl")]
    return _start_environment_modules(found, require, tmp_path_factory.mktemp("environment-modules"))


@pytest.fixture(scope="session")
def newest_environment_modules(
    require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Return the same of the newest environment-modules that the distribution has."""
    found = [*_unpacked("-newest").glob("usr/lib/*/modulecmd.tcl")]
    return _start_environment_modules(found, require, tmp_path_factory.mktemp("environment-modules"))


def _start_environment_modules(
    found: Sequence[Path], require: Callable[[str], str], written: Path
) -> Callable[[str], str]:
    def start(shell: str) -> str:
        if not found:
            _missing("environment-modules")
        autoinit = f"{shlex.join([require('tclsh'), str(found[0])])} {shell} autoinit"
        if shell in {"bash", "zsh"}:
            return f'eval "$({autoinit})"'
        started = shlex.quote(str(written / shell))
        return f"{autoinit} > {started}\nsource {started}"

    return start


@pytest.fixture(scope="session")
def own() -> Callable[[Mapping[str, str]], dict[str, str]]:
    """Return a function that gives an environment without what tells how a view is taken out again."""
    kept = re.compile(r"MLVIEWS_(OLD_.*|MADE_.*|MODULE|LISTS|FOLDERS|CHANGED|DEFAULTS)")
    return lambda environment: {name: value for name, value in environment.items() if not kept.fullmatch(name)}


@pytest.fixture
def make_release(tmp_path: Path) -> Callable[..., Release]:
    """Return a function that makes a release whose prefix holds a ``bin/python`` which says where it lies."""

    def make(
        *,
        view: str = "plotting",
        release: str = "2026.11.23",
        platform: str = "linux-64",
        root: Path = tmp_path,
        variables: Mapping[str, str] | None = None,
        meant: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Release:
        prefix = root / "envs" / view / release / platform
        python = prefix / "bin/python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
        python.chmod(0o755)
        activation = Activation(
            prepend={"PATH": (f"{prefix}/bin", f"{prefix}/more/bin"), "XDG_DATA_DIRS": (f"{prefix}/share",)},
            set={"CONDA_PREFIX": str(prefix), "PYTHONNOUSERSITE": "1", **(variables or {})},
            unset=("PYTHONPATH", "PYTHONHOME"),
            **(meant or {}),
        )
        values: dict[str, Any] = {
            "mlviews": "0.1.0",
            "view": view,
            "release": release,
            "platform": platform,
            "summary": "Plots and histograms",
            "module": f"atlasml/{view}",
            "site": "local",
            "prefix": str(prefix),
            "lock_digest": "sha256:0123456789abcdef",
            "created": datetime(2026, 11, 23, 12, tzinfo=timezone.utc),
            "requested": ("pytorch-gpu", "uproot"),
            "packages": (
                ReleasePackage(name="python", version="3.12.9", build="0_cpython"),
                ReleasePackage(name="pytorch-gpu", version="2.6.0", build="cuda_0"),
                ReleasePackage(name="uproot", version="5.6", build="py_0"),
                ReleasePackage(name="numpy", version="2.1", build="py_0"),
            ),
            "activation": activation,
        }
        return Release(**{**values, **changes})

    return make


@pytest.fixture
def run_steps(tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """Return a function that runs steps in one shell and gives the exported variables after each.

    What the shell writes on stderr must be what the pattern ``says``.
    """

    def run(
        shell: Sequence[str], steps: Sequence[str], environment: Mapping[str, str], *, says: str = ""
    ) -> list[dict[str, str]]:
        folder = tmp_path / "session"
        folder.mkdir(exist_ok=True)
        dumps = [folder / f"environment-{number}" for number in range(len(steps))]
        script = folder / "script"
        lines = [f"{step}\n/usr/bin/env -0 > '{dump}'" for step, dump in zip(steps, dumps, strict=True)]
        script.write_text("\n".join([*lines, ""]), newline="\n")
        done = subprocess.run(
            [*shell, str(script)],
            check=False,
            env=dict(environment),
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert re.fullmatch(says, done.stderr, re.DOTALL), done.stderr
        assert sorted(path.name for path in folder.iterdir()) == sorted([*(dump.name for dump in dumps), "script"])
        return [_parse(dump) for dump in dumps]

    return run


def _parse(dump: Path) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in dump.read_bytes().decode(errors="surrogateescape").split("\0") if entry)
    return {
        name: value for name, _, value in pairs if name not in _SHELLS_OWN and not _MODULE_SYSTEMS_OWN.fullmatch(name)
    }
