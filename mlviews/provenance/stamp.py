"""A result's stamp: which view's lock it was made with, written into an ONNX model or beside any other file.

A lock's digest names every package of a view to the last build, and it outlives releases, hosts and module trees. By it
`mlviews run --like FILE` finds a release of the same packages again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, ValidationError

from mlviews.errors import BadInputError, RefusedError
from mlviews.files.reading import DamagedError, content, is_file
from mlviews.files.storefile import StoreFile, parse
from mlviews.files.writing import file_sha256, write_atomically
from mlviews.provenance.onnxfile import read_metadata, replace_metadata
from mlviews.recipe.view import VIEW_NAME
from mlviews.release import LOCK_VARIABLE, Text

_BESIDE = ".mlviews.json"
_ONNX = ".onnx"
_KEYS = ("lock", "view", "release", "source")
_PREFIX = "mlviews."


class Stamp(StoreFile):
    """What a result was made with.

    Attributes:
        lock: the digest of the view's lock.
        view: the view; a lock is of one view.
        release: what the release of it was called where the result was made.
        source: where recipes and locks are kept, as the site says it; empty where it does not.
        sha256: of the file that the stamp lies beside; empty in a model.
    """

    lock: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    view: Annotated[str, StringConstraints(pattern=f"^{VIEW_NAME}$", max_length=100)]
    release: Text = ""
    source: Text = ""
    sha256: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = ""


@dataclass(frozen=True, slots=True)
class StampResult:
    """``mlviews stamp FILE``.

    Attributes:
        file: what was stamped.
        written: where the stamp is: in the file itself, or beside it.
        lock: the lock's digest.
        source: where recipes and locks are kept, as the site says it.
    """

    file: Path
    written: Path
    view: str
    release: str
    lock: str
    source: str


def stamp_of(environment: Mapping[str, str], *, source: str) -> Stamp:
    """Return the stamp of the view that is loaded.

    Args:
        environment: the variables that loading a view sets.
        source: where recipes and locks are kept.

    Raises:
        RefusedError: none is, or the environment does not say which lock it has.
    """
    hint = "Load the view that made it, or name it: --view VIEW/RELEASE."
    view, release = environment.get("MLVIEWS_VIEW", ""), environment.get("MLVIEWS_RELEASE", "")
    if not view:
        raise RefusedError("view-not-loaded", "no view is loaded here", hint)
    try:
        return Stamp(view=view, release=release, lock=environment.get(LOCK_VARIABLE, ""), source=source)
    except ValidationError as error:
        raise RefusedError(
            "view-not-loaded",
            f"the view that is loaded, {view}/{release}, does not say which lock it was made from",
            hint,
        ) from error


def write_stamp(file: Path, stamp: Stamp) -> Path:
    """Write a stamp into an ONNX model, or beside another file; return where it is. An older one goes.

    Raises:
        RefusedError: there is no such file.
        BadInputError: a file whose name ends with ``.onnx`` is no model.
        FailedError: it cannot be written; what was there before is whole.
    """
    _refuse_missing(file)
    if file.suffix == _ONNX:
        values = {key: value for key in _KEYS if (value := str(getattr(stamp, key)))}
        replace_metadata(file, {_PREFIX + key: value for key, value in values.items()})
        return file
    beside = _beside(file)
    write_atomically(beside, stamp.model_copy(update={"sha256": file_sha256(file)}).text())
    return beside


def read_stamp(file: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        RefusedError: there is no such file, it has none, or it has changed since it was stamped.
        BadInputError: what is there is no stamp.
        UnreadableError: it cannot be read, or a newer mlviews wrote it.
    """
    _refuse_missing(file)
    if file.suffix == _ONNX:
        told = {key.removeprefix(_PREFIX): value for key, value in read_metadata(file).items()
                if key.removeprefix(_PREFIX) in _KEYS and key.startswith(_PREFIX)}  # fmt: skip
        if "lock" not in told:
            raise _no_stamp(file)
        try:
            return Stamp.model_validate(told)
        except ValidationError as error:
            raise _damaged(file) from error
    text = content(_beside(file))
    if text is None:
        raise _no_stamp(file)
    try:
        stamp = parse(Stamp, text, _beside(file))
    except DamagedError as error:
        raise _damaged(_beside(file)) from error
    if stamp.sha256 != file_sha256(file):
        raise RefusedError(
            "stamp-stale",
            f"{file} has changed since it was stamped: {_beside(file).name} is for another content",
            "If that change is right, stamp it again: `mlviews stamp FILE`.",
        )
    return stamp


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}{_BESIDE}")


def _refuse_missing(file: Path) -> None:
    if not is_file(file):
        raise RefusedError("file-missing", f"there is no file {file}", "Name a model or a checkpoint.")


def _no_stamp(file: Path) -> RefusedError:
    hint = "Ask the person who made it to stamp it, with the view loaded: `mlviews stamp FILE`."
    return RefusedError("stamp-missing", f"{file} does not say which view's lock it was made with", hint)


def _damaged(file: Path) -> BadInputError:
    hint = "Ask the person who made it to stamp it again: `mlviews stamp FILE`."
    return BadInputError("stamp-invalid", f"the stamp of {file} was not written by mlviews", hint)
