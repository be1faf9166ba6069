"""Events go from ROOT to Parquet, HDF5 and Zarr and come back bit by bit; ROOT is read over http, as open data is.

Exact: storing is no arithmetic, and NaN, infinities and negative zeros are compared by their bits. Each format gets
what the one before it gave, so the last holds what went through all. Bytes and rates are of the same events.
"""

from __future__ import annotations

import tempfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _protocol import Check, run

if TYPE_CHECKING:
    from collections.abc import Callable

    Columns = dict[str, Any]

SERVED = "events.root"


def main(check: Check) -> str:
    numpy, awkward = check.need("numpy"), check.need("awkward")
    uproot, h5py = check.need("uproot"), check.need("h5py")
    arrow, zarr = check.need("pyarrow"), check.need("zarr")
    del arrow  # awkward reads and writes Parquet with it
    events = _events(numpy, 400_000 if check.full else 20_000)
    size = sum(column.nbytes for column in events.values())
    formats: dict[str, tuple[Callable[[Path, Columns], object], Callable[[Path], Columns]]] = {
        "root": (partial(_write_root, uproot, awkward), partial(_read_root, uproot, awkward)),
        "parquet": (partial(_write_parquet, awkward), partial(_read_parquet, awkward)),
        "hdf5": (partial(_write_hdf5, h5py), partial(_read_hdf5, h5py)),
        "zarr": (partial(_write_zarr, zarr), partial(_read_zarr, zarr)),
    }
    with tempfile.TemporaryDirectory() as folder:
        found = events
        for name, (write, read) in formats.items():
            path = Path(folder) / f"events.{name}"
            seconds, _ = _timed(partial(write, path, found))
            check.figures[f"{name}: written, MB/s"] = round(size / seconds / 1e6, 1)
            seconds, found = _timed(partial(read, path))
            check.figures[f"{name}: read, MB/s"] = round(size / seconds / 1e6, 1)
            check.figures[f"{name}: bytes"] = _bytes(path)
            _compare(check, name, found, events)
        _compare(check, "root over http", _over_http(Path(folder), partial(_read_root, uproot, awkward)), events)
    count = len(events["jets"])
    return f"{count} events of {size} bytes go through {', '.join(formats)} and come back bit by bit, by http too"


def _events(numpy: Any, count: int) -> Columns:
    """Return flat columns: one number an event, the number of jets, and one number a jet."""
    generator = numpy.random.default_rng(4)
    jets = generator.integers(0, 9, count, dtype="i4")
    met, pt = generator.exponential(40, count), generator.exponential(50, int(jets.sum())).astype("f4")
    met[:3], pt[:3] = (numpy.nan, -0.0, numpy.inf), (-numpy.inf, numpy.nan, -0.0)
    return {"run": generator.integers(0, 2**40, count), "met": met, "jets": jets, "pt": pt}


def _write_root(uproot: Any, awkward: Any, path: Path, events: Columns) -> None:
    with uproot.recreate(path) as file:
        file.mktree("events", {"run": "int64", "met": "float64", "pt": "var * float32"})
        pt = awkward.unflatten(events["pt"], events["jets"])
        file["events"].extend({"run": events["run"], "met": events["met"], "pt": pt})


def _read_root(uproot: Any, awkward: Any, path: Path | str) -> Columns:
    with uproot.open(path) as file:
        return _columns(awkward, file["events"].arrays(["run", "met", "pt"]))


def _write_parquet(awkward: Any, path: Path, events: Columns) -> None:
    pt = awkward.unflatten(events["pt"], events["jets"])
    table = awkward.Array({"run": events["run"], "met": events["met"], "pt": pt})
    awkward.to_parquet(table, str(path), compression="zstd")


def _read_parquet(awkward: Any, path: Path) -> Columns:
    return _columns(awkward, awkward.from_parquet(str(path)))


def _columns(awkward: Any, table: Any) -> Columns:
    jets = awkward.to_numpy(awkward.num(table["pt"])).astype("i4")
    flat = {name: awkward.to_numpy(table[name]) for name in ("run", "met")}
    return {**flat, "jets": jets, "pt": awkward.to_numpy(awkward.flatten(table["pt"]))}


def _write_hdf5(h5py: Any, path: Path, events: Columns) -> None:
    with h5py.File(path, "w") as file:
        for name, column in events.items():
            file.create_dataset(name, data=column, chunks=True, compression="gzip", shuffle=True)


def _read_hdf5(h5py: Any, path: Path) -> Columns:
    with h5py.File(path, "r") as file:
        return {name: file[name][()] for name in file}


def _write_zarr(zarr: Any, path: Path, events: Columns) -> None:
    group = zarr.open_group(str(path), mode="w")
    for name, column in events.items():
        group.create_array(name, data=column)


def _read_zarr(zarr: Any, path: Path) -> Columns:
    group = zarr.open_group(str(path), mode="r")
    return {name: group[name][:] for name in group.array_keys()}


class _Ranges(SimpleHTTPRequestHandler):
    """Serves one file, whole or a range of it: what a server of open data does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = (Path(self.directory) / SERVED).read_bytes()
        first, last = 0, len(content) - 1
        asked = self.headers.get("Range", "")
        if asked:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        del format, args


def _over_http(folder: Path, read: Callable[[str], Columns]) -> Columns:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            return read(f"http://127.0.0.1:{server.server_port}/{SERVED}")
        finally:
            server.shutdown()


def _compare(check: Check, name: str, found: Columns, events: Columns) -> None:
    check.expect(sorted(found) == sorted(events), f"{name}: the columns are {sorted(found)}")
    for column, due in events.items():
        got = found[column]
        check.expect(got.dtype == due.dtype, f"{name}: {column} came back as {got.dtype}, not {due.dtype}")
        check.exact(f"{name}: {column}", got.view("u1"), due.view("u1"))


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def _bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


if __name__ == "__main__":
    run(main)
