"""Making damaged files of a release anew: from archives that are checked, never from the cache's unpacked copies.

The packages in question are installed once more, into a folder of their own with a cache of its own, as if for the
release's place. What comes out right is moved into the release: a new file in one step, so that a running program keeps
what it has, and what shares the old file's bytes is not touched.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.conda.records import CondaRecordError, conda_record_path, is_conda_record, read_conda_record
from mlviews.errors import MlviewsError, RefusedError
from mlviews.files.permissions import decided, group_id, settle_one
from mlviews.files.reading import RELEASE_FILE, UnreadableError, content
from mlviews.files.storefile import parse
from mlviews.files.writing import delete_tree, make_folder, write_atomically, write_failure
from mlviews.lock.parse import parse_lock
from mlviews.lock.status import find_lock
from mlviews.prefix import usage
from mlviews.prefix.assemble import write_prefix_files
from mlviews.prefix.bytecode import compile_modules, module_of
from mlviews.prefix.clobbers import CLOBBERS
from mlviews.prefix.install import Prefix, install, restore
from mlviews.prefix.inventory import FILES, Inventory, expected_mode, read_tree, take
from mlviews.prefix.realize import realized
from mlviews.prefix.verify import Fault, VerifiedRelease, verify
from mlviews.progress import Progress, silent
from mlviews.release import RELEASE_LOCK, Release

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.lock.lockfile import Lock, LockedPackage
    from mlviews.site.profile import Site
    from mlviews.store.disk import Store

_ROUNDS = 4


def repair(
    store: Store, site: Site, release: Release, found: VerifiedRelease, *, progress: Progress = silent
) -> VerifiedRelease:
    """Repair one platform of a release, under its view's lock; return what is found then, with what was repaired.

    A damaged conda record is made anew first: only then is it known what is wrong with the files that it vouches for.

    Raises:
        RefusedError: neither the release nor the site has the lock that it was built from.
        FailedError: an archive cannot be had, or the disk failed; what was repaired until then stays.
    """
    prefix = store.folder_of(release)
    seen = set(found.faults)
    for _ in range(_ROUNDS):
        if not found.faults:
            break
        before = found
        texts, lock = _lock(site, release, prefix)
        with tempfile.TemporaryDirectory(dir=store.view_folder(release.view), prefix=".repair-") as scratch:
            fresh = Path(scratch) / "prefix"
            base = release.base.prefix if release.base else None
            packages = realized(lock, release.platform, cache=site.cache, base=base, progress=progress)
            _make(fresh, _packages(prefix, packages, found.faults), release, site, progress)
            _dress(fresh, release, texts, lost=_is_lost(found.faults))
            for fault in sorted(found.faults, key=lambda fault: fault.kind != "extra"):
                _mend(prefix, fresh, fault, group_id(site.group))
        found = verify(prefix, shared=site.group is not None, progress=progress)
        seen |= {*found.faults}
        if found == before:
            break
    usage.write(prefix, usage.measure(read_tree(prefix)))
    return replace(found, repaired=tuple(sorted(seen - {*found.faults})))


def _lock(site: Site, release: Release, prefix: Path) -> tuple[list[str], Lock]:
    """Return the lock, and the texts of it that the release may have had, likeliest first."""
    found = []
    for path in (prefix / RELEASE_LOCK, find_lock(release.view, site.lock_folders)):
        with suppress(OSError, ValueError, MlviewsError):
            if path:
                text = path.read_text(encoding="utf-8")
                found.append((text, parse_lock(text.encode(), str(path))))
    right = [(text, lock) for text, lock in found if lock.digest == release.lock_digest]
    if not right:
        raise RefusedError(
            "lock-lost",
            f"{prefix / RELEASE_LOCK} is damaged, and {site.lockfiles} has no such lock",
            f"Name the folder that has lock {release.lock_digest} with --lockfiles.",
        )
    known = _inventory(prefix)
    promised = known.files.get(RELEASE_LOCK) if known else None
    return sorted((text for text, _ in right), key=lambda text: _sha256(text) != promised), right[0][1]


def _dress(fresh: Path, release: Release, texts: Sequence[str], *, lost: bool) -> None:
    """Write what the release has besides its packages; with ``files.json`` where that is lost.

    Then nothing says which text the lock had, but that ``release.json`` vouches for what comes of the right one.
    """
    for text in texts:
        write_prefix_files(fresh, release, text)
        if not lost:
            return
        listed = take(read_tree(fresh)).text(indent=1)
        if _sha256(listed) == release.files:
            write_atomically(fresh / FILES, listed)
            return


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_lost(faults: Sequence[Fault]) -> bool:
    """Tell whether ``files.json`` is: a whole prefix made anew gives the same one."""
    return any(fault.path == FILES for fault in faults)


def _packages(prefix: Path, packages: Sequence[LockedPackage], faults: Sequence[Fault]) -> list[LockedPackage]:
    """Return what must be installed to have the damaged files again."""
    if _is_lost(faults):
        return [*packages]
    damaged = {fault.path for fault in faults}
    if os.path.lexists(prefix / CLOBBERS) or any(path.startswith(f"{CLOBBERS}/") for path in damaged):
        return [*packages]  # whose file lies where, only all of them together decide
    names = {fault.package for fault in faults} | {Path(path).stem for path in filter(is_conda_record, damaged)}
    wanted = [package for package in packages if package.stem in names]
    if not wanted and "conda-meta/history" in damaged:  # every install writes the same one
        wanted = [min(packages, key=lambda package: package.size)]
    if any(package.subdir == "noarch" or _is_compiled(prefix, package.stem, damaged) for package in wanted):
        # Where modules go, python decides, and it compiles them: it is needed with all that it runs on.
        python = _python(packages)
        wanted = [package for package in packages if package in wanted or package.name in python]
    return wanted


def _is_compiled(prefix: Path, stem: str, damaged: set[str]) -> bool:
    """Tell whether byte code was made of a package's modules, or may have been."""
    record = conda_record_path(stem)
    try:
        return record in damaged or any(map(module_of, read_conda_record(prefix / record).files))
    except CondaRecordError:
        return True


