"""Records -> what is known of each GPU that a view claims: proved, failed, or claimed and unproved."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlviews.results.checks import GpuLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlviews.smoke.records import Record

__all__ = ["proved_gpus"]


def proved_gpus(claimed: Sequence[str], records: Iterable[Record]) -> tuple[GpuLine, ...]:
    """Return every GPU that a view claims, in the recipe's order, then others that it was tested on.

    A GPU is proved if checks passed on it and none failed, in the last record that has work done on that GPU: a driver
    that was mended counts, and so does one that was broken.

    Args:
        claimed: the recipe's ``hardware.gpus``.
        records: of one lock, oldest first.
    """
    tested = {line.gpu: line for record in records for line in _tested(record, claimed)}
    untested = {gpu: GpuLine(gpu=gpu, status="unproved") for gpu in claimed}
    return tuple((untested | tested).values())


def _tested(record: Record, claimed: Sequence[str]) -> Iterable[GpuLine]:
    for device in dict.fromkeys(check.device for check in record.checks if check.device not in {"", "cpu"}):
        done = [check for check in record.checks if check.device == device]
        failed = [check.name for check in done if check.status == "fail"]
        yield GpuLine(
            gpu=_product(device, claimed),
            status="failed" if failed else "proved",
            device=device,
            driver=next((check.driver for check in done if check.driver), ""),
            checked=record.created.isoformat(timespec="seconds"),
            passed=[check.name for check in done if check.status == "pass"],
            failed=failed,
        )


def _product(device: str, claimed: Sequence[str]) -> str:
    """Return the claimed name that a driver's name for a GPU holds as a word, such as A100 in A100-SXM4-40GB."""
    words = re.split(r"[^A-Za-z0-9]+", device)
    return next((gpu for gpu in claimed if gpu in words), device)
