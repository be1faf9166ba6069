"""Compile modules with the Python that runs this: the prefix's own, which holds nothing of mlviews.

Reads paths in the prefix, with NUL between them; prints a line for each that is done. What does not compile is passed
over: templates, and modules for other versions of Python. Where the disk fails it says how, and ends with EX_IOERR.
"""

from __future__ import annotations

import os
import sys
from importlib.util import cache_from_source
from py_compile import PycInvalidationMode, PyCompileError
from py_compile import compile as compile_module


def main(prefix: str, target: str) -> None:
    """Compile the modules in ``prefix`` that are named on stdin; write byte code by their paths into ``target``."""
    for path in os.fsdecode(sys.stdin.buffer.read()).split("\0"):
        try:
            compile_module(
                f"{prefix}/{path}",
                f"{target}/{cache_from_source(path)}",
                dfile=path,  # Python puts the true name in when it reads the file
                doraise=True,
                invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
            )
        except PyCompileError:
            pass
        except OSError as error:
            sys.stderr.write(f"{error.errno} {error.filename}")
            sys.exit(os.EX_IOERR)
        os.write(1, b"\n")  # fails where nobody reads it any more, and so ends a process that was left alone


if __name__ == "__main__":
    main(*sys.argv[1:])
