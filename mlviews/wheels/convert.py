"""Plans conda packages, as pure values before anything is written: what a wheel becomes. Then writes them.

Three kinds of wheel, three kinds of package:
    any Python, any platform   ``noarch: python`` in ``noarch/``; the installer writes its scripts
    any Python, one platform   ``noarch: python`` in the platform's folder, as CEP 20 has it for abi3; with ``__glibc``
    one Python, one platform   an ordinary package with ``python_abi`` and ``__glibc``, and scripts of its own
A plan depends on the wheel's bytes, the target and nothing else. So one archive serves every view, and one that was
lost can be made again from the same wheel.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from mlviews.files.writing import make_folder
from mlviews.wheels.archive import File, write_conda
from mlviews.wheels.cuda import add_runpath, cuda_depends, cuda_of, finds_cuda_itself
from mlviews.wheels.elf import glibc_key, glibc_needed
from mlviews.wheels.requirements import conda_depends, conda_name, conda_python, conda_version, extra_name
from mlviews.wheels.target import tag_glibc
from mlviews.wheels.wheel import (
    BadWheelError,
    Stated,
    StatedWheel,
    Wheel,
    WheelFile,
    check_script_name,
    record_hash,
    record_text,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from packaging.requirements import Requirement
    from packaging.tags import Tag

    from mlviews.wheels.made import Made
    from mlviews.wheels.target import Target

_LONGEST_LICENSE = 100  # characters; older wheels hold the whole text there
# A change of what is written for the same wheel changes this number, and with it every build string.
FORMAT = 3
_PYTHON_VARIABLES = {"python_version", "python_full_version", "implementation_version"}
_SYSTEM_VARIABLES = {"sys_platform", "platform_system", "os_name"}


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagePlan:
    """A package before it is written: its ``info/index.json``, and the glibc that it needs, ``""`` for none."""

    index: Mapping[str, Any]
    glibc: str = ""

    @property
    def spec(self) -> str:
        """The match spec that only this package meets."""
        return f"{self.index['name']} =={self.index['version']} {self.index['build']}"

    @property
    def archive(self) -> str:
        """The archive's path in the channel."""
        return f"{self.index['subdir']}/{self.index['name']}-{self.index['version']}-{self.index['build']}.conda"

    @property
    def is_any_python(self) -> bool:
        """Whether the installer has to fit it to the prefix's Python."""
        return self.index.get("noarch") == "python"


def requirements_for(said: Stated, target: Target, extra: str = "") -> tuple[Requirement, ...]:
    """Return what a wheel needs on the target: without extras, or what one extra adds to that."""
    base = tuple(line for line in said.requires if _holds(line, target, ""))
    if not extra:
        return base
    if extra not in {str(canonicalize_name(name)) for name in said.raw.get("provides_extra", ())}:
        return ()  # as pip has it
    return tuple(line for line in said.requires if line not in base and _holds(line, target, extra))


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer(StatedWheel):
    """A wheel that an index has; it is not here.

    Attributes:
        made: where it is the sources, the wheel that was built of them; what is said is that one's.
    """

    url: str
    made: Made | None = None


def plan_wheel(wheel: StatedWheel, target: Target) -> PackagePlan:
    """Plan the package of one wheel.

    That of an offer has another build if the wheel holds C headers, which bind it to one Python.

    Raises:
        BadWheelError: the wheel is for another Python or platform.
    """
    tags = sorted(wheel.tags & target.tags, key=str)
    if not tags:
        raise BadWheelError(f"it is not for CPython {target.python} on {target.subdir}")
    glibc = _wheel_glibc(wheel, tags)
    any_python = any(_is_any_python(tag) for tag in tags)
    cuda = cuda_of(wheel)
    depends = {conda_python(wheel.said.requires_python), *_depends(wheel.said, target)}
    depends |= {*_python_pins(wheel, target, tags), *cuda_depends(cuda)}
    if glibc:
        depends.add(f"__glibc >={glibc}")
    elif _mentions(wheel, _SYSTEM_VARIABLES):
        depends.add("__linux")
    bound = glibc or not any_python or _mentions(wheel, {"platform_machine"})
    return plan_package(
        {
            "name": conda_name(wheel.name),
            "version": conda_version(wheel.version),
            "subdir": target.subdir if bound else "noarch",
            "depends": sorted(depends),
            "license": stated_license(wheel),
            "purls": [f"pkg:pypi/{wheel.name}@{quote(str(wheel.version), safe='')}"],
        }
        | ({"noarch": "python"} if any_python else {}),
        build=_build_prefix(wheel, cuda) + ("py" if any_python else f"py{target.minor.replace('.', '')}"),
        content=wheel.sha256,
        glibc=glibc,
    )


