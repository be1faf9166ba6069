"""What mlviews itself writes into a release's prefix, all of it made from the release alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from mlviews.render.setup_script import render_csh, render_fish, render_launch, render_setup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlviews.release import Release

__all__ = ["PrefixFile", "prefix_files"]


class PrefixFile(NamedTuple):
    """One file's content."""

    text: str
    executable: bool = False


def prefix_files(release: Release) -> Mapping[str, PrefixFile]:
    """Return the files that a release gets besides its packages and its lock, by their path below the prefix."""
    files = {
        "setup.sh": PrefixFile(render_setup(release)),
        "setup.csh": PrefixFile(render_csh(release)),
        "setup.fish": PrefixFile(render_fish(release)),
        "launch": PrefixFile(render_launch(release), executable=True),
        "conda-meta/frozen": PrefixFile(_frozen()),
    }
    if stdlib := _stdlib(release):
        files[f"{stdlib}/EXTERNALLY-MANAGED"] = PrefixFile(_externally_managed(release))
    return files


def _frozen() -> str:
    """Return CEP 22's file: conda and mamba then refuse to change the environment, and say this."""
    message = "A release of a view never changes; `mlviews new` starts a view of your own."
    return json.dumps({"message": message}) + "\n"


def _externally_managed(release: Release) -> str:
    """Return PEP 668's file: pip and uv then refuse to install here, and say this."""
    own = "python -m venv --system-site-packages MYENV && MYENV/bin/pip install PACKAGE"
    return f"[externally-managed]\nError=View {release.view} never changes; put your own on top of it: {own}\n"


def _stdlib(release: Release) -> str | None:
    """Return where the view's Python has its standard library; free-threaded builds bear a ``t``."""
    for package in release.packages:
        if package.name == "python":
            suffix = "t" if package.build.endswith("t") else ""
            return f"lib/python{'.'.join(package.version.split('.')[:2])}{suffix}"
    return None
