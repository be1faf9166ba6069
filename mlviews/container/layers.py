"""A prefix as layers of an image: the same files give the same bytes, whoever made them and when.

Packages lie in layers by themselves where they are large, so that what two images share is stored and fetched once.
"""

from __future__ import annotations

import _imp
import gzip
import hashlib
import io
import os
import stat
import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from mlviews.conda.records import conda_record_path, read_conda_records
from mlviews.container.oci import Blob, member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlviews.progress import Advance

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_LARGE = 20_000_000  # bytes of files from which on a package has a layer of its own
_MOST = 60  # layers; overlay file systems bear 127, and the base has some
_LEVEL = 6
_JOBS = 2
_PYC_HEADER = 16


@dataclass(frozen=True, slots=True)
class Part:
    """What lies in one layer.

    Attributes:
        title: whose files they are.
        files: by their path below the prefix, sorted.
        size: of the files, in bytes.
    """

    title: str
    files: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer that is there.

    Attributes:
        title: whose files it holds.
        diff_id: sha256 of the archive before it was compressed; the image's identity rests on these.
    """

    title: str
    diff_id: str
    blob: Blob


def parts_of(prefix: Path) -> tuple[Part, ...]:
    """Divide the files of a prefix among layers: large packages, the small ones together, last what mlviews wrote."""
    owners: dict[str, str] = {}
    for record in read_conda_records(prefix):
        owners |= dict.fromkeys((*record.files, conda_record_path(record.stem)), record.name)
    files: dict[str, list[str]] = {}
    sizes: dict[str, int] = {}
    for file in sorted(_files(prefix)):
        owner = owners.get(file, "")
        files.setdefault(owner, []).append(file)
        sizes[owner] = sizes.get(owner, 0) + (prefix / file).lstat().st_size
    large = sorted((name for name in files if name and sizes[name] >= _LARGE), key=lambda name: -sizes[name])[:_MOST]
    small = sorted(file for name, found in files.items() if name and name not in large for file in found)
    parts = [Part(name, tuple(files[name]), sizes[name]) for name in sorted(large)]
    parts.append(Part("packages", tuple(small), sum(sizes[n] for n in files if n and n not in large)))
    parts.append(Part("view", tuple(files.get("", ())), sizes.get("", 0)))
    return tuple(part for part in parts if part.files)


def _files(prefix: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(prefix):
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in (*names, *links):
            yield (here / name).relative_to(prefix).as_posix()


def write_layers(
    parts: Sequence[Part], prefix: Path, inside: PurePosixPath, folder: Path, advance: Advance
) -> tuple[ImageLayer, ...]:
    """Write each part as a compressed archive.

    Args:
        inside: where they lie in the image.
        advance: told how many bytes of files were written.
    """
    pool = ThreadPoolExecutor(_JOBS)
    try:
        # The largest first, so that no one waits for it at the end.
        order = sorted(range(len(parts)), key=lambda number: -parts[number].size)
        jobs = {
            number: pool.submit(_write, parts[number], prefix, inside, folder / f"layer-{number}", advance)
            for number in order
        }
        return tuple(jobs[number].result() for number in range(len(parts)))
    finally:
        pool.shutdown(cancel_futures=True)


class _Hashed(io.RawIOBase):
    """Writes on, and remembers the digest of what went through."""

    def __init__(self, target: IO[bytes] | gzip.GzipFile) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, part: bytes) -> int:  # type: ignore[override]
        self.digest.update(part)
        self.size += len(part)
        self._target.write(part)
        return len(part)


def _write(part: Part, prefix: Path, inside: PurePosixPath, path: Path, advance: Advance) -> ImageLayer:
    with path.open("wb") as file:
        packed = _Hashed(file)
        with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=_LEVEL, mtime=0) as compressed:
            plain = _Hashed(compressed)
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as archive:
                for entry, content in _members(part.files, prefix, inside):
                    archive.addfile(entry, content)
                    advance(entry.size)
    blob = Blob(LAYER, f"sha256:{packed.digest.hexdigest()}", packed.size, path)
    return ImageLayer(part.title, f"sha256:{plain.digest.hexdigest()}", blob)


def _members(
    files: Iterable[str], prefix: Path, inside: PurePosixPath
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Give the members of an archive: folders before what lies in them, all of root's, for everybody to read."""
    told: set[PurePosixPath] = set()
    for file in files:
        place = inside / file
        for folder in [*reversed(place.parents)][1:]:
            if folder not in told:
                told.add(folder)
                yield member(_name(folder), kind=tarfile.DIRTYPE, mode=0o755), None
        path = prefix / file
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            link = member(_name(place), kind=tarfile.SYMTYPE, mode=0o777)
            link.linkname = str(path.readlink())
            yield link, None
            continue
        mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
        with _content(path) as content:
            size = content.seek(0, os.SEEK_END)
            content.seek(0)
            yield member(_name(place), size=size, mode=mode), content


def _name(place: PurePosixPath) -> str:
    return str(place).lstrip("/")


def _content(path: Path) -> IO[bytes]:
    if path.suffix != ".pyc":
        return path.open("rb")
    return io.BytesIO(_unchecked(path.read_bytes(), path))


def _unchecked(code: bytes, path: Path) -> bytes:
    """Return bytecode that holds without a look at its source's time, which is another in the image (PEP 552)."""
    if len(code) < _PYC_HEADER or code[4:8] != bytes(4):
        return code
    source = path.parent.parent / f"{path.name.partition('.')[0]}.py"
    if path.parent.name != "__pycache__" or not source.is_file():
        return code
    digest = _imp.source_hash(int.from_bytes(code[:4], "little"), source.read_bytes())
    return code[:4] + (1).to_bytes(4, "little") + digest + code[_PYC_HEADER:]