def plan_extra(said: Stated, target: Target, extra: str) -> PackagePlan:
    """Plan the package that stands for ``wheel[extra]``: it has no files, only what the extra needs."""
    index = {
        "name": extra_name(said.name, extra),
        "version": conda_version(said.version),
        "depends": sorted(
            {
                f"{conda_name(said.name)} =={conda_version(said.version)}",
                f"python {target.minor}.*",
                *_depends(said, target, extra),
            }
        ),
    }
    return _plan_empty(index, target)


def plan_alias(name: str, provider: PackagePlan, extra: PackagePlan | None, target: Target) -> PackagePlan:
    """Plan a package ``name`` without files, another name of ``provider`` or of one of its extras."""
    version = provider.index["version"]
    depends = [f"{plan.index['name']} =={version}" for plan in (provider, extra) if plan is not None]
    return _plan_empty({"name": name, "version": version, "depends": depends}, target)


def plan_python_abi(target: Target) -> PackagePlan:
    """Plan ``python_abi``, which keeps packages for one Python away from any other."""
    constrains = [f"python {target.minor}.* *_{'cpython' if not target.abi.endswith('t') else target.abi}"]
    index = {"name": "python_abi", "version": target.minor, "constrains": constrains, "depends": []}
    return _plan_empty(index, target, suffix=f"_{target.abi}")


def plan_python(target: Target, content: str, *, glibc: str = "", **more: Sequence[str]) -> PackagePlan:
    """Plan ``python`` itself.

    Args:
        content: what tells two such packages apart.
        glibc: the newest that it needs.
        more: what the index says besides, such as ``depends``.
    """
    index = {
        "name": "python",
        "version": target.python,
        "subdir": target.subdir,
        "license": "Python-2.0",
        "python_site_packages_path": target.site_packages,
        **more,
    }
    flavour = target.abi if target.abi.endswith("t") else "cpython"
    return plan_package(index, build="", content=content, glibc=glibc, suffix=f"_0_{flavour}")


def plan_cuda(version: str, target: Target) -> PackagePlan:
    """Plan ``cuda-version``, which keeps packages for one CUDA together, as on conda-forge.

    Args:
        version: of the CUDA that a view's wheels are for, such as ``12.8``.
    """
    constrains = [f"__cuda >={version.partition('.')[0]}"]
    return _plan_empty({"name": "cuda-version", "version": version, "constrains": constrains, "depends": []}, target)


def _plan_empty(index: Mapping[str, Any], target: Target, suffix: str = "_0") -> PackagePlan:
    return plan_package({"subdir": target.subdir, **index}, build="", content="", suffix=suffix)


def plan_package(
    index: Mapping[str, Any], *, build: str, content: str, glibc: str = "", suffix: str = "_0"
) -> PackagePlan:
    """Complete an index: the build string tells apart whatever differs in ``index`` or in ``content``, a digest."""
    text = json.dumps([FORMAT, content, index], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return PackagePlan(index={**index, "build": f"{build}h{digest}{suffix}", "build_number": 0}, glibc=glibc)


def _holds(requirement: Requirement, target: Target, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**target.markers, "extra": extra})


def _depends(said: Stated, target: Target, extra: str = "") -> Iterator[str]:
    return (spec for line in requirements_for(said, target, extra) for spec in conda_depends(line))


def _is_any_python(tag: Tag) -> bool:
    return tag.abi == "abi3" or not tag.interpreter.startswith("cp")


def _python_pins(wheel: StatedWheel, target: Target, tags: Sequence[Tag]) -> set[str]:
    if not any(map(_is_any_python, tags)):
        return {f"python {target.minor}.*", f"python_abi {target.minor}.* *_{target.abi}"}
    if _mentions(wheel, _PYTHON_VARIABLES) or any(".data/headers/" in entry.path for entry in wheel.entries):
        return {f"python {target.minor}.*"}
    return {f"python >={tag.interpreter[2]}.{tag.interpreter[3:]}" for tag in tags if tag.abi == "abi3"}


