"""Finding a site's file and its root, without the time that reading all of it takes.

``mlviews run`` needs only the root, and starts a program: it must not wait for the whole profile to be checked.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlviews.errors import BadInputError, FailedError, MlviewsError
from mlviews.files.permissions import refuse_foreign
from mlviews.files.reading import content, is_file
from mlviews.files.writing import write_atomically

FALLBACK = "local"
"""The site where nobody names one."""

ROOT_SITE = "site.yaml"
"""In a root: its site's file, for whoever names the root and no site, as the module of the command does."""

SHIPPED_SITES = Path(__file__).resolve().parent / "profiles"


def user_sites() -> Path | None:
    """Return the folder of the user's own sites; None for a user without a home folder, as in some containers."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        return Path(config).expanduser() / "mlviews" / "sites"
    except RuntimeError:
        return None


def chosen_site() -> str | None:
    """Return the site that the user's ``config.yaml`` names; None where it names none.

    Raises:
        BadInputError: the file is faulty.
    """
    path = _config()
    text = content(path) if path else None
    if text is None:
        return None
    config = _plain(text)
    if not (isinstance(config, dict) and config.keys() <= {"site"} and isinstance(config.get("site", ""), str)):
        hint = f"It may hold one line, `site: NAME`: `mlviews use {FALLBACK}` writes it again."
        raise BadInputError("config-invalid", f"{path} is not what mlviews writes there", hint)
    return config.get("site")


def use_site(name: str) -> Path:
    """Make a site the one that is meant where neither ``--site`` nor ``MLVIEWS_SITE`` names one; return the file.

    Raises:
        BadInputError: the user has no home folder for it.
        FailedError: it cannot be written.
    """
    path = _config()
    if path is None:
        raise BadInputError("user-unknown", "the user has no home folder here", "Set MLVIEWS_SITE instead.")
    import yaml  # noqa: PLC0415

    try:
        write_atomically(path, yaml.safe_dump({"site": name}))
    except FailedError as error:
        raise FailedError(error.code, error.message, f"Without it, type `export MLVIEWS_SITE={name}`.") from error
    return path


def _config() -> Path | None:
    sites = user_sites()
    return sites.parent / "config.yaml" if sites else None


def site_files() -> tuple[Path, ...]:
    """Return the files of all sites, the user's own before the shipped ones."""
    return tuple(path for base in (user_sites(), SHIPPED_SITES) if base for path in sorted(base.glob("*.yaml")))


def is_path(name: str) -> bool:
    """Tell whether what stands for a site is the path of its file, and not its name."""
    return "/" in name and name.endswith(".yaml")


def absolute(name: str) -> str:
    """Return a site's name as it is, and the path of its file as it holds in any folder."""
    return os.path.abspath(os.path.expanduser(name)) if is_path(name) else name  # noqa: PTH100, PTH111  (never raise)


def site_path(name: str) -> Path | None:
    """Return a site's file, the user's own before the shipped one; None if there is none.

    Args:
        name: the site's name, or the path of its file.
    """
    if is_path(name):
        path = Path(absolute(name))
        return path if is_file(path) else None
    # Names are compared, never made into paths: they come from the command line.
    return next((path for path in site_files() if path.stem == name), None)


def root_site(root: Path) -> str | None:
    """Return the path of the site's file that lies in a root, which stands for the site's name; None without one.

    Raises:
        FailedError: somebody wrote it, or could, who may not decide for all.
    """
    path = root / ROOT_SITE
    if not is_file(path):
        return None
    refuse_foreign(root, [path])
    return str(path)


def expand(text: str) -> Path:
    """Return a path of a site file with ``~``, ``{user}`` and ``{initial}`` filled in.

    Raises:
        BadInputError: the user has no name or no home folder here, as in some containers.
    """
    try:
        if "{user}" in text or "{initial}" in text:
            user = getpass.getuser()
            text = text.replace("{user}", user).replace("{initial}", user[:1])
        return Path(text).expanduser()
    except (KeyError, OSError, ImportError, RuntimeError) as error:
        raise BadInputError(
            "user-unknown", f"{text}: the user has no name or no home folder here", "Name the folder with --root."
        ) from error


def quick_root(name: str) -> Path | None:
    """Return a site's root, or None where only `mlviews.site.profile.open_site` can tell, or can say what is wrong."""
    path = site_path(name)
    try:
        said = _plain(path.read_bytes()) if path else None
    except OSError:
        return None
    root = said.get("root") if isinstance(said, dict) else None
    return expand(root).absolute() if isinstance(root, str) and root else None


def other_roots(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the root of every other site that is known here; each root once.

    Args:
        root: the one that is none of them, by whatever path.
    """
    seen = {os.path.realpath(root)}
    for name in dict.fromkeys(path.stem for path in site_files()):
        with suppress(MlviewsError):  # of a site that is not for this user
            there = quick_root(name)
            if there and (real := os.path.realpath(there)) not in seen:
                seen.add(real)
                yield name, there


def _plain(text: bytes) -> Any:
    """Return what YAML says; None where it is none."""
    import yaml  # noqa: PLC0415  (where nothing is to be read, nobody waits for it)

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  (a safe loader)
    except (ValueError, RecursionError, yaml.YAMLError):
        return None
