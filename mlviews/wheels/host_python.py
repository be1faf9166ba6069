"""Makes the conda package ``python`` of the CPython that runs mlviews.

It is taken as it lies under ``sys.base_prefix``, less what no view needs (tests, other people's packages). Shared
libraries that are not glibc's own travel along, found through ``$ORIGIN``, so that it runs under any prefix. It works
for builds from source (pyenv, python.org), relocatable ones, and those of distributions, whose own layout is undone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mlviews.errors import FailedError
from mlviews.wheels.archive import File, Link, Member, write_conda
from mlviews.wheels.convert import PLACEHOLDER, PackagePlan, plan_python
from mlviews.wheels.elf import glibc_needed, is_elf, libraries_needed, set_runpath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlviews.wheels.target import Target

_HINT = "Run mlviews with a complete CPython, or use a site with a conda channel."
_LEFT_OUT_FOLDERS = {
    "__pycache__", "dist-packages", "idlelib", "idle_test", "site-packages", "test", "tests", "turtledemo",
}  # fmt: skip
# Tests; `nis` because it alone brings Kerberos along; a host's own customisation; static libraries.
_LEFT_OUT_FILES = re.compile(
    r"(_test|_ctypes_test|_xxtestfuzz|xxlimited|nis\.|ossaudiodev)[^/]*\.so|turtle\.py|(site|user)customize\.py"
    r"|EXTERNALLY-MANAGED|.*\.[ao]"
)
# Belongs to the host's C library, with which the loader that starts a program must agree.
_GLIBC = re.compile(
    r"(ld-linux.*|lib(c|m|pthread|dl|rt|util|resolv|anl|mvec|nsl|BrokenLocale|thread_db|nss_\w+))\.so(\.\d+)*"
)
_SYSTEM_PREFIXES = {"/usr", "/usr/local"}
_BUILD_FILES = re.compile(
    r"_sysconfigdata.*\.py|_sysconfig_vars.*\.json|build-details\.json|Makefile|python-config\.py"
)
_VENDOR_SCHEMES = {"deb_system", "posix_local", "rpm_prefix"}
_SCHEMES_UNDONE = """

# In a conda prefix the vendor's own layouts are CPython's.
_INSTALL_SCHEMES.update(
    dict.fromkeys(
        ("deb_system", "posix_local", "posix_prefix", "rpm_prefix"),
        _INSTALL_SCHEMES.get("posix_venv", _INSTALL_SCHEMES["posix_prefix"]),
    )
)
"""


def write_host_python(channel: Path, target: Target) -> PackagePlan:
    """Write the running CPython into a channel, with the libraries that it needs, unless it is there.

    Raises:
        FailedError: ``host-python``, where something that every CPython has is not found.
    """
    base = Path(sys.base_prefix)
    program = _program(base, target)
    files = dict(_standard_library(base)) | dict(_headers()) | {f"bin/python{target.minor}": program}
    with tempfile.TemporaryDirectory(prefix="mlviews-python-") as scratch:
        files = _with_libraries(files, Path(scratch))
        glibc = glibc_needed(_opened(file for file in files.values() if is_elf(file)))
        members: dict[str, Member] = {path: _member(path, file, base) for path, file in files.items()}
        members |= {
            f"bin/{name}": Link(path=f"bin/{name}", target=f"python{target.minor}") for name in ("python", "python3")
        }
        members |= {member.path: member for member in _vendor_undone(base, target, files, program)}
        depends, constrains = [f"__glibc >={glibc}"], [f"python_abi {target.minor}.* *_{target.abi}"]
        plan = plan_python(target, _digest(members), glibc=glibc, depends=depends, constrains=constrains)
        if not (channel / plan.archive).exists():
            write_conda(channel, index=plan.index, members=members.values(), about={"license": "Python-2.0"})
        return plan


def _digest(members: Mapping[str, Member]) -> str:
    total = hashlib.sha256()
    for path, member in sorted(members.items()):
        total.update(f"{path}\0".encode())
        if isinstance(member, File):
            content = member.source if isinstance(member.source, bytes) else Path(str(member.source)).read_bytes()
            total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def _standard_library(base: Path) -> Iterator[tuple[str, Path]]:
    library = Path(sysconfig.get_path("stdlib"))
    if not (library / "os.py").is_file() or not library.is_relative_to(base):
        raise FailedError("host-python", f"no standard library of Python lies at {library}", _HINT)
    for folder, folders, names in os.walk(library):
        folders[:] = sorted(set(folders) - _LEFT_OUT_FOLDERS)
        for name in names:
            file = Path(folder, name)
            if not _LEFT_OUT_FILES.fullmatch(name) and file.is_file():
                yield str(file.relative_to(base)), file


def _headers() -> Iterator[tuple[str, Path]]:
    # torch.compile and others build extensions where they run. Debian has them only with python3-dev, and keeps what
    # differs between machines in a folder that compilers look into by themselves: there, relative to the rest.
    include = Path(sysconfig.get_path("include"))
    machine = include.parent / str(sysconfig.get_config_var("MULTIARCH")) / include.name
    for folder, inside in ((include, ""), (machine, f"{machine.parent.name}/{machine.name}/")):
        for file in sorted(folder.rglob("*.h")):
            yield f"include/{include.name}/{inside}{file.relative_to(folder)}", file


def _program(base: Path, target: Target) -> Path:
    name = f"python{target.minor}"
    for candidate in (base / "bin" / f"{name}{sys.abiflags}", base / "bin" / name):
        if candidate.is_file():
            return candidate.resolve()
    raise FailedError("host-python", f"no program {name} lies in {base / 'bin'}", _HINT)


def _with_libraries(files: Mapping[str, Path], scratch: Path) -> dict[str, Path]:
    """Add the libraries that the ELF files need, and let every one of them find the others through ``$ORIGIN``."""
    objects = {path: file for path, file in files.items() if is_elf(file)}
    found, broken = _loaded(objects.values())
    kept = {path: file for path, file in files.items() if file not in broken}
    if missing := [path for path in files.keys() - kept.keys() if path.startswith("bin/")]:
        raise FailedError("host-python", f"the libraries of {files[missing[0]]} are not all there", _HINT)
    kept |= {f"lib/{name}": file for name, file in found.items()}
    patched: dict[str, list[Path]] = {}
    for path, file in kept.items():
        if is_elf(file) and any(name in found for name in libraries_needed(file)):
            copy = scratch / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            copy.chmod(0o755)
            kept[path] = copy
            to_lib = os.path.relpath("lib", Path(path).parent)
            patched.setdefault("$ORIGIN" if to_lib == "." else f"$ORIGIN/{to_lib}", []).append(copy)
    for runpath, copies in sorted(patched.items()):
        try:
            set_runpath(copies, runpath, first=True)  # another environment's LD_LIBRARY_PATH must not win
        except ValueError as error:
            raise FailedError("host-python", str(error), _HINT) from error
    return kept


def _loaded(objects: Iterable[Path]) -> tuple[dict[str, Path], set[Path]]:
    """Return the libraries that the loader takes, by soname, less glibc's; and the objects that miss one."""
    found: dict[str, Path] = {}
    broken: set[Path] = set()
    current = Path()
    files = sorted(map(str, objects))
    for line in _run(["ldd", *files, "/dev/null"], check=False).splitlines():
        if line.endswith(":") and not line[0].isspace():
            current = Path(line[:-1])
        elif "=> not found" in line:
            broken.add(current)
        elif match := re.match(r"\s+(?:(\S+) => )?(/.+) \(0x", line):
            # Relocatable builds ask for `$ORIGIN/../lib/libpython3.12.so.1.0`, which ldd shows without an arrow.
            found[Path(match[1] or match[2]).name] = Path(match[2])
    return {name: file for name, file in found.items() if not _GLIBC.fullmatch(name)}, broken


