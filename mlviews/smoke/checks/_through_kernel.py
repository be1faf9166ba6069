"""Run a program as a notebook would: from a cell of a kernel that Jupyter starts by its kernelspec.

    _through_kernel.py KERNEL.JSON PROGRAM [ARGUMENT...]

The session around the kernel is one as SWAN makes them: PYTHONHOME and PYTHONPATH lead to another Python. This program
ends as PROGRAM did.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

SECONDS = 120  # a cold file system may take a minute to give what ipykernel imports
FOREIGN = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere"}


def main(specification: str, *command: str) -> int:
    content = json.loads(Path(specification).read_text(encoding="utf-8"))
    manager = KernelManager()
    manager._kernel_spec = KernelSpec(argv=content["argv"], display_name="smoke", language="python")  # noqa: SLF001
    manager.start_kernel(env={**os.environ, **FOREIGN}, cwd=str(Path.cwd()))
    try:
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=SECONDS)
        # What a notebook's `!python` would be: the kernel's interpreter, in the kernel's environment.
        cell = f"import subprocess, sys\ncode = subprocess.run([sys.executable, *{list(command)!r}]).returncode"
        reply = client.execute_interactive(
            cell, allow_stdin=False, user_expressions={"code": "code"}, output_hook=_print
        )
        client.stop_channels()
        return int(reply["content"]["user_expressions"]["code"]["data"]["text/plain"])
    finally:
        manager.shutdown_kernel(now=True)


def _print(message: dict[str, object]) -> None:
    content = message["content"]
    if message["msg_type"] == "stream" and isinstance(content, dict):
        sys.stdout.write(content["text"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
