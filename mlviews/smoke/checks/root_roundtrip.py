"""Events written into a ROOT file come back from it: flat and jagged branches, histograms, in a second process too.

Exact: storing is no arithmetic. Where ROOT itself is installed it reads the same file: two readers that share no code.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from _protocol import Check, last_line, run

READ = """
import json, sys, uproot
with uproot.open(sys.argv[1]) as file:
    tree = file["events"]
    print(json.dumps({
        "entries": tree.num_entries,
        "run": int(tree["run"].array(library="np").sum()),
        "jets": tree["jet_pt"].array().tolist()[:100],
    }))
"""
READ_WITH_ROOT = """
import json, sys, ROOT
file = ROOT.TFile.Open(sys.argv[1])
tree = file.Get("events")
total, jets = 0, []
for entry in tree:
    total += int(entry.run)
    if len(jets) < 100:
        jets.append([float(value) for value in entry.jet_pt])
print(json.dumps({"entries": int(tree.GetEntries()), "run": total, "jets": jets}))
"""


def main(check: Check) -> str:
    uproot, awkward, numpy = check.need("uproot"), check.need("awkward"), check.need("numpy")
    generator = numpy.random.default_rng(4)
    count = 2000
    number_of_jets = generator.integers(0, 7, count)
    run_number = generator.integers(0, 2**31, count, dtype=numpy.int64)
    flat = generator.exponential(50, number_of_jets.sum()).astype("f4")
    jets = awkward.unflatten(flat, number_of_jets)
    contents, edges = numpy.histogram(flat, bins=numpy.arange(0.0, 401.0, 20.0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.root"
        with uproot.recreate(path) as file:
            file.mktree("events", {"run": "int64", "jet_pt": "var * float32"})
            file["events"].extend({"run": run_number, "jet_pt": jets})
            file["spectrum"] = contents, edges
        with uproot.open(path) as file:
            tree = file["events"]
            check.exact("run", tree["run"].array(library="np"), run_number)
            back = tree["jet_pt"].array()
            check.exact("jets an event", awkward.num(back), number_of_jets)
            check.exact("jet_pt", awkward.to_numpy(awkward.flatten(back)), flat)
            check.exact("histogram", file["spectrum"].values(), contents)
            check.exact("edges", file["spectrum"].axis().edges(), edges)
        expected = {"entries": count, "run": int(run_number.sum()), "jets": jets.tolist()[:100]}
        check.expect(_read(READ, path) == expected, "another process reads other events")
        readers = "uproot"
        if check.has("ROOT"):
            check.expect(_read(READ_WITH_ROOT, path) == expected, "ROOT reads other events")
            readers = "uproot and ROOT"
    return f"{count} events with {len(flat)} jets come back exactly, read by {readers}"


def _read(program: str, path: Path) -> Any:
    return json.loads(last_line([sys.executable, "-c", program, str(path)], "another process cannot read the file"))


if __name__ == "__main__":
    run(main)
