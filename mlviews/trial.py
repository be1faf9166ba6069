"""A lock, tried out: installed into a folder of its own, checked with its own Python, and thrown away.

The folder goes however the process that made it ends.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.errors import FailedError, RefusedError
from mlviews.files.filelock import LOCK, HeldError, hold
from mlviews.files.permissions import check_file_system
from mlviews.files.writing import is_folder, walk, write_failure
from mlviews.hardware import host_platform
from mlviews.prefix.assemble import assemble
from mlviews.prefix.install import Prefix
from mlviews.progress import silent
from mlviews.smoke.release import release_target
from mlviews.smoke.runner import choose, run_checks
from mlviews.values import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlviews.lock.lockfile import Lock
    from mlviews.release import Release
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec
    from mlviews.smoke.process import Limits
    from mlviews.smoke.programs import Level
    from mlviews.smoke.report import CheckLine


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """Make a folder under a site's root, where prefixes share files with its cache; it goes when the context ends.

    What processes that were killed have left there goes first: a folder in use is locked, and locks die with their
    process.

    Raises:
        FailedError: it cannot be made, or the file system has no locks or cannot hold packages.
    """
    base = root / "nightly" / ".scratch"
    check_file_system(base)
    for left in base.iterdir():
        with suppress(HeldError, FailedError), hold(left / LOCK, waiting=None):
            shutil.rmtree(left, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(dir=base))
    except OSError as error:
        raise write_failure(f"a folder in {base} cannot be made", error) from error
    try:
        # Until it is locked, another process may take it for one that was left: this waits, and makes it anew.
        with hold(folder / LOCK, waiting=nullcontext):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob:
    """Everything that a trial reads; it can be pickled and sent to another machine that sees the same folders.

    Attributes:
        site: its cache is where packages are unpacked, once for all trials.
        scratch: where the prefix is made; on the cache's file system it shares files with it.
        checks: names of checks, see `mlviews.smoke.programs`.
        limits: what each check may take; the usual where None.
    """

    site_spec: SiteSpec
    lock: Lock
    site: Site
    scratch: Path
    checks: tuple[str, ...]
    level: Level = "quick"
    limits: Limits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of it.

    Attributes:
        digest: of the lock.
        platform: this host's.
        problem: why it could not be installed or tested; then there are no checks.
        checks: what they found, in the job's order.
        install_seconds: from the lock to a prefix that can be loaded.
        check_seconds: all checks together.
        bytes: of the installed files.
    """

    digest: str
    platform: str
    problem: Problem | None = None
    checks: tuple[CheckLine, ...] = ()
    install_seconds: float = 0.0
    check_seconds: float = 0.0
    bytes: int = 0


def try_lock(job: TrialJob) -> Trial:
    """Install a lock for this host's platform, run checks, remove the prefix, and say what was found.

    Nothing but an interrupt is raised: whatever goes wrong is the trial's result.

    Raises:
        KeyboardInterrupt: Ctrl-C; the prefix is removed all the same.
    """
    prefix: Path | None = None
    start = time.monotonic()
    try:
        _refuse_other_platforms(job.lock)
        prefix = Path(tempfile.mkdtemp(dir=job.scratch))
        release = assemble(
            job.lock,
            job.site_spec,
            job.site,
            Prefix.in_place(prefix, host_platform()),
            name="trial",
            progress=silent,
        ).release
        return _test(job, prefix, release, time.monotonic() - start)
    except Exception as error:  # noqa: BLE001  (the result of one trial among many)
        seconds, found = round(time.monotonic() - start, 3), Problem.of(error)
        return Trial(
            digest=job.lock.digest,
            platform=host_platform(),
            problem=replace(found, message=_anywhere(found.message, prefix)),
            install_seconds=seconds,
        )
    finally:
        if prefix:
            shutil.rmtree(prefix, ignore_errors=True)


def _anywhere(text: str, prefix: Path | None) -> str:
    """Return what was found without the prefix, which is gone by then and another one every time."""
    return text.replace(str(prefix), "$PREFIX") if prefix else text


def _refuse_other_platforms(lock: Lock) -> None:
    if host_platform() not in lock.platforms:
        raise RefusedError(
            "platform-missing",
            f"the lock of {lock.view} is for {', '.join(lock.platforms)}; this host is {host_platform()}",
            "Run it on a host of that platform.",
        )


def _test(job: TrialJob, prefix: Path, release: Release, seconds: float) -> Trial:
    size = sum(
        status.st_size for _, status in walk(prefix) if not is_folder(status)
    )  # before the checks, which may leave files behind
    plan = choose(job.checks, job.level, named=True, own=job.site_spec.spec.own_checks)
    start = time.monotonic()
    target = release_target(prefix, release)
    checks = run_checks(target, plan, level=job.level, limits=job.limits)
    return Trial(
        digest=job.lock.digest,
        platform=release.platform,
        checks=tuple(check.model_copy(update={"reason": _anywhere(check.reason, prefix)}) for check in checks),
        install_seconds=round(seconds, 3),
        check_seconds=round(time.monotonic() - start, 3),
        bytes=size,
    )
