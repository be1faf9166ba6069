"""A wheel with a requirement loosened: for sites where pip resolves, which knows no way around what a wheel says.

The wheel is the index's but for ``Requires-Dist`` in METADATA, RECORD, and the build number in its name, by which pip
takes it before the index's own. So what is installed says of itself what holds, and ``pip check`` agrees.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from email import message_from_bytes, policy
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename

from mlviews.files.writing import file_sha256
from mlviews.wheels.made import keep_made, making
from mlviews.wheels.pip import Found, fetch
from mlviews.wheels.wheel import Stated, Wheel, open_wheel, record_hash, record_text

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.progress import Advance

Overrides = Mapping[tuple[NormalizedName, NormalizedName], SpecifierSet]
"""(Project, project that requires it) -> the versions that serve."""

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can state: the same wheel gives the same bytes


def loosened(line: Requirement, of: str, overrides: Overrides) -> Requirement:
    """Return a requirement of a wheel with the versions that an override has for it.

    Args:
        of: the project that has it.
    """
    other = Requirement(str(line))
    other.specifier = overrides.get((canonicalize_name(line.name), canonicalize_name(of)), line.specifier)
    return other


def loosened_wheel(found: Found, overrides: Overrides, cache: Path, advance: Advance) -> Path:
    """Fetch a wheel, loosen what overrides name of it, and keep the outcome by its sha256.

    Args:
        cache: the folder whose ``made`` keeps it.

    Raises:
        FailedError: as `fetch`; or ``bad-wheel``.
    """
    with making(cache) as folder:
        (folder / "from").mkdir()
        fetch([found], folder / "from", advance)
        given = folder / "from" / found.file_name
        path = folder / _numbered(given.name)
        with open_wheel(given, found.sha256) as wheel:
            _write(wheel, path, overrides)
        return keep_made(path, file_sha256(path), cache)


def _numbered(name: str) -> str:
    _, _, build, _ = parse_wheel_filename(name)
    parts = name.split("-")
    return "-".join([*parts[:2], f"{build[0] + 1 if build else 1}loosened", *parts[-3:]])


def _write(wheel: Wheel, path: Path, overrides: Overrides) -> None:
    record: list[tuple[str, str, object]] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as packed:

        def put(name: str, content: bytes, mode: int) -> None:
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr, info.compress_type = (0o100000 | mode) << 16, zipfile.ZIP_DEFLATED
            packed.writestr(info, content)

        for entry in wheel.entries:
            with wheel.open(entry) as file:
                content = file.read()
            if entry.path == f"{wheel.dist_info}/METADATA":
                content = _metadata(content, wheel.said, overrides)
            put(entry.path, content, 0o755 if entry.executable else 0o644)
            record.append((entry.path, record_hash("sha256", hashlib.sha256(content).digest()), len(content)))
        own = f"{wheel.dist_info}/RECORD"
        put(own, record_text([*record, (own, "", "")]).encode(), 0o644)


def _metadata(text: bytes, said: Stated, overrides: Overrides) -> bytes:
    message = message_from_bytes(text)
    del message["Requires-Dist"]
    for line in said.requires:
        message["Requires-Dist"] = str(loosened(line, said.name, overrides))
    return message.as_bytes(policy=policy.compat32.clone(max_line_length=0))
