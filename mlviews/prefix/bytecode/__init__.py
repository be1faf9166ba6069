"""Byte code beside the modules of a prefix, made once for each package and shared as its files are.

Python reads it without a look at the module (PEP 552, unchecked): a release never changes, may lie where nobody writes,
and its files' times may be lost on the way there. What is made stands in the packages' records, as conda notes it, so
that whatever reads those (verify, repair, sizes, layers of images) knows whose it is.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from mlviews.files import write_failure
from mlviews.hardware import host_platform
from mlviews.loop import run
from mlviews.prefix.bytecode.kept import Kept, keep, read_kept, scratch_on
from mlviews.prefix.bytecode.modules import Modules, note, read_modules
from mlviews.prefix.bytecode.work import compile_chunks
from mlviews.progress import silent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlviews.progress import Advance, Progress

__all__ = ["BYTECODE", "compile_modules"]

BYTECODE = "bytecode"
"""The cache's folder of byte code: in it one of each Python, in that one of each package."""


def compile_modules(prefix: Path, *, platform: str, cache: Path, progress: Progress = silent) -> None:
    """Put byte code beside the modules of an installed prefix that holds Python, and note it in the packages' records.

    A module that does not compile is left as it is, as are tests and files that bear the prefix. The same packages
    always get the same bytes.

    Args:
        prefix: the installed prefix.
        platform: its conda subdir; one that is not this host's gets nothing, since its Python cannot run here.
        cache: folder in which byte code is kept, and from which it is hard-linked after a check of every byte.
        progress: told of each module.

    Raises:
        FailedError: the prefix's Python cannot be run, or the disk failed.
        KeyboardInterrupt: Ctrl-C; what was kept until then is whole.
    """
    found = read_modules(prefix)
    python = next((modules for modules in found if modules.name == "python"), None)
    if python is None or platform != host_platform():
        return
    shelf = cache / BYTECODE / python.package
    # The standard library first: what compiles the others imports it.
    groups = [[python], [modules for modules in found if modules is not python]]
    with progress("Compiling", total=sum(len(modules.sources) for modules in found)) as advance:
        try:
            for group in groups:
                _compile([modules for modules in group if modules.sources], prefix, shelf, advance)
        except OSError as error:
            raise write_failure(f"byte code cannot be written to {shelf} or {prefix}", error) from error


def _compile(group: Sequence[Modules], prefix: Path, shelf: Path, advance: Advance) -> None:
    with ThreadPoolExecutor() as pool:
        there = dict(zip(group, pool.map(partial(read_kept, shelf), group), strict=True))
    missing = [modules for modules, kept in there.items() if kept is None]
    advance(sum(len(modules.sources) for modules, kept in there.items() if kept))
    if missing:
        with scratch_on(shelf) as scratch:
            run(compile_chunks(missing, prefix, scratch, advance))
            there |= {modules: keep(scratch, shelf, modules) for modules in missing}
    for modules, kept in there.items():
        assert kept
        _link(kept, prefix)
        note(modules, kept.files, kept.folder)


def _link(kept: Kept, prefix: Path) -> None:
    for folder in {os.path.dirname(path) for path in kept.files}:  # noqa: PTH120  (of thousands)
        (prefix / folder).mkdir(exist_ok=True)
    for path in kept.files:
        source, target = f"{kept.folder}/{path}", f"{prefix}/{path}"
        with suppress(FileNotFoundError):
            os.unlink(target)  # noqa: PTH108  (of an installation that was interrupted)
        try:
            os.link(source, target)
        except OSError:  # the cache lies on another file system, or on one without hard links
            shutil.copy(source, target)
