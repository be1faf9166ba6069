"""Every module named on the command line can be imported, all into one process."""

from __future__ import annotations

import importlib
import sys
import warnings

from _protocol import Check, SkipCheck, run


def main(check: Check) -> str:
    if not check.arguments:
        raise SkipCheck("no module was named")
    warnings.simplefilter("ignore")
    failed = []
    for name in check.arguments:
        # Where Python itself ends, the last words tell at which module.
        print(f"importing {name}", file=sys.stderr, flush=True)
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001  (a module may raise anything, SystemExit too)
            failed.append(f"{name}: {type(error).__name__}: {error}")
    check.expect(not failed, "; ".join(failed))
    return f"{len(check.arguments)} modules: {', '.join(check.arguments)}"


if __name__ == "__main__":
    run(main)
