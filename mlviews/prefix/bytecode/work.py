"""Running the compiler: a process for each few modules, so many at a time as there are processors.

What compiles the same modules in the same order, with nothing of the caller's environment and one seed for hashes,
gives the same bytes. What a process compiled before can show in them: which constants are marked as shared.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.errors import FailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlviews.prefix.bytecode.modules import Modules
    from mlviews.progress import Advance

__all__ = ["compile_chunks"]

_CHUNK = 256  # modules a process: about a second, beside which a start of Python counts little
_PROGRAM = Path(__file__).with_name("program.py")
_SHOWN = 2000  # characters of what Python said
_HINT = "Run the same command again, and report it if it stays so: the view's Python could not compile its modules."


async def compile_chunks(wanted: Iterable[Modules], prefix: Path, scratch: Path, advance: Advance) -> None:
    """Compile modules into folders named as their packages.

    Args:
        wanted: the modules of some packages.
        prefix: where they and the Python lie.
        scratch: takes the folders.
        advance: told of each module.

    Raises:
        FailedError: Python cannot be run.
        OSError: the disk failed.
    """
    free = asyncio.Semaphore(len(os.sched_getaffinity(0)))
    chunks = [
        (modules.package, modules.sources[start : start + _CHUNK])
        for modules in wanted
        for start in range(0, len(modules.sources), _CHUNK)
    ]

    async def work(package: str, sources: Sequence[str]) -> None:
        async with free:
            await _compile(prefix, scratch / package, sources, advance)

    # The largest first, so that no one waits for it at the end.
    tasks = [asyncio.ensure_future(work(*chunk)) for chunk in sorted(chunks, key=lambda chunk: -len(chunk[1]))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _compile(prefix: Path, target: Path, sources: Sequence[str], advance: Advance) -> None:
    python = prefix / "bin/python"
    try:
        process = await asyncio.create_subprocess_exec(
            *(python, "-s", "-S", "-B", "-W", "ignore", _PROGRAM, prefix, target),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PYTHONHASHSEED": "0"},  # `-I` would have it ignored
            start_new_session=True,  # Ctrl-C is the caller's to handle
        )
    except OSError as error:
        raise FailedError("bytecode-failed", f"{python} cannot be run: {error.strerror}", _HINT) from error
    try:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"\0".join(map(os.fsencode, sources)))
        process.stdin.close()
        said = asyncio.ensure_future(process.stderr.read())
        async for _ in process.stdout:
            advance()
        _judge(await process.wait(), (await said).decode(errors="replace"), python)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _judge(code: int, said: str, python: Path) -> None:
    if code == os.EX_IOERR:
        number, _, path = said.partition(" ")
        raise OSError(int(number), os.strerror(int(number)), path)
    if code:
        raise FailedError("bytecode-failed", f"{python} ended with {code}: {said[-_SHOWN:]}".strip(), _HINT)
