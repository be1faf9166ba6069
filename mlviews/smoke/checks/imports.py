"""Every module named on the command line can be imported, all into one process."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

from _protocol import Check, SkipCheck, in_words, run


def main(check: Check) -> str:
    if not check.arguments:
        raise SkipCheck("no module was named")
    warnings.simplefilter("ignore")
    # None of the programs beside this one is to be taken for a module of the same name.
    sys.path = [path for path in sys.path if Path(path) != Path(__file__).parent]
    failed = []
    for name in check.arguments:
        # Where Python itself ends, the last words tell at which module.
        print(f"importing {name}", file=sys.stderr, flush=True)
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001  (a module may raise anything, SystemExit too)
            failed.append(f"{name}: {in_words(error)}")
    check.expect(not failed, "; ".join(failed))
    return f"{len(check.arguments)} modules: {', '.join(check.arguments)}"


if __name__ == "__main__":
    run(main)
