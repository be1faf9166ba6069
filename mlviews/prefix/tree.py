"""A prefix, looked at once: what lies in it, and what its conda records say.

Who judges, lists or measures a prefix takes this value and looks at no file that it tells of. Every look costs a walk
through all files, and reading the records of hundreds of packages.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlviews.conda.records import CondaRecord, CondaRecordError, is_conda_record, parse_conda_record
from mlviews.errors import MlviewsError
from mlviews.files.reading import content
from mlviews.files.writing import walk


@dataclass(frozen=True, slots=True)
class RecordFile:
    """A file in ``conda-meta``, read once: whoever vouches for its bytes vouches for what it says.

    Attributes:
        sha256: of its bytes; empty where the disk does not give them.
        said: the record, or why there is none.
    """

    sha256: str
    said: CondaRecord | MlviewsError

    @property
    def record(self) -> CondaRecord:
        """The record."""
        if isinstance(self.said, MlviewsError):
            raise self.said
        return self.said


@dataclass(frozen=True, slots=True)
class Tree:
    """What lay in a prefix when somebody looked.

    Attributes:
        found: each file, link and folder by its path in the prefix, with what ``lstat`` says; not the prefix itself.
        records: the files in ``conda-meta`` among them, by their paths, sorted.
    """

    prefix: Path
    found: Mapping[str, os.stat_result]
    records: Mapping[str, RecordFile]


def read_tree(prefix: Path) -> Tree:
    """Look at a prefix."""
    found = dict(walk(prefix))
    names = sorted(filter(is_conda_record, found))
    return Tree(prefix, found, {name: _record_file(prefix / name, found[name]) for name in names})


def _record_file(file: Path, status: os.stat_result) -> RecordFile:
    sha256 = ""
    try:
        if not stat.S_ISREG(status.st_mode):  # of a pipe, the first byte may never come
            raise CondaRecordError(file)
        text = content(file) or b""
        sha256 = hashlib.sha256(text).hexdigest()
        return RecordFile(sha256, parse_conda_record(file, text))
    except MlviewsError as error:
        return RecordFile(sha256, error)