def _member(path: str, file: Path, base: Path) -> File:
    executable = bool(file.stat().st_mode & 0o111)
    if not _BUILD_FILES.fullmatch(file.name):
        return File(path=path, source=file, executable=executable)
    content = _relocated(file.read_bytes(), str(base))
    return File(path=path, source=content, executable=executable, placeholder=PLACEHOLDER)


def _relocated(content: bytes, base: str) -> bytes:
    """Put the placeholder where a file that remembers the build names Python's own folders."""
    # A relocatable build remembers the prefix that it was made with, not the one that it was unpacked to.
    built = re.search(rb"^prefix\s*=\s*(/\S+)$|['\"]prefix['\"]: ['\"](/[^'\"]+)", content, re.MULTILINE)
    for prefix in sorted({base, (built[1] or built[2]).decode() if built else base}, key=len, reverse=True):
        # Of what starts with /usr, only Python's own folders move.
        own = (
            rb"/(lib|include)/([\w-]+/)?python\d|/(bin|include|lib)['\"\s]|['\"\s]"
            if prefix in _SYSTEM_PREFIXES
            else rb"[/'\"\s:]"
        )
        content = re.sub(re.escape(prefix).encode() + rb"(?=" + own + rb")", PLACEHOLDER.encode(), content)
    return content


def _vendor_undone(base: Path, target: Target, files: Mapping[str, Path], program: Path) -> Iterator[Member]:
    """Yield what makes a distribution's CPython keep to the layout of a conda prefix."""
    if _VENDOR_SCHEMES & set(sysconfig.get_scheme_names()):
        library = Path(sysconfig.get_path("stdlib")).relative_to(base)
        path = next(
            f"{library}/{name}" for name in ("sysconfig/__init__.py", "sysconfig.py") if f"{library}/{name}" in files
        )
        yield File(path=path, source=files[path].read_bytes() + _SCHEMES_UNDONE.encode())
    folders = [Path(folder) for folder in _site_folders(program)]
    if Path(target.site_packages) not in folders:
        # `site` is frozen into the program, so its code cannot be changed; a path file in a folder that it reads can.
        line = f"import site, sys; site.addsitedir(sys.base_prefix + '/{target.site_packages}')\n"
        yield File(path=f"{folders[-1]}/mlviews.pth", source=line.encode())


def _site_folders(program: Path) -> list[str]:
    """Return where this Python looks for packages under any prefix, relative to it."""
    code = "import json, site; print(json.dumps(site.getsitepackages(['/prefix'])))"
    found = json.loads(_run([str(program), "-I", "-S", "-c", code]))
    return [folder.removeprefix("/prefix/") for folder in found if folder.startswith("/prefix/")]


def _opened(files: Iterable[Path]) -> Iterator[BinaryIO]:
    for file in files:
        with file.open("rb") as stream:
            yield stream


def _run(command: Sequence[str], *, check: bool = True) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise FailedError("host-python", f"there is no {command[0]} on this host", _HINT) from error
    if check and done.returncode:
        raise FailedError("host-python", f"{command[0]} failed: {done.stderr.strip()}", _HINT)
    return done.stdout
