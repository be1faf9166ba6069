"""Writes the conda package of a wheel, as `plan` planned it."""

from __future__ import annotations

import base64
import csv
import io
from typing import TYPE_CHECKING

from mlviews.channel.archive import File, write_conda
from mlviews.channel.dist_info import BadWheelError, check_script_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlviews.channel.plan import Plan
    from mlviews.channel.target import Target
    from mlviews.channel.wheel import Entry, Wheel

__all__ = ["PLACEHOLDER", "write_wheel"]

# What the installer replaces by the prefix, in the few text files that hold it.
PLACEHOLDER = "/opt/mlviews_prefix_placeholder"
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


def write_wheel(channel: Path, plan: Plan, wheel: Wheel, target: Target) -> Path:
    """Write the archive of a wheel into the channel; return its path.

    Raises:
        BadWheelError: a file that must not be installed, stands twice, or does not match RECORD.
        OSError: the disk.
    """
    layout = _Layout(plan, wheel, target)
    files = [*layout.files(), *layout.scripts()]
    files += layout.installer_files(files)
    about = {"summary": wheel.metadata.get("summary", ""), "home": wheel.metadata.get("home_page", "")}
    entry_points = [f"{name} = {reference}" for name, reference in sorted(wheel.scripts.items())]
    try:
        return write_conda(
            channel,
            index=plan.index,
            members=files,
            about=about,
            entry_points=entry_points if plan.is_any_python else (),
        )
    except ValueError as error:
        raise BadWheelError(str(error)) from error


class _Layout:
    """Where the files of one wheel go."""

    def __init__(self, plan: Plan, wheel: Wheel, target: Target) -> None:
        self._wheel = wheel
        self._generic = plan.is_any_python
        self._target = target
        self._bin = "python-scripts" if self._generic else "bin"
        self._site = "site-packages" if self._generic else target.site_packages
        self._data = f"{wheel.dist_info.removesuffix('.dist-info')}.data"
        self._hashes: dict[str, Entry] = {}

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
                self._hashes[path] = entry
                yield File(path=path, source=_opener(self._wheel, entry), size=entry.size, executable=entry.executable)

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
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows((self._from_site(path), *self._promise(path)) for path in sorted(paths))
        yield File(path=f"{folder}/RECORD", source=text.getvalue().encode())

    def _place(self, entry: Entry) -> tuple[str, str]:
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
            raise BadWheelError(f"{entry.path} belongs nowhere")
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

    def _script(self, entry: Entry, path: str) -> File:
        with self._wheel.open(entry) as file:
            first = file.read(8)
            if first == b"#!python":
                _, _, body = (first + file.read()).partition(b"\n")
                text = f"#!{PLACEHOLDER}/bin/python\n".encode() + body
                return File(path=path, source=text, executable=True, placeholder=PLACEHOLDER)
        self._hashes[path] = entry
        return File(path=path, source=_opener(self._wheel, entry), size=entry.size, executable=True)

    def _from_site(self, path: str) -> str:
        if path.startswith(f"{self._site}/"):
            return path.removeprefix(f"{self._site}/")
        return "../../../" + (f"bin{path.removeprefix(self._bin)}" if path.startswith(f"{self._bin}/") else path)

    def _promise(self, path: str) -> tuple[str, str]:
        # Files that the installer writes or changes have no hash: pip does the same for .pyc files.
        if entry := self._hashes.get(path):
            digest = base64.urlsafe_b64encode(entry.digest).rstrip(b"=").decode()
            return f"{entry.algorithm}={digest}", str(entry.size)
        return "", ""


def _opener(wheel: Wheel, entry: Entry) -> Callable[[], io.BufferedIOBase]:
    return lambda: wheel.open(entry)
