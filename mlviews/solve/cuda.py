"""Which packages are built for CUDA."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rattler import RepoDataRecord

__all__ = ["CUDA_PACKAGES", "is_cuda_build"]

CUDA_PACKAGES = frozenset({"__cuda", "cuda-version", "cudatoolkit"})
"""What conda-forge ties every CUDA build to; the last one up to CUDA 11."""

_BUILD = re.compile(r"(^|_)cuda(\d|_|$)")


def is_cuda_build(record: RepoDataRecord) -> bool:
    """Tell whether a package is built for CUDA, by what it depends on or by conda-forge's build strings."""
    if _BUILD.search(str(record.build)) or record.name.normalized in CUDA_PACKAGES:
        return True
    return any(dependency.split(maxsplit=1)[0] in CUDA_PACKAGES for dependency in record.depends)
