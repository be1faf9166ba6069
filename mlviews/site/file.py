"""Finding a site's file and its root, without the time that reading all of it takes.

``mlviews run`` needs only the root, and starts a program: it must not wait for the whole profile to be checked.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import yaml

from mlviews.errors import BadInputError

__all__ = ["SHIPPED_SITES", "expand", "quick_root", "site_files", "site_path", "user_sites"]

SHIPPED_SITES = Path(__file__).resolve().parent / "profiles"
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def user_sites() -> Path | None:
    """Return the folder of the user's own sites; None for a user without a home folder, as in some containers."""
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        return Path(config).expanduser() / "mlviews" / "sites"
    except RuntimeError:
        return None


def site_files() -> tuple[Path, ...]:
    """Return the files of all sites, the user's own before the shipped ones."""
    return tuple(path for base in (user_sites(), SHIPPED_SITES) if base for path in sorted(base.glob("*.yaml")))


def site_path(name: str) -> Path | None:
    """Return a site's file, the user's own before the shipped one; None if there is none."""
    # Names are compared, never made into paths: they come from the command line.
    return next((path for path in site_files() if path.stem == name), None)


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
        root = yaml.load(path.read_bytes(), Loader=_Loader)["root"] if path else None  # noqa: S506  (a safe loader)
    except (OSError, ValueError, TypeError, KeyError, RecursionError, yaml.YAMLError):
        return None
    return expand(root).absolute() if isinstance(root, str) and root else None