def _mentions(wheel: StatedWheel, variables: Collection[str]) -> bool:
    # Lines about extras do not count: they go into packages of their own, which are for one target anyway.
    markers = [re.sub(r"'[^']*'|\"[^\"]*\"", "", str(line.marker)) for line in wheel.said.requires if line.marker]
    words = {word for marker in markers if "extra" not in marker for word in marker.split()}
    return bool(words & set(variables))


def _wheel_glibc(wheel: StatedWheel, tags: Sequence[Tag]) -> str:
    platforms = {tag.platform for tag in tags}
    if "any" in platforms:
        return ""
    promised = [glibc for glibc in map(tag_glibc, platforms) if glibc]
    if promised or not isinstance(wheel, Wheel):
        return min(promised, key=glibc_key, default="")
    # A bare `linux_x86_64` promises nothing, so look.
    libraries = [entry for entry in wheel.entries if ".so" in entry.path]
    return glibc_needed(io.BytesIO(wheel.open(entry).read()) for entry in libraries)


def _build_prefix(wheel: StatedWheel, cuda: str) -> str:
    local = re.sub("[^a-z0-9]", "_", wheel.version.local or "")
    return "".join(f"{part}_" for part in (f"cuda{cuda}" if cuda else "", local) if part)


def stated_license(wheel: StatedWheel) -> str:
    """Return the licence that a wheel states: an SPDX expression (PEP 639), or a text; empty where there is none."""
    text = wheel.said.raw.get("license_expression") or wheel.said.raw.get("license") or ""
    return text if text.isprintable() and len(text) <= _LONGEST_LICENSE else ""


# What the installer replaces by the prefix, in the few text files that hold it.
PLACEHOLDER = "/opt/mlviews_prefix_placeholder"
_LIBRARY = re.compile(r"\.so(\.\d+)*\Z")
# Folders at the top of a package that mean something to an installer.
_RESERVED = {"conda-meta", "info", "site-packages", "python-scripts"}
# What an installer of wheels writes itself. The last two would claim how and why the package was installed.
_NOT_KEPT = {"INSTALLER", "RECORD", "RECORD.jws", "RECORD.p7s", "REQUESTED", "direct_url.json"}
_SCRIPT = """\
#!{placeholder}/bin/python{minor}
import sys

from {module} import {name}

if __name__ == "__main__":
    sys.exit({attribute}())
"""


def write_wheel(channel: Path, plan: PackagePlan, wheel: Wheel, target: Target) -> Path:
    """Write the archive of a wheel into the channel; return its path.

    Raises:
        BadWheelError: a file that must not be installed, stands twice, or does not match RECORD.
        OSError: the disk.
    """
    about = {"summary": wheel.said.raw.get("summary", ""), "home": wheel.said.raw.get("home_page", "")}
    entry_points = [f"{name} = {reference}" for name, reference in sorted(wheel.scripts.items())]
    make_folder(channel)
    try:
        with tempfile.TemporaryDirectory(dir=channel, prefix=".new-") as scratch:
            layout = _Layout(plan, wheel, target, Path(scratch))
            files = [*layout.files(), *layout.scripts()]
            return write_conda(
                channel,
                index=plan.index,
                members=[*files, *layout.installer_files(files)],
                about=about,
                entry_points=entry_points if plan.is_any_python else (),
            )
    except ValueError as error:
        raise BadWheelError(str(error)) from error


