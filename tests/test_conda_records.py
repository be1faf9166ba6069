"""Conda records: what they say, whoever wrote them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.conda.records import (
    CondaRecordError,
    RecordedPath,
    conda_record_path,
    is_conda_record,
    load_conda_record,
    read_conda_record,
    read_conda_records,
    write_conda_record,
)

PATHS = [
    {"_path": "lib/a", "path_type": "hardlink", "sha256": "1", "sha256_in_prefix": "2", "prefix_placeholder": "/x"},
    {"_path": "lib/b", "path_type": "hardlink", "sha256": "3"},
    {"_path": "lib/c", "path_type": "softlink", "sha256": "4", "sha256_in_prefix": "5"},
    {"_path": "lib/d", "path_type": "directory"},
    {"_path": "lib/e.pyc", "path_type": "pyc_file", "sha256": "6"},
]
RECORD = {
    "name": "a",
    "version": "1.0",
    "fn": "a-1.0-h0_0.conda",
    "sha256": "7",
    "license": "MIT",
    "new_in_2027": [1],
    "depends": ["b >=1", " ", "c"],
    "files": ["lib/a", "lib/b"],
    "paths_data": {"paths": PATHS},
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("prefix") / "conda-meta"
    folder.mkdir()
    return folder / "a-1.0-h0_0.json"


def test_what_a_record_says(file: Path) -> None:
    write_conda_record(file, RECORD)
    (record,) = read_conda_records(file.parents[1])

    assert (record.name, record.version, record.archive, record.license) == ("a", "1.0", "a-1.0-h0_0.conda", "MIT")
    assert (record.depends, record.files) == (("b", "c"), ("lib/a", "lib/b"))
    assert is_conda_record(conda_record_path(record.stem))
    assert (file.parents[1] / conda_record_path(record.stem)) == file
    assert record.paths == (
        RecordedPath("a-1.0-h0_0", "lib/a", "2"),
        RecordedPath("a-1.0-h0_0", "lib/b", "3", packed=True),
        RecordedPath("a-1.0-h0_0", "lib/c", "5", "link"),
        RecordedPath("a-1.0-h0_0", "lib/d", "", "folder"),
        RecordedPath("a-1.0-h0_0", "lib/e.pyc", "6"),
    )


def test_a_changed_record_keeps_the_keys_that_nobody_here_knows(file: Path) -> None:
    write_conda_record(file, RECORD)
    write_conda_record(file, load_conda_record(file) | {"url": "x"})

    assert json.loads(file.read_bytes()) == RECORD | {"url": "x"}


@given(key=st.sampled_from(sorted(RECORD)), value=ANYTHING)
def test_a_record_with_anything_in_it_is_read_or_refused(file: Path, key: str, value: Any) -> None:
    file.write_text(json.dumps({**RECORD, key: value}))
    with suppress(CondaRecordError):
        assert all(isinstance(path.path, str) for path in read_conda_record(file).paths)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"name": "a"}'])
def test_what_is_no_record_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(CondaRecordError, match=r"a-1\.0-h0_0\.json is not the record") as caught:
        read_conda_record(file)
    assert (caught.value.code, caught.value.exit_code) == ("conda-record-broken", 3)
