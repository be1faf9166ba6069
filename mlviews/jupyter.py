"""Jupyter's kernels of views: the kernelspec, and its places, where Jupyter and SWAN look.

See https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from mlviews.errors import FailedError, RefusedError
from mlviews.files import writing
from mlviews.files.reading import RELEASE_FILE, UnreadableError, content, is_file, is_folder_at, names_in, status
from mlviews.files.writing import write_atomically, write_failure
from mlviews.release import default_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlviews.release import Release

SPECIFICATION = "kernel.json"
"""The file that makes a folder a kernelspec."""

_START = ("-m", "ipykernel_launcher")

# SWAN's IPython profile loads the extension `swankernelenv` (swan-cern/jupyter-images, others/userconfig.sh), which
# takes SWAN's own folders out of sys.path. `launch` lets none in: there is nothing to take out, or to find it in.
_NO_EXTENSION = (
    "import runpy, sys, types; "
    "extension = sys.modules['swankernelenv'] = types.ModuleType('swankernelenv'); "
    "extension.load_ipython_extension = lambda shell: None; "
    "runpy.run_module('ipykernel_launcher', run_name='__main__', alter_sys=True)"
)
_START_IN_SWAN = ("-c", _NO_EXTENSION)


def kernel_name(release: Release, *, versioned: bool = True) -> str:
    """Return the name of the kernelspec's folder, which notebooks store.

    Args:
        versioned: whether a notebook keeps to this release, or follows the view's default.

    Raises:
        FailedError: ``kernel-name``: Jupyter knows no such name.
    """
    text = f"{release.view}-{release.release}" if versioned else release.view
    if not re.fullmatch(r"[A-Za-z0-9._-]+", text):
        raise FailedError(
            "kernel-name", f"No kernel can be named {text!r}.", "Use letters, digits, dots, dashes and underscores."
        )
    return text


def kernelspec(release: Release, *, versioned: bool, swan: bool = False) -> Mapping[str, str]:
    """Return the files of a kernelspec's folder, the one that makes it a kernelspec last.

    Arguments and errors are `render_kernel`'s.
    """
    logo = (writing.folder("templates") / "logo.svg").read_text(encoding="utf-8")
    return {"logo-svg.svg": logo, SPECIFICATION: render_kernel(release, versioned=versioned, swan=swan)}


def render_kernel(release: Release, *, versioned: bool = True, swan: bool = False, removed: bool = False) -> str:
    """Return ``kernel.json``; arguments as for `kernel_name`, and whether it is for SWAN or the release is removed.

    The kernel starts through the release's ``launch``: a session may carry a PYTHONHOME that a bare ``python`` does not
    survive, and servers put their own interpreter where the first word is ``python``. The kernel that follows the
    default reaches ``launch`` through the view's ``default`` link; the rest of it tells what the default was.

    Raises:
        RefusedError: the release holds no Python.
        FailedError: ``kernel-path``: Jupyter would replace a part of the path.
    """
    if not release.has_python:
        raise RefusedError(
            "kernel-missing",
            f"release {release.release} of {release.view} holds no Python, and a kernel needs it",
            "Ask for python and ipykernel in the recipe, or use the layer notebook.",
        )
    folder = PurePosixPath(release.prefix) if versioned else default_prefix(release.prefix)
    launch = str(folder / "launch")
    if re.search(r"\{\w+\}", launch):
        raise FailedError("kernel-path", f"Jupyter would replace the braces in {launch}.", "Use a root without braces.")
    label = f"{release.view} {release.release}{', removed' if removed else ''}" if versioned else release.view
    specification = {
        "argv": [launch, "python", *(_START_IN_SWAN if swan else _START), "-f", "{connection_file}"],
        "display_name": f"{label} (mlviews)",
        "language": "python",
        "metadata": {
            "debugger": True,
            **_encryption(release),
            "mlviews": {
                "view": release.view,
                "release": release.release,
                "follows": "release" if versioned else "default",
                "summary": release.summary,
                "lock": release.lock_digest,
            },
        },
    }
    return json.dumps(specification, indent=1, ensure_ascii=False) + "\n"


def _encryption(release: Release) -> Mapping[str, Any]:
    """Return what ipykernel says of itself since 7.3: a server may be told to start no kernel that does not say it."""
    found = re.match(r"(\d+)\.(\d+)", _ipykernel(release) or "")
    return {"supported_encryption": ["curve"]} if found and (int(found[1]), int(found[2])) >= (7, 3) else {}


_SWAN_FOLDER = "mlviews-swan"
_SYSTEM = (Path("/usr/local/share/jupyter"), Path("/usr/share/jupyter"))
_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of kernelspecs.

    Attributes:
        script: in the place for SWAN, the script that its form wants; it copies the kernels into a session.
    """

    kind: Literal["user", "prefix", "swan", "path"]
    folder: Path
    script: Path | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of a view.

    Attributes:
        name: what notebooks store.
        release: what it runs; for one that follows the default, what that was when it was added.
        lock: the release's lock digest.
        launch: what it starts.
        state: ``ok`` where that starts a release, ``removed`` where it says that the release was removed, ``gone``
            where nothing is there, or not the release that this one extends.
    """

    name: str
    view: str
    release: str
    follows: Literal["release", "default"]
    lock: str
    folder: Path
    launch: Path
    state: Literal["ok", "removed", "gone"]


def user_place() -> Place:
    """Return the user's own, as ``jupyter --paths`` has it.

    Raises:
        FailedError: nobody knows a home folder.
    """
    return Place("user", _user_data() / "kernels")


def prefix_place(prefix: Path) -> Place:
    """Return that of the environment which Jupyter is installed in."""
    return Place("prefix", prefix / "share/jupyter/kernels")


def swan_place() -> Place:
    """Return the one in the user's CERNBox, which every session of SWAN mounts; the home folder elsewhere.

    Raises:
        FailedError: nobody knows a home folder.
    """
    home = _home()
    eos = Path("/eos/user") / home.name[:1] / home.name
    given = os.environ.get("CERNBOX_HOME")
    folder = (Path(given) if given else eos if eos.is_dir() else home) / _SWAN_FOLDER
    return Place("swan", folder / "kernels", folder / "environment.sh")


def places() -> tuple[Place, ...]:
    """Return where Jupyter looks here, in its order, and the place for SWAN."""
    given = [Path(folder) / "kernels" for folder in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if folder]
    system = [folder / "kernels" for folder in _SYSTEM]
    own = own_places()
    before, after = ([place for place in own if (place.kind == "swan") == swan] for swan in (False, True))
    found = [*(Place("path", folder) for folder in given), *before, *(Place("path", folder) for folder in system)]
    return (*found, *after)


def own_places() -> tuple[Place, ...]:
    """Return the user's own place and the one for SWAN, as far as a home folder is known."""
    found = []
    for place in (user_place, swan_place):
        with suppress(FailedError):
            found.append(place())
    return tuple(found)


