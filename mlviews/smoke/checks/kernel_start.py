"""A Jupyter kernel starts and computes: a cell sent over the wire, the answer read from it, and an orderly end.

Started as Jupyter starts it, with the view's ``launch`` where there is one. The cell's answer is exact.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from _protocol import Check, run

SECONDS = 120  # a cold file system may take a minute to give what ipykernel imports
CELL = "import sys\nprint('said', sum(k * k for k in range(1000)))\nsys.executable + '|' + sys.prefix"
SUM_OF_SQUARES = 332833500


def main(check: Check) -> str:
    check.need("ipykernel")
    client_module, spec_module = check.need("jupyter_client"), check.need("jupyter_client.kernelspec")
    launch = Path(sys.prefix) / "launch"
    python = [str(launch), "python"] if launch.is_file() else [sys.executable]
    manager = client_module.KernelManager()
    argv = [*python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = spec_module.KernelSpec(argv=argv, display_name="smoke", language="python")  # noqa: SLF001
    with tempfile.TemporaryDirectory() as folder:
        manager.start_kernel(cwd=folder)
        try:
            client = manager.client()
            client.start_channels()
            client.wait_for_ready(timeout=SECONDS)
            said, result = _execute(client)
            client.stop_channels()
        finally:
            manager.shutdown_kernel(now=False)
    check.expect(said.strip() == f"said {SUM_OF_SQUARES}", f"the cell printed {said!r}")
    check.expect(not manager.is_alive(), "the kernel does not end")
    prefix = result.strip("'").partition("|")[2]
    check.expect(prefix == sys.prefix, f"the kernel runs in {prefix}, not in {sys.prefix}")
    return "a kernel of this Python starts, computes and ends"


def _execute(client: Any) -> tuple[str, str]:
    said, result = [], ""

    def hear(message: Any) -> None:
        nonlocal result
        content = message["content"]
        if message["msg_type"] == "stream":
            said.append(content["text"])
        elif message["msg_type"] == "execute_result":
            result = content["data"]["text/plain"]

    reply = client.execute_interactive(CELL, timeout=SECONDS, output_hook=hear, allow_stdin=False)
    if reply["content"]["status"] != "ok":
        raise RuntimeError(f"the cell failed: {reply['content']}")
    return "".join(said), result


if __name__ == "__main__":
    run(main)
