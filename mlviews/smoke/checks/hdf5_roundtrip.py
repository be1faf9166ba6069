"""What is written into an HDF5 file is read back bit by bit: numbers of every width, compressed chunks, attributes.

Exact: storing is no arithmetic. The file is read in a second process, so that nothing comes from the library's cache.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from _protocol import Check, last_line, run

READ = """
import hashlib, json, sys, h5py
with h5py.File(sys.argv[1], "r") as file:
    found = {name: [file[name].dtype.str, file[name].shape, hashlib.sha256(file[name][()].tobytes()).hexdigest()]
             for name in file}
    print(json.dumps([found, file["float64"].attrs["unit"]]))
"""


def main(check: Check) -> str:
    h5py, numpy = check.need("h5py"), check.need("numpy")
    check.versions["hdf5"] = h5py.version.hdf5_version
    datasets = _datasets(numpy)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jets.h5"
        with h5py.File(path, "w") as file:
            for name, data in datasets.items():
                file.create_dataset(name, data=data, chunks=True, compression="gzip", shuffle=True, fletcher32=True)
            file["float64"].attrs["unit"] = "GeV"
        size = path.stat().st_size
        with h5py.File(path, "r") as file:
            for name, data in datasets.items():
                check.exact(name, file[name][()].view("u1"), data.view("u1"))
        found, unit = json.loads(last_line([sys.executable, "-c", READ, str(path)], "another process cannot read it"))
    expected = {
        name: [data.dtype.str, list(data.shape), hashlib.sha256(data.tobytes()).hexdigest()]
        for name, data in datasets.items()
    }
    check.expect(found == expected, "another process reads other data")
    check.expect(unit == "GeV", f"the attribute reads {unit!r}")
    check.figures["bytes"] = size
    return f"{len(datasets)} datasets of {sum(data.nbytes for data in datasets.values())} bytes come back bit by bit"


def _datasets(numpy: Any) -> dict[str, Any]:
    generator = numpy.random.default_rng(4)
    bits = generator.bytes(80_000)
    floats = {name: numpy.frombuffer(bits, name) for name in ("float16", "float32", "float64")}
    whole = {name: numpy.frombuffer(bits, name) for name in ("uint8", "int32", "int64", ">i4")}
    jet = numpy.zeros(500, [("pt", "f4"), ("eta", "f4"), ("flavour", "i1"), ("name", "S8")])
    jet["pt"], jet["flavour"], jet["name"] = generator.exponential(50, 500), generator.integers(-5, 6, 500), b"b-jet"
    return {**floats, **whole, "jets": jet}


if __name__ == "__main__":
    run(main)
