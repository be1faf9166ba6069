"""Who uses a release, as far as this host and this user can tell: processes, kernels, venvs, views on top of it.

What runs on other hosts, and what other users keep in their own folders, nobody sees: for that there is the time for
which `gc` keeps what was built, or was the default, lately.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlviews import jupyter
from mlviews.errors import MlviewsError, RefusedError
from mlviews.files.reading import content, owner
from mlviews.site.file import other_roots
from mlviews.store.disk import ReleaseEntry, Store


@dataclass(frozen=True, slots=True)
class ReleaseUse:
    """Something that stops working when a release goes.

    Attributes:
        view: whose release it is.
        release: the release; ``default`` for what follows it.
        name: which: a process by number, program and owner; a kernel or venv by its folder; a view as VIEW/RELEASE.
    """

    view: str
    release: str
    kind: Literal["process", "kernel", "venv", "view"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def release_uses(store: Store, entries: Mapping[str, Sequence[ReleaseEntry]]) -> tuple[ReleaseUse, ...]:
    """Return what uses releases of a store.

    Looked at are the processes of this host that the system shows to this user (their programs and mapped files);
    kernels in the places where Jupyter and SWAN look, whoever made them; venvs (PEP 405) in the current folder, the
    home folder, ``WORKON_HOME`` and ``VIRTUAL_ENV``; and views that extend one, in the roots of all sites known here.

    Args:
        entries: what there is of each view there.
    """
    found = (*_processes(store), *_kernels(store), *_venvs(store), *_views(store, entries), *_views_elsewhere(store))
    return tuple(dict.fromkeys(found))


def uses_of(uses: Iterable[ReleaseUse], view: str, release: str) -> tuple[ReleaseUse, ...]:
    """Return those of one release."""
    return tuple(use for use in uses if (use.view, use.release) == (view, release))


def refuse_used(uses: Sequence[ReleaseUse], what: str) -> None:
    """Refuse to take away what is used.

    Args:
        what: its name, for the message.

    Raises:
        RefusedError: it is used; its faults say by whom.
    """
    if uses:
        raise RefusedError(
            "release-in-use",
            f"{what} is in use",
            "End or move these first. `--force` removes it all the same.",
            faults=tuple(map(str, uses)),
        )


def _release_of(store: Store, path: str) -> tuple[str, str] | None:
    """Return the view and release that a path lies in, which may be ``default``; None for all other paths."""
    for base in {store.root, store.prefix, Path(os.path.realpath(store.root))}:
        inside = path.removeprefix(f"{base}/envs/")
        if inside != path:
            view, _, rest = inside.partition("/")
            release, below, _ = rest.partition("/")
            return (view, release) if below else None
    return None


_MAPPED = re.compile(rb"^\S+ \S+ \S+ \S+ \S+ +(/.*)$", re.MULTILINE)


def _processes(store: Store) -> Iterator[ReleaseUse]:
    for process in Path("/proc").glob("[0-9]*"):
        paths: set[str] = set()
        with suppress(OSError):  # it ended, or is another user's
            paths.add(os.readlink(process / "exe"))  # noqa: PTH115  (as the kernel writes it)
        with suppress(OSError):
            paths.update(map(os.fsdecode, _MAPPED.findall((process / "maps").read_bytes())))
        releases = {there for path in paths if (there := _release_of(store, path))}
        for view, release in sorted(releases):
            with suppress(OSError):
                program = (process / "comm").read_bytes().decode(errors="replace").strip()
                yield ReleaseUse(view, release, "process", f"{process.name} ({program}, of {owner(process)})")


def _kernels(store: Store) -> Iterator[ReleaseUse]:
    for folder in dict.fromkeys(place.folder for place in jupyter.places()):
        if Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(store.root)):
            continue  # the store's own, which follow what becomes of the release
        for kernel, program in jupyter.programs_in(folder):
            # A program of a release is that release's, even where it is a venv's too: that of a view on top is.
            ways = (str(program), os.path.realpath(program), _base_of_venv(program.parent.parent) or "")
            if there := next(filter(None, (_release_of(store, way) for way in ways)), None):
                yield ReleaseUse(*there, "kernel", str(kernel))


def _venvs(store: Store) -> Iterator[ReleaseUse]:
    for folder in dict.fromkeys(_venv_folders()):
        base = None if folder.is_relative_to(store.root) else _base_of_venv(folder)
        if base and (there := _release_of(store, base)):
            yield ReleaseUse(*there, "venv", str(folder))


def _venv_folders() -> Iterator[Path]:
    if active := os.environ.get("VIRTUAL_ENV"):
        yield Path(active)
    with suppress(RuntimeError, OSError):
        home = Path.home()
        for above in (Path.cwd(), home, Path(os.environ.get("WORKON_HOME") or home / ".virtualenvs")):
            yield above
            with suppress(OSError, MlviewsError):
                yield from (Path(entry.path) for entry in os.scandir(above) if entry.is_dir())


def _base_of_venv(folder: Path) -> str | None:
    """Return the real path of the folder of the Python that a venv is made from; None where there is no venv."""
    with suppress(MlviewsError):
        settings = (content(folder / "pyvenv.cfg", most=1 << 16) or b"").decode(errors="replace")
        if home := re.search(r"^home *= *(/.*?)\s*$", settings, re.MULTILINE):
            return os.path.realpath(home[1])
    return None


def _views(store: Store, entries: Mapping[str, Sequence[ReleaseEntry]], where: str = "") -> Iterator[ReleaseUse]:
    releases = (release for found in entries.values() for entry in found for release in entry.platforms.values())
    for release in releases:
        if release.base and (there := _release_of(store, release.base.prefix)):
            yield ReleaseUse(*there, "view", f"{release.label}{where}")


def _views_elsewhere(store: Store) -> Iterator[ReleaseUse]:
    for _, root in other_roots(store.root):
        with suppress(MlviewsError):  # what cannot be read there is told to those who use that site
            yield from _views(store, Store(root, root).all_entries(), f" in {root}")