def _python(packages: Sequence[LockedPackage]) -> set[str]:
    """Return the names of python and of what it needs."""
    needs = {package.name: package.dependencies for package in packages}
    found, new = set[str](), {"python"} & needs.keys()
    while new:
        found |= new
        new = {needed for name in new for needed in needs[name]} & needs.keys() - found
    return found


def _make(fresh: Path, packages: list[LockedPackage], release: Release, site: Site, progress: Progress) -> None:
    make_folder(fresh)
    if not packages:
        return
    restore(packages, site, progress=progress)
    cache = fresh.with_name("cache")
    records = install(
        packages,
        Prefix(fresh, Path(release.prefix), release.platform),
        cache=cache,
        mirrors=site.mirrors,
        progress=progress,
    )
    compile_modules(fresh, records, platform=release.platform, cache=cache, progress=progress)


def _mend(prefix: Path, fresh: Path, fault: Fault, group: int | None) -> None:
    """Put one thing right; whether it is right now, `verify` tells."""
    path = prefix / fault.path
    try:
        if fault.kind == "extra":
            path.unlink(missing_ok=True)
        elif path.is_dir() and not path.is_symlink():
            _mend_folder(prefix, path, fault)
        elif fault.path != RELEASE_FILE and os.path.lexists(fresh / fault.path):
            _replace(fresh / fault.path, path, _mode(prefix, fault.path, fresh / fault.path))
        if os.path.lexists(path):
            settle_one(str(path), path.lstat(), group)
    except OSError as error:
        raise write_failure(f"{path} cannot be repaired", error) from error


def _mend_folder(prefix: Path, path: Path, fault: Fault) -> None:
    if fault.kind == "mode":
        path.chmod(_mode(prefix, fault.path, path))
    else:
        delete_tree(path)  # a file should be here


def _replace(source: Path, path: Path, mode: int) -> None:
    make_folder(path.parent)
    if not source.is_symlink():
        source.chmod(mode)
        descriptor = os.open(source, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    source.replace(path)


def _mode(prefix: Path, path: str, like: Path) -> int:
    known, status = _inventory(prefix), like.lstat()
    if known is None:
        return decided(status.st_mode)
    return expected_mode(known.mode_of, path, status)


def _inventory(prefix: Path) -> Inventory | None:
    with suppress(UnreadableError):
        return parse(Inventory, content(prefix / FILES) or b"", prefix / FILES)
    return None