def add(place: Place, release: Release, *, versioned: bool) -> Path:
    """Put a release's kernel into a place; one that is there already is made anew.

    Args:
        versioned: whether it keeps to this release, or follows the view's default.

    Raises:
        RefusedError: the view has no ipykernel, or there is a kernel of that name which is not this view's.
        FailedError: the place cannot be written.
    """
    if not holds_ipykernel(release):
        raise RefusedError(
            "kernel-missing",
            f"release {release.release} of {release.view} holds no ipykernel, and a kernel needs it",
            "Ask for ipykernel in the recipe, or use the layer notebook.",
        )
    folder = place.folder / kernel_name(release, versioned=versioned)
    _check_own(folder, release.view)
    spec = kernelspec(release, versioned=versioned, swan=place.kind == "swan")
    files = {folder / name: text for name, text in spec.items()}
    if place.script:
        from mlviews.render import escape  # noqa: PLC0415  (templates: a build only asks what can be a kernel)

        files[place.script] = escape.render("swan.sh", "sh", {"kernels": str(place.folder)})
    try:
        for path, text in files.items():
            write_atomically(path, text)
    except FailedError as error:
        if error.code != "write-failed":
            raise
        hint = "Name a folder that you may write to: set JUPYTER_DATA_DIR, for Jupyter too, or give --prefix DIR."
        raise FailedError(error.code, error.message, hint) from error
    return folder


def holds_ipykernel(release: Release) -> bool:
    """Tell whether a release can start a kernel."""
    return _ipykernel(release) is not None


def _ipykernel(release: Release) -> str | None:
    """Return the version of a release's ipykernel: one on top of another has what that holds."""
    versions = [package.version for package in release.packages if package.name == "ipykernel"]
    records = names_in(Path(release.base.prefix) / "conda-meta") if release.base else ()
    versions += [name.split("-")[1] for name in records if name.startswith("ipykernel-")]
    return versions[0] if versions else None


def kernels_in(place: Place) -> tuple[Kernel, ...]:
    """Return the kernels of views in a place, by name; others are left out."""
    folders = (place.folder / name for name in names_in(place.folder))
    return tuple(kernel for kernel in map(_read, folders) if kernel)


