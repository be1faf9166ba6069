"""Import every module named on the command line; one JSON line for each, as soon as it is known.

Runs with a view's own Python and needs nothing but its standard library.
"""

import importlib
import json
import os
import sys
import time
import warnings


def main(names: "list[str]") -> int:
    # What modules print while they are imported must not mix with the report.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    failed = 0
    for name in names:
        print(json.dumps({"begin": name}), file=report, flush=True)
        start = time.perf_counter()
        reason = ""
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001  (a module may raise anything, SystemExit too)
            reason = f"{type(error).__name__}: {error}"
            failed = 1
        seconds = round(time.perf_counter() - start, 3)
        print(json.dumps({"name": name, "reason": reason, "seconds": seconds}), file=report, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
