"""Lock -> a prefix that can be loaded: installed, its activation captured, ``setup.sh`` and ``launch`` written.

`mlviews.newrelease` makes releases of it; a trial (`mlviews.trial`) throws it away again.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import mlviews
from mlviews.base import on_top
from mlviews.files.permissions import group_id, settle
from mlviews.files.writing import write_atomically
from mlviews.prefix.activation import capture
from mlviews.prefix.bytecode import compile_modules
from mlviews.prefix.catalogs import MARKER, catalogs_of
from mlviews.prefix.clobbers import find_clobbers, refuse_lost
from mlviews.prefix.install import Installed, Prefix, install, installed
from mlviews.prefix.linkscripts import carry_over, run_link_scripts
from mlviews.progress import Progress, silent
from mlviews.release import RELEASE_LOCK, Activation, Clobber, LinkScripts, Release, ReleasePackage
from mlviews.render.setup_script import prefix_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlviews.conda.records import CondaRecord
    from mlviews.lock.lockfile import Lock, LockedPackage
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec


@dataclass(frozen=True, slots=True)
class Assembled:
    """A prefix that can be loaded.

    Attributes:
        records: the conda records of its packages.
        compared: the moment at which all that it shares with the cache was compared; see `mlviews.prefix.verify`.
    """

    release: Release
    records: tuple[CondaRecord, ...]
    compared: int


def assemble(
    lock: Lock,
    site_spec: SiteSpec,
    site: Site,
    prefix: Prefix,
    *,
    name: str,
    lock_text: str | None = None,
    progress: Progress = silent,
) -> Assembled:
    """Install a lock into an empty prefix and write what loads it; only ``release.json`` is not there then.

    Args:
        prefix: for this host's platform, since scripts of the packages are run.
        lock_text: the lock's file, which a prefix that is kept holds; None for one that is not.

    Raises:
        RefusedError: a package that the recipe asks for lost a module or a program to another one.
    """
    base = site_spec.base.release.prefix if site_spec.base else None
    folder = prefix.folder
    with installed(lock, prefix, site=site, base=base, progress=progress) as found:
        scripts, records = _link_scripts(found, site_spec, site, prefix)
        records = compile_modules(folder, records, platform=prefix.platform, cache=site.cache, progress=progress)
    clobbers = find_clobbers(folder, records)
    refuse_lost(clobbers, site_spec.requested)
    release = _release(
        lock, site_spec, site, prefix, name=name, packages=found.packages, scripts=scripts, clobbers=clobbers
    )
    write_prefix_files(folder, release, lock_text)
    return Assembled(release, records, found.compared)


def _link_scripts(
    done: Installed, site_spec: SiteSpec, site: Site, prefix: Prefix
) -> tuple[LinkScripts, tuple[CondaRecord, ...]]:
    """Run the link scripts of the recipe; where programs of the prefix do not run, in a prefix beside it."""
    packages, named = done.packages, site_spec.spec.link_scripts
    if not named or prefix.baked == prefix.folder:
        found, records = run_link_scripts(prefix.folder, packages, done.records, named)
    else:
        with tempfile.TemporaryDirectory(dir=prefix.folder.parent, prefix=".link-") as scratch:
            beside = Prefix.in_place(Path(scratch) / "prefix", prefix.platform)
            there = install(packages, beside, cache=site.cache, mirrors=site.mirrors, group=site.group)
            found, _ = run_link_scripts(beside.folder, packages, there, named)
            records = carry_over(found, beside, prefix)
    if found.run:  # what a script made has the permissions that it liked
        settle(prefix.folder, group_id(site.group))
    return found, records


def _release(
    lock: Lock,
    site_spec: SiteSpec,
    site: Site,
    prefix: Prefix,
    *,
    name: str,
    packages: Sequence[LockedPackage],
    scripts: LinkScripts,
    clobbers: tuple[Clobber, ...],
) -> Release:
    spec = site_spec.spec
    base = site_spec.base
    held = tuple(ReleasePackage(name=one.name, version=one.version, build=one.build) for one in packages)
    return Release(
        mlviews=mlviews.__version__,
        view=spec.name,
        release=name,
        platform=prefix.platform,
        site=site.name,
        prefix=str(prefix.baked),
        lock_digest=lock.digest,
        created=datetime.now(timezone.utc).replace(microsecond=0),
        glibc=spec.hardware.glibc,
        cuda=spec.hardware.cuda,
        gpus=spec.hardware.gpus,
        requested=site_spec.requested,
        packages=held,
        replaced=base.replaced(held) if base else {},
        broken=base.broken(held) if base else {},
        link_scripts=scripts,
        clobbers=clobbers,
        activation=_activation(site_spec, prefix, packages, site),
        catalogs=catalogs_of(prefix.folder, prefix.baked),
        **site_spec.stated(),
    )


def _activation(site_spec: SiteSpec, prefix: Prefix, packages: Sequence[LockedPackage], site: Site) -> Activation:
    own = capture(prefix.folder, name=site_spec.spec.name, baked=prefix.baked)
    if any(package.name == "jupyter_server" for package in packages):
        # It finds the kernels of all views of its root: Jupyter looks below each of these folders for ``kernels``, see
        # https://docs.jupyter.org/en/stable/use/jupyter-directories.html#data-files.
        found = (str(site.prefix), *own.prepend.get("JUPYTER_PATH", ()))
        own = own.model_copy(update={"prepend": {**own.prepend, "JUPYTER_PATH": found}})
    base = site_spec.base
    return own if base is None else on_top(base.release.activation, own, base.release.prefix)


def write_prefix_files(prefix: Path, release: Release, lock_text: str | None) -> None:
    """Write what a release has besides its packages; the same release always gets the same.

    Args:
        lock_text: the lock's file that it was installed from; None for a prefix that will not be kept.
    """
    if lock_text is not None:
        write_atomically(prefix / RELEASE_LOCK, lock_text)
    for folder in release.catalogs:
        write_atomically(prefix / folder / MARKER, "")
    for path, file in prefix_files(release).items():
        write_atomically(prefix / path, file.text, executable=file.executable)