def remove(place: Place, view: str, release: str | None) -> tuple[Kernel, ...]:
    """Take a view's kernels out of a place, and return them.

    The script for SWAN stays: a session whose form names one that is gone may not start.

    Args:
        release: only the one that keeps to this release, or with ``default`` the one that follows the default; None
            for all of them.

    Raises:
        RefusedError: there is none.
    """
    found = [kernel for kernel in kernels_in(place) if kernel.view == view and _is(kernel, release)]
    if not found:
        which = f"no kernel of {view}" + (f" for release {release}" if release else "")
        raise RefusedError("kernel-unknown", f"there is {which} in {place.folder}", "`mlviews kernel list` shows them.")
    return _delete(found)


def remove_below(place: Place, folder: Path) -> tuple[Kernel, ...]:
    """Take out of a place the kernels that start what lies below a folder, and return them."""
    return _delete(kernels_below(place, folder))


def kernels_below(place: Place, folder: Path) -> tuple[Kernel, ...]:
    """Return the kernels in a place that start what lies below a folder."""
    return tuple(kernel for kernel in kernels_in(place) if kernel.launch.is_relative_to(folder))


def programs_in(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each kernel in a folder of kernelspecs, whoever made it, and the program that starts it.

    What cannot be read is left out, as it is no kernel that could start.
    """
    with suppress(UnreadableError):
        for kernel in (folder / name for name in names_in(folder)):
            with suppress(UnreadableError, ValueError, RecursionError, LookupError, TypeError):
                yield kernel, Path(_specification(kernel)["argv"][0])


def _delete(kernels: Sequence[Kernel]) -> tuple[Kernel, ...]:
    for kernel in kernels:
        try:
            (kernel.folder / SPECIFICATION).unlink()  # first: a folder without it is no kernel
            shutil.rmtree(kernel.folder)
        except OSError as error:
            raise write_failure(f"{kernel.folder} cannot be deleted", error) from error
    return tuple(kernels)


def _is(kernel: Kernel, release: str | None) -> bool:
    if release in {None, "default"}:
        return release is None or kernel.follows == "default"
    return (kernel.follows, kernel.release) == ("release", release)


def _check_own(folder: Path, view: str) -> None:
    if status(folder) is None:
        return
    there = _read(folder)
    if there is None or there.view != view:
        whose = f"of view {there.view}" if there else "that mlviews did not make"
        raise RefusedError(
            "kernel-foreign",
            f"{folder} holds a kernel {whose}; it stays",
            "Remove it yourself if nobody needs it: `jupyter kernelspec remove`.",
        )


def _read(folder: Path) -> Kernel | None:
    """Return the kernel of a view that a folder holds; None for anything else, which anyone may have put there."""
    if not is_folder_at(folder) or not is_file(folder / SPECIFICATION):
        return None
    try:
        stated = _specification(folder)
        own = stated["metadata"]["mlviews"]
        view, release, lock = (str(own[key]) for key in ("view", "release", "lock"))
        launch = Path(str(stated["argv"][0]))
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    follows: Literal["release", "default"] = "release" if own.get("follows") == "release" else "default"
    return Kernel(folder.name, view, release, follows, lock, folder, launch, _state(launch))


def _specification(folder: Path) -> Any:
    return json.loads(content(folder / SPECIFICATION, most=_LONGEST) or b"")


def _state(launch: Path) -> Literal["ok", "removed", "gone"]:
    release = launch.with_name(RELEASE_FILE)
    if not os.access(launch, os.X_OK):
        return "gone"
    if not os.access(release, os.F_OK):
        return "removed"
    base = _base(release)
    return "ok" if base is None or is_folder_at(base / "bin", follow=True) else "gone"


def _base(release: Path) -> Path | None:
    """Return the prefix of the release that one extends; None where it extends none, or does not say."""
    with suppress(UnreadableError, ValueError, RecursionError, LookupError, TypeError):
        return Path(json.loads(content(release) or b"")["base"]["prefix"])
    return None


def _user_data() -> Path:
    """Return Jupyter's folder of user data: docs.jupyter.org/en/stable/use/jupyter-directories.html."""
    if given := os.environ.get("JUPYTER_DATA_DIR"):
        return Path(given)
    if base := os.environ.get("XDG_DATA_HOME"):
        return Path(base) / "jupyter"
    return _home() / ".local/share/jupyter"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise FailedError("home-missing", "This user has no home folder.", "Set HOME, or --prefix.") from error
