"""What a site demands before a release becomes the default, and which records it lacks: a pure rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.errors import RefusedError
from mlviews.smoke.programs import BASIC, PROGRAMS
from mlviews.smoke.records import Record, by_last_text, last_results, product
from mlviews.smoke.report import NO_GPU

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from datetime import datetime

    from mlviews.release import Release
    from mlviews.site.model import Promotion


def missing_proofs(release: Release, records: Sequence[Record], demands: Promotion, now: datetime) -> tuple[str, ...]:
    """Return what no record proves, a line each; nothing where the site's demands are met.

    The first checks must have passed on some host; on each GPU that is demanded, every check with work for a GPU that
    any record of the lock names: a run of a single check proves little.

    Args:
        records: of its lock, oldest first, whatever their age.
        now: the moment that ages are counted back from.
    """
    if not release.has_python:
        return ()
    records = by_last_text(records)
    counting = [
        record for record in records if record.level in {"full", demands.level} and now - record.created <= demands.age
    ]
    asked = [line for record in records for line in record.checks]
    gpus = {line.name for line in asked if line.digest and line.on_gpu}
    wanted = sorted(gpus | {line.name for line in asked if line.name in PROGRAMS and PROGRAMS[line.name].gpu})
    kind = "full record" if demands.level == "full" else "record"
    devices = {line.device for line in asked}
    found = [_missing("any host", kind, BASIC, last_results(_by(counting, NO_GPU)))]
    for gpu in (gpu for gpu in demands.gpus if gpu in release.gpus):
        results = last_results(_by(counting, {device for device in devices if product(device, release.gpus) == gpu}))
        found += [_missing(gpu, kind, wanted or ("a check with work for a GPU",), results)]
    return tuple(line for line in found if line)


def _by(records: Sequence[Record], devices: Container[str]) -> list[Record]:
    """Return what records say of some devices."""
    return [
        record.model_copy(update={"checks": tuple(line for line in record.checks if line.device in devices)})
        for record in records
    ]


def _missing(where: str, kind: str, wanted: Sequence[str], results: dict[str, bool]) -> str:
    failed = sorted(name for name, passed in results.items() if not passed)
    lacking = [name for name in wanted if name not in results]
    parts = [f"failed {', '.join(failed)}"] if failed else []
    parts += [f"no {kind} of {', '.join(lacking)}"] if lacking else []
    return f"{where}: {'; '.join(parts)}" if parts else ""


def refuse_unproved(name: str, missing: Sequence[str], demands: Promotion) -> None:
    """Refuse a release, ``VIEW/RELEASE``, that lacks proofs.

    Raises:
        RefusedError: ``unproved``: it lacks some; its faults say which, its hint how to prove it.
    """
    if missing:
        raise RefusedError(
            "unproved",
            f"{name} may not become the default: this site demands {in_words(demands)}",
            f"`mlviews smoke {name} --level {demands.level}` proves it on the host where it runs;"
            " `mlviews records gather FILE` takes in records of other hosts."
            " --override WHY promotes it without proof, and keeps the reason.",
            faults=tuple(missing),
        )


def in_words(demands: Promotion) -> str:
    """Return ``full checks on V100, A100, no older than 7d``."""
    gpus = f" on {', '.join(demands.gpus)}" if demands.gpus else ""
    age = f", no older than {demands.within}" if demands.within else ""
    return f"{demands.level} checks{gpus}{age}"
