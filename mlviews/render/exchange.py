"""A lock, and what a release holds, in the formats by which other tools take packages over: pixi, conda, pip."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mlviews.errors import RefusedError
from mlviews.hardware import PLATFORMS
from mlviews.lock.lockfile import Lock, in_order
from mlviews.lock.writer import lock_text
from mlviews.wheels.made import file_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def render_explicit(
    lock: Lock, platform: str, *, strong: bool = False, mirrors: Mapping[str, str] | None = None
) -> str:
    """Return the packages that a lock holds for a platform, what each depends on before it.

    Each is an archive's URL and its MD5, the one hash that all readers know: conda, mamba and pixi install them without
    solving. See "Building identical conda environments" in conda's user guide, and CEP 23.

    Args:
        strong: give the sha256 instead, as ``#sha256:...``, which micromamba reads from 1.0 on, and conda from 24.9.
        mirrors: URL of a channel -> URL that it is fetched from.

    Raises:
        RefusedError: it holds wheels, which no such list can name.
    """
    if wheels := [package.name for package in lock.on(platform) if package.manager == "pip"]:
        raise RefusedError(
            "explicit-wheels",
            f"the lock of {lock.view} names wheels ({', '.join(wheels)}); such a list can only name conda packages",
            "Give the lock file to `conda-lock install`, or make an image: `mlviews container build`.",
        )
    lines = [f"# view {lock.view}, lock {lock.digest}", f"# platform: {platform}", "@EXPLICIT"]
    packages = {package.name: package for package in lock.on(platform)}
    for package in map(packages.__getitem__, in_order(packages.values())):
        digest = f"sha256:{package.sha256}" if strong else package.md5
        lines.append(f"{_at(package.url, mirrors or {})}#{digest}")
    return "\n".join([*lines, ""])


def _at(url: str, mirrors: Mapping[str, str]) -> str:
    for channel, mirror in mirrors.items():
        if url.startswith(f"{channel.rstrip('/')}/"):
            return mirror.rstrip("/") + url.removeprefix(channel.rstrip("/"))
    return url


def render_pixi(lock: Lock) -> str:
    """Return a lock as ``pixi.lock``, version 7, for all its platforms; rattler writes it, as pixi does."""
    from rattler import LockFile  # noqa: PLC0415  (takes time to import)

    with tempfile.TemporaryDirectory() as folder:
        # Both names tell rattler the format.
        given, made = Path(folder) / "conda-lock.yml", Path(folder) / "pixi.lock"
        given.write_text(lock_text(lock), encoding="utf-8")
        LockFile.from_path(given).to_path(made)
        return made.read_text(encoding="utf-8")


def render_environment(lock: Lock, platform: str) -> str:
    """Return a lock as ``environment.yml``: every package by version and build, wheels by version, no hashes.

    See https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html.
    """
    import yaml  # noqa: PLC0415  (takes time to import)

    packages = lock.on(platform)
    dependencies: list[object] = [f"{p.name}={p.version}={p.build}" for p in packages if p.manager == "conda"]
    if wheels := [f"{p.name}=={p.version}" for p in packages if p.manager == "pip"]:
        # conda wants pip where it is to install wheels.
        dependencies += [*([] if any(p.name == "pip" for p in packages) else ["pip"]), {"pip": wheels}]
    content = {"name": lock.view, "channels": [*lock.inputs["channels"], "nodefaults"], "dependencies": dependencies}
    return f"# view {lock.view}, lock {lock.digest}, {platform}\n" + str(yaml.safe_dump(content, sort_keys=False))


def render_pylock(lock: Lock, platform: str) -> str:
    """Return the wheels of a lock as ``pylock.toml`` (PEP 751, version 1.0): by URL and sha256, for one environment.

    The format has no place for conda's packages, which are left out: it goes on top of an environment that has them.
    Of what is built here it names the sources.

    Raises:
        RefusedError: the lock holds no wheel.
    """
    packages = [package for package in lock.on(platform) if package.manager == "pip"]
    if not packages:
        raise RefusedError(
            "pylock-no-wheels",
            f"the lock of {lock.view} names no wheel that pylock.toml could hold: all its packages are conda packages, "
            "and a site of wheels, such as pypi, makes its wheels into such packages",
            f"`mlviews render {lock.view} constraints` writes the versions for `pip install -c`; "
            f"`mlviews render {lock.view} explicit` lists the conda packages.",
        )
    minor = ".".join(lock.python(platform)[0].split(".")[:2])
    machine = f"platform_machine == '{PLATFORMS[platform]}'"
    place = f"sys_platform == 'linux' and {machine} and implementation_name == 'cpython'"
    lines = [
        f"# The wheels of view {lock.view}, lock {lock.digest}, {platform}",
        'lock-version = "1.0"',
        f"environments = [{_toml(place)}]",
        f"requires-python = {_toml(f'=={minor}.*')}",
        'created-by = "mlviews"',
    ]
    for package in packages:
        table = "[packages.sdist]" if package.made else "[[packages.wheels]]"
        lines += ["", "[[packages]]", f"name = {_toml(package.name)}", f"version = {_toml(package.version)}", table]
        lines += [f"name = {_toml(file_of(package.url))}", f"url = {_toml(package.url)}"]
        lines.append(f"hashes = {{sha256 = {_toml(package.sha256)}}}")
    return "\n".join([*lines, ""])


def _toml(text: str) -> str:
    """Return a TOML string: JSON's strings are some, unless they hold DEL, which no lock does."""
    return json.dumps(text, ensure_ascii=False)


def render_constraints(view: str, prefixes: Iterable[Path]) -> str:
    """Return the Python packages of a release as constraints for ``pip install -c``.

    So what pip puts on top leaves the view's versions as they are, or is refused. Builds (``+cpu``) are left out: pip
    takes any of the version.

    Args:
        prefixes: where packages lie; what stands in an earlier one goes before a later one's.
    """
    found: dict[str, str] = {}
    for prefix in prefixes:
        for each in distributions(path=[str(path) for path in sorted(prefix.glob("lib/python3*/site-packages"))]):
            try:
                found.setdefault(canonicalize_name(each.metadata["Name"]), Version(each.version).public)
            except (InvalidVersion, TypeError, KeyError):
                continue  # pip could not read it either
    lines = [f"# what view {view} holds: pip install -c FILE PACKAGE"]
    return "\n".join([*lines, *(f"{name}=={version}" for name, version in sorted(found.items())), ""])
