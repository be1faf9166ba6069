"""The metadata of an ONNX model, read and replaced without reading the model.

A model is one protobuf message (``ModelProto`` in onnx.proto3): fields one after another, of which ``metadata_props``
are pairs of texts. Its other fields are copied byte for byte, whatever they are. So neither onnx nor memory for the
weights is needed, and weights that lie in files beside it stay where they are. See
https://protobuf.dev/programming-guides/encoding/ and https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from mlviews.errors import BadInputError
from mlviews.files.writing import replacing, write_failure

_IR_VERSION, _GRAPH, _METADATA = 1, 7, 14  # fields of ModelProto; every model has the first two
_KEY, _VALUE = 1, 2  # fields of StringStringEntryProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; those of groups are no ONNX's
_LONGEST_VARINT = 10  # bytes
_CHUNK = 1 << 20


class _Field(NamedTuple):
    """A field of a message: its number, its type, and where it and its content lie in the file."""

    number: int
    kind: int
    start: int
    content: int
    end: int


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a model; of a key that stands there twice the last, as protobuf's readers do.

    Raises:
        OSError: it cannot be read.
        BadInputError: it is no ONNX model.
    """
    with path.open("rb") as file:
        return {key: value for _, (key, value) in _metadata(file, path)}


def replace_metadata(path: Path, values: Mapping[str, str]) -> None:
    """Give a model these metadata, in place of those that it has of these keys; all else stays byte for byte.

    The file is replaced as a whole; a link's target is.

    Raises:
        BadInputError: it is no ONNX model.
        FailedError: it cannot be written; what was there before is whole.
    """
    try:
        path = path.resolve(strict=True)
        with path.open("rb") as file, replacing(path) as part:
            left_out = [field for field, (key, _) in _metadata(file, path) if key in values]
            with part.open("wb") as new:
                _copy_without(file, new, left_out)
                for key, value in values.items():
                    new.write(_pair(key, value))
                new.flush()
                os.fsync(new.fileno())
            shutil.copymode(path, part)
    except OSError as error:
        raise write_failure(f"{path} cannot be written", error) from error


def _metadata(file: IO[bytes], path: Path) -> list[tuple[_Field, tuple[str, str]]]:
    """Return each pair of a model's metadata, and where it lies."""
    size = os.fstat(file.fileno()).st_size
    try:
        fields = list(_fields(file, 0, size))
        known = {(field.number, field.kind) for field in fields}
        if not {(_IR_VERSION, _VARINT), (_GRAPH, _BYTES)} <= known:
            raise ValueError("it has no graph")
        pairs = [field for field in fields if (field.number, field.kind) == (_METADATA, _BYTES)]
        return [(field, _read_pair(file, field)) for field in pairs]
    except ValueError as error:
        raise BadInputError(
            "onnx-invalid", f"{path} is not an ONNX model: {error}", "Name a model that onnx.checker accepts."
        ) from error


def _read_pair(file: IO[bytes], field: _Field) -> tuple[str, str]:
    texts = {_KEY: b"", _VALUE: b""}
    for inner in list(_fields(file, field.content, field.end)):
        if inner.number in texts and inner.kind == _BYTES:
            file.seek(inner.content)
            texts[inner.number] = file.read(inner.end - inner.content)
    return texts[_KEY].decode(), texts[_VALUE].decode()


def _fields(file: IO[bytes], start: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message between two places of a file.

    Raises:
        ValueError: there is no message.
    """
    while start < end:
        file.seek(start)
        tag = _varint(file)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            length = _varint(file)
            content = file.tell()
        elif kind == _VARINT:
            content, length = file.tell(), 0
            _varint(file)
            length = file.tell() - content
        elif kind in {_FIXED64, _FIXED32}:
            content, length = file.tell(), 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"at byte {start} there is no field")
        if not number or content + length > end:
            raise ValueError(f"the field at byte {start} is cut")
        yield _Field(number, kind, start, content, content + length)
        start = content + length


def _varint(file: IO[bytes]) -> int:
    value = 0
    for place in range(_LONGEST_VARINT):
        byte = file.read(1)
        if not byte:
            raise ValueError("it is cut")
        value |= (byte[0] & 0x7F) << 7 * place
        if byte[0] < 0x80:  # noqa: PLR2004  (the bit says that more follow)
            return value
    raise ValueError("a number has no end")


def _copy_without(file: IO[bytes], new: IO[bytes], left_out: list[_Field]) -> None:
    start = 0
    for field in left_out:
        _copy(file, new, start, field.start)
        start = field.end
    _copy(file, new, start, os.fstat(file.fileno()).st_size)


def _copy(file: IO[bytes], new: IO[bytes], start: int, end: int) -> None:
    file.seek(start)
    while start < end:
        chunk = file.read(min(_CHUNK, end - start))
        if not chunk:
            raise OSError("the file was cut while it was read")
        new.write(chunk)
        start += len(chunk)


def _pair(key: str, value: str) -> bytes:
    content = _text(_KEY, key) + _text(_VALUE, value)
    return _number(_METADATA << 3 | _BYTES) + _number(len(content)) + content


def _text(number: int, text: str) -> bytes:
    content = text.encode()
    return _number(number << 3 | _BYTES) + _number(len(content)) + content


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
