"""Stands for Python where pip prepares a source distribution: says what that says of itself, and runs none of its code.

pip can neither look up nor fetch sources without running their build. It starts Python for that, with a program, the
name of a hook and a folder (pyproject_hooks's protocol: ``input.json``, ``output.json``), in the unpacked sources. This
answers for their metadata with the file PKG-INFO that they hold (PEP 643), and refuses all else.
"""

from __future__ import annotations

import json
import re
import sys
from email.parser import BytesHeaderParser
from pathlib import Path


def main() -> None:
    """Answer one call."""
    *_, hook, control = sys.argv
    if hook != "prepare_metadata_for_build_wheel":
        sys.exit(f"{hook} is not run")
    given = json.loads(Path(control, "input.json").read_text(encoding="utf-8"))
    text = Path("PKG-INFO").read_bytes()
    said = BytesHeaderParser().parsebytes(text)
    # Up to Python 3.10, pip takes name and version from the folder's name.
    parts = (re.sub(r"[^\w.+!]+", "_", str(said[key])) for key in ("Name", "Version"))
    name = f"{'-'.join(parts)}.dist-info"
    folder = Path(given["kwargs"]["metadata_directory"], name)
    folder.mkdir()
    (folder / "METADATA").write_bytes(text)
    Path(control, "output.json").write_text(json.dumps({"return_val": name}), encoding="utf-8")


if __name__ == "__main__":
    main()
