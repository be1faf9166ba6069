"""The one place where an event loop is run.

py-rattler hands its futures to a Rust runtime. Two things go wrong with a plain `asyncio.run`: a process that ends
right after the last awaited call can crash at exit (pyo3-async-runtimes#40), and Ctrl-C never reaches the awaiting
task.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_T = TypeVar("_T")
_SETTLE_SECONDS = 0.02  # lets the Rust side drop its last waker: no crash in 100 exits, 3 to 25 without


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run ``work`` to its end on a fresh event loop and return its result.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; ``work`` was cancelled first. What Rust had begun may still go on.
    """
    return asyncio.run(_supervised(work))


async def _supervised(work: Coroutine[Any, Any, _T]) -> _T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Signal handlers belong to the main thread; a library caller in another one handles signals itself.
    with suppress(ValueError, RuntimeError):
        for number in before:
            loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            if loop.remove_signal_handler(number):  # which leaves Python's own, not the caller's
                signal.signal(number, handler)
        await asyncio.sleep(_SETTLE_SECONDS)