class _Layout:
    """Where the files of one wheel go."""

    def __init__(self, plan: PackagePlan, wheel: Wheel, target: Target, scratch: Path) -> None:
        self._wheel = wheel
        self._scratch = scratch
        self._generic = plan.is_any_python
        self._target = target
        self._bin = "python-scripts" if self._generic else "bin"
        self._site = "site-packages" if self._generic else target.site_packages
        self._data = f"{wheel.dist_info.removesuffix('.dist-info')}.data"
        self._counts_on_system = bool(cuda_of(wheel)) and not finds_cuda_itself(wheel)
        self._hashes: dict[str, WheelFile] = {}

    def files(self) -> Iterator[File]:
        """Yield the files that the wheel holds."""
        for entry in self._wheel.entries:
            folder, _, name = entry.path.partition("/")
            if folder == self._wheel.dist_info and name in _NOT_KEPT:
                continue
            scheme, path = self._place(entry)
            if scheme == "scripts":
                yield self._script(entry, path)
            else:
                file = _file(self._wheel, entry, path)
                if self._counts_on_system and _LIBRARY.search(path):
                    # It may change, so neither RECORD nor the package can hold the wheel's hash of it.
                    file = replace(file, source=self._with_runpath(entry, path), sha256=None)
                else:
                    self._hashes[path] = entry
                yield file

    def scripts(self) -> Iterator[File]:
        """Yield the scripts of the entry points, where the installer would not write them."""
        for name, reference in {} if self._generic else self._wheel.scripts.items():
            module, _, attribute = reference.partition(":")
            text = _SCRIPT.format(
                placeholder=PLACEHOLDER,
                minor=self._target.minor,
                module=module,
                name=attribute.split(".")[0],
                attribute=attribute,
            )
            yield File(path=f"bin/{name}", source=text.encode(), executable=True, placeholder=PLACEHOLDER)

    def installer_files(self, files: list[File]) -> Iterator[File]:
        """Yield INSTALLER and RECORD, which lists every file by its path from site-packages (PEP 376)."""
        folder = f"{self._site}/{self._wheel.dist_info}"
        yield File(path=f"{folder}/INSTALLER", source=b"conda\n")
        paths = [file.path for file in files] + [f"{folder}/INSTALLER", f"{folder}/RECORD"]
        paths += [f"{self._bin}/{name}" for name in self._wheel.scripts if self._generic]
        text = record_text((self._from_site(path), *self._promise(path)) for path in sorted(paths))
        yield File(path=f"{folder}/RECORD", source=text.encode())

    def _place(self, entry: WheelFile) -> tuple[str, str]:
        folder, _, rest = entry.path.partition("/")
        if folder != self._data:
            return "purelib", f"{self._site}/{entry.path}"
        scheme, _, path = rest.partition("/")
        places = {
            "purelib": self._site,
            "platlib": self._site,
            "scripts": self._bin,
            "headers": f"include/python{self._target.minor}/{self._wheel.name}",
            "data": "",
        }
        if scheme not in places or not path:
            raise BadWheelError(f"{entry.path} has no place in a prefix")
        if scheme == "scripts":
            check_script_name(path)
        elif scheme == "data":
            self._check_data(path)
        return scheme, f"{places[scheme]}/{path}".lstrip("/")

    def _check_data(self, path: str) -> None:
        top, _, rest = path.partition("/")
        if top in _RESERVED:
            raise BadWheelError(f"it would write {path} into the prefix")
        if top == "bin":
            check_script_name(rest)

    def _with_runpath(self, entry: WheelFile, path: str) -> Path:
        """Return the library as it will lie at ``path``."""
        with (
            self._wheel.open(entry) as source,
            tempfile.NamedTemporaryFile(dir=self._scratch, delete=False) as file,
        ):
            shutil.copyfileobj(source, file, 1 << 20)
        library = Path(file.name)
        add_runpath(library, os.path.relpath(self._site, PurePosixPath(path).parent))
        return library

    def _script(self, entry: WheelFile, path: str) -> File:
        with self._wheel.open(entry) as file:
            first = file.read(8)
            if first == b"#!python":
                _, _, body = (first + file.read()).partition(b"\n")
                text = f"#!{PLACEHOLDER}/bin/python\n".encode() + body
                return File(path=path, source=text, executable=True, placeholder=PLACEHOLDER)
        self._hashes[path] = entry
        return replace(_file(self._wheel, entry, path), executable=True)

    def _from_site(self, path: str) -> str:
        if path.startswith(f"{self._site}/"):
            return path.removeprefix(f"{self._site}/")
        return "../../../" + (f"bin{path.removeprefix(self._bin)}" if path.startswith(f"{self._bin}/") else path)

    def _promise(self, path: str) -> tuple[str, str]:
        # Files that the installer writes or changes have no hash: pip does the same for .pyc files.
        if entry := self._hashes.get(path):
            return record_hash(entry.algorithm, entry.digest), str(entry.size)
        return "", ""


def _file(wheel: Wheel, entry: WheelFile, path: str) -> File:
    sha256 = entry.digest if entry.algorithm == "sha256" else None
    opener = partial(wheel.open, entry)
    return File(path=path, source=opener, size=entry.size, sha256=sha256, executable=entry.executable)
